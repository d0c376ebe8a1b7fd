"""Kernels over whole sequences in the interpreter: exact in float64, as accurate as can be below.

On a GPU they multiply numbers of 16 bits alone; here they compute whatever they are given.
"""

# Triton is not there where the types are checked.
# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from interp.strict import Guarded, permuted_programs, poisoned_loads, rounded_bfloat16
from norm_cases import FEW, Case
from numerics import (
    EXACT,
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
)
from recurrences import arguments, distinct, names, op, op_with, reset_mask, with_states

from lnrnn.ops import triton_persistent
from lnrnn.ops.noise import Noise
from lnrnn.ops.triton_steps import Steps

LAUNCHES = {
    name: getattr(triton_persistent, name) for name in ("launch", "launch_rows", "launch_sums")
}
FITS, MATRIX = triton_persistent.fits, triton_persistent.MATRIX
WHOLE = [case for case in FEW if not case.proj_size]
few = pytest.mark.parametrize("case", WHOLE, ids=str)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
LAYOUTS: dict[str, dict[str, Any]] = {
    "H5": {"steps": 3, "batch": 2},
    "H16 of 16": {"steps": 2, "batch": 16, "hidden": 16},
    "H37 of 17": {"steps": 3, "batch": 17, "hidden": 37},
    "one step": {"steps": 1, "batch": 3},
    "falling": {"sizes": [5, 4, 4, 1]},
    "full pack": {"sizes": [3, 3]},
    "two programs, packed": {"sizes": [20, 17, 16, 3], "hidden": 6},
}


@pytest.fixture(autouse=True, params=["matrix units"])
def multiplied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have float64 multiplied as 16 bits are, or as float32 is."""
    if request.param == "matrix units":
        monkeypatch.setattr(triton_persistent, "MATRIX", (*MATRIX, torch.float64))


either = pytest.mark.parametrize("multiplied", ["matrix units", "threads"], indirect=True)


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let every call that has no projection run whole; the kernels that were launched, by name."""
    found: list[str] = []

    def fits(
        x: Any, h_0: Any, weight_hh: Any, weight_hr: Any, *, packed: bool, backward: bool
    ) -> bool:
        return weight_hr is None and len(h_0) > 0

    def noted(name: str) -> Callable[..., None]:
        def call(*args: Any) -> None:
            found.append(args[0].__name__ if name != "launch_sums" else "sum_gates")
            LAUNCHES[name](*args)

        return call

    monkeypatch.setattr(triton_persistent, "fits", fits)
    for name in LAUNCHES:
        monkeypatch.setattr(triton_persistent, name, noted(name))
    with rounded_bfloat16():
        yield found


def compare(case: Case, layout: dict[str, Any], **more: Any) -> None:
    """Check outputs and gradients against the reference in float64."""
    sizes = layout.get("sizes")
    options = {"batch_sizes": None if sizes is None else torch.tensor(sizes), **more}
    args = arguments(case, **layout)
    results = [output_and_grads(op(case, **options, fused=f), args) for f in (True, False)]
    labels = ["output", "h_n", "c_n"][: len(results[0]) - len(args)] + names(case)
    for label, value, truth in zip(labels, *results, strict=True):
        assert_close(value, truth, EXACT, label)


@either
@pytest.mark.parametrize("case", [c for c in distinct() if not c.proj_size], ids=str)
def test_every_variant_is_exact_in_float64(case: Case, launched: list[str]) -> None:
    compare(case, {"steps": 2, "batch": 3})
    compare(case, {"sizes": [3, 3, 1]}, reverse=True)
    kernels = ["persistent_forward", "moments", "persistent_backward"]
    once = [*(f"{case.cell}_{kernel}" for kernel in kernels), "sum_gates"]
    assert launched == 2 * once


@few
@both_ways
@either
@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
def test_every_size_is_exact_in_float64(case: Case, reverse: bool, layout: dict[str, Any]) -> None:
    compare(case, layout, reverse=reverse)


@few
@pytest.mark.parametrize("given", [True, False], ids=["to a state", "to zeros"])
@pytest.mark.parametrize("sizes", [None, [5, 5, 3, 1]], ids=["padded", "packed"])
@both_ways
@either
def test_resets_equal_the_reference(
    case: Case, reverse: bool, sizes: list[int] | None, given: bool
) -> None:
    resets = reset_mask((4, 5) if sizes is None else (sum(sizes),))
    args = with_states(case, arguments(case, steps=4, batch=5, sizes=sizes), given)
    packed = None if sizes is None else torch.tensor(sizes)
    build = partial(op_with, case, resets, batch_sizes=packed, reverse=reverse)
    values, truths = (output_and_grads(build(fused=fused), args) for fused in (True, False))
    for value, truth in zip(values, truths, strict=True):
        assert_close(value, truth)


@few
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_is_as_accurate(case: Case, dtype: torch.dtype) -> None:
    layout: dict[str, Any] = {"steps": 4, "batch": 4, "hidden": 13}
    named = dict(zip(names(case), arguments(case, **layout, dtype=dtype), strict=True))
    kernel, reference = op(case, fused=True), op(case, fused=False)
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
@both_ways
@pytest.mark.parametrize("sizes", [None, [18, 18, 5, 1]], ids=["padded", "packed"])
def test_nothing_outside_is_touched_and_order_does_not_matter(
    case: Case, reverse: bool, sizes: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard zones around every buffer, NaN for masked lanes, programs from last to first."""
    args = arguments(case, steps=2, batch=18, hidden=13, sizes=sizes)
    packed = None if sizes is None else torch.tensor(sizes)
    function = op(case, batch_sizes=packed, reverse=reverse, fused=True)
    truth = output_and_grads(function, args)
    guarded: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(poisoned_loads())
        stack.enter_context(permuted_programs(lambda n: list(range(n))[::-1]))
        for name, launch in LAUNCHES.items():
            monkeypatch.setattr(triton_persistent, name, partial(guard, guarded, launch))
        values = output_and_grads(function, args)
    assert len(guarded) == 4
    for value, expected in zip(values, truth, strict=True):
        assert_equal(value, expected)


def guard(guarded: list[str], launch: Callable[..., None], *args: Any) -> None:
    """Launch on copies between guard zones."""
    at = 0 if launch.__name__ == "launch_sums" else 2
    zones = {name: t if t is None else Guarded(t) for name, t in args[at].items()}
    inside = {name: z if z is None else z.tensor for name, z in zones.items()}
    launch(*args[:at], inside, *args[at + 1 :])
    for name, zone in zones.items():
        if zone is not None:
            zone.check(name)
            args[at][name].copy_(zone.tensor)
    guarded.append(launch.__name__)


@few
def test_results_repeat_bit_for_bit(case: Case) -> None:
    args = arguments(case, steps=2, batch=5, dtype=torch.float32)
    first, second = (output_and_grads(op(case, fused=True), args) for _ in range(2))
    for value, truth in zip(second, first, strict=True):
        assert_equal(value, truth)


@few
def test_nan_in_a_sequence_stays_there(case: Case) -> None:
    args = arguments(case, steps=2, batch=4)
    truth = op(case, fused=True)(*args)[0]
    args[0] = args[0].clone()
    args[0][0, 2, 1] = torch.nan
    value = op(case, fused=True)(*args)[0]
    assert value[1, 2].isnan().all()
    assert_equal(value[:, [0, 1, 3]], truth[:, [0, 1, 3]])


def test_many_rows_are_added_up_by_several_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_persistent, "CHUNKS", 2)
    assert triton_persistent.programs_of_sums(70) == (2, 64)
    compare(WHOLE[0], {"steps": 14, "batch": 5})


def test_a_projection_goes_step_by_step(launched: list[str]) -> None:
    (projected,) = [case for case in FEW if case.proj_size]
    compare(projected, {"steps": 2, "batch": 3})
    assert not launched


@few
def test_either_way_takes_what_the_other_kept(
    case: Case, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a forward fits into shared memory, and its backward does not."""
    monkeypatch.setattr(triton_persistent, "fits", lambda *_, packed, backward: not backward)
    compare(case, {"sizes": [3, 3, 1]})
    assert launched == [f"{case.cell}_persistent_forward", f"{case.cell}_moments"]


@pytest.mark.parametrize(("memory", "fitting"), [(232448, True), (0, False), (None, False)])
def test_a_call_fits_by_what_the_gpu_says(
    memory: int | None, fitting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of GPUs that are not NVIDIA's, torch does not say how much shared memory they have."""
    said = {} if memory is None else {"shared_memory_per_block_optin": memory}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**said))
    triton_persistent.shared_memory.cache_clear()
    x: Any = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    h_0, weight_hh = (torch.zeros(size, dtype=torch.bfloat16) for size in ((3, 64), (256, 64)))
    assert FITS(x, h_0, weight_hh) is fitting
    assert not FITS(x, h_0.float(), weight_hh.float())
    assert not FITS(x, h_0, weight_hh, packed=True)
    assert not FITS(x, h_0[:0], weight_hh)
    monkeypatch.setattr(triton_persistent, "FLOAT32", True)
    assert FITS(x, h_0.float(), weight_hh.float()) is fitting
    assert not FITS(x, h_0.double(), weight_hh.double())
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert not FITS(x, h_0.float(), weight_hh.float())
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    triton_persistent.shared_memory.cache_clear()


def test_where_rows_are_does_not_follow_the_default_device() -> None:
    """They are copied to the GPU from pinned memory, which the CPU alone has."""
    with torch.device("meta"):
        order = Steps(torch.empty(5, 3), torch.tensor([3, 2], device="cpu"), False)
        found = triton_persistent.sequences_of(order, torch.device("cpu"))
    assert found.firsts is not None
    assert found.firsts.tolist() == [0, 3]


@few
def test_noise_goes_step_by_step(case: Case, launched: list[str]) -> None:
    compare(case, {"steps": 2, "batch": 3}, noise=Noise(zoneout=0.3, seed=5))
    compare(case, {"steps": 2, "batch": 3}, noise=Noise(zoneout=0.3))
    assert not launched
