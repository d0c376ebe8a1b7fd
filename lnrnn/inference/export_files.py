"""A trained model as a file for other programs, read back and compared before it counts."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnrnn.config.errors import ConfigurationError
from lnrnn.inference.trained_model import TrainedModel

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2", "aoti": ".pt2", "safetensors": ""}
BATCH, STEPS = 3, 24  # of the example that a model is traced with
OTHER_BATCH, OTHER_STEPS = 5, 17  # of what both are compared on
# As far as float32 reaches through some dozen steps; in float64 no file has come close to it.
BOUND = 1e-4


class Scores(nn.Module):
    """A model as other programs call it: inputs in, scores out, every sequence of full length.

    Args:
        module: The model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, T, F) or (B, T) to scores; a state begins at zero."""
        return self.module(inputs)[0]


def export(model: TrainedModel, path: Path, form: str) -> float:
    """Write a program of a model, then run the file and compare it with the model.

    The file takes prepared inputs, ``(B, T, F)`` or ``(B, T)``, and returns scores before a
    softmax. Batch and steps are open, but for a head whose pooling has a fixed number of steps.

    Args:
        model: What to write.
        path: The file. It is removed if it computes something else.
        form: ``onnx``, ``torch_export`` or ``aoti``.

    Returns:
        The largest difference of a score, relative to the largest score.

    Raises:
        ConfigurationError: If the file computes something else than the model, cannot be written
            because of what the model is, or a package is missing.
    """
    scores = Scores(model.module).eval()
    fixed = fixed_steps(model)
    example = example_inputs(model, BATCH, fixed or STEPS)
    other = example_inputs(model, OTHER_BATCH, fixed or OTHER_STEPS)
    with torch.no_grad():
        expected = scores(other)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # torch's exporters warn of their own insides.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _WRITE_AND_RUN[form](scores, path, example, other, fixed)
    except (ImportError, NotImplementedError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(f"format={form}: {error}") from error
    difference = float((found.double() - expected.double()).abs().max())
    relative = difference / max(float(expected.double().abs().max()), 1e-12)
    if found.shape != expected.shape or not relative <= BOUND:
        path.unlink(missing_ok=True)
        raise ConfigurationError(
            f"format={form}: the file's scores differ from the model's by {relative:.1e}, more "
            f"than {BOUND:.0e}, so it was removed"
        )
    return relative


def fixed_steps(model: TrainedModel) -> int | None:
    """Return how many steps a model's head is made for; None for any."""
    pooling = getattr(model.module.head, "pooling", None)
    return pooling.length if pooling is not None and pooling.kind == "flatten" else None


def example_inputs(model: TrainedModel, batch: int, steps: int) -> Tensor:
    """Return random inputs, the same every time: (B, T, F), or (B, T) of symbols."""
    generator = torch.Generator().manual_seed(steps)
    known = model.preparation
    if known.num_features is None:
        return torch.randint(known.num_tokens or 1, (batch, steps), generator=generator)
    shape = (batch, steps, known.num_features)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)


def _onnx(scores: Scores, path: Path, example: Tensor, other: Tensor, fixed: int | None) -> Tensor:
    from lnrnn.export import onnx

    shapes = None if fixed is None else ({0: torch.export.Dim.DYNAMIC},)
    onnx(
        scores,
        path,
        (example,),
        dynamic_shapes=shapes,
        input_names=["inputs"],
        output_names=["scores"],
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return torch.from_numpy(session.run(["scores"], {"inputs": other.numpy()})[0])


def _program(scores: Scores, example: Tensor, fixed: int | None) -> Any:
    open_: dict[int, Any] = {0: torch.export.Dim("batch", min=2)}
    if fixed is None:
        open_[1] = torch.export.Dim("steps", min=2)
    return torch.export.export(scores, (example,), dynamic_shapes={"inputs": open_})


def _torch_export(
    scores: Scores, path: Path, example: Tensor, other: Tensor, fixed: int | None
) -> Tensor:
    torch.export.save(_program(scores, example, fixed), path)
    return torch.export.load(path).module()(other)


def _aoti(scores: Scores, path: Path, example: Tensor, other: Tensor, fixed: int | None) -> Tensor:
    inductor: Any = torch._inductor
    program = _program(scores, example, fixed)
    inductor.aoti_compile_and_package(program, package_path=str(path))
    return inductor.aoti_load_package(str(path))(other)


_WRITE_AND_RUN: dict[str, Callable[..., Tensor]] = {
    "onnx": _onnx,
    "torch_export": _torch_export,
    "aoti": _aoti,
}
