"""scripts/roofline.py counts the bytes that the loops truly have."""

from typing import Any

import pytest
import roofline
import torch
from norm_cases import Case
from recurrences import arguments, names, op

from lnrnn import CellNorm
from lnrnn.ops import triton_graphs, triton_persistent

cells = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
STEPS, BATCH, HIDDEN = 3, 2, 8


def train(cell: str, dtype: torch.dtype) -> None:
    """Run a layer's kernels forward and backward."""
    case, narrow = Case(cell, CellNorm()), {"h_0", "weight_hh"}
    args = [
        value.to(dtype) if name in narrow else value.float()
        for name, value in zip(names(case), arguments(case, STEPS, BATCH, hidden=HIDDEN))  # noqa: B905
    ]
    args[0] = args[0].requires_grad_()
    output = op(case, fused=True)(*args)[0]
    output.backward(torch.ones_like(output))


@cells
def test_rows_are_counted_right(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[Any] = []
    monkeypatch.setattr(
        triton_graphs.GraphCache, "run", lambda self, loop, steps, **_: loops.append(loop)
    )
    train(cell, torch.bfloat16)
    for loop, count in zip(loops, (roofline.forward, roofline.backward), strict=True):
        tensors = [t for t in (*loop.read.values(), *loop.written.values()) if t is not None]
        counted = sum(t.numel() * t.element_size() for t in tensors)
        assert counted == STEPS * count(cell, HIDDEN, BATCH).rows


@cells
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_rows_of_whole_sequences_are_counted_right(
    cell: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def count(kernel: Any, constants: Any, tensors: dict[str, Any], where: Any) -> None:
        rows = [t for t in tensors.values() if t is not None and t.shape[0] == STEPS * BATCH]
        found.append(sum(t.numel() * t.element_size() for t in rows) // (STEPS * BATCH))

    monkeypatch.setattr(triton_persistent, "fits", lambda *_, **__: True)
    monkeypatch.setattr(triton_persistent, "launch", count)
    train(cell, dtype)
    assert tuple(found) == roofline.whole_rows(cell, HIDDEN, dtype.itemsize)
