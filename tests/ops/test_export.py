"""torch.export of layers with a norm inside the step: one node a direction, same numbers."""

from pathlib import Path

import pytest
import torch
from norm_cases import LAYERS, randomized
from numerics import assert_equal
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def nan_filled_empty() -> None:
    """Leave torch.empty as it is: torch.export traces through it, and cannot through a patch."""


class _Output(nn.Module):
    """A layer without its final states, called as a model calls it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def nodes(program: torch.export.ExportedProgram) -> list[str]:
    targets = (str(node.target) for node in program.graph.nodes)
    return [target for target in targets if target.startswith("lnrnn.")]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both directions"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_an_exported_layer_has_one_node_a_direction(cell: str, bidirectional: bool) -> None:
    layer = LAYERS[cell](5, 7, num_layers=2, bidirectional=bidirectional, norm="cell", fused=True)
    model = _Output(randomized(layer)).eval()
    x = torch.randn(6, 3, 5)
    program = torch.export.export(model, (x,))
    assert nodes(program) == [f"lnrnn.ln_{cell}.default"] * (4 if bidirectional else 2)
    assert_equal(program.module()(x), model(x))


@pytest.mark.parametrize("zoneout", [0.0, 0.3])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_steps_and_batch_may_be_left_open(cell: str, zoneout: float) -> None:
    layer = LAYERS[cell](5, 7, norm="cell", fused=True, zoneout=zoneout)
    model = _Output(randomized(layer)).eval()
    open_ = {"x": {0: torch.export.Dim("steps", min=2), 1: torch.export.Dim("batch", min=2)}}
    program = torch.export.export(model, (torch.randn(6, 3, 5),), dynamic_shapes=open_)
    assert nodes(program) == [f"lnrnn.ln_{cell}.default"]
    for shape in [(6, 3, 5), (11, 2, 5), (2, 40, 5)]:
        x = torch.randn(shape)
        assert_equal(program.module()(x), model(x))


# Before torch 2.11 torch's own reader gives rise to it.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_an_exported_layer_is_saved_and_loaded(tmp_path: Path) -> None:
    model = _Output(randomized(LAYERS["lstm"](5, 7, norm="cell", fused=True))).eval()
    x = torch.randn(4, 3, 5)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "lstm.pt2")
    loaded = torch.export.load(tmp_path / "lstm.pt2")
    assert_equal(loaded.module()(x), model(x))


def test_training_what_was_exported_does_not_pass_silently() -> None:
    """The gradient is `lnrnn`'s, not the node's: an exported program is for inference."""
    model = _Output(randomized(LAYERS["gru"](5, 7, norm="cell", fused=True)))
    x = torch.randn(4, 3, 5)
    exported = torch.export.export(model, (x,)).module()
    with pytest.warns(UserWarning, match="an autograd kernel was not registered"):
        exported(x).backward(torch.randn(4, 3, 7))
