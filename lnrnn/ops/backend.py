"""What a type of device has to bring for `lnrnn.ops.functional` to run its kernels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from lnrnn.ops.fused import Op, Prepared


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
        options: Sequence[Any],
        again: Callable[..., Any],
    ) -> Any:
        """Return the output and the final states, in the dtypes that the reference returns."""
        ...
