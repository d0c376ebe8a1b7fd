"""Layers against the recurrences in NumPy, sequence by sequence."""

from typing import Any

import numpy_twin
import torch
from norm_cases import Case, run
from numerics import assert_close
from torch import Tensor


def assert_equals_twin(case: Case, layer: Any, x: Tensor, state: tuple[Tensor, ...]) -> None:
    """Compare a layer on (T, B, I) with the twin, sequence by sequence."""
    parameters = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    output, *final = run(layer, x, state)
    h_0 = state[0]
    c_0 = state[1] if len(state) > 1 else torch.zeros(len(h_0), x.shape[1], 1)
    for i in range(x.shape[1]):
        truth = numpy_twin.run_layer(
            case.cell,
            parameters,
            x[:, i].numpy(),
            h_0[:, i].numpy(),
            c_0[:, i].numpy(),
            settings=case.norm,
            eps=layer.eps,
            num_layers=layer.num_layers,
            bidirectional=layer.bidirectional,
            nonlinearity=case.nonlinearity,
        )
        assert_close(output[:, i], torch.from_numpy(truth[0]), name="output")
        for name, value, expected in zip(("h_n", "c_n"), final, truth[1:], strict=False):
            assert_close(value[:, i], torch.from_numpy(expected), name=name)
