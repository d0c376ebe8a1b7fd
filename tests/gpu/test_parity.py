"""Kernels of a step on a GPU against the reference: variants, dtypes, sizes, graphs."""

from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import (
    EXACT,
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
)
from recurrences import arguments, distinct, names, op
from torch import Tensor

from lnrnn.ops.noise import Noise

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
DEVICE = "cuda"
few = pytest.mark.parametrize("case", FEW, ids=str)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
SIZES: dict[str, dict[str, Any]] = {
    "H5": {"steps": 7, "batch": 3},
    "H64": {"steps": 20, "batch": 33, "hidden": 64, "projected": 32},
    "H200": {"steps": 12, "batch": 5, "hidden": 200, "projected": 100},
    "H512": {"steps": 9, "batch": 64, "hidden": 512, "projected": 256},
    "H1024": {"steps": 9, "batch": 8, "hidden": 1024, "projected": 512},
    "many sequences": {"steps": 3, "batch": 700, "hidden": 13},
    "ragged": {"hidden": 37, "sizes": [19, 18, 11, 11, 3, 1]},
    "one step": {"steps": 1, "batch": 4},
}
ENTRIES = 2**31  # of gates: one more than an offset of 32 bits can name


@pytest.fixture(autouse=True)
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_persistent.py has the kernels over whole sequences."""
    from lnrnn.ops import triton_persistent

    monkeypatch.setattr(triton_persistent, "ENABLED", False)


def on_gpu(case: Case, **layout: Any) -> list[Tensor]:
    return [argument.to(DEVICE) for argument in arguments(case, **layout)]


def options(layout: dict[str, Any]) -> dict[str, Any]:
    sizes = layout.get("sizes")
    return {"batch_sizes": None if sizes is None else torch.tensor(sizes)}


@pytest.mark.parametrize("case", distinct(), ids=str)
def test_every_variant_is_exact_in_float64(case: Case) -> None:
    args = on_gpu(case, steps=4, batch=3)
    found = [output_and_grads(op(case, fused=fused), args) for fused in (True, False)]
    for value, truth in zip(*found, strict=True):
        assert_close(value, truth, EXACT)


@few
@both_ways
@pytest.mark.parametrize("layout", list(SIZES.values()), ids=list(SIZES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_size_and_dtype_is_as_accurate(
    case: Case, reverse: bool, layout: dict[str, Any], dtype: torch.dtype
) -> None:
    args = on_gpu(case, **layout, dtype=dtype)
    # Sums over many features would saturate the gates otherwise, and float16.
    args = [a / a.shape[-1] ** 0.5 if a.dim() == 2 and a.shape[0] > 64 else a for a in args]
    more = {"reverse": reverse, **options(layout)}
    kernel, reference = (op(case, fused=fused, **more) for fused in (True, False))
    named = dict(zip(names(case), args, strict=True))
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
@both_ways
@pytest.mark.parametrize("layout", list(SIZES.values()), ids=list(SIZES))
def test_results_repeat_bit_for_bit(case: Case, reverse: bool, layout: dict[str, Any]) -> None:
    """The first run launches plainly and checks a graph, the others replay it."""
    args = on_gpu(case, **layout, dtype=torch.float32)
    function = op(case, fused=True, reverse=reverse, **options(layout))
    first, *others = (output_and_grads(function, args) for _ in range(4))
    for other in others:
        for value, truth in zip(other, first, strict=True):
            assert_equal(value, truth)


@few
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_noise_is_as_accurate(case: Case, dtype: torch.dtype, training: bool) -> None:
    rates = {"zoneout": 0.3, "variational_dropout": 0.2}
    rates |= {} if case.cell == "rnn" else {"recurrent_dropout": 0.1}
    rates |= {"zoneout_c": 0.4} if case.cell == "lstm" else {}
    drawn = Noise(**rates, seed=2**40 + 1 if training else None, stream=0, order=None)
    args = on_gpu(case, steps=7, batch=5, hidden=37, dtype=dtype)
    kernel, reference = (op(case, noise=drawn, fused=fused) for fused in (True, False))
    named = dict(zip(names(case), args, strict=True))
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
def test_gradients(case: Case) -> None:
    args = [a.requires_grad_() for a in on_gpu(case)]
    assert torch.autograd.gradcheck(op(case, fused=True), args)


@few
def test_gradients_of_gradients(case: Case) -> None:
    args = [a.requires_grad_() for a in on_gpu(case, steps=2, batch=1)]
    assert torch.autograd.gradgradcheck(op(case, fused=True), args)


@few
def test_memory_that_nobody_wrote_is_not_read(case: Case) -> None:
    """Fresh memory, filled with NaN; torch demands CUBLAS_WORKSPACE_CONFIG then (conftest.py)."""
    args = on_gpu(case, steps=40, batch=5, hidden=13)
    truth = output_and_grads(op(case, fused=True), args)
    torch.use_deterministic_algorithms(True)
    try:
        values = output_and_grads(op(case, fused=True), args)
    finally:
        torch.use_deterministic_algorithms(False)
    for value, expected in zip(values, truth, strict=True):
        assert_equal(value, expected)


def test_rows_past_what_32_bits_count() -> None:
    """Two thousand million gate entries in x: an offset of 32 bits would wrap around."""
    case, batch, hidden = FEW[2], 512, 512
    steps = ENTRIES // (4 * batch * hidden) + 2
    needed = 2 * 8 * steps * batch * hidden
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip(f"needs {needed / 2**30:.0f} GiB of GPU memory")
    layout: dict[str, Any] = {"batch": batch, "hidden": hidden, "dtype": torch.bfloat16}
    args = on_gpu(case, steps=1, project=False, **layout)
    function = op(case, project=False, fused=True)
    x = torch.zeros(steps, batch, 4 * hidden, dtype=torch.bfloat16, device=DEVICE)
    x[-1:] = args[0]
    with torch.no_grad():
        whole = function(x, *args[1:])
        _, *state = function(x[:-1], *args[1:])
        last = function(x[-1:], *state, *args[3:])
    assert_equal(last[0][0], whole[0][-1])
    assert_equal(last[2], whole[2])
