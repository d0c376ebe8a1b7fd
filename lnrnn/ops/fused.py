"""The fused kernels as operators of torch, with their gradients.

Each cell is a pair of operators, ``lnrnn::ln_lstm`` and ``lnrnn::ln_lstm_backward``, opaque to
`torch.compile` and `torch.export`: a whole sequence is one node. Here are their schemas and the one
`torch.autograd.Function` over them; what they return for tensors without data is in `fakes`. The
kernels themselves are in ``cpu/``, one file a cell.

Schemas follow one pattern, so that one function serves the three cells: first the tensors of
`lnrnn.ops.functional`, then ``batch_sizes``, then the options, and last, since programs saved
before they came lack them, ``cuts`` and the states after a reset, and the masks and probabilities
of what is random inside the steps (`NOISE`). What comes out is the output, the
final states, and what the backward wants to keep of them (nothing unless ``keep``). ``storage`` is
what hidden states are rounded to, if not the tensors' dtype; ``narrow`` is what float32 is
multiplied as: "float32", "bfloat16" or "bfloat16x3", three products of it; "tiles" and "tilesx3",
the same by AMX's instructions, or by plain loops without AMX; "plain" and "plainx3", by those.
None, which is what layers pass, leaves that to the CPU, to ``storage`` and to torch's switches for
float32, as they are when the kernel runs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lnrnn.ops.gates import GATES
from lnrnn.ops.noise import NO_NOISE, Drawn

Gradients = tuple[Tensor | None, ...]

# What is random inside the steps: each mask, True where a unit is new or kept, by the schemas'
# names, and the probability of False. Masks are bool, laid out as the input, (T, B, ...) or
# (N, ...), with R features for h and H for the others; seen_h is (B, R), once for all steps.
# Without masks, in evaluation, zoneout is its expectation and nothing is dropped.
NOISE = {
    "fresh_h": "zoneout",
    "fresh_c": "zoneout_c",
    "kept_candidate": "recurrent_dropout",
    "seen_h": "variational_dropout",
}

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
    def masks(self) -> tuple[str, ...]:
        """Return the names of the masks of what may be random inside the steps."""
        absent = {"rnn": ("fresh_c", "kept_candidate"), "gru": ("fresh_c",), "lstm": ()}[self.cell]
        return tuple(name for name in NOISE if name not in absent)

    @property
    def last(self) -> str:
        """Return what both operators take last: resets, and what is random inside the steps."""
        tensors = ("cuts", *(name[:-1] for name in self.reset_states), *self.masks)
        probabilities = (f"float {NOISE[name]}=0.0" for name in self.masks)
        return ", ".join((*(f"Tensor? {name}=None" for name in tensors), *probabilities))

    @property
    def rest(self) -> str:
        """Return what both operators take after the tensors."""
        return (
            f"Tensor? batch_sizes, bool reverse, {self.options}, bool centered, float eps, "
            "ScalarType? storage, str? narrow"
        )

    @property
    def takes(self) -> list[str]:
        """Return the names of the forward's arguments."""
        tensors = (name.rstrip("?") for name in self.tensors)
        return [*tensors, *_names(self.rest), "keep", *_names(self.last)]

    @property
    def backward_takes(self) -> list[str]:
        """Return the names of the backward's arguments."""
        grads = [f"d_{name}" for name in self.outputs]
        tensors = [name.rstrip("?") for name in self.tensors]
        last = ["needed", *_names(self.last)]
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
        rest = f"{self.rest}, bool[{len(LARGE)}] needed, {self.last}"
        return (
            f"{self.name}({tensors}, {self.rest}, bool keep, {self.last}) -> ({out})",
            f"{self.name}_backward({grads}, {tensors}, {kept}, {rest}) -> ({back})",
        )


def _names(schema: str) -> list[str]:
    """Return the names of a schema's arguments."""
    return [argument.split()[-1].partition("=")[0] for argument in schema.split(", ")]


def by_name(names: Sequence[str], args: Sequence[Any]) -> dict[str, Any]:
    """Return an operator's arguments by name; torch leaves out the last where they are missing."""
    missing = {name: 0.0 if name in NOISE.values() else None for name in names}
    return {**missing, **dict(zip(names, args, strict=False))}


class Random(NamedTuple):
    """What is random inside the steps of a call.

    Attributes:
        masks: As `Op.masks` has them.
        probabilities: Of those that act, in the same order; 0 for the others.
    """

    masks: tuple[Tensor | None, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def of(cls, op: Op, drawn: Drawn) -> "Random | None":
        """Return what a cell's kernel takes of what was drawn; None where nothing is random."""
        if drawn is NO_NOISE:
            return None
        found = dict(zip(NOISE, (*drawn.masks, drawn.seen), strict=True))
        masks = tuple(found[name] for name in op.masks)
        acting = [name for name in op.masks if found[name] is not None or name.startswith("fresh")]
        probabilities = tuple(
            getattr(drawn.noise, NOISE[name]) if name in acting else 0.0 for name in op.masks
        )
        return cls(masks, probabilities) if any(probabilities) else None


# The input side, the same for all cells; without a weight, x has been projected before.
INPUTS = ("weight_ih?", "bias_ih?", "gain_ih?", "shift_ih?")
# Gradients that cost a matrix product, which is saved where nobody wants them.
LARGE = ("x", "weight_hh", "weight_ih?")

RNN = Op(
    "rnn",
    ("x", "h_0", "weight_hh", "gain?", "bias_hh?", *INPUTS),
    "bool joint, bool relu",
    1,
    ("side", "projected", "input_stats", "stats"),
)
LSTM = Op(
    "lstm",
    (
        *("x", "h_0", "c_0", "weight_hh", "gain?", "bias_hh?", "gain_c?", "shift_c?", "weight_hr?"),
        *INPUTS,
    ),
    "bool joint, int[] spans, str? cell",
    2,
    ("side", "projected", "input_stats", "cells", "stats"),
)
GRU = Op(
    "gru",
    ("x", "h_0", "weight_hh", "gain?", "bias_hh?", *INPUTS),
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
        if given["gain"] is None:  # of a program that was recorded elsewhere
            raise NotImplementedError(
                f"{op.name} has no kernel for steps without a norm of W h on this device: record "
                "the program with the module there, or run it on a CPU"
            )
        values = forward(**{name: given[name] for name in given if name not in left_out})
        results = dict(zip(found, values, strict=True))
        width = given["weight_hh"].shape[0]
        results["projected"] = empty(given["h_0"], 0, width)
        results["input_stats"] = empty(given["h_0"], 0, 2 * op.gates)
        return tuple(results[name] for name in op.results)

    def whole_backward(*args: Any) -> tuple[Tensor, ...]:
        given = by_name(op.backward_takes, args)
        grads = backward(**{name: given[name] for name in given if name not in left_out})
        return tuple(op.with_inputs(grads, [empty(given["x"], 0) for _ in INPUTS]))

    _LIBRARY.impl(op.name, whole, key)
    _LIBRARY.impl(f"{op.name}_backward", whole_backward, key)


def implement_everywhere(name: str, function: Callable[..., Any]) -> None:
    """Make a function what an operator runs on devices for which nothing else is registered."""
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")


def register_fake(name: str, function: Callable[..., Any]) -> None:
    """Tell torch what an operator returns for tensors without data."""
    torch.library.register_fake(f"lnrnn::{name}", function, lib=_LIBRARY)


def run(
    op: Op,
    tensors: Sequence[Tensor | None],
    batch_sizes: Tensor | None,
    cuts: Tensor | None,
    random: Random | None,
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
        random: What is random inside the steps, if anything. The backward keeps the masks: they are
            one byte a unit, where a kernel keeps some forty, and any device reads them faster than
            it draws them.
        options: ``reverse`` and what follows it in both schemas.
        storage: What the hidden states are rounded to at each step, if not the tensors' dtype.
        again: The same computation by the reference, a function of ``tensors``, for gradients of
            gradients.

    Returns:
        A tuple of the output and the final states.
    """
    options = (*options, storage, None)  # the kernels know the CPU they run on
    masks, probabilities = ((None,) * len(op.masks), ()) if random is None else random
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    # What torch.jit.trace records is for inference: it cannot hold a function of Python's.
    if wanted and not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return _Fused.apply(op, again, probabilities, options, batch_sizes, cuts, *masks, *tensors)
    first, last = _apart(op, cuts, masks, probabilities, tensors)
    return _forward(op)(*first, batch_sizes, *options, False, *last)[: 1 + op.states]


def _apart(
    op: Op,
    cuts: Tensor | None,
    masks: Sequence[Tensor | None],
    probabilities: Sequence[float],
    tensors: Sequence[Tensor | None],
) -> tuple[Sequence[Tensor | None], Sequence[Any]]:
    """Return the tensors that a schema has first, and what it has last, as far as it is needed."""
    count = len(op.tensors)
    first, reset_states = tensors[:count], tensors[count:]
    if probabilities:
        return first, (cuts, *reset_states, *masks, *probabilities)
    return first, () if cuts is None else (cuts, *reset_states)


class _Fused(torch.autograd.Function):
    """A kernel and its hand-written backward.

    Gradients of gradients take the reference: the backward, asked for a gradient that can be
    differentiated, computes everything anew with autograd watching.
    """

    @staticmethod
    def forward(ctx, op, again, probabilities, options, batch_sizes, cuts, *rest) -> Any:
        """Run the kernel and keep what the backward needs."""
        masks, tensors = rest[: len(op.masks)], rest[len(op.masks) :]
        first, last = _apart(op, cuts, masks, probabilities, tensors)
        results = _forward(op)(*first, batch_sizes, *options, True, *last)
        ctx.op, ctx.again, ctx.probabilities, ctx.options = op, again, probabilities, options
        ctx.save_for_backward(batch_sizes, cuts, *rest, *results)
        return results[: 1 + op.states]

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Any:
        """Return the gradients of the tensors."""
        op = ctx.op
        count, low = len(op.differentiated), len(op.masks)
        batch_sizes, cuts, *saved = ctx.saved_tensors
        masks, tensors, results = saved[:low], saved[low : low + count], saved[low + count :]
        before = (None,) * (_BEFORE + low)
        needed = ctx.needs_input_grad[len(before) :]
        # A graph that is being compiled has no gradients of gradients.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return *before, *_differentiable(ctx.again, tensors, grads, needed)
        large = [needed[op.tensors.index(name)] for name in LARGE]
        first, last = _apart(op, cuts, masks, ctx.probabilities, tensors)
        found = _backward(op)(*grads, *first, *results, batch_sizes, *ctx.options, large, *last)
        wanted = [g if need else None for g, need in zip(found, needed, strict=True)]
        return *before, *wanted


_BEFORE = 6  # arguments before the masks and tensors, which have no gradient


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


def empty(like: Tensor, *shape: Any, wide: bool = False) -> Tensor:
    """Return memory of a tensor's kind, in float32 or better if ``wide``."""
    dtype = torch.float32 if wide and like.dtype != torch.float64 else like.dtype
    return like.new_empty(shape, dtype=dtype)
