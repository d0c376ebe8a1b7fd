"""Whether a call is being recorded for somebody else to compute."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def constant(function: Function) -> Function:
    """Mark a function whose result `torch.compile` may take for a constant.

    It does what `torch.compiler.assume_constant_result` does, which would import all of
    `torch.compile` for it.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


def is_for_onnx() -> bool:
    """Return whether `torch.onnx.export` is recording, so that nothing of ours will be run."""
    return torch.compiler.is_exporting() and _onnx_records()


@constant
def _onnx_records() -> bool:
    onnx = sys.modules.get("torch.onnx")  # which takes a while to import
    return onnx is not None and onnx.is_in_onnx_export()
