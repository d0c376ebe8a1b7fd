"""Lets code written for a GPU run where there is none, on CPU tensors and the CPU's kernels."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class CudaIsCpu(TorchFunctionMode):
    """Makes of every "cuda" that torch is asked for a "cpu"."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call ``func`` with other devices."""
        if func is Tensor.cuda:
            return args[0]
        named = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        return func(*map(_on_cpu, args), **named)


def _on_cpu(value: Any) -> Any:
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


class SyncDebugMode:
    """Stands for torch.cuda.set_sync_debug_mode: its first call warns, having set the mode."""

    def __init__(self) -> None:
        self.mode, self.warned = "default", False

    def __call__(self, mode: str) -> None:
        self.mode = mode
        if not self.warned:
            self.warned = True
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all "
                "synchronizing operations",
                UserWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def standing_in() -> Iterator[SyncDebugMode]:
    """Let torch.cuda say that there is a GPU, and run on the CPU."""
    sync = SyncDebugMode()
    stand_ins: dict[str, Any] = {
        "is_available": lambda: True,
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda: (1 << 40, 1 << 40),
        "get_device_capability": lambda *_: (9, 0),
        "set_sync_debug_mode": sync,
    }
    with contextlib.ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(CudaIsCpu())
        yield sync
