"""Where torch's autocast computes in another dtype than was asked for, a run says so."""

from typing import Any

import pytest
import torch
from torch import nn

import lnrnn
from lnrnn import CellNorm
from lnrnn.training.autocast import computed_in_float16

GPU = torch.device("cuda", 0)


class Model(nn.Module):
    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


@pytest.mark.parametrize("norm", [None, "output"])
@pytest.mark.parametrize("layer", [lnrnn.RNN, lnrnn.LSTM, lnrnn.GRU])
def test_layers_that_torch_computes_are_named(layer: Any, norm: Any) -> None:
    model = Model(first=layer(3, 5, norm="cell"), second=layer(5, 5, norm=norm))
    said = computed_in_float16(model, "bf16-mixed", GPU)
    assert said is not None
    assert said.startswith("second: on a GPU torch computes these layers in float16")


def test_torchs_own_layers_are_named() -> None:
    model = Model(encoder=Model(layer=nn.LSTM(3, 5)))
    said = computed_in_float16(model, "bf16-mixed", GPU)
    assert said is not None
    assert said.startswith("encoder.layer: ")


@pytest.mark.parametrize("norm", ["cell", CellNorm(span="gate")])
def test_norms_inside_the_step_compute_in_what_was_asked_for(norm: Any) -> None:
    assert computed_in_float16(Model(layer=lnrnn.LSTM(3, 5, norm=norm)), "bf16-mixed", GPU) is None


@pytest.mark.parametrize(
    ("precision", "device"),
    [("32-true", GPU), ("16-mixed", GPU), ("bf16-true", GPU), ("bf16-mixed", torch.device("cpu"))],
    ids=str,
)
def test_other_precisions_and_a_cpu_are_as_they_say(precision: str, device: torch.device) -> None:
    assert computed_in_float16(Model(layer=lnrnn.LSTM(3, 5)), precision, device) is None
