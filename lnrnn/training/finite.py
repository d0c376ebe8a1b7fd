"""Where the first NaN or infinity came from: a parameter, an activation or a gradient."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lnrnn.data import Batch


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a parameter is not a finite number; the message names the first one.

    Args:
        message: Says where it came from.
        steps: Optimizer steps made before, where the trainer may already count the one that failed.
    """

    def __init__(self, message: str, steps: int | None = None) -> None:
        super().__init__(message)
        self.steps = steps


def bad_parameter(model: nn.Module) -> str | None:
    """Return the name of the first parameter that is not finite, or None."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the parameter {name}"
    return None


def bad_gradient(model: nn.Module) -> str:
    """Return the first parameter, from the loss backwards, whose gradient is not finite.

    The norm of finite gradients may overflow too; then the largest is named.
    """
    largest, size = "", -1.0
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is None:
            continue
        if not bool(torch.isfinite(parameter.grad).all()):
            return f"the gradient of {name}"
        peak = float(parameter.grad.abs().max()) if parameter.grad.numel() else 0.0
        if peak > size:
            largest, size = name, peak
    return f"no single gradient, but their norm; the largest, {size:.3g}, is that of {largest}"


@torch.no_grad()
def bad_activation(model: nn.Module, batch: Batch, state: Any, seed: int | None = None) -> str:
    """Return what first became non-finite in a forward pass: a parameter, an input or an output.

    The pass is made again, with the same dropout, and every module looked at as it ends.

    Args:
        model: Takes inputs, lengths and state.
        batch: The batch of the step that failed.
        state: The carried state before it, or None.
        seed: What the generators started that step from; None: what they were last seeded with.
    """
    if (parameter := bad_parameter(model)) is not None:
        return parameter
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors_in((batch, state))):
        return "the batch itself"
    found: list[str] = []

    def note(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, outputs: Any) -> None:
            if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors_in(outputs)):
                found.append(f"the output of {name} ({type(module).__name__})")

        return look

    handles = [
        module.register_forward_hook(note(name)) for name, module in model.named_modules() if name
    ]
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(torch.initial_seed() if seed is None else seed)  # by StepSeed
            model(batch.inputs, batch.lengths, state)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the loss, of finite predictions"


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors inside tuples and lists, packed sequences included."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
