"""What makes the host wait for the device in a training step, found on a CPU.

On a GPU every one of these waits for all that was launched before it.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning.pytorch.loops import fetchers
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lnrnn.training.ahead import Flag

aten = torch.ops.aten
# Values that come to the host, or shapes that depend on values.
OPERATORS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
# What moves a tensor to the host, or makes one there and copies it.
FUNCTIONS = {
    *(Tensor.cpu, Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.nonzero),
    *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__),
    *(torch.tensor, torch.as_tensor, torch.from_numpy),
}


class HostReads:
    """Notes, for every training batch, what reads a value of a tensor and from where.

    The loader is not looked at: it works on the host. Nor is `Flag.read`, which is counted.

    Args:
        patch: Undoes it all.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[str]] = []
        self.flags = self.asked = 0
        self.early: set[int] = set()  # the batches that read a flag of their own
        born: dict[Flag, int] = {}
        self._looks = False
        advance, following = _TrainingEpochLoop.advance, fetchers._PrefetchDataFetcher.__next__
        read, ask = Flag.read, Flag.__init__
        reads = self

        def watched(loop: Any, fetcher: Any) -> None:
            reads.batches.append([])
            with _Functions(reads), _Operators(reads), reads._looking(True):
                advance(loop, fetcher)

        def fetch(fetcher: Any) -> Any:
            with reads._looking(False):
                return following(fetcher)

        def arrive(flag: Flag) -> bool:
            reads.flags += 1
            if born.pop(flag) == len(reads.batches) and reads._looks:
                reads.early.add(len(reads.batches) - 1)
            with reads._looking(False):
                return read(flag)

        def asked(flag: Flag, value: Tensor) -> None:
            reads.asked += 1
            born[flag] = len(reads.batches)
            ask(flag, value)

        patch.setattr(_TrainingEpochLoop, "advance", watched)
        patch.setattr(fetchers._PrefetchDataFetcher, "__next__", fetch)
        patch.setattr(Flag, "read", arrive)
        patch.setattr(Flag, "__init__", asked)

    @contextmanager
    def _looking(self, now: bool) -> Iterator[None]:
        before, self._looks = self._looks, now
        try:
            yield
        finally:
            self._looks = before

    def note(self, what: Any) -> None:
        """Note a read, with the functions that led to it."""
        if self._looks:
            names = [frame.name for frame in traceback.extract_stack()]
            self.batches[-1].append(f"{what}: {' '.join(names)}")


class _Functions(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FUNCTIONS:
            self.reads.note(func)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = func is aten.index.Tensor and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if func in OPERATORS or masked:
            self.reads.note(func)
        return func(*args, **(kwargs or {}))
