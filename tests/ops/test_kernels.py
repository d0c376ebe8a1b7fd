"""Fused kernels against the reference: every variant, odd sizes, what only kernels get wrong."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from norm_cases import FEW, RECURRENT, UNNORMED, Case, every_case
from numerics import assert_as_accurate, assert_close, assert_equal, nudged, output_and_grads
from recurrences import arguments, names, op
from torch import Tensor

from lnrnn import CellNorm
from lnrnn.ops import fused

CASES = [*every_case(), *RECURRENT, *UNNORMED]
# Each H alone, as a vector's tail and as several vectors; each batch below, at and above the number
# that is split over two threads; packs that shrink at once, at the end, and not at all.
SIZES: dict[str, dict[str, Any]] = {
    "H5": {"steps": 7, "batch": 3, "hidden": 5},
    "H13": {"steps": 5, "batch": 17, "hidden": 13, "projected": 6},
    "H37": {"steps": 12, "batch": 2, "hidden": 37, "projected": 21},
    "H64": {"steps": 4, "batch": 5, "hidden": 64, "projected": 32},
    "one sequence": {"steps": 9, "batch": 1, "hidden": 13},
    "one step": {"steps": 1, "batch": 4, "hidden": 13},
    "ragged": {"hidden": 13, "sizes": [19, 18, 11, 11, 3, 1]},
    "falling": {"hidden": 5, "sizes": [5, 4, 3, 2, 1]},
    "many rows": {"steps": 21, "batch": 33, "hidden": 7},  # more than one chunk of the backward
}


@pytest.fixture(autouse=True)
def nan_filled_memory() -> Iterator[None]:
    """Make C++ too fill what it allocates with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def compare(
    case: Case,
    layout: dict[str, Any],
    *,
    change: Any = None,
    project: bool = True,
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
    **more: Any,
) -> None:
    """Check the kernel against the reference."""
    sizes = layout.get("sizes")
    args = arguments(case, **layout, dtype=dtype, project=project)
    if change is not None:
        args = change(args)
    packed = None if sizes is None else torch.tensor(sizes)
    options = {"batch_sizes": packed, "project": project, **more}
    kernel, reference = op(case, **options, fused=True), op(case, **options, fused=False)
    if autocast:
        kernel, reference = under_autocast(kernel), under_autocast(reference)
    named = dict(zip(names(case, project=project), args, strict=True))
    computed = torch.bfloat16 if autocast else dtype
    # Where a variance is small these errors differ among themselves by a factor of thirty.
    alike = [nudged(reference, key, computed) for key in range(8)]
    assert_as_accurate(kernel, reference, named, alike=alike)


def under_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function under autocast to bfloat16, which leaves float64 as it is."""

    def call(*args: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return function(*args)

    return call


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_variant_is_as_accurate(case: Case) -> None:
    compare(case, SIZES["H5"])
    compare(case, SIZES["ragged"], reverse=True)
    compare(case, SIZES["falling"], project=False)


@pytest.mark.parametrize("layout", list(SIZES.values()), ids=list(SIZES))
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_size_is_as_accurate(case: Case, layout: dict[str, Any], reverse: bool) -> None:
    compare(case, layout, reverse=reverse)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_dtypes_are_as_accurate(case: Case, dtype: torch.dtype) -> None:
    compare(case, SIZES["H13"], dtype=dtype)
    compare(case, SIZES["ragged"], dtype=dtype, reverse=True)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_autocast_is_as_accurate(case: Case) -> None:
    compare(case, SIZES["H13"], autocast=True)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_hidden_states_are_carried_in_the_dtype_of_storage(case: Case, dtype: torch.dtype) -> None:
    """So a sequence in two parts gives what it gives whole, bit for bit."""
    named = dict(zip(names(case), arguments(case, steps=8, dtype=dtype), strict=True))
    function = op(case, fused=True)

    def run(steps: slice, **states: Tensor) -> tuple[Tensor, ...]:
        return function(*{**named, **states, "x": named["x"][steps]}.values())

    whole, *final = run(slice(None))
    assert whole.dtype == dtype
    first, *middle = run(slice(4))
    second, *last = run(slice(4, None), **dict(zip(("h_0", "c_0"), middle, strict=False)))
    assert_equal(torch.cat([first, second]), whole)
    for value, truth in zip(last, final, strict=True):
        assert_equal(value, truth)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_rows_of_small_variance_are_as_accurate(case: Case) -> None:
    """Where the variance is not far above eps, a wrong eps or variance shows."""

    def small(args: list[Tensor]) -> list[Tensor]:
        return [1e-2 * a if a.dim() > 1 else a for a in args]

    compare(case, SIZES["H13"], change=small, eps=1e-5)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_memory_layout_does_not_matter(case: Case) -> None:
    args = arguments(case, steps=4, batch=3, hidden=13)
    layouts = [a.transpose(0, 1).contiguous().transpose(0, 1) if a.dim() > 1 else a for a in args]
    layouts[-1] = torch.stack([args[-1], args[-1]], dim=-1)[..., 0]
    assert not layouts[0].is_contiguous()
    run = partial(output_and_grads, op(case, fused=True))
    for value, truth in zip(run(layouts), run(args), strict=True):
        assert_equal(value, truth)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_an_expanded_gradient_is_read_right(case: Case) -> None:
    args = arguments(case)
    grads = []
    for taken in (True, False):
        leaves = [a.clone().requires_grad_() for a in args]
        output = op(case, fused=taken)(*leaves)[0]
        grads.append(torch.autograd.grad(output.square().mean(), leaves))
    for value, truth in zip(*grads, strict=True):
        torch.testing.assert_close(value, truth)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("project", [True, False], ids=["raw", "projected"])
def test_gradients(case: Case, reverse: bool, project: bool) -> None:
    args = [arg.requires_grad_() for arg in arguments(case, project=project)]
    assert torch.autograd.gradcheck(op(case, reverse=reverse, project=project, fused=True), args)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_gradients_of_gradients(case: Case) -> None:
    args = [arg.requires_grad_() for arg in arguments(case, steps=2, batch=1)]
    assert torch.autograd.gradgradcheck(op(case, fused=True), args)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_any_of_the_gradients_alone(case: Case) -> None:
    """Frozen weights, an input without gradient, and an output that nothing depends on."""
    args = arguments(case)
    every = [a.clone().requires_grad_() for a in args]
    truth = torch.autograd.grad(op(case, fused=False)(*every)[1].sum(), every)
    for i, expected in enumerate(truth):
        some = [a.clone().requires_grad_(i == j) for j, a in enumerate(args)]
        (grad,) = torch.autograd.grad(op(case, fused=True)(*some)[1].sum(), some[i : i + 1])
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("case", FEW, ids=str)
@pytest.mark.parametrize("sizes", [[40, 40, 31, 31, 9, 2, 2], [33] * 9], ids=["ragged", "full"])
def test_threads_share_the_work_and_repeat_bit_for_bit(case: Case, sizes: list[int]) -> None:
    args = arguments(case, hidden=64, sizes=sizes)
    function = op(case, batch_sizes=torch.tensor(sizes), reverse=True, fused=True)
    before = torch.get_num_threads()
    results: dict[int, list[Tensor]] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            first, *others = (output_and_grads(function, args) for _ in range(3))
        finally:
            torch.set_num_threads(before)
        results[threads] = first
        for other in others:
            for value, truth in zip(other, first, strict=True):
                assert_equal(value, truth)
    for value, truth in zip(results[2], results[1], strict=True):
        assert_close(value, truth)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_without_gradients_the_numbers_are_the_same_and_nothing_is_kept(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(case, hidden=13)
    truth = op(case, fused=True)(*(a.clone().requires_grad_() for a in args))
    kept = []
    forward = fused._forward

    def watched(which: fused.Op) -> Callable[..., tuple[Tensor, ...]]:
        def run(*args: Any) -> tuple[Tensor, ...]:
            results = forward(which)(*args)
            kept.extend(results[1 + which.states :])
            return results

        return run

    monkeypatch.setattr(fused, "_forward", watched)
    for value, expected in zip(op(case, fused=True)(*args), truth, strict=True):
        assert_equal(value, expected.detach())
    assert kept
    assert all(tensor.numel() == 0 for tensor in kept)


def schema_arguments(
    case: Case, sizes: list[int] | None, storage: torch.dtype | None
) -> tuple[fused.Op, tuple[Any, ...]]:
    """Return a case's operator and what to call it with."""
    which = {"rnn": fused.RNN, "lstm": fused.LSTM, "gru": fused.GRU}[case.cell]
    given = dict(zip(names(case), arguments(case, sizes=sizes), strict=True))
    tensors = [given.get(name.rstrip("?")) for name in which.tensors]
    spans = {"all": [4], "paper": [4], "gate": [1, 1, 1, 1]}[case.norm.span]
    options: dict[str, tuple[Any, ...]] = {
        "rnn": (case.norm.is_joint("rnn"), case.nonlinearity == "relu"),
        "lstm": (case.norm.is_joint("lstm"), spans, case.norm.cell),
        "gru": ({"all": [3], "paper": [2, 1], "gate": [1, 1, 1]}[case.norm.span],),
    }
    packed = None if sizes is None else torch.tensor(sizes)
    layer = case.norm.kind == "layer"
    return which, (*tensors, packed, False, *options[case.cell], layer, 1e-2, storage, None, True)


@pytest.mark.parametrize("sizes", [None, [3, 2]], ids=["padded", "packed"])
@pytest.mark.parametrize("storage", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_operators_are_what_their_schemas_say(
    case: Case, sizes: list[int] | None, storage: torch.dtype | None
) -> None:
    op(case, fused=True)(*arguments(case))  # builds and loads
    which, args = schema_arguments(case, sizes, storage)
    checks = ("test_schema", "test_faketensor")
    forward = getattr(torch.ops.lnrnn, which.name).default
    torch.library.opcheck(forward, args, test_utils=checks)
    results = forward(*args)
    side = results[1 + which.states]
    assert side.dtype == (storage or args[0].dtype)
    grads = [torch.randn_like(result) for result in results[: 1 + which.states]]
    tensors = args[: len(which.tensors)]
    rest = args[len(which.tensors) : -1]
    backward = getattr(torch.ops.lnrnn, f"{which.name}_backward").default
    if all(tensor is not None for tensor in tensors):
        for needed in ([True] * 3, [False] * 3):
            every = (*grads, *tensors, *results, *rest, needed)
            torch.library.opcheck(backward, every, test_utils=checks)


@pytest.mark.parametrize("case", FEW, ids=str)
def test_a_compiled_recurrence_is_one_node(case: Case) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=6)]
    targets: list[str] = []

    def backend(graph: Any, _: Any) -> Any:
        inner = [m for _, m in graph.named_children()]
        targets.extend(str(n.target) for g in (graph, *inner) for n in g.graph.nodes)
        return graph

    compiled = torch.compile(op(case, fused=True), fullgraph=True, backend=backend)
    results = [output_and_grads(f, args) for f in (compiled, op(case, fused=True))]
    for value, truth in zip(*results, strict=True):
        assert_equal(value, truth)
    forward, backward = f"lnrnn.ln_{case.cell}", f"lnrnn.ln_{case.cell}_backward"
    assert [t.removesuffix(".default") for t in targets if t.startswith("lnrnn.")] == [
        forward,
        backward,
    ]


@pytest.mark.parametrize("case", FEW, ids=str)
def test_padding_costs_nothing_and_touches_nothing(case: Case) -> None:
    """NaN in one sequence stays in that sequence."""
    args = arguments(case, steps=4, batch=20, hidden=13)
    truth = op(case, fused=True)(*args)[0]
    args[0] = args[0].clone()
    args[0][2, 7] = torch.nan
    value = op(case, fused=True)(*args)[0]
    assert value[2:, 7].isnan().all()
    rest = [i for i in range(20) if i != 7]
    assert_equal(value[:, rest], truth[:, rest])


def swap_gates(args: list[Tensor]) -> list[Tensor]:
    order = [1, 0, 2, 3]  # forget before input
    width = args[4].shape[0] // 4
    swapped = list(args)
    swapped[4] = args[4].view(4, width)[order].flatten()
    return swapped


FAULTS: dict[str, Callable[[list[Tensor]], tuple[list[Tensor], float]]] = {
    "eps ten times": lambda args: (args, 1e-4),
    "unbiased variance": lambda args: (
        [(51 / 52) ** 0.5 * a if i == 4 else a for i, a in enumerate(args)],
        1e-5 * 51 / 52,
    ),
    "swapped gains": lambda args: (swap_gates(args), 1e-5),
}


@pytest.mark.parametrize("fault", list(FAULTS.values()), ids=list(FAULTS))
def test_a_planted_fault_is_caught(fault: Callable[..., tuple[list[Tensor], float]]) -> None:
    """The kernel, given what amounts to a mistake in it, fails the check it passes without."""
    case = Case("lstm", CellNorm())
    args = arguments(case, steps=5, batch=3, hidden=13, dtype=torch.float32)
    named = dict(zip(names(case), args, strict=True))
    reference = op(case, eps=1e-5, fused=False)

    def faulty(*args: Tensor) -> tuple[Tensor, ...]:
        wrong, eps = fault(list(args))
        return op(case, eps=eps, fused=True)(*wrong)

    assert_as_accurate(op(case, eps=1e-5, fused=True), reference, named)
    with pytest.raises(AssertionError, match="is off by"):
        assert_as_accurate(faulty, reference, named)
