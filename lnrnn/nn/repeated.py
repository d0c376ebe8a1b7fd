"""A cell's step again, where nothing but the numbers differs from one before.

In a step of one sequence, looking at the arguments takes longer than computing: what fits, who
computes, what the operator is told. A stream asks the same at every step. So a cell watches which
operator a step without gradients calls, and with what. It calls that operator at once as long as
the parameters are the ones it had, look as they did, and nobody records or transforms the call.
Anything else goes the long way, where every check is and every error is raised.

Dimensions: B sequences, I input features, H hidden units.
"""

from collections.abc import Callable, Collection, Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

State = tuple[Tensor, ...]
DTYPES = (torch.float32, torch.float64)  # others are widened, anew at each step


class Watched(NamedTuple):
    """What a step on the CPU without gradients called.

    Attributes:
        parameters: The cell's parameters, some of which may be None.
        looks: What they looked like.
        operator: What was called, or None where the step has to go the long way each time.
        rest: The operator's arguments after x and the states.
        dtype: Of all tensors.
        sizes: I and H.
    """

    parameters: tuple[Tensor | None, ...]
    looks: list[Any]
    operator: Callable[..., Sequence[Tensor]] | None
    rest: tuple[Any, ...]
    dtype: torch.dtype
    sizes: tuple[int, int]

    def is_of(self, parameters: Collection[Tensor | None]) -> bool:
        """Return whether a cell's parameters are these, and look as they did."""
        return (
            len(parameters) == len(self.parameters)
            and all(map(is_, parameters, self.parameters))
            and _looks(self.parameters) == self.looks
        )

    def run(self, input: Any, state: Sequence[Any]) -> State | None:
        """Run a step on (B, I) or (I,) and return the states, or None where these are others."""
        if self.operator is None or not self._takes(input):
            return None
        features, hidden_size = self.sizes
        shape = input.shape
        if not 0 < len(shape) < 3 or shape[-1] != features:
            return None
        expected = (*shape[:-1], hidden_size)
        for s in state:
            if not self._takes(s) or s.shape != expected:
                return None
        if len(shape) == 2:
            return self._call(input, state)
        found = self._call(input.unsqueeze(0), [s.unsqueeze(0) for s in state])
        return tuple(s.squeeze(0) for s in found)

    def _takes(self, tensor: Any) -> bool:
        return type(tensor) is Tensor and tensor.dtype == self.dtype and tensor.is_cpu

    def _call(self, x: Tensor, state: Sequence[Tensor]) -> State:
        assert self.operator is not None
        return tuple(self.operator(x.unsqueeze(0), *state, *self.rest)[1 : 1 + len(state)])


def is_plain(input: Any) -> bool:
    """Return whether a call on the CPU wants no gradients and is just to be computed."""
    return not (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch._C._are_functorch_transforms_active()
        or type(input) is not Tensor
        or not input.is_cpu
    )


def watch(
    step: Callable[[Tensor, State], State],
    x: Tensor,
    state: State,
    parameters: Collection[Tensor | None],
) -> tuple[State, Watched]:
    """Run a plain call's step and return its states and what it called.

    Only one operator of lnrnn's can be called again, and only on tensors as they came: a copy of a
    parameter would not follow it.

    Args:
        step: A function of the two.
        x: Input, (B, I).
        state: States, (B, H).
        parameters: The cell's parameters.
    """
    with _Watch() as watching:
        result = step(x, state)
    parts, first = tuple(parameters), 1 + len(state)
    operator, rest = None, ()
    if len(watching.calls) == 1:
        operator, args = watching.calls[0]
        rest = args[first:]
        known = {id(t) for t in parts}
        tensors = [t for t in rest if isinstance(t, Tensor)]
        as_they_came = all(map(is_, args[1:first], state)) and all(id(t) in known for t in tensors)
        dtypes = {t.dtype for t in (x, *state, *tensors)}
        if not as_they_came or len(dtypes) > 1 or x.dtype not in DTYPES:
            operator = None
    sizes = (x.shape[-1], state[0].shape[-1])
    return result, Watched(parts, _looks(parts), operator, rest, x.dtype, sizes)


class Repeating(nn.Module):
    """A cell that repeats its steps."""

    _watched: Watched | None = None

    def _repeat(self, input: Any, state: Sequence[Any]) -> State | None:
        """Run one step as an earlier one was run, or return None where it is not like it."""
        if not is_plain(input):  # first, or a compiled call would depend on earlier steps
            return None
        watched = self._watched  # once, since another thread may take it away
        if watched is None or not watched.is_of(self._parameters.values()):
            return None
        return watched.run(input, state)

    def _watch(self, step: Callable[[Tensor, State], State], x: Tensor, state: State) -> State:
        """Run a step on (B, I) the long way, and see whether it can be repeated."""
        if not is_plain(x):
            return step(x, state)
        parameters, watched = self._parameters.values(), self._watched
        if watched is not None and watched.is_of(parameters):
            return step(x, state)
        if any(type(p) is Tensor for p in parameters):  # functional_call's, which are not kept
            return step(x, state)
        state, self._watched = watch(step, x, state, parameters)
        return state

    def __setattr__(self, name: str, value: Any) -> None:
        # It may hold for other settings alone. Weight norm and pruning set a tensor at each step.
        if type(value) is not Tensor or self._watched is None or self._watched.operator is not None:
            self.__dict__.pop("_watched", None)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_watched"}


class _Watch(TorchDispatchMode):
    """Notes which operators of lnrnn are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator."""
        if func.namespace == "lnrnn":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def _looks(tensors: Collection[Tensor | None]) -> list[Any]:
    """Return what decides whether a kernel may read them as before; ``p.data`` can be set."""
    return [None if t is None else (t.shape, t.dtype, t.is_cpu) for t in tensors]
