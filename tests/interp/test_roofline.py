"""scripts/roofline.py counts the bytes that the loops truly have."""

from typing import Any

import pytest
import roofline
import torch
from norm_cases import Case
from recurrences import arguments, names, op

from lnrnn import CellNorm
from lnrnn.ops import triton_graphs


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_rows_are_counted_right(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[Any] = []
    monkeypatch.setattr(
        triton_graphs.GraphCache, "run", lambda self, loop, steps, **_: loops.append(loop)
    )
    case, steps, batch, hidden = Case(cell, CellNorm()), 3, 2, 8
    narrow = {"h_0", "weight_hh"} | ({"x"} if case.norm.is_joint(cell) else set())
    args = [
        value.bfloat16() if name in narrow else value.float()
        for name, value in zip(names(case), arguments(case, steps, batch, hidden=hidden))  # noqa: B905
    ]
    args[0] = args[0].float().requires_grad_()
    output = op(case, fused=True)(*args)[0]
    output.backward(torch.ones_like(output))
    for loop, count in zip(loops, (roofline.forward, roofline.backward), strict=True):
        tensors = [t for t in (*loop.read.values(), *loop.written.values()) if t is not None]
        counted = sum(t.numel() * t.element_size() for t in tensors)
        assert counted == steps * count(cell, hidden, batch).rows
