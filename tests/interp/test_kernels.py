"""Every kernel and variant in the interpreter: exact in float64, as accurate as can be below."""

# Triton is not there where the types are checked, and its kernels are not Python's.
# pyright: reportMissingImports=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from interp.strict import Guarded, permuted_programs, poisoned_loads, rounded_bfloat16
from norm_cases import FEW, Case
from numerics import (
    EXACT,
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
    relative_error,
)
from recurrences import arguments, distinct, names, op
from torch import Tensor

from lnrnn.ops import triton_gru, triton_lstm, triton_norm, triton_rnn, triton_steps
from lnrnn.ops.triton_norm import sigmoid, tanh

CELLS: dict[str, Any] = {"rnn": triton_rnn, "lstm": triton_lstm, "gru": triton_gru}
LAUNCH = triton_steps.launch
NARROW = [torch.float32, torch.bfloat16, torch.float16]
dtypes = pytest.mark.parametrize("dtype", NARROW, ids=lambda d: str(d).removeprefix("torch."))
few = pytest.mark.parametrize("case", FEW, ids=str)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@pytest.fixture(autouse=True)
def nearest() -> Iterator[None]:
    with rounded_bfloat16():
        yield


def compare(case: Case, layout: dict[str, Any], **more: Any) -> None:
    """Check outputs and gradients against the reference in float64."""
    sizes = layout.get("sizes")
    options = {"batch_sizes": None if sizes is None else torch.tensor(sizes), **more}
    args = arguments(case, **layout)
    results = [output_and_grads(op(case, **options, fused=f), args) for f in (True, False)]
    labels = ["output", "h_n", "c_n"][: len(results[0]) - len(args)] + names(case)
    for label, value, truth in zip(labels, *results, strict=True):
        assert_close(value, truth, EXACT, label)


@pytest.mark.parametrize("case", distinct(), ids=str)
def test_every_variant_is_exact_in_float64(case: Case) -> None:
    compare(case, {"steps": 2, "batch": 3})
    compare(case, {"sizes": [3, 3, 1]}, reverse=True)


def test_the_variants_are_all_there() -> None:
    count = {cell: sum(case.cell == cell for case in distinct()) for cell in CELLS}
    assert count == {"rnn": 16, "lstm": 2 * 2 * 3 * 2 * 2 * 2, "gru": 12}


SIZES: dict[str, dict[str, Any]] = {
    "H13 of 3 tiles": {"steps": 3, "batch": 5, "hidden": 13, "projected": 6},
    "H16": {"steps": 2, "batch": 4, "hidden": 16, "projected": 8},
    "H37": {"steps": 2, "batch": 2, "hidden": 37, "projected": 21},
    "one sequence": {"steps": 3, "batch": 1},
    "one step": {"steps": 1, "batch": 3},
    "falling": {"sizes": [5, 4, 4, 1]},
    "full pack": {"sizes": [3, 3]},
}


@few
@both_ways
@pytest.mark.parametrize("layout", list(SIZES.values()), ids=list(SIZES))
def test_every_size_is_exact_in_float64(
    case: Case, reverse: bool, layout: dict[str, Any], rows_of_a_tile: Callable[[int], None]
) -> None:
    rows_of_a_tile(2)
    compare(case, layout, reverse=reverse)


@few
def test_no_sequences_have_results_of_their_shape_and_no_gradients(case: Case) -> None:
    args = arguments(case, steps=2, batch=0)
    found = [output_and_grads(op(case, fused=fused), args) for fused in (True, False)]
    for value, truth in zip(*found, strict=True):
        assert_equal(value, truth)


@few
@pytest.mark.parametrize("sizes", [[5, 5], [5, 3, 1]], ids=["full", "falling"])
def test_programs_that_compute_several_tiles_are_exact(
    case: Case,
    sizes: list[int],
    rows_of_a_tile: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where sequences outnumber programs: two tiles of one row each, the last one's empty."""
    rows_of_a_tile(1)
    monkeypatch.setattr(triton_steps, "MAX_PROGRAMS", 3)
    assert triton_steps.blocks_of(5, 5) == (3, 2)
    compare(case, {"sizes": sizes})


@few
@dtypes
def test_narrow_storage_is_as_accurate(case: Case, dtype: torch.dtype) -> None:
    layout: dict[str, Any] = {"steps": 4, "batch": 4, "hidden": 13, "projected": 6}
    named = dict(zip(names(case), arguments(case, **layout, dtype=dtype), strict=True))
    kernel, reference = op(case, fused=True), op(case, fused=False)
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
def test_rows_of_small_variance_are_as_accurate(case: Case) -> None:
    args = arguments(case, steps=3, batch=4, hidden=13, dtype=torch.float32)
    named = {
        name: 1e-2 * a if a.dim() > 1 else a for name, a in zip(names(case), args, strict=True)
    }
    kernel, reference = (op(case, eps=1e-5, fused=fused) for fused in (True, False))
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_mixed_storage_is_as_accurate(case: Case, narrow: torch.dtype) -> None:
    """As autocast has it: narrow weights and hidden states, all else float32."""
    products = {"h_0", "weight_hh", "weight_hr"}
    wide = arguments(case, steps=3, batch=4, hidden=13, dtype=torch.float32)
    values = {
        name: value.to(narrow) if name in products else value
        for name, value in zip(names(case), wide, strict=True)
    }
    reference = op(case, fused=False)
    truth = output_and_grads(reference, [value.double() for value in values.values()])
    native = output_and_grads(reference, list(values.values()))
    ours = output_and_grads(op(case, fused=True), list(values.values()))
    for value, expected, other in zip(ours, truth, native, strict=True):
        assert value.dtype == other.dtype
        allowed = 2 * relative_error(other, expected) + 4 * torch.finfo(narrow).eps
        assert relative_error(value, expected) <= allowed


@few
@both_ways
@pytest.mark.parametrize("sizes", [[5, 5], [5, 4, 2]], ids=["full", "falling"])
def test_nothing_outside_is_touched_and_order_does_not_matter(
    case: Case,
    reverse: bool,
    sizes: list[int],
    rows_of_a_tile: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Guard zones around every buffer, NaN for masked lanes, programs from last to first."""
    rows_of_a_tile(2)
    args = arguments(case, hidden=13, projected=6, sizes=sizes)
    function = op(case, batch_sizes=torch.tensor(sizes), reverse=reverse, fused=True)
    truth = output_and_grads(function, args)
    launched: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(poisoned_loads())
        stack.enter_context(permuted_programs(lambda n: list(range(n))[::-1]))
        for module in (triton_steps, triton_lstm):  # whose steps launch
            monkeypatch.setattr(module, "launch", partial(launch_guarded, launched))
        values = output_and_grads(function, args)
    assert len(launched) == 2 * len(sizes)
    for value, expected in zip(values, truth, strict=True):
        assert_equal(value, expected)


def launch_guarded(
    launched: list[str],
    kernel: Any,
    constants: dict[str, Any],
    tensors: dict[str, Any],
    first: int,
    live: int,
) -> None:
    """Launch a kernel on copies between guard zones."""
    used = {n: t for n, t in tensors.items() if n in kernel.arg_names}
    guarded = {name: t if t is None else Guarded(t) for name, t in used.items()}
    inside = {name: g if g is None else g.tensor for name, g in guarded.items()}
    LAUNCH(kernel, constants, inside, first, live)
    for name, guard in guarded.items():
        if guard is not None:
            guard.check(name)
            used[name].copy_(guard.tensor)
    launched.append(kernel.__name__)


@few
def test_results_repeat_bit_for_bit(case: Case) -> None:
    args = arguments(case, steps=2, batch=5, dtype=torch.float32)
    first, second = (output_and_grads(op(case, fused=True), args) for _ in range(2))
    for value, truth in zip(second, first, strict=True):
        assert_equal(value, truth)


@few
def test_memory_layout_does_not_matter(case: Case) -> None:
    """Of a projected x: a CPU's products, the projection too, may round by layout."""
    args = arguments(case, steps=2, batch=3, project=False)
    layouts = [a.transpose(0, 1).contiguous().transpose(0, 1) if a.dim() > 1 else a for a in args]
    layouts[-1] = torch.stack([args[-1], args[-1]], dim=-1)[..., 0]
    run = partial(output_and_grads, op(case, project=False, fused=True))
    for value, truth in zip(run(layouts), run(args), strict=True):
        assert_equal(value, truth)


def test_a_strided_tensor_is_refused() -> None:
    loop = triton_steps.Loop("", lambda *_: None, {}, {}, {}, {}, {}, {})
    with pytest.raises(AssertionError, match="kernels see memory, not strides"):
        loop.advance({"x": torch.zeros(3, 2).t()}, [(0, 1)])


@few
def test_without_gradients_the_numbers_are_the_same(case: Case) -> None:
    args = arguments(case, steps=2, batch=3)
    truth = op(case, fused=True)(*(a.clone().requires_grad_() for a in args))
    for value, expected in zip(op(case, fused=True)(*args), truth, strict=True):
        assert_equal(value, expected.detach())


@few
def test_nan_in_a_sequence_stays_there(case: Case) -> None:
    args = arguments(case, steps=2, batch=4)
    truth = op(case, fused=True)(*args)[0]
    args[0] = args[0].clone()
    args[0][0, 2, 1] = torch.nan
    value = op(case, fused=True)(*args)[0]
    assert value[1, 2].isnan().all()
    assert_equal(value[:, [0, 1, 3]], truth[:, [0, 1, 3]])


@pytest.mark.parametrize("case", [FEW[0], FEW[1]], ids=str)
def test_gradients(case: Case) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=2, batch=2)]
    assert torch.autograd.gradcheck(op(case, fused=True), args)


@pytest.mark.parametrize("case", FEW[2:], ids=str)
def test_gradients_along_random_directions(case: Case) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=2, batch=2)]
    assert torch.autograd.gradcheck(op(case, fused=True), args, fast_mode=True)


@pytest.mark.parametrize("fault", ["unbiased variance", "eps twice", "a gate's gain lost"])
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = FEW[2]
    args = arguments(case, steps=2, batch=3, dtype=torch.float32)
    named = dict(zip(names(case), args, strict=True))
    reference = op(case, fused=False)

    def faulty(*args: Tensor) -> tuple[Tensor, ...]:
        wrong, eps = list(args), 1e-2
        if fault == "eps twice":
            eps = 2e-2
        elif fault == "unbiased variance":
            wrong[4] = (19 / 20) ** 0.5 * wrong[4]
        else:
            wrong[4] = torch.cat([wrong[4][:15], torch.ones(5)])
        return op(case, eps=eps, fused=True)(*wrong)

    assert_as_accurate(op(case, fused=True), reference, named)
    with pytest.raises(AssertionError, match="is off by"):
        assert_as_accurate(faulty, reference, named)


@triton.jit
def activate(x, s, t, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    tl.store(s + at, sigmoid(v))
    tl.store(t + at, tanh(v))


def test_activations_are_accurate_and_stay_in_range() -> None:
    near = torch.logspace(-30, 2, 508).float()
    x = torch.cat([near, -near, torch.tensor([0.0, -0.0, torch.inf, -torch.inf] + [torch.nan] * 4)])
    s, t = torch.empty_like(x), torch.empty_like(x)
    with np.errstate(all="ignore"):  # what is not taken may overflow
        activate[(1,)](x, s, t, N=1024)
    for value, truth in ((s, x.double().sigmoid()), (t, x.double().tanh())):
        assert torch.equal(value.isnan(), x.isnan())
        error = (value.double() - truth).abs() / truth.abs().clamp_min(2.0**-126)
        assert error.nan_to_num().max() <= 3 * 2.0**-24


@pytest.mark.parametrize("module", [triton_norm, *CELLS.values()], ids=lambda m: m.__name__)
def test_every_masked_load_says_what_lies_behind_the_mask(module: Any) -> None:
    """The interpreter would say 0; on a GPU it would be anything."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "tl.load"]
    assert calls
    for call in calls:
        assert {keyword.arg for keyword in call.keywords} == {"mask", "other"}
