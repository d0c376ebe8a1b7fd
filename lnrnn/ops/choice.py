"""Who computes a call: a fused kernel of the tensors' device, or the reference."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lnrnn.ops import cpu, cuda, reference
from lnrnn.ops import fused as kernels
from lnrnn.ops.backend import Backend
from lnrnn.ops.recording import constant, is_for_onnx

BACKENDS: dict[str, Backend] = {"cpu": cpu, "cuda": cuda}  # by torch's type of device


def projected(
    x: Tensor, *tensors: Any, op: kernels.Op, span: str, kind: str, eps: float
) -> Sequence[Any]:
    """Return a recurrence's tensors with x projected, and without the four that did it."""
    others, inputs = op.without_inputs((x, *tensors))
    weight_ih, *vectors = inputs
    if weight_ih is not None:
        widths = reference.norm_widths(span, op.gates, weight_ih.shape[0] // op.gates)
        x = reference.project_input(x, weight_ih, *vectors, widths=widths, kind=kind, eps=eps)
    return x, *others[1:]


def takes_kernel(
    op: kernels.Op,
    fused: bool | None,
    tensors: Sequence[Tensor | None],
    lacking: str | None = None,
) -> bool:
    """Return whether a kernel runs the call, which may be ``lacking`` one; raise if it must."""
    if is_for_onnx():
        if lacking is not None:
            raise NotImplementedError(
                f"an ONNX file has no node for this {op.cell.upper()}: {lacking}; torch.export "
                "records it in evaluation mode, and lnrnn.export.onnx a layer built without it"
            )
        return True  # a node, which ONNX's translation needs, and nobody runs
    given = {name: t for name, t in zip(op.differentiated, tensors, strict=True) if t is not None}
    why = "fused=False asks for the reference" if fused is False else lacking
    why = why or _uncovered(given) or _transformed() or _unavailable(given["x"].device.type)
    if why is not None and fused:
        raise NotImplementedError(
            f"fused=True demands a fused kernel, and this call of {op.name} has none: {why}; "
            "fused=None or fused=False runs the reference, which gives the same numbers"
        )
    steps = given["x"].shape[0]
    if why is not None and torch.compiler.is_exporting() and isinstance(steps, torch.SymInt):
        raise NotImplementedError(
            f"a program with an open number of steps needs a fused kernel, which is one node, and "
            f"this call of {op.name} has none: {why}; export a fixed number of steps"
        )
    return why is None


def _uncovered(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what about the tensors no kernel covers, if anything."""
    devices = sorted({str(t.device) for t in tensors.values()})
    device = tensors["x"].device.type
    if len(devices) > 1 or device not in BACKENDS:
        kinds = " or ".join(BACKENDS)
        return f"kernels are for one {kinds} device, and tensors are on {', '.join(devices)}"
    return BACKENDS[device].uncovered(tensors)


def _transformed() -> str | None:
    """Return what is said inside of `torch.func.grad`, `vmap` and their kin, which kernels lack."""
    if torch._C._are_functorch_transforms_active():
        return "the call is inside of a transform of torch.func, which kernels do not know"
    return None


def run_kernel(
    op: kernels.Op,
    tensors: Sequence[Tensor | None],
    batch_sizes: Tensor | None,
    cuts: Tensor | None,
    random: kernels.Random | None,
    options: Sequence[Any],
    project: Callable[..., Sequence[Any]],
    recurrence: Callable[..., Any],
) -> Any:
    """Run a device's kernel, which takes the reference for gradients of gradients."""
    x = tensors[0]
    assert x is not None
    backend = BACKENDS[x.device.type]
    prepared = backend.prepare(op, tensors, project)
    again = partial(_compute_again, project, recurrence)
    return backend.run(op, prepared, batch_sizes, cuts, random, options, again)


def _compute_again(
    project: Callable[..., Sequence[Any]], recurrence: Callable[..., Any], *tensors: Any
) -> Any:
    return recurrence(*project(*tensors))


@constant
def _unavailable(device: str) -> str | None:
    """Return why this machine has no kernels for a device, if so; the first call builds them."""
    return BACKENDS[device].missing()
