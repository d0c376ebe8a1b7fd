"""What a type of device has to bring for `lnrnn.ops.functional` to run its kernels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lnrnn.ops.fused import Op, Random


class Prepared(NamedTuple):
    """A call's tensors as the operators take them.

    Attributes:
        tensors: In the operator's order.
        dtype: Of the output that the caller expects.
        storage: What hidden states are rounded to at each step, if not the tensors' dtype.
    """

    tensors: Sequence[Tensor | None]
    dtype: torch.dtype
    storage: torch.dtype | None


class Backend(Protocol):
    """The kernels of one type of device: a module of these functions."""

    def uncovered(self, tensors: Mapping[str, Tensor]) -> str | None:
        """Return what about a call's tensors, by the operator's names, no kernel covers."""
        ...

    def missing(self) -> str | None:
        """Return why the kernels cannot run on this machine, warning of it once, if so."""
        ...

    def prepare(
        self, op: Op, tensors: Sequence[Tensor | None], project: Callable[..., Any]
    ) -> Prepared:
        """Return what the operator takes for these tensors; ``project`` projects x."""
        ...

    def run(
        self,
        op: Op,
        prepared: Prepared,
        batch_sizes: Tensor | None,
        cuts: Tensor | None,
        random: Random | None,
        options: Sequence[Any],
        again: Callable[..., Any],
    ) -> Any:
        """Return the output and the final states, in the dtypes that the reference returns."""
        ...
