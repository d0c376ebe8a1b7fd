"""What the Triton kernels cover on a GPU, and their registration as operators.

Triton comes with a CUDA build of torch; it is imported by the first call that wants it.
"""

import functools
import subprocess
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lnrnn.ops import fused
from lnrnn.ops.backend import Prepared

# What Triton raises where it, a driver or a compiler is missing.
_FAILURES = ImportError, OSError, RuntimeError, AssertionError, subprocess.SubprocessError
CAPABILITY = 8, 0  # the least that Triton supports: Ampere


# What is multiplied with one another at every step, and before the first.
PRODUCTS = ("h_0", "weight_hh", "weight_hr?", "reset_h?"), ("x", "weight_ih?")


def uncovered(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what about a call's tensors no kernel covers, if anything."""
    device = tensors["x"].device.type
    dtypes = {tensor.dtype for tensor in tensors.values()}
    narrow = dtypes - {torch.float32}
    if not (dtypes == {torch.float64} or narrow in (set(), {torch.bfloat16}, {torch.float16})):
        return (
            "kernels take torch.float32 with or without one of torch.bfloat16 and torch.float16, "
            f"or torch.float64 alone, and tensors are in {_listed(dtypes)}"
        )
    for names in () if torch.is_autocast_enabled(device) else PRODUCTS:
        factors = {name: tensors[name].dtype for name in names if name in tensors}
        if len(set(factors.values())) > 1:
            return (
                f"{' and '.join(name.rstrip('?') for name in factors)} must be of one dtype "
                f"outside of autocast, and are in {_listed(factors.values())}"
            )
    return None


def _listed(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(sorted(set(map(str, dtypes))))


def prepare(
    op: fused.Op, tensors: Sequence[Tensor | None], project: Callable[..., Any]
) -> Prepared:
    """Project x, and cast what is multiplied as autocast would, which leaves float64 alone."""
    inputs = op.with_inputs(project(*tensors), [None] * len(fused.INPUTS))
    x = inputs[0]
    assert x is not None
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        inputs = [
            t.to(dtype) if name in PRODUCTS[0] and t is not None and t.dtype != torch.float64 else t
            for name, t in zip(op.differentiated, inputs, strict=True)
        ]
    return Prepared(inputs, x.dtype, None)


def run(
    op: fused.Op,
    prepared: Prepared,
    batch_sizes: Tensor | None,
    cuts: Tensor | None,
    random: fused.Random | None,
    options: Sequence[Any],
    again: Callable[..., Any],
) -> Any:
    """Run a kernel; states come in the dtype that the reference would return."""
    return fused.run(op, prepared.tensors, batch_sizes, cuts, random, options, None, again)


@functools.cache
def missing() -> str | None:
    """Register the kernels and return why they cannot run here, if they cannot.

    A failure is warned of, once a process.
    """
    why = _old_device()
    if why is None:
        try:
            register("CUDA")
            _find_driver()
        except _FAILURES as error:
            why = (
                f"Triton cannot be used ({type(error).__name__}: {error}); a CUDA build of torch "
                "brings it along, and it needs a C compiler"
            )
    if why is not None:
        warnings.warn(
            f"lnrnn runs norms inside the step without its fused CUDA kernels, which is many "
            f"times slower: {why}",
            RuntimeWarning,
            stacklevel=2,
        )
    return why


def _old_device() -> str | None:
    """Return what is said of a GPU that Triton does not support, if there is one."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    lowest = min(torch.cuda.get_device_capability(device) for device in devices)
    if lowest >= CAPABILITY:
        return None
    found, needed = (".".join(map(str, capability)) for capability in (lowest, CAPABILITY))
    return f"Triton needs GPUs of compute capability {needed} or more, and one here has {found}"


def _find_driver() -> None:
    """Load Triton's driver, which it compiles on first use.

    Raises:
        RuntimeError: If it finds no GPU or no compiler.
    """
    import triton  # pyright: ignore[reportMissingImports]

    triton.runtime.driver.active.get_current_target()


def register(key: str) -> None:
    """Make the kernels what the operators run under a dispatch key.

    Raises:
        ImportError: If there is no Triton.
    """
    from lnrnn.ops import (
        triton_gru,
        triton_lstm,
        triton_persistent_gru,
        triton_persistent_lstm,
        triton_persistent_rnn,
        triton_rnn,
    )

    for op, whole, steps in (
        (fused.RNN, triton_persistent_rnn, triton_rnn),
        (fused.LSTM, triton_persistent_lstm, triton_lstm),
        (fused.GRU, triton_persistent_gru, triton_gru),
    ):
        forward = _whole_or_steps(whole.forward, steps.forward)
        backward = _whole_or_steps(whole.backward, steps.backward, backward=True)
        fused.implement(op, _alone(forward), _alone(backward), key)


def _whole_or_steps(
    whole: Callable[..., Any], steps: Callable[..., Any], *, backward: bool = False
) -> Callable[..., Any]:
    """Compute sequences in one launch where that is faster, and step by step elsewhere."""
    from lnrnn.ops import triton_persistent

    def call(*, x: Tensor, h_0: Tensor, weight_hh: Tensor, **rest: Any) -> Any:
        fits = triton_persistent.fits(
            x,
            h_0,
            weight_hh,
            rest.get("weight_hr"),
            packed=rest["batch_sizes"] is not None,
            backward=backward,
        )
        return (whole if fits else steps)(x=x, h_0=h_0, weight_hh=weight_hh, **rest)

    return call


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run on the device of x, where neither autograd nor autocast interferes."""

    @functools.wraps(function)
    def call(*, x: Tensor, **rest: Any) -> Any:
        with (
            torch.no_grad(),
            torch.autocast(x.device.type, enabled=False),
            torch.cuda.device_of(x),
        ):
            return function(x=x, **rest)

    return call
