"""Zoneout and dropout inside the steps: kernels against the reference, with the same masks."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from norm_cases import FEW, UNNORMED, Case
from numerics import assert_as_accurate, assert_close, assert_equal, nudged, output_and_grads
from recurrences import arguments, names, op, op_with, reset_mask, with_states

from lnrnn.ops import cpu, fused, noise
from lnrnn.ops.noise import Noise

RATES: dict[str, dict[str, Any]] = {
    "rnn": {"zoneout": 0.3, "variational_dropout": 0.4},
    "gru": {"zoneout": 0.3, "recurrent_dropout": 0.5, "variational_dropout": 0.4},
    "lstm": {
        "zoneout": 0.3,
        "zoneout_c": 0.2,
        "recurrent_dropout": 0.5,
        "variational_dropout": 0.4,
    },
}
SIZES = [5, 5, 3, 3, 2, 1, 1]  # of a packed batch
PADDED: dict[str, Any] = {"steps": 6, "batch": 3, "hidden": 13}
PACKED: dict[str, Any] = {"sizes": SIZES, "hidden": 5}
SEEDS = [None, 12345]  # evaluation and training
seeds = pytest.mark.parametrize("seed", SEEDS, ids=["evaluation", "training"])
layouts = pytest.mark.parametrize("layout", [PADDED, PACKED], ids=["padded", "packed"])
few = pytest.mark.parametrize("case", FEW, ids=str)
more = pytest.mark.parametrize("case", [*FEW, *UNNORMED[::2]], ids=str)


def acting(cell: str, seed: int | None) -> Iterator[Noise]:
    """Yield each alone, and all of them."""
    rates = RATES[cell]
    yield Noise(**rates, seed=seed, stream=1)
    for name, rate in rates.items():
        if seed is not None or name.startswith("zoneout"):
            alone: Any = {name: rate}
            yield Noise(**alone, seed=seed)


def packed_as(layout: dict[str, Any]) -> torch.Tensor | None:
    return torch.tensor(layout["sizes"]) if "sizes" in layout else None


@pytest.fixture(autouse=True)
def nan_filled_memory() -> Iterator[None]:
    """Make C++ too fill what it allocates with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@more
@layouts
@seeds
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_kernels_equal_the_reference(
    case: Case, layout: dict[str, Any], seed: int | None, reverse: bool
) -> None:
    for given in acting(case.cell, seed):
        args = arguments(case, **layout)
        options = {"batch_sizes": packed_as(layout), "reverse": reverse, "noise": given}
        both = (output_and_grads(op(case, **options, fused=f), args) for f in (True, False))
        for value, truth in zip(*both, strict=True):
            assert_close(value, truth)


@more
@layouts
@seeds
def test_kernels_equal_the_reference_with_resets(
    case: Case, layout: dict[str, Any], seed: int | None
) -> None:
    given = next(acting(case.cell, seed))
    args = with_states(case, arguments(case, **layout))
    resets = reset_mask((len(args[0]),) if "sizes" in layout else args[0].shape[:2])
    for reverse in (False, True):
        options = {"batch_sizes": packed_as(layout), "reverse": reverse, "noise": given}
        functions = (op_with(case, resets, **options, fused=f) for f in (True, False))
        results = [output_and_grads(f, args) for f in functions]
        for value, truth in zip(*results, strict=True):
            assert_close(value, truth)


@few
@seeds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_is_as_accurate(case: Case, seed: int | None, dtype: torch.dtype) -> None:
    given = next(acting(case.cell, seed))
    args = dict(zip(names(case), arguments(case, **PADDED, dtype=dtype), strict=True))
    kernel, reference = (op(case, noise=given, fused=f) for f in (True, False))
    alike = [nudged(reference, key) for key in range(8)]
    assert_as_accurate(kernel, reference, args, alike=alike)


@few
@seeds
def test_gradients(case: Case, seed: int | None) -> None:
    given = next(acting(case.cell, seed))
    args = [arg.requires_grad_() for arg in arguments(case)]
    assert torch.autograd.gradcheck(op(case, noise=given, fused=True), args, fast_mode=True)


@few
def test_gradients_of_gradients_have_the_same_masks(case: Case) -> None:
    given = next(acting(case.cell, 7))
    args = [arg.requires_grad_() for arg in arguments(case, steps=2, batch=1)]
    function = op(case, noise=given, fused=True)
    assert torch.autograd.gradgradcheck(function, args, fast_mode=True)


@few
def test_any_of_the_gradients_alone(case: Case) -> None:
    given = next(acting(case.cell, 7))
    args = arguments(case)
    every = [a.clone().requires_grad_() for a in args]
    truth = torch.autograd.grad(op(case, noise=given, fused=False)(*every)[1].sum(), every)
    for i, expected in enumerate(truth):
        some = [a.clone().requires_grad_(i == j) for j, a in enumerate(args)]
        output = op(case, noise=given, fused=True)(*some)[1].sum()
        (grad,) = torch.autograd.grad(output, some[i : i + 1])
        torch.testing.assert_close(grad, expected)


@few
@seeds
def test_threads_share_the_work_and_repeat_bit_for_bit(case: Case, seed: int | None) -> None:
    given = next(acting(case.cell, seed))
    args = arguments(case, steps=5, batch=40, hidden=64)
    function = op(case, noise=given, fused=True)
    before = torch.get_num_threads()
    results = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            results[threads], again = (output_and_grads(function, args) for _ in range(2))
        finally:
            torch.set_num_threads(before)
        for value, truth in zip(again, results[threads], strict=True):
            assert_equal(value, truth)
    for value, truth in zip(results[2], results[1], strict=True):
        assert_close(value, truth)


@few
def test_dropout_does_nothing_in_evaluation(case: Case) -> None:
    rates: dict[str, Any] = {
        n: r for n, r in RATES[case.cell].items() if not n.startswith("zoneout")
    }
    args = arguments(case)
    plain = output_and_grads(op(case, fused=True), args)
    found = output_and_grads(op(case, noise=Noise(**rates), fused=True), args)
    for value, truth in zip(found, plain, strict=True):
        assert_equal(value, truth)


def test_a_unit_that_is_kept_is_kept_whatever_the_new_one_is() -> None:
    """A mask chooses: infinity times zero would be NaN."""
    given = Noise(zoneout=0.5, seed=3)
    case = FEW[1]  # relu
    args = arguments(case, steps=1, batch=4, hidden=5)
    named = dict(zip(names(case), args, strict=True))
    named["gain"] = torch.full_like(named["gain"], torch.inf)
    results = [op(case, noise=given, fused=f)(*named.values())[0] for f in (True, False)]
    kept = ~noise.draw(given, args[0], None, 5, 5).masks.h[0]  # pyright: ignore
    assert kept.any()
    for output in results:
        assert_equal(output[0][kept], named["h_0"][kept])


@few
@seeds
def test_operators_are_what_their_schemas_say(
    case: Case, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, calls = next(acting(case.cell, seed)), []
    for name, suffix in (("_forward", ""), ("_backward", "_backward")):

        def watched(which: fused.Op, suffix: str = suffix) -> Callable[..., Any]:
            operator = getattr(torch.ops.lnrnn, f"{which.name}{suffix}").default

            def run(*args: Any) -> Any:
                calls.append((operator, args))
                return operator(*args)

            return run

        monkeypatch.setattr(fused, name, watched)
    output_and_grads(op(case, noise=given, fused=True), arguments(case))
    (forward, args), (backward, back_args) = calls
    assert [type(arg) for arg in args[-len(RATES[case.cell]) :]] == [float] * len(RATES[case.cell])
    torch.library.opcheck(forward, args, test_utils=("test_schema", "test_faketensor"))
    if all(t is not None for t in args[: len(names(case))]):  # of the others nothing is promised
        torch.library.opcheck(backward, back_args, test_utils=("test_schema",))


@pytest.mark.parametrize("units", [1, 3, 4, 63, 64, 65, 130])
@pytest.mark.parametrize("probability", [0.0, 1e-9, 0.3, 1 - 2.0**-40])
def test_the_operator_draws_what_python_draws(units: int, probability: float) -> None:
    assert cpu.missing() is None
    step, row = torch.arange(7).unsqueeze(1), torch.tensor([3, 0, 2**31 + 5])
    for seed in (0, 2**62 + 12345678901):
        args = (probability, seed, 9, step, row, units)
        assert torch.equal(torch.ops.lnrnn.keep_mask(*args), noise.keep_mask(*args))
