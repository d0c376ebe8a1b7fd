"""Kernels over whole sequences on a GPU, packed ones too."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import assert_as_accurate, assert_equal, nudged, output_and_grads
from recurrences import arguments, distinct, names, op, op_with, reset_mask, with_states
from torch import Tensor

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
WHOLE = [case for case in FEW if not case.proj_size]
few = pytest.mark.parametrize("case", WHOLE, ids=str)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
LAYOUTS: dict[str, dict[str, Any]] = {
    "H5": {"steps": 7, "batch": 3},
    "H64": {"steps": 40, "batch": 33, "hidden": 64},
    "H128": {"steps": 12, "batch": 17, "hidden": 128},
    "one step": {"steps": 1, "batch": 4},
    "ragged": {"hidden": 37, "sizes": [19, 18, 11, 11, 3, 1]},
}


@pytest.fixture(autouse=True)
def turned_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Turn the kernels on, and note the launches."""
    from lnrnn.ops import triton_persistent

    launch, launched = triton_persistent.launch, []

    def noted(*args: Any) -> None:
        launched.append(1)
        launch(*args)

    monkeypatch.setattr(triton_persistent, "ENABLED", True)
    monkeypatch.setattr(triton_persistent, "PACKED", True)
    monkeypatch.setattr(triton_persistent, "FLOAT32", True)
    monkeypatch.setattr(triton_persistent, "launch", noted)
    yield launched
    assert launched


def on_gpu(case: Case, dtype: torch.dtype, **layout: Any) -> list[Tensor]:
    args = [argument.cuda() for argument in arguments(case, **layout, dtype=dtype)]
    # Sums over many features would saturate the gates otherwise, and float16.
    return [a / a.shape[-1] ** 0.5 if a.dim() == 2 and a.shape[0] > 64 else a for a in args]


def compare(case: Case, dtype: torch.dtype, layout: dict[str, Any], **more: Any) -> None:
    sizes = layout.get("sizes")
    more["batch_sizes"] = None if sizes is None else torch.tensor(sizes)
    kernel, reference = (op(case, fused=fused, **more) for fused in (True, False))
    named = dict(zip(names(case), on_gpu(case, dtype, **layout), strict=True))
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
@both_ways
@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_size_is_as_accurate(
    case: Case, reverse: bool, layout: dict[str, Any], dtype: torch.dtype
) -> None:
    compare(case, dtype, layout, reverse=reverse)


@few
@both_ways
@pytest.mark.parametrize("name", ["H5", "H64", "ragged"])
def test_float32_is_as_accurate(case: Case, reverse: bool, name: str) -> None:
    compare(case, torch.float32, LAYOUTS[name], reverse=reverse)


def test_float32_of_the_widest_is_as_accurate() -> None:
    rnn = next(case for case in WHOLE if case.cell == "rnn")
    compare(rnn, torch.float32, LAYOUTS["H128"])


@pytest.mark.parametrize("case", [c for c in distinct() if not c.proj_size], ids=str)
def test_every_variant_is_as_accurate(case: Case) -> None:
    compare(case, torch.bfloat16, {"steps": 4, "batch": 3})


@pytest.mark.parametrize(
    ("case", "hidden"),
    [
        (case, hidden)
        for case in WHOLE
        for hidden in (None, 128, 256)
        if case.cell == "rnn" or hidden != 256  # the others are too wide for one launch
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [None, [5, 5, 3, 1]], ids=["padded", "packed"])
def test_resets_are_as_accurate(case: Case, hidden: int | None, sizes: list[int] | None) -> None:
    """At the widest too, where shared memory is full of W_hh and the rows to come."""
    resets = reset_mask((4, 5) if sizes is None else (sum(sizes),)).cuda()
    wide = {} if hidden is None else {"hidden": hidden}
    drawn = on_gpu(case, torch.bfloat16, steps=4, batch=5, sizes=sizes, **wide)
    args = with_states(case, drawn)
    packed = None if sizes is None else torch.tensor(sizes)
    build = partial(op_with, case, resets, batch_sizes=packed)
    labels = [*names(case), *(f"reset {i}" for i in range(len(args) - len(drawn)))]
    reference = build(fused=False)
    alike = [nudged(reference, k) for k in range(8)]
    named = dict(zip(labels, args, strict=True))
    assert_as_accurate(build(fused=True), reference, named, alike=alike)


@few
@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
def test_results_repeat_bit_for_bit(case: Case, layout: dict[str, Any]) -> None:
    sizes = layout.get("sizes")
    packed = None if sizes is None else torch.tensor(sizes)
    function = op(case, fused=True, batch_sizes=packed)
    args = on_gpu(case, torch.bfloat16, **layout)
    first, *others = (output_and_grads(function, args) for _ in range(3))
    for other in others:
        for value, truth in zip(other, first, strict=True):
            assert_equal(value, truth)
