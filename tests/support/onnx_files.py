"""ONNX files written by `lnrnn.export`, run by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

# Of values of order one in float32, after up to 500 steps: what the export promises.
PROMISED: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


class File:
    """An ONNX file that is called as a function of tensors, by position."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        given = zip(self.inputs, (t.numpy() for t in tensors), strict=True)
        return [torch.from_numpy(value) for value in self.session.run(None, dict(given))]


def assert_kept(found: Sequence[Tensor], truth: Sequence[Tensor]) -> None:
    """Check outputs and states against those of the module that was exported."""
    for value, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(value, expected.detach(), **PROMISED)
