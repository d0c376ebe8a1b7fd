"""Resets inside a sequence, in the Triton kernels: equal to the reference."""

from functools import partial
from typing import Any

import pytest
import torch
from interp.test_graphs import Recorder, cuda  # noqa: F401  # a fixture
from norm_cases import FEW, Case
from numerics import assert_close, assert_equal, output_and_grads
from recurrences import arguments, op, op_with, reset_mask, with_states

from lnrnn.ops import triton_graphs

few = pytest.mark.parametrize("case", FEW, ids=str)
SIZES = [5, 5, 3, 1]
# Everything that resets can meet, in as few runs as show it.
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {"sizes": None, "reverse": False, "given": True},
    "reverse": {"sizes": None, "reverse": True, "given": False},
    "packed": {"sizes": SIZES, "reverse": False, "given": False},
    "packed reverse": {"sizes": SIZES, "reverse": True, "given": True},
}


@few
@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
def test_resets_equal_the_reference(case: Case, layout: dict[str, Any]) -> None:
    sizes, given = layout["sizes"], layout["given"]
    resets = reset_mask((4, 5) if sizes is None else (sum(sizes),))
    args = with_states(case, arguments(case, steps=4, batch=5, sizes=sizes), given)
    packed = None if sizes is None else torch.tensor(sizes)
    build = partial(op_with, case, resets, batch_sizes=packed, reverse=layout["reverse"])
    values, truths = (output_and_grads(build(fused=fused), args) for fused in (True, False))
    for value, truth in zip(values, truths, strict=True):
        assert_close(value, truth)


@few
def test_no_reset_changes_no_bit(case: Case) -> None:
    args = arguments(case, steps=2, batch=3, dtype=torch.float32)
    nowhere = torch.zeros(2, 3, dtype=torch.bool)
    truth = output_and_grads(op(case, fused=True), args)
    values = output_and_grads(op(case, resets=nowhere, fused=True), args)
    for value, expected in zip(values, truth, strict=True):
        assert_equal(value, expected)


@few
def test_resets_move_through_replayed_windows(
    case: Case,
    cuda: Recorder,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A graph sees the mask of its window, and another mask at its next replay."""
    args = with_states(case, arguments(case, steps=5, batch=2))
    for turn in range(3):
        run = op_with(case, reset_mask((5, 2)).roll(turn, 0), reverse=True, fused=True)
        with monkeypatch.context() as patch:
            patch.setattr(triton_graphs, "capturing", lambda device: True)
            truth = output_and_grads(run, args)
        for value, expected in zip(output_and_grads(run, args), truth, strict=True):
            assert_equal(value, expected)
    assert cuda.recorded == 2  # forward and backward, once
    assert cuda.replayed > 4
