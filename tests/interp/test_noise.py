"""What is random inside the steps, in the Triton kernels: masks bit for bit, and equal numbers."""

from functools import partial
from typing import Any

import pytest
import torch
from interp.test_graphs import Recorder, cuda  # noqa: F401  # a fixture
from norm_cases import FEW, Case
from numerics import (
    EXACT,
    assert_as_accurate,
    assert_close,
    assert_equal,
    nudged,
    output_and_grads,
)
from recurrences import arguments, names, op, op_with, reset_mask, with_states

from lnrnn.ops import noise, triton_graphs, triton_noise
from lnrnn.ops.noise import Noise

few = pytest.mark.parametrize("case", FEW, ids=str)
SIZES = [5, 5, 3, 1]
# By cell: what there is, one at a time and all together.
RATES = {
    "zoneout": 0.3,
    "zoneout_c": 0.4,
    "recurrent_dropout": 0.25,
    "variational_dropout": 0.35,
}
OF_CELL = {
    "rnn": ("zoneout", "variational_dropout"),
    "gru": ("zoneout", "recurrent_dropout", "variational_dropout"),
    "lstm": tuple(RATES),
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padded": {"sizes": None, "reverse": False, "resets": False},
    "reverse": {"sizes": None, "reverse": True, "resets": True},
    "packed": {"sizes": SIZES, "reverse": False, "resets": True},
    "packed reverse": {"sizes": SIZES, "reverse": True, "resets": False},
}
SEED = 2**62 + 2**31 + 5


def kinds(cell: str) -> list[tuple[str, ...]]:
    return [*((name,) for name in OF_CELL[cell]), OF_CELL[cell]]


def noise_of(acting: tuple[str, ...], training: bool, batch: int = 5) -> Noise:
    """Return what is random; in a layer the rows of a packed batch have an order of their own."""
    rates = {name: RATES[name] for name in acting}
    order = torch.arange(batch).flip(0)
    return Noise(**rates, seed=SEED if training else None, stream=3, order=order)


@pytest.mark.parametrize("seed", [0, 1, 16, 2**31, 2**32 - 1, 2**63 - 1, SEED])
@pytest.mark.parametrize(
    ("probability", "units"), [(0.3, 7), (0.5, 64), (1e-9, 1), (1 - 1e-12, 300)]
)
def test_masks_are_those_of_the_definition_bit_for_bit(
    seed: int, probability: float, units: int
) -> None:
    step = torch.tensor([[0], [7], [2**32 - 1]])
    row = torch.tensor([3, 0, 2**31 + 5])
    for purpose in (0, 4 * 9 + 3, 2**31 + 1):
        asked = (probability, seed, purpose, step, row, units)
        found = torch.ops.lnrnn.keep_mask(*asked)
        assert found.dtype == torch.bool
        assert torch.equal(found, noise.keep_mask(*asked))
    assert torch.equal(triton_noise.keep_mask(*asked), found)


def test_no_mask_is_launched_for_no_row() -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    assert triton_noise.keep_mask(0.5, 1, 0, nothing, nothing, 4).shape == (0, 4)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("layout", list(LAYOUTS.values()), ids=list(LAYOUTS))
@pytest.mark.parametrize(
    ("case", "acting"), [(case, kind) for case in FEW for kind in kinds(case.cell)], ids=str
)
def test_noise_equals_the_reference(
    case: Case, acting: tuple[str, ...], layout: dict[str, Any], training: bool
) -> None:
    sizes = layout["sizes"]
    args = arguments(case, steps=4, batch=5, sizes=sizes)
    options = {
        "batch_sizes": None if sizes is None else torch.tensor(sizes),
        "reverse": layout["reverse"],
        "noise": noise_of(acting, training),
    }
    build = partial(op, case, **options)
    if layout["resets"]:
        args = with_states(case, args)
        resets = reset_mask((4, 5) if sizes is None else (sum(sizes),))
        build = partial(op_with, case, resets, **options)
    values, truths = (output_and_grads(build(fused=fused), args) for fused in (True, False))
    for value, truth in zip(values, truths, strict=True):
        assert_close(value, truth, EXACT)


@few
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype_is_as_accurate(case: Case, dtype: torch.dtype, training: bool) -> None:
    layout: dict[str, Any] = {"steps": 4, "batch": 5, "hidden": 13}
    named = dict(zip(names(case), arguments(case, **layout, dtype=dtype), strict=True))
    drawn = noise_of(OF_CELL[case.cell], training)
    kernel, reference = (op(case, noise=drawn, fused=fused) for fused in (True, False))
    assert_as_accurate(kernel, reference, named, alike=[nudged(reference, k) for k in range(8)])


@few
def test_nothing_random_changes_no_bit(case: Case) -> None:
    args = arguments(case, steps=2, batch=3, dtype=torch.float32)
    truth = output_and_grads(op(case, fused=True), args)
    values = output_and_grads(op(case, noise=Noise(seed=3), fused=True), args)
    for value, expected in zip(values, truth, strict=True):
        assert_equal(value, expected)


@few
@pytest.mark.parametrize("sizes", [None, SIZES], ids=["padded", "packed"])
def test_masks_move_through_replayed_windows(
    case: Case,
    sizes: list[int] | None,
    cuda: Recorder,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A graph sees the masks of its window, other masks at its next replay, other rates."""
    if case.proj_size and sizes:
        pytest.skip("steps with a projection are not replayed where rows are masked")
    monkeypatch.setattr(triton_graphs, "LEAST", 1)
    args = arguments(case, steps=5, batch=5, sizes=sizes)
    packed = None if sizes is None else torch.tensor(sizes)
    recorded = 0
    for turn in range(3):
        rates = {name: RATES[name] / (turn + 1) for name in OF_CELL[case.cell]}
        drawn = Noise(**rates, seed=SEED + turn, stream=0, order=None)
        run = op(case, noise=drawn, batch_sizes=packed, fused=True)
        with monkeypatch.context() as patch:
            patch.setattr(triton_graphs, "capturing", lambda device: True)
            truth = output_and_grads(run, args)
        for value, expected in zip(output_and_grads(run, args), truth, strict=True):
            assert_close(value, expected, EXACT)
        recorded = recorded or cuda.recorded
    assert cuda.recorded == recorded >= 2  # forward and backward, once
    assert cuda.replayed > 4
