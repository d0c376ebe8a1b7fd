"""What the fused operators return for tensors without data: shapes and dtypes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lnrnn.ops import fused
from lnrnn.ops.fused import empty


def _outputs(x: Tensor, h_0: Tensor, *cells: Tensor) -> list[Tensor]:
    """Return the output and the final states: in the dtype of the products, cell states wide."""
    states = [empty(h_0, *h_0.shape), *(empty(c, *c.shape, wide=True) for c in cells)]
    return [empty(h_0, *x.shape[:-1], h_0.shape[1]), *states]


def _fake_kept(op: fused.Op, given: dict[str, Any]) -> list[Tensor]:
    """Return what the forward keeps: rows of gate entries, of cell states and of moments."""
    x, h_0, width, keep = given["x"], given["h_0"], given["weight_hh"].shape[0], given["keep"]
    rows = (x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1]) if keep else 0
    projects, normed = given["weight_ih"] is not None, given["gain_ih"] is not None
    shapes = {
        "side": (rows, width),
        "projected": (rows if projects and not given.get("joint", False) else 0, width),
        "input_stats": (rows if normed else 0, 2 * op.gates),
        "cells": (rows, given["c_0"].shape[1] if "c_0" in given else 0),
        "stats": (rows, 2 * (op.gates + op.states - 1)),
    }
    kept = {name: empty(h_0, *shapes[name], wide=name in ("cells", "stats")) for name in op.saved}
    if keep and given["storage"] == torch.bfloat16:
        kept |= {name: kept[name].bfloat16() for name in ("side", "projected")}
    return list(kept.values())


def _fake_forward(op: fused.Op) -> Callable[..., tuple[Tensor, ...]]:
    """Return what makes results of the right shapes and dtypes."""

    def fake(*args: Any) -> tuple[Tensor, ...]:
        given = fused.by_name(op.takes, args)
        cells = [given["c_0"]] if "c_0" in given else []
        return *_outputs(given["x"], given["h_0"], *cells), *_fake_kept(op, given)

    return fake


def _fake_backward(op: fused.Op) -> Callable[..., tuple[Tensor, ...]]:
    """Return what makes gradients shaped as the tensors; of a missing one nothing is promised."""

    def fake(*args: Any) -> tuple[Tensor, ...]:
        given = fused.by_name(op.backward_takes, args)
        unwanted = {
            name for name, needed in zip(fused.LARGE, given["needed"], strict=True) if not needed
        }
        tensors = {name: given[name.rstrip("?")] for name in op.differentiated}
        return tuple(
            empty(given["x"], 0) if t is None or name in unwanted else empty(t, *t.shape)
            for name, t in tensors.items()
        )

    return fake


def register() -> None:
    """Tell torch the shapes and dtypes of what each operator of `lnrnn.ops.fused` returns."""
    for op in fused.OPS:
        fused.register_fake(op.name, _fake_forward(op))
        fused.register_fake(f"{op.name}_backward", _fake_backward(op))
