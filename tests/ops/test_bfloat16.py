"""Products of bfloat16, as a CPU with AMX takes them, on any that has AVX-512: slower, as exact.

Sizes are such that matrices do not fill the tiles they are laid out in: rows, columns and the
length of sums, for one block of each and for several.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import (
    FLOAT32,
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
)
from recurrences import arguments, names, op
from torch import Tensor

from lnrnn import CellNorm

pytestmark = pytest.mark.usefixtures("nan_filled_memory")

LAYOUTS: dict[str, dict[str, Any]] = {
    "H37": {"steps": 6, "batch": 17, "hidden": 37, "projected": 21, "features": 19},
    "H64": {"steps": 5, "batch": 70, "hidden": 64, "projected": 32, "features": 64},
    "H300": {"steps": 4, "batch": 3, "hidden": 300, "projected": 40, "features": 270},
    "one sequence": {"steps": 7, "batch": 1, "hidden": 33, "projected": 17, "features": 16},
    "ragged": {"hidden": 37, "sizes": [19, 18, 11, 11, 3, 1], "projected": 21, "features": 16},
}
LSTM, GRU = Case("lstm", CellNorm()), Case("gru", CellNorm())


def under_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return function(*args)

    return call


def run(case: Case, *, autocast: bool, **options: Any) -> Callable[..., Any]:
    function = op(case, **options)
    return under_autocast(function) if autocast else function


@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16", "autocast"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_as_accurate_as_the_reference(
    case: Case, layout: dict[str, Any], autocast: bool, narrow: Any
) -> None:
    sizes = layout.get("sizes")
    packed = None if sizes is None else torch.tensor(sizes)
    args = arguments(case, **layout, dtype=torch.float32 if autocast else torch.bfloat16)
    named = dict(zip(names(case), args, strict=True))
    for reverse in (False, True):
        options = {"autocast": autocast, "batch_sizes": packed, "reverse": reverse}
        reference = run(case, **options, fused=False)
        alike = [nudged(reference, key, torch.bfloat16) for key in range(8)]
        assert_as_accurate(run(case, **options, fused=True), reference, named, alike=alike)


@pytest.mark.parametrize("hidden", [16, 37, 300])
@pytest.mark.parametrize("features", [16, 35])
@pytest.mark.parametrize("way", ["bfloat16", "tiles"])
def test_sums_are_float32(way: str, hidden: int, features: int, narrow: Any) -> None:
    """Cell states after one step, of numbers that bfloat16 holds: nothing but sums is rounded.

    All sequences but one end after a step, since a single step alone would go to BLAS.
    """
    sizes = [70, 1, 1, 1]
    args = arguments(LSTM, hidden=hidden, features=features, sizes=sizes, dtype=torch.bfloat16)
    function = op(LSTM, batch_sizes=torch.tensor(sizes), fused=True)
    narrow(way)
    value = function(*args)[2][1:]
    narrow("float32")
    truth = function(*args)[2][1:]
    assert value.dtype == torch.float32
    # It did go another way; plain loops add up as float32 does.
    assert way == "tiles" or not torch.equal(value, truth)
    assert_close(value, truth, FLOAT32)


def test_small_matrices_are_left_to_float32(narrow: Any) -> None:
    args = arguments(GRU, steps=6, batch=5, hidden=13, features=13, dtype=torch.bfloat16)
    results = []
    for value in ("float32", "bfloat16", "tiles"):
        narrow(value)
        results.append(output_and_grads(op(GRU, fused=True), args))
    for first, *others in zip(*results, strict=True):
        for other in others:
            assert_equal(first, other)


@pytest.mark.parametrize("enabled", [True, False], ids=["with oneDNN", "without"])
def test_taken_where_the_cpu_has_amx(
    enabled: bool, narrow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(GRU, steps=6, batch=5, hidden=37, dtype=torch.bfloat16)
    function = op(GRU, fused=True)
    narrow("bfloat16" if enabled and torch.cpu._is_amx_tile_supported() else "float32")
    truth = output_and_grads(function, args)
    narrow(None)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", enabled)
    for value, expected in zip(output_and_grads(function, args), truth, strict=True):
        assert_equal(value, expected)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_sequence_in_two_parts_is_the_same_bit_for_bit(case: Case, narrow: Any) -> None:
    args = arguments(case, steps=8, batch=3, hidden=37, projected=21, dtype=torch.bfloat16)
    named = dict(zip(names(case), args, strict=True))
    function = op(case, fused=True)

    def part(steps: slice, **states: Tensor) -> tuple[Tensor, ...]:
        return function(*{**named, **states, "x": named["x"][steps]}.values())

    whole, *final = part(slice(None))
    first, *middle = part(slice(4))
    second, *last = part(slice(4, None), **dict(zip(("h_0", "c_0"), middle, strict=False)))
    for value, truth in zip((torch.cat([first, second]), *last), (whole, *final), strict=True):
        assert_equal(value, truth)


@pytest.mark.parametrize("case", [LSTM, GRU], ids=str)
@pytest.mark.parametrize("sizes", [[140, 140, 31, 31, 9, 2, 2], [33] * 9], ids=["ragged", "full"])
@pytest.mark.parametrize("way", ["bfloat16", "tiles"])
def test_threads_share_the_work_and_repeat_bit_for_bit(
    way: str, case: Case, sizes: list[int], narrow: Any
) -> None:
    narrow(way)
    args = arguments(case, hidden=64, features=20, sizes=sizes, dtype=torch.bfloat16)
    function = op(case, batch_sizes=torch.tensor(sizes), reverse=True, fused=True)
    before = torch.get_num_threads()
    found: dict[int, list[Tensor]] = {}
    for threads in (1, 2, 1, 2):
        torch.set_num_threads(threads)
        try:
            values = output_and_grads(function, args)
        finally:
            torch.set_num_threads(before)
        for value, truth in zip(values, found.setdefault(threads, values), strict=True):
            assert_equal(value, truth)
    for one, two in zip(found[1], found[2], strict=True):
        assert_close(one, two, 2 * torch.finfo(torch.bfloat16).eps)


def test_nan_in_one_sequence_stays_there(narrow: Any) -> None:
    args = arguments(LSTM, steps=5, batch=20, hidden=37, features=16, dtype=torch.bfloat16)
    truth = op(LSTM, fused=True)(*args)[0]
    args[0][2, 7] = torch.nan
    value = op(LSTM, fused=True)(*args)[0]
    assert value[2:, 7].isnan().all()
    rest = [i for i in range(20) if i != 7]
    assert_equal(value[:, rest], truth[:, rest])
