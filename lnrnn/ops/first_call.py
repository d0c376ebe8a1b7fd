"""What runs where an operator is called before its kernels are loaded: it loads them.

`lnrnn.ops.functional` loads kernels itself. A program that was saved, by `torch.export`,
AOTInductor or `torch.jit.trace`, calls the operators alone, in a process where nothing else may
have run. Kernels are registered for a device (CPU, CUDA) and take precedence over what is
registered here, for every device, once they are there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lnrnn.ops import fused
from lnrnn.ops.choice import BACKENDS


def register() -> None:
    """Let each operator of `lnrnn.ops.fused` load the kernels of the device it is called on."""
    for op in fused.OPS:
        for name in (op.name, f"{op.name}_backward"):
            fused.implement_everywhere(name, _loads_kernels(name))


def _loads_kernels(name: str) -> Callable[..., Any]:
    def load_and_call(*args: Any) -> Any:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        why = f"kernels are for {' or '.join(BACKENDS)}"
        if device in BACKENDS:
            why = BACKENDS[device].missing()
            key = device.upper()
            if why is None and not torch._C._dispatch_has_kernel_for_dispatch_key(
                f"lnrnn::{name}", key
            ):
                why = f"what was loaded registers none for {key}"
        if why is not None:
            raise NotImplementedError(
                f"a saved program calls lnrnn::{name} on {device}, which has no kernel here: {why}"
            )
        return getattr(torch.ops.lnrnn, name)(*args)

    return load_and_call
