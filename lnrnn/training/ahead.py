"""What lets the CPU run ahead of a GPU: flags read a step later, optimizers that obey a flag.

A number that the host reads makes it wait until the GPU has done all it was given; then the GPU
waits for the host. So whether a step is to be made is decided on the GPU, by a flag that the
optimizer's kernel reads, and the host reads the same flag when it has long been there.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer


class Flag:
    """A boolean on its way from the device, read without waiting for what was launched after it.

    Args:
        value: Boolean, scalar.
    """

    def __init__(self, value: Tensor) -> None:
        self._value, self._arrived = value, None
        if value.is_cuda:
            # `item` would wait for the whole stream; this copy has an event of its own.
            self._value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> bool:
        """Return the value, once it is there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return bool(self._value)


def use_fused(optimizer: Optimizer) -> bool:
    """Let an optimizer use torch's fused kernel; return whether it does.

    Where the optimizer's ``found_inf`` is 1, that kernel leaves weights, moments and step count
    exactly as they are, as a gradient scaler needs it. Other kernels ignore or refuse it. An
    optimizer whose kernel was chosen (``foreach``, ``capturable``, ``differentiable``) stays as it
    is, and so does one of another class, which may not know ``found_inf``.

    Args:
        optimizer: Has made no step yet.
    """
    if type(optimizer) not in (SGD, Adam, AdamW):
        return False
    for group in optimizer.param_groups:
        if not any(group.get(key) for key in ("foreach", "capturable", "differentiable")):
            group["fused"] = True if group["fused"] is None else group["fused"]
    return all(group["fused"] for group in optimizer.param_groups)


def keep_kernel(optimizer: Optimizer) -> None:
    """Let an optimizer that loads a state use its own kernel, not that of the device it is from."""

    def own(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(state["param_groups"], optimizer.param_groups, strict=True)
        groups = [{**saved, "fused": mine["fused"]} for saved, mine in pairs]
        return {**state, "param_groups": groups}

    if all("fused" in group for group in optimizer.param_groups):
        optimizer.register_load_state_dict_pre_hook(own)
