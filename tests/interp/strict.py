"""Triton's interpreter made stricter than it is, and quicker.

All of this reaches into private parts of Triton's interpreter; constraints.txt pins its version.
"""

# Triton is not there where the types are checked, and its kernels are not Python's.
# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

MARGIN = 1024  # elements of a guard zone: more than a row too many

_BUILDER = interpreter.InterpreterBuilder
_CASTS = ("cast_impl", "create_fp_ext", "create_fp_trunc")


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have another attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def prepared_once() -> Iterator[None]:
    """Patch the language once a launch, not at every call of a helper: three times quicker.

    And add pairs up by numpy: the interpreter would call a function for each of them.
    """
    prepared: set[tuple[bool, ...]] = set()
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__

    def patch_once(function: Any) -> Any:
        values = [id(value) for value in function.__globals__.values()]
        which = tuple(id(module) in values for module in (tl, tl.core))
        if which in prepared:
            return None
        prepared.add(which)
        return patch(function)

    def launch_anew(self: Any, *args: Any, **kwargs: Any) -> None:
        prepared.clear()
        launch(self, *args, **kwargs)

    reduce = interpreter.ReduceOps.apply_impl

    def reduce_by_columns(self: Any, given: Any) -> Any:
        if self.combine_fn.fn.__name__ != "_add_pairs":
            return reduce(self, given)
        return tuple(
            self.to_tensor(np.sum(t.handle.data, axis=self.axis, keepdims=self.keep_dims), t.dtype)
            for t in given
        )

    with (
        replaced(interpreter, "_patch_lang", patch_once),
        replaced(interpreter.GridExecutor, "__call__", launch_anew),
        replaced(interpreter.ReduceOps, "apply_impl", reduce_by_columns),
    ):
        yield


@contextlib.contextmanager
def poisoned_loads() -> Iterator[None]:
    """Let masked lanes without a value hold NaN: the interpreter says 0, a GPU anything."""
    load = _BUILDER.create_masked_load

    def load_poison(self: Any, pointers: Any, mask: Any, other: Any, *rest: Any) -> Any:
        if other is None:
            element = pointers.get_element_ty()
            kind = interpreter._get_np_dtype(element)
            fill = np.nan if np.issubdtype(kind, np.floating) else 0x7FC0  # NaN in bfloat16 too
            other = interpreter.TensorHandle(np.full(pointers.data.shape, fill, kind), element)
        return load(self, pointers, mask, other, *rest)

    with replaced(_BUILDER, "create_masked_load", load_poison):
        yield


@contextlib.contextmanager
def permuted_programs(order: Callable[[int], list[int]]) -> Iterator[None]:
    """Run the programs of a launch in another order: results must not depend on it.

    Args:
        order: Returns the order of n programs.
    """
    place = interpreter.interpreter_builder.set_grid_idx

    def place_elsewhere(x: int, y: int, z: int) -> None:
        place(order(interpreter.interpreter_builder.grid_dim[0])[x], y, z)

    with replaced(interpreter.interpreter_builder, "set_grid_idx", place_elsewhere):
        yield


@contextlib.contextmanager
def rounded_bfloat16() -> Iterator[None]:
    """Round float32 to the nearest bfloat16, as GPUs do: the interpreter cuts digits off.

    And multiply matrices of it: the interpreter would multiply the bits as whole numbers.
    """
    cast, dot = _BUILDER.cast_impl, _BUILDER.create_dot

    def cast_nearest(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar == tl.float32 and target.scalar == tl.bfloat16:
            nearest = torch.from_numpy(np.array(source.data)).bfloat16().view(torch.int16)
            return interpreter.TensorHandle(nearest.numpy().view(np.uint16), tl.bfloat16)
        return cast(self, source, target)

    def dot_wide(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        wide = [_widened(matrix) for matrix in (a, b)]
        return dot(self, *wide, *rest)

    with (
        replaced(_BUILDER, "cast_impl", cast_nearest),
        replaced(_BUILDER, "create_dot", dot_wide),
    ):
        yield


def _widened(matrix: Any) -> Any:
    if matrix.dtype.scalar != tl.bfloat16:
        return matrix
    values = torch.from_numpy(matrix.data.view(np.int16)).view(torch.bfloat16).float()
    return interpreter.TensorHandle(values.numpy(), tl.float32)


class Guarded:
    """A copy of a tensor between two guard zones of NaN.

    A write into them shows in `check`, a read from them in the results.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.memory = torch.full((tensor.numel() + 2 * MARGIN,), torch.nan, dtype=tensor.dtype)
        self.tensor = self.memory[MARGIN:-MARGIN].view(tensor.shape)
        self.tensor.copy_(tensor)

    def check(self, name: str) -> None:
        """Raise if anything was written outside the tensor."""
        zones = torch.cat([self.memory[:MARGIN], self.memory[-MARGIN:]])
        assert zones.isnan().all(), f"a kernel wrote outside of {name}"
