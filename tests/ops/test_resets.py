"""Resets inside a sequence: equal to running its pieces apart, in the reference and the kernels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import (
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
)
from recurrences import arguments, names, op, op_with, reset_mask, states_of, with_states
from torch import Tensor

from lnrnn.ops import fused, ln_gru, ln_lstm

SIZES = [5, 5, 3, 3, 2, 1, 1]  # of a packed batch
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
few = pytest.mark.parametrize("case", FEW, ids=str)
every_kind = pytest.mark.parametrize("given", [False, True], ids=["zeros", "given"])


@pytest.fixture(autouse=True)
def nan_filled_memory() -> Any:
    """Make C++ too fill what it allocates with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def by_pieces(
    case: Case, sizes: list[int] | None, given: bool, resets: Tensor, reverse: bool
) -> Callable[..., tuple[Tensor, ...]]:
    """Return what runs each sequence alone, each piece apart, in the reference without resets."""

    def call(*args: Tensor) -> tuple[Tensor, ...]:
        count = len(names(case))
        named = dict(zip(names(case), args[:count], strict=True))
        keys = [f"{s}_0" for s in states_of(case)]
        initial = [named[key] for key in keys]
        after = args[count:] if given else [torch.zeros_like(s) for s in initial]
        x, run = named["x"], op(case, reverse=reverse, fused=False)
        steps, batch = (len(x), x.shape[1]) if sizes is None else (len(sizes), sizes[0])
        live = [batch] * steps if sizes is None else sizes
        first = [sum(live[:t]) for t in range(steps)]
        x, flags = x.reshape(-1, x.shape[-1]), resets.flatten()
        outputs: dict[int, Tensor] = {}
        finals: list[list[Tensor]] = [[] for _ in keys]
        for b in range(batch):
            rows = [first[t] + b for t in range(steps) if b < live[t]]
            begins = [i for i, row in enumerate(rows) if i == 0 or flags[row]]
            pieces = [rows[i:j] for i, j in zip(begins, [*begins[1:], len(rows)], strict=True)]
            final: list[Tensor] = []
            for piece in reversed(pieces) if reverse else pieces:
                whole = piece is (pieces[-1] if reverse else pieces[0])
                fresh = not whole or (not reverse and bool(flags[piece[0]]))
                state = [
                    (a if fresh else i)[b : b + 1] for a, i in zip(after, initial, strict=True)
                ]
                here = {**named, "x": x[piece].unsqueeze(1), **dict(zip(keys, state, strict=True))}
                output, *final = run(*here.values())
                outputs.update(zip(piece, output[:, 0], strict=True))
            for found, value in zip(finals, final, strict=True):
                found.append(value)
        output = torch.stack([outputs[row] for row in range(len(x))])
        shape = (*resets.shape, output.shape[-1])
        # Zeros, so that a state that no piece begins with has a gradient.
        unused = [0 * (i + a) for i, a in zip(initial, after, strict=True)]
        ends = [torch.cat(f) + zeros for f, zeros in zip(finals, unused, strict=True)]
        return output.view(shape), *ends

    return call


@few
@both_ways
@every_kind
@pytest.mark.parametrize("taken", [False, True], ids=["reference", "kernel"])
@pytest.mark.parametrize("sizes", [None, SIZES], ids=["padded", "packed"])
def test_resets_equal_pieces_apart(
    case: Case, reverse: bool, given: bool, taken: bool, sizes: list[int] | None
) -> None:
    """Outputs, final states and all gradients."""
    shape = (6, 3) if sizes is None else (sum(sizes),)
    resets = reset_mask(shape)
    args = with_states(case, arguments(case, steps=6, batch=3, sizes=sizes), given)
    packed = None if sizes is None else torch.tensor(sizes)
    run = op_with(case, resets, batch_sizes=packed, reverse=reverse, fused=taken)
    truth = output_and_grads(by_pieces(case, sizes, given, resets, reverse), args)
    for value, expected in zip(output_and_grads(run, args), truth, strict=True):
        assert_close(value, expected)


@few
@pytest.mark.parametrize(
    ("layout", "reverse", "dtype"),
    [
        ({"steps": 7, "batch": 3, "hidden": 13}, False, torch.bfloat16),
        ({"steps": 21, "batch": 33, "hidden": 7}, True, torch.float32),  # several chunks
    ],
    ids=["bfloat16", "float32"],
)
def test_kernels_are_as_accurate(
    case: Case, layout: dict[str, Any], reverse: bool, dtype: torch.dtype
) -> None:
    resets = reset_mask((layout["steps"], layout["batch"]), 0.2)
    args = with_states(case, arguments(case, **layout, dtype=dtype))
    kernel, reference = (op_with(case, resets, reverse=reverse, fused=f) for f in (True, False))
    keys = [*names(case), *(f"reset_{s}" for s in states_of(case))]
    alike = [nudged(reference, key, dtype) for key in range(8)]
    assert_as_accurate(kernel, reference, dict(zip(keys, args, strict=True)), alike=alike)


@few
@both_ways
def test_no_reset_changes_no_bit(case: Case, reverse: bool) -> None:
    args = arguments(case, steps=5, batch=9, hidden=13, dtype=torch.float32)
    nowhere = torch.zeros(5, 9, dtype=torch.bool)
    truth = output_and_grads(op(case, reverse=reverse, fused=True), args)
    function = op(case, resets=nowhere, reverse=reverse, fused=True)
    for value, expected in zip(output_and_grads(function, args), truth, strict=True):
        assert_equal(value, expected)


@few
@both_ways
def test_a_reset_at_every_step_forgets_everything(case: Case, reverse: bool) -> None:
    """Each step then is the first: in one direction all of them, in reverse all but the last."""
    args = arguments(case, steps=4, batch=2)
    everywhere = torch.ones(4, 2, dtype=torch.bool)
    output = op(case, resets=everywhere, reverse=reverse, fused=True)(*args)[0]
    x, rest = args[0], [torch.zeros_like(a) for a in args[1:2]] + args[2:]
    if case.cell == "lstm":
        rest[1] = torch.zeros_like(rest[1])
    for t in range(3 if reverse else 4):
        alone = op(case, fused=True)(x[t : t + 1], *rest)[0]
        assert_close(output[t], alone[0])
    if reverse:
        assert_close(output[3], op(case, fused=True)(x[3:], *args[1:])[0][0])


@few
@every_kind
def test_gradients(case: Case, given: bool) -> None:
    leaves = [a.requires_grad_() for a in with_states(case, arguments(case), given)]
    assert torch.autograd.gradcheck(op_with(case, reset_mask((3, 2)), fused=True), leaves)


@few
def test_gradients_of_gradients(case: Case) -> None:
    resets = torch.tensor([[False], [True]])
    leaves = [a.requires_grad_() for a in with_states(case, arguments(case, steps=2, batch=1))]
    assert torch.autograd.gradgradcheck(op_with(case, resets, fused=True), leaves)


@few
def test_any_of_the_gradients_alone(case: Case) -> None:
    args, kernel = (
        with_states(case, arguments(case, 5, 3)),
        op_with(case, reset_mask((5, 3)), fused=True),
    )
    every = [a.clone().requires_grad_() for a in args]
    truth = torch.autograd.grad(kernel(*every)[0].square().sum(), every)
    for i, expected in enumerate(truth):
        some = [a.clone().requires_grad_(i == j) for j, a in enumerate(args)]
        (grad,) = torch.autograd.grad(kernel(*some)[0].square().sum(), some[i : i + 1])
        assert_close(grad, expected)


@few
def test_nan_does_not_pass_a_reset(case: Case) -> None:
    """Neither forward nor, as gradient, backward."""
    args = arguments(case, steps=4, batch=1)
    resets = torch.tensor([[False], [False], [True], [False]])
    function = op(case, resets=resets, fused=True)
    truth = function(*args)[0][2:]
    args[0] = args[0].clone()
    args[0][1] = torch.nan
    args[0].requires_grad_()
    value = function(*args)[0]
    assert value[1].isnan().all()
    assert_equal(value[2:].detach(), truth)
    (grad,) = torch.autograd.grad(value[2:].square().sum(), args[0])
    assert not grad[2:].isnan().any()
    assert (grad[0] == 0).all() or grad[0].isnan().all()  # 0 * NaN, within the piece that has it


@few
@pytest.mark.parametrize("threads", [1, 2])
def test_results_repeat_bit_for_bit(case: Case, threads: int) -> None:
    args = with_states(case, arguments(case, 9, 40, hidden=64))
    run = op_with(case, reset_mask((9, 40), 0.2), fused=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, second = (output_and_grads(run, args) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    for value, truth in zip(second, first, strict=True):
        assert_equal(value, truth)


@few
def test_a_compiled_recurrence_is_one_node(case: Case) -> None:
    args, run = (
        with_states(case, arguments(case, steps=4)),
        op_with(case, reset_mask((4, 2)), fused=True),
    )
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for value, truth in zip(*(output_and_grads(f, args) for f in (compiled, run)), strict=True):
        assert_equal(value, truth)


@pytest.mark.parametrize("which", [fused.RNN, fused.LSTM, fused.GRU], ids=lambda op: op.cell)
def test_programs_saved_before_resets_came_still_call_the_operators(which: fused.Op) -> None:
    """What is new stands last and may be left out; what comes out begins as it did."""
    case = next(c for c in FEW if c.cell == which.cell)
    op(case, fused=True)(*arguments(case))  # builds and loads
    forward = getattr(torch.ops.lnrnn, which.name).default._schema
    backward = getattr(torch.ops.lnrnn, f"{which.name}_backward").default._schema
    for schema, last in ((forward, "keep"), (backward, "needed")):
        found = [argument.name for argument in schema.arguments]
        new = found[found.index(last) + 1 :]
        assert new[: 1 + which.states] == ["cuts", "reset_h", "reset_c"][: 1 + which.states]
        # Those of what is random inside the steps came after them: masks, then probabilities.
        assert new[1 + which.states :] == [*which.masks, *(fused.NOISE[m] for m in which.masks)]
        defaults = [argument.default_value for argument in schema.arguments[-len(new) :]]
        assert defaults == [0.0 if name in fused.NOISE.values() else None for name in new]
        assert not any(argument.has_default_value() for argument in schema.arguments[: -len(new)])
    assert len(forward.returns) == len(which.results)
    assert len(backward.returns) == len(which.tensors) + which.states


def test_what_does_not_fit_is_refused() -> None:
    case = Case("lstm", FEW[2].norm)
    named: dict[str, Any] = dict(zip(names(case), arguments(case), strict=True))
    good = torch.zeros(3, 2, dtype=torch.bool)
    state = torch.zeros(2, 5, dtype=torch.float64)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"resets": good.float()}, "resets must be torch.bool, got torch.float32"),
        ({"resets": good[:2]}, r"resets must be \(3, 2\), a value for each step of x"),
        ({"resets": good, "reset_h": state[:1]}, r"reset_h must be \(2, 5\) as h_0, got \(1, 5\)"),
        ({"resets": good, "reset_c": state[:1]}, r"reset_c must be \(2, 5\) as c_0, got \(1, 5\)"),
        ({"reset_h": state}, "reset_h is what resets lead to, and needs resets"),
    ]
    for options, rule in cases:
        with pytest.raises(ValueError, match=rule):
            ln_lstm(**named, **options)
    gru = Case("gru", FEW[5].norm)
    x: dict[str, Any] = dict(zip(names(gru), arguments(gru, sizes=[3, 1]), strict=True))
    with pytest.raises(ValueError, match=r"resets must be \(4,\)"):
        ln_gru(**x, batch_sizes=torch.tensor([3, 1]), resets=good)
