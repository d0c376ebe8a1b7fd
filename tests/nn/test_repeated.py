"""A cell's repeated step: the numbers, errors and routes of a step that has been looked at."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from norm_cases import CELLS, FEW, Case, randomized
from numerics import assert_close, assert_equal
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from lnrnn import CellNorm
from lnrnn.nn import direction, inputs, repeated

every_cell = pytest.mark.parametrize("cell", list(CELLS))


def made(cell: str, **options: Any) -> Any:
    return randomized(CELLS[cell](3, 7, **{"norm": "cell", **options}))


def given(cell: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    """Return a state as the cell takes it."""
    h, c = torch.randn(2, *shape, 7, dtype=dtype)
    return (h, c) if cell == "lstm" else h


def call(module: Any, x: Any, state: Any) -> tuple[Tensor, ...]:
    with torch.no_grad():
        result = module(x, state)
    return (result,) if isinstance(result, Tensor) else result


def watched(cell: str, **options: Any) -> Any:
    """Return a cell that has made a step without gradients."""
    module = made(cell, **options)
    call(module, torch.randn(2, 3), given(cell, 2))
    return module


def assert_as_new(module: Any, x: Any, state: Any) -> None:
    """Check a step against that of a copy, which has not made any."""
    for value, truth in zip(
        call(module, x, state), call(copy.deepcopy(module), x, state), strict=True
    ):
        assert_equal(value, truth)
        assert value.dtype == truth.dtype


@pytest.mark.parametrize("case", [case for case in FEW if not case.proj_size], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_variant_repeats_its_numbers(case: Case, dtype: torch.dtype) -> None:
    options = {name: value for name, value in case.options().items() if name != "proj_size"}
    module = randomized(CELLS[case.cell](3, 7, dtype=dtype, **options))
    for batch in ([2], [5], []):
        for _ in range(2):
            x, state = torch.randn(*batch, 3, dtype=dtype), given(case.cell, *batch, dtype=dtype)
            assert_as_new(module, x, state)
    assert_as_new(module, torch.randn(3, 4, dtype=dtype).t(), given(case.cell, 4, dtype=dtype))


@every_cell
def test_a_repeated_step_is_not_looked_at_again(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = watched(cell)

    def fail(*args: Any, **options: Any) -> None:
        raise AssertionError("this step was looked at")

    monkeypatch.setattr(inputs, "check_input", fail)
    monkeypatch.setattr(direction, f"run_{cell}", fail)
    for batch in ([2], [4], []):
        with torch.inference_mode():
            module(torch.randn(*batch, 3), given(cell, *batch))
    with pytest.raises(AssertionError, match="looked at"):
        module(torch.randn(2, 3), given(cell, 2))  # its gradients are wanted


def _in_place(module: Any) -> None:
    with torch.no_grad():
        module.weight_hh.mul_(2)


def _data(module: Any) -> None:
    module.weight_hh.data = torch.randn_like(module.weight_hh)


def _parameter(module: Any) -> None:
    module.bias_hh = torch.nn.Parameter(torch.randn(module.bias_hh.shape))


def _eps(module: Any) -> None:
    module.eps = 0.5


def _reference(module: Any) -> None:
    module.fused = False


@every_cell
@pytest.mark.parametrize("change", [_in_place, _data, _parameter, _eps, _reference])
def test_changes_are_followed(cell: str, change: Callable[[Any], None]) -> None:
    module, x, state = watched(cell), torch.randn(2, 3), given(cell, 2)
    before = call(module, x, state)
    change(module)
    assert_as_new(module, x, state)
    assert change is _reference or not torch.equal(call(module, x, state)[0], before[0])


@every_cell
def test_other_dtypes_and_shapes_of_parameters_are_followed(cell: str) -> None:
    module = watched(cell).double()
    x, state = torch.randn(2, 3).double(), given(cell, 2, dtype=torch.float64)
    assert_as_new(module, x, state)
    module.weight_hh.data = module.weight_hh.data[:, :5]
    with pytest.raises(ValueError, match=r"weight_hh|h_0"):
        call(module, x, state)


@every_cell
@pytest.mark.parametrize(
    "x", [torch.randn(2, 4), torch.randn(5, 2, 3), torch.randn(()), torch.ones(2, 3).int(), "x"]
)
def test_bad_input_is_refused_as_at_first(cell: str, x: Any) -> None:
    for state in (given(cell, 2), None):
        _assert_refused_as_at_first(watched(cell), x, state)


@every_cell
def test_bad_states_are_refused_as_at_first(cell: str) -> None:
    good, double = given(cell, 2), given(cell, 2, dtype=torch.float64)
    wrong = [given(cell, 3), given(cell), double, 1.0, (), [torch.randn(2, 7)] * 3]
    wrong.append(good[0] if cell == "lstm" else (good, good))
    for state in wrong if cell != "lstm" else [*wrong[:2], *wrong[3:]]:  # c_0 may be wider
        _assert_refused_as_at_first(watched(cell), torch.randn(2, 3), state)


def _assert_refused_as_at_first(module: Any, x: Any, state: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as truth:
        call(copy.deepcopy(module), x, state)
    with pytest.raises(type(truth.value)) as found:
        call(module, x, state)
    assert str(found.value) == str(truth.value)


@every_cell
def test_transforms_and_autocast_go_the_long_way(cell: str) -> None:
    module, x, state = watched(cell), torch.randn(4, 2, 3), given(cell, 4, 2)

    def first(x: Tensor, *state: Tensor) -> Tensor:
        return call(module, x, state if cell == "lstm" else state[0])[0]

    parts = state if cell == "lstm" else (state,)
    rows = torch.vmap(first)(x, *parts)
    assert_close(rows, torch.stack([first(*row) for row in zip(x, *parts, strict=True)]), 1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert first(x[0], *(p[0] for p in parts)).dtype == torch.bfloat16
    double = {name: p.detach() * 2 for name, p in module.named_parameters()}
    inputs_ = (x[0], tuple(p[0] for p in parts) if cell == "lstm" else parts[0][0])
    with torch.no_grad():
        found = torch.func.functional_call(module, double, inputs_)
    module.load_state_dict(double)
    assert_equal(call(module, *inputs_)[0], found[0] if cell == "lstm" else found)


@every_cell
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced_after_a_step(cell: str) -> None:
    module, x, state = watched(cell), torch.randn(2, 3), given(cell, 2)
    with torch.no_grad():
        traced = torch.jit.trace(module, (x, state))
    other = torch.randn(5, 3), given(cell, 5)
    assert_equal(call(traced, *other)[0], call(module, *other)[0])


def test_what_no_kernel_computes_goes_the_long_way() -> None:
    module = watched("lstm", norm=CellNorm(cell_clip=1.0))
    assert_as_new(module, torch.randn(2, 3), given("lstm", 2))


@every_cell
def test_zoneout_repeats_its_mean_and_draws_anew(cell: str) -> None:
    module = watched(cell, zoneout=0.5).eval()
    x, state = torch.randn(2, 3), given(cell, 2)
    for _ in range(2):
        assert_as_new(module, x, state)
    module.train()
    drawn = {call(module, x, state)[0].numpy().tobytes() for _ in range(8)}
    assert len(drawn) > 1
    module.eval()
    assert_as_new(module, x, state)


@every_cell
def test_compiled_calls_do_not_depend_on_steps_between_them(cell: str) -> None:
    torch._dynamo.reset()
    module, counter = watched(cell), CompileCounter()
    compiled = torch.compile(module, backend=counter)
    x, state = torch.randn(2, 3), given(cell, 2)
    call(compiled, x, state)
    frames = counter.frame_count
    module.eps = module.eps  # what was seen is forgotten
    call(compiled, x, state)
    call(module, x, state)
    call(compiled, x, state)
    assert counter.frame_count == frames


@every_cell
def test_parameters_of_one_call_are_not_kept(cell: str) -> None:
    module, x, state = watched(cell), torch.randn(2, 3), given(cell, 2)
    others = {name: p.detach() * 2 for name, p in module.named_parameters()}
    kept = weakref.ref(others["weight_hh"])
    with torch.no_grad():
        torch.func.functional_call(module, others, (x, state))
    del others
    assert kept() is None
    assert_as_new(module, x, state)


@every_cell
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_set_at_each_step_is_watched_once(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, seen, watch = watched(cell), [], repeated.watch
    torch.nn.utils.weight_norm(module, "weight_hh")
    monkeypatch.setattr(repeated, "watch", lambda *args: seen.append(args) or watch(*args))
    for _ in range(3):
        call(module, torch.randn(2, 3), given(cell, 2))
    assert len(seen) == 1
    torch.nn.utils.remove_weight_norm(module, "weight_hh")
    x, state = torch.randn(2, 3), given(cell, 2)
    assert_as_new(module, x, state)
    assert_as_new(module, x, state)
