"""The fused kernels as operators of torch, with their gradients.

Each cell is a pair of operators, ``lnrnn::ln_lstm`` and ``lnrnn::ln_lstm_backward``, opaque to
`torch.compile` and `torch.export`: a whole sequence is one node. Here are their schemas, what they
return for tensors without data, and the one `torch.autograd.Function` over them. The kernels
themselves are in ``cpu/``, one file a cell.

Schemas follow one pattern, so that one function serves the three cells: first the tensors of
`lnrnn.ops.functional`, then ``batch_sizes``, then the options, and last, since programs saved
before they came lack them, ``cuts`` and the states after a reset. What comes out is the output, the
final states, and what the backward wants to keep of them (nothing unless ``keep``). ``storage`` is
what hidden states are rounded to, if not the tensors' dtype; ``narrow`` is whether products take
bfloat16 as it is stored, None for where the CPU has AMX.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnrnn.ops.gates import GATES

Gradients = tuple[Tensor | None, ...]

_LIBRARY = torch.library.Library("lnrnn", "DEF")


class Op(NamedTuple):
    """One cell's operators.

    Attributes:
        cell: "rnn", "lstm" or "gru".
        tensors: Arguments that are differentiated, but for states after a reset; those that may be
            missing end in "?".
        options: The rest of the schema but what all operators have.
        states: Number of final states.
        saved: Names of what the forward keeps for the backward.
    """

    cell: str
    tensors: tuple[str, ...]
    options: str
    states: int
    saved: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the operator's name, as in `lnrnn.ops.functional`."""
        return f"ln_{self.cell}"

    @property
    def gates(self) -> int:
        """Return the number of gates."""
        return len(GATES[self.cell])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of what is differentiated again: the output and the final states."""
        return ("output", "h_n", "c_n")[: 1 + self.states]

    @property
    def results(self) -> tuple[str, ...]:
        """Return the names of what the forward returns."""
        return *self.outputs, *self.saved

    @property
    def reset_states(self) -> tuple[str, ...]:
        """Return the names of the states after a reset."""
        return ("reset_h?", "reset_c?")[: self.states]

    @property
    def differentiated(self) -> tuple[str, ...]:
        """Return the names of all that is differentiated."""
        return *self.tensors, *self.reset_states

    @property
    def resets(self) -> str:
        """Return what both operators take last."""
        states = (f"Tensor? {name[:-1]}=None" for name in self.reset_states)
        return ", ".join(("Tensor? cuts=None", *states))

    @property
    def rest(self) -> str:
        """Return what both operators take after the tensors."""
        return (
            f"Tensor? batch_sizes, bool reverse, {self.options}, bool centered, float eps, "
            "ScalarType? storage, bool? narrow"
        )

    @property
    def takes(self) -> list[str]:
        """Return the names of the forward's arguments."""
        tensors = (name.rstrip("?") for name in self.tensors)
        return [*tensors, *_names(self.rest), "keep", *_names(self.resets)]

    @property
    def backward_takes(self) -> list[str]:
        """Return the names of the backward's arguments."""
        grads = [f"d_{name}" for name in self.outputs]
        tensors = [name.rstrip("?") for name in self.tensors]
        last = ["needed", *_names(self.resets)]
        return [*grads, *tensors, *self.results, *_names(self.rest), *last]

    def without_inputs(self, tensors: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return what is differentiated apart from the input side's, and the input side's."""
        low = self.tensors.index(INPUTS[0])
        high = low + len(INPUTS)
        return [*tensors[:low], *tensors[high:]], [*tensors[low:high]]

    def with_inputs(self, others: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        """Return what `without_inputs` has taken apart."""
        low = self.tensors.index(INPUTS[0])
        return [*others[:low], *inputs, *others[low:]]

    @property
    def schemas(self) -> tuple[str, str]:
        """Return the declarations of the two operators."""
        tensors = ", ".join(
            f"Tensor? {name[:-1]}" if name.endswith("?") else f"Tensor {name}"
            for name in self.tensors
        )
        grads = ", ".join(f"Tensor d_{name}" for name in self.outputs)
        kept = ", ".join(f"Tensor {name}" for name in self.results)
        out = ", ".join("Tensor" for _ in self.results)
        back = ", ".join("Tensor" for _ in self.differentiated)
        rest = f"{self.rest}, bool[{len(LARGE)}] needed, {self.resets}"
        return (
            f"{self.name}({tensors}, {self.rest}, bool keep, {self.resets}) -> ({out})",
            f"{self.name}_backward({grads}, {tensors}, {kept}, {rest}) -> ({back})",
        )


def _names(schema: str) -> list[str]:
    """Return the names of a schema's arguments."""
    return [argument.split()[-1].removesuffix("=None") for argument in schema.split(", ")]


def by_name(names: Sequence[str], args: Sequence[Any]) -> dict[str, Any]:
    """Return an operator's arguments by name; torch leaves out the last where they are missing."""
    return {**dict.fromkeys(names), **dict(zip(names, args, strict=False))}


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


# The input side, the same for all cells; without a weight, x has been projected before.
INPUTS = ("weight_ih?", "bias_ih?", "gain_ih?", "shift_ih?")
# Gradients that cost a matrix product, which is saved where nobody wants them.
LARGE = ("x", "weight_hh", "weight_ih?")

RNN = Op(
    "rnn",
    ("x", "h_0", "weight_hh", "gain", "bias_hh?", *INPUTS),
    "bool joint, bool relu",
    1,
    ("side", "projected", "input_stats", "stats"),
)
LSTM = Op(
    "lstm",
    (
        *("x", "h_0", "c_0", "weight_hh", "gain", "bias_hh?", "gain_c?", "shift_c?", "weight_hr?"),
        *INPUTS,
    ),
    "bool joint, int[] spans, str? cell",
    2,
    ("side", "projected", "input_stats", "cells", "stats"),
)
GRU = Op(
    "gru",
    ("x", "h_0", "weight_hh", "gain", "bias_hh?", *INPUTS),
    "int[] spans",
    1,
    ("side", "projected", "input_stats", "stats"),
)
OPS = (RNN, LSTM, GRU)
SCHEMAS = tuple(schema for op in OPS for schema in op.schemas)
for _schema in SCHEMAS:
    # The CUDA kernels replay graphs of their own, which no other graph can hold.
    _LIBRARY.define(_schema, tags=(torch.Tag.cudagraph_unsafe,))


# What functions that know of a projected x alone do without: what the forward keeps of the
# projection, and what it would be kept in.
PROJECTION = ("projected", "input_stats")
OF_THE_CPU = ("storage", "narrow")


def implement(op: Op, forward: Callable[..., Any], backward: Callable[..., Any], key: str) -> None:
    """Make two functions what a cell's operators run under a dispatch key.

    They know of a projected x alone, and of no other dtype to store in: they take the schema's
    arguments by name, without ``weight_ih`` and its kin, what is kept of them, ``storage``,
    ``narrow`` and ``needed``, and return the schema's results without the same.
    """
    left_out = {*(name.rstrip("?") for name in INPUTS), *PROJECTION, *OF_THE_CPU, "needed"}
    found = [name for name in op.results if name not in PROJECTION]

    def whole(*args: Any) -> tuple[Tensor, ...]:
        given = by_name(op.takes, args)
        values = forward(**{name: given[name] for name in given if name not in left_out})
        results = dict(zip(found, values, strict=True))
        width = given["weight_hh"].shape[0]
        results["projected"] = _empty(given["h_0"], 0, width)
        results["input_stats"] = _empty(given["h_0"], 0, 2 * op.gates)
        return tuple(results[name] for name in op.results)

    def whole_backward(*args: Any) -> tuple[Tensor, ...]:
        given = by_name(op.backward_takes, args)
        grads = backward(**{name: given[name] for name in given if name not in left_out})
        return tuple(op.with_inputs(grads, [_empty(given["x"], 0) for _ in INPUTS]))

    _LIBRARY.impl(op.name, whole, key)
    _LIBRARY.impl(f"{op.name}_backward", whole_backward, key)


def implement_everywhere(name: str, function: Callable[..., Any]) -> None:
    """Make a function what an operator runs on devices for which nothing else is registered."""
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")


def run(
    op: Op,
    tensors: Sequence[Tensor | None],
    batch_sizes: Tensor | None,
    cuts: Tensor | None,
    options: Sequence[Any],
    storage: torch.dtype | None,
    again: Callable[..., tuple[Tensor, ...]],
) -> Any:
    """Run a fused kernel.

    Args:
        op: Which.
        tensors: What is differentiated, in its order.
        batch_sizes: Live sequences at each step, for packed ``x``.
        cuts: Where the state that a step leaves is replaced by the one after a reset, if anywhere.
        options: ``reverse`` and what follows it in both schemas.
        storage: What the hidden states are rounded to at each step, if not the tensors' dtype.
        again: The same computation by the reference, a function of ``tensors``, for gradients of
            gradients.

    Returns:
        A tuple of the output and the final states.
    """
    options = (*options, storage, None)  # the kernels know the CPU they run on
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    # What torch.jit.trace records is for inference: it cannot hold a function of Python's.
    if wanted and not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return _Fused.apply(op, again, batch_sizes, cuts, options, *tensors)
    first, last = _apart(op, cuts, tensors)
    return _forward(op)(*first, batch_sizes, *options, False, *last)[: 1 + op.states]


def _apart(
    op: Op, cuts: Tensor | None, tensors: Sequence[Tensor | None]
) -> tuple[Sequence[Tensor | None], Sequence[Tensor | None]]:
    """Return the tensors that a schema has first, and what it has last: nothing without resets."""
    count = len(op.tensors)
    return tensors[:count], () if cuts is None else (cuts, *tensors[count:])


class _Fused(torch.autograd.Function):
    """A kernel and its hand-written backward.

    Gradients of gradients take the reference: the backward, asked for a gradient that can be
    differentiated, computes everything anew with autograd watching.
    """

    @staticmethod
    def forward(ctx, op, again, batch_sizes, cuts, options, *tensors) -> Any:
        """Run the kernel and keep what the backward needs."""
        first, last = _apart(op, cuts, tensors)
        results = _forward(op)(*first, batch_sizes, *options, True, *last)
        ctx.op, ctx.again, ctx.options = op, again, options
        ctx.save_for_backward(batch_sizes, cuts, *tensors, *results)
        return results[: 1 + op.states]

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Any:
        """Return the gradients of the tensors."""
        count = len(ctx.op.differentiated)
        batch_sizes, cuts, *saved = ctx.saved_tensors
        tensors, results = saved[:count], saved[count:]
        needed = ctx.needs_input_grad[len(_NOTHING) :]
        # A graph that is being compiled has no gradients of gradients.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return *_NOTHING, *_differentiable(ctx.again, tensors, grads, needed)
        large = [needed[ctx.op.tensors.index(name)] for name in LARGE]
        first, last = _apart(ctx.op, cuts, tensors)
        rest = (batch_sizes, *ctx.options, large)
        found = _backward(ctx.op)(*grads, *first, *results, *rest, *last)
        wanted = [g if need else None for g, need in zip(found, needed, strict=True)]
        return *_NOTHING, *wanted


_NOTHING = (None,) * 5  # gradients of the arguments before the tensors


def _differentiable(
    again: Callable[..., tuple[Tensor, ...]],
    tensors: Sequence[Tensor | None],
    grads: Sequence[Tensor],
    needed: Sequence[bool],
) -> Gradients:
    """Return the gradients of the tensors as functions of tensors and ``grads``."""
    # Aliases: a tensor that came in twice has one gradient a place, which autograd adds up itself.
    places = [t.view_as(t) if t is not None and need else t for t, need in zip(tensors, needed)]  # noqa: B905
    leaves = [t for t, need in zip(places, needed, strict=True) if t is not None and need]
    outputs = again(*places)
    found = iter(torch.autograd.grad(outputs, leaves, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in needed)


def _forward(op: Op) -> Callable[..., tuple[Tensor, ...]]:
    return getattr(torch.ops.lnrnn, op.name)


def _backward(op: Op) -> Callable[..., tuple[Tensor, ...]]:
    return getattr(torch.ops.lnrnn, f"{op.name}_backward")


def _empty(like: Tensor, *shape: Any, wide: bool = False) -> Tensor:
    dtype = torch.float32 if wide and like.dtype != torch.float64 else like.dtype
    return like.new_empty(shape, dtype=dtype)


def _outputs(x: Tensor, h_0: Tensor, *cells: Tensor) -> list[Tensor]:
    """Return the output and the final states: in the dtype of the products, cell states wide."""
    states = [_empty(h_0, *h_0.shape), *(_empty(c, *c.shape, wide=True) for c in cells)]
    return [_empty(h_0, *x.shape[:-1], h_0.shape[1]), *states]


def _fake_kept(op: Op, given: dict[str, Any]) -> list[Tensor]:
    """Return what the forward keeps: rows of gate entries, of cell states and of moments."""
    x, h_0, width, keep = given["x"], given["h_0"], given["weight_hh"].shape[0], given["keep"]
    rows = (x.shape[0] if x.dim() == 2 else x.shape[0] * x.shape[1]) if keep else 0
    projects, normed = given["weight_ih"] is not None, given["gain_ih"] is not None
    shapes = {
        "side": (rows, width),
        "projected": (rows if projects and not given.get("joint", False) else 0, width),
        "input_stats": (rows if normed else 0, 2 * op.gates),
        "cells": (rows, given["c_0"].shape[1] if "c_0" in given else 0),
        "stats": (rows, 2 * (op.gates + op.states - 1)),
    }
    kept = {name: _empty(h_0, *shapes[name], wide=name in ("cells", "stats")) for name in op.saved}
    if keep and given["storage"] == torch.bfloat16:
        kept |= {name: kept[name].bfloat16() for name in ("side", "projected")}
    return list(kept.values())


def _fake_forward(op: Op) -> Callable[..., tuple[Tensor, ...]]:
    """Return what makes results of the right shapes and dtypes."""

    def fake(*args: Any) -> tuple[Tensor, ...]:
        given = by_name(op.takes, args)
        cells = [given["c_0"]] if "c_0" in given else []
        return *_outputs(given["x"], given["h_0"], *cells), *_fake_kept(op, given)

    return fake


def _fake_backward(op: Op) -> Callable[..., tuple[Tensor, ...]]:
    """Return what makes gradients shaped as the tensors; of a missing one nothing is promised."""

    def fake(*args: Any) -> tuple[Tensor, ...]:
        given = by_name(op.backward_takes, args)
        unwanted = {name for name, needed in zip(LARGE, given["needed"], strict=True) if not needed}
        tensors = {name: given[name.rstrip("?")] for name in op.differentiated}
        return tuple(
            _empty(given["x"], 0) if t is None or name in unwanted else _empty(t, *t.shape)
            for name, t in tensors.items()
        )

    return fake


for _op in OPS:
    torch.library.register_fake(f"lnrnn::{_op.name}", _fake_forward(_op), lib=_LIBRARY)
    torch.library.register_fake(f"lnrnn::{_op.name}_backward", _fake_backward(_op), lib=_LIBRARY)
