"""The bookkeeping of CUDA graphs, with a stand-in for what only CUDA can do: record and replay.

Windows, copies, what is left over, the check of the first result and the bounds are ours and the
same everywhere. tests/gpu runs them with true graphs.
"""

import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from norm_cases import FEW, Case
from numerics import assert_close, assert_equal, output_and_grads
from recurrences import arguments, op

from lnrnn.ops import triton_graphs, triton_gru, triton_lstm, triton_rnn
from lnrnn.ops.triton_graphs import GraphCache

few = pytest.mark.parametrize("case", FEW, ids=str)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


class Recorder:
    """Stands for CUDA: what is recorded runs once, and again at every replay.

    As a graph does, it keeps no tensor alive: a replay works on what is still there.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self.fault: Callable[[], None] | None = None
        self.capturing = False
        self.stream = 0

    def record(self, steps: Any, device: torch.device) -> Callable[[], None]:
        steps()
        self.recorded += 1
        tensors, places = steps.args
        loop = replace(
            steps.func.__self__, read={}, written={}, state={}, scratch={}, fixed={}
        )  # of which only the step and its constants are left
        seen = {name: None if t is None else weakref.ref(t) for name, t in tensors.items()}

        def replay() -> None:
            alive = {name: None if ref is None else ref() for name, ref in seen.items()}
            gone = [name for name, ref in seen.items() if ref is not None and alive[name] is None]
            assert not gone, f"a replay uses memory that was given back: {gone}"
            loop.advance(alive, places)
            self.replayed += 1
            if self.fault is not None:
                self.fault()

        return replay


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder, cache = Recorder(), GraphCache()
    for module in (triton_rnn, triton_lstm, triton_gru):
        monkeypatch.setattr(module, "GRAPHS", cache)
    monkeypatch.setattr(triton_graphs, "record", recorder.record)
    monkeypatch.setattr(triton_graphs, "capturing", lambda device: recorder.capturing)
    monkeypatch.setattr(triton_graphs, "stream", lambda device: (device, recorder.stream))
    monkeypatch.setattr(triton_graphs, "synchronize", lambda device: None)
    monkeypatch.setattr(triton_graphs, "LONGEST", 2)
    monkeypatch.setattr(triton_graphs, "SHORTEST", 2)
    monkeypatch.setattr(triton_graphs, "NARROWEST", 1)
    monkeypatch.setattr(triton_graphs, "NARROWED", 2)
    return recorder


def plain(case: Case, args: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(triton_graphs, "capturing", lambda device: True)
        return output_and_grads(op(case, fused=True, **options), args)


def check(values: Any, truths: Any) -> None:
    for value, truth in zip(values, truths, strict=True):
        assert_equal(value, truth)


@few
@both_ways
def test_replays_equal_plain_launches(
    case: Case, reverse: bool, cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run, one of other values, and one of another length, with a step left over."""
    function = op(case, fused=True, reverse=reverse)
    for steps, replayed in ((2, 2), (4, 4), (5, 4)):
        args, before = arguments(case, steps=steps, batch=3), cuda.replayed
        truth = plain(case, args, monkeypatch, reverse=reverse)
        check(output_and_grads(function, args), truth)
        assert cuda.replayed - before == replayed
    assert cuda.recorded == 2  # forward and backward


@few
def test_nothing_that_is_compared_was_left_unwritten(
    case: Case, cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph's own tensors hold something else than those of plain launches."""
    like = triton_graphs._like

    def filled(*args: Any) -> Any:
        return {name: None if t is None else t.fill_(17) for name, t in like(*args).items()}

    monkeypatch.setattr(triton_graphs, "_like", filled)
    args = arguments(case, steps=2, batch=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output_and_grads(op(case, fused=True), args)
    assert cuda.recorded == 2


def test_results_are_nobody_elses(cuda: Recorder) -> None:
    """A later replay must not change what an earlier one gave."""
    function = op(FEW[2], fused=True)
    output_and_grads(function, arguments(FEW[2], steps=2))
    first = output_and_grads(function, arguments(FEW[2], steps=2))
    kept = [value.clone() for value in first]
    output_and_grads(function, arguments(FEW[2], steps=2))
    check(first, kept)


def test_what_differs_gets_a_graph_of_its_own(cuda: Recorder) -> None:
    def run(case: Case, batch: int = 2, hidden: int = 5, **more: Any) -> None:
        dtype = more.pop("dtype", torch.float32)
        with torch.no_grad():
            op(case, fused=True, **more)(
                *arguments(case, steps=2, batch=batch, hidden=hidden, dtype=dtype)
            )

    different: list[Callable[[], None]] = [
        lambda: run(FEW[0]),
        lambda: run(FEW[0], batch=3),
        lambda: run(FEW[0], hidden=6),
        lambda: run(FEW[0], dtype=torch.float64),
        lambda: run(FEW[0], reverse=True),
        lambda: run(FEW[0], eps=1e-3),
        lambda: run(FEW[1]),
        lambda: run(FEW[5]),
        lambda: run(FEW[6]),
    ]
    for i, call in enumerate(different):
        call()
        assert cuda.recorded == i + 1
        call()
        assert cuda.recorded == i + 1
    cuda.stream = 1
    run(FEW[0])
    assert cuda.recorded == len(different) + 1


def set_matmul(name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(torch.backends.cuda.matmul, name, value)


SWITCHES: dict[str, Callable[[], None]] = {
    "precision": lambda: torch.set_float32_matmul_precision("high"),
    "tf32": set_matmul("allow_tf32", True),
    "fp32_precision": set_matmul("fp32_precision", "tf32"),
    "half": set_matmul("allow_fp16_reduced_precision_reduction", False),
    "half sums": set_matmul("allow_fp16_accumulation", True),
    "bfloat16": set_matmul("allow_bf16_reduced_precision_reduction", False),
    "deterministic": lambda: torch.use_deterministic_algorithms(False),  # on in this suite
}


@pytest.fixture
def switches_put_back() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    names = [name for name in triton_graphs.PRODUCT_SWITCHES if hasattr(matmul, name)]
    before = {name: getattr(matmul, name) for name in names if "split_k" not in name}
    yield
    torch.set_float32_matmul_precision("highest")
    for name, value in before.items():
        setattr(matmul, name, value)
    torch.use_deterministic_algorithms(True)


@pytest.mark.parametrize("switch", list(SWITCHES))
def test_a_switch_that_changes_products_gets_a_graph_of_its_own(
    switch: str, cuda: Recorder, switches_put_back: None
) -> None:
    """A graph goes on as recorded, so one of full precision would never hear of TF32."""
    function, args = op(FEW[0], fused=True), arguments(FEW[0], steps=2)
    with torch.no_grad():
        function(*args)
        SWITCHES[switch]()
        function(*args)
        assert cuda.recorded == 2
        function(*args)
        assert cuda.recorded == 2


LEFT_OVER: dict[str, dict[str, Any]] = {
    "a step of two": {"steps": 3, "batch": 3},
    "packed": {"sizes": [5, 5, 3, 1]},
    "packed, of an odd length": {"sizes": [4, 2, 2, 2, 1]},
    "packed, all alike": {"sizes": [3, 3]},
}


@few
@both_ways
@pytest.mark.parametrize("layout", list(LEFT_OVER.values()), ids=list(LEFT_OVER))
def test_rows_that_are_not_there_are_masked(
    case: Case,
    reverse: bool,
    layout: dict[str, Any],
    cuda: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A window of two steps for each two, and no launch of a step by itself, after the first run.

    Numbers that a window holds of rows that are not there must not count: they are NaN.
    """
    monkeypatch.setattr(triton_graphs, "LEAST", 1)
    like = triton_graphs._like
    spoiled = lambda *args: {  # noqa: E731
        name: t if t is None or t.dtype == torch.uint8 else t.fill_(torch.nan)
        for name, t in like(*args).items()
    }
    monkeypatch.setattr(triton_graphs, "_like", spoiled)
    sizes = layout.get("sizes")
    packed = None if sizes is None else torch.tensor(sizes)
    function = op(case, fused=True, reverse=reverse, batch_sizes=packed)
    args = arguments(case, **layout)
    truth = plain(case, args, monkeypatch, reverse=reverse, batch_sizes=packed)
    first = output_and_grads(function, args)
    for value, expected in zip(first, truth, strict=True):
        assert_close(value, expected, 1e-13)  # products of more rows
    if case.proj_size:
        assert cuda.replayed == (2 if sizes is None else 0)
        return
    before = cuda.replayed
    check(output_and_grads(function, args), first)
    steps = layout.get("steps") or len(layout["sizes"])
    assert cuda.replayed - before == 2 * -(-steps // 2)


@both_ways
def test_batches_of_another_size_have_masked_windows_of_their_own(
    reverse: bool, cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of two rows are left of four sequences, of five and of a single one, and of two."""
    monkeypatch.setattr(triton_graphs, "LEAST", 1)
    for case in (FEW[0], FEW[2]):
        for sizes in ([4, 3, 2, 2], [5, 3, 2, 2], [2, 1, 1, 1]):
            packed = torch.tensor(sizes)
            options: dict[str, Any] = {"reverse": reverse, "batch_sizes": packed}
            args = arguments(case, sizes=sizes)
            truth = plain(case, args, monkeypatch, **options)
            for _ in range(2):
                values = output_and_grads(op(case, fused=True, **options), args)
                for value, expected in zip(values, truth, strict=True):
                    assert_close(value, expected, 1e-13)  # products of more rows


def test_widths_are_few_and_near_what_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = {triton_graphs._width(live, 1000) for live in range(1, 1001)}
    assert widths == {1000, 250}
    assert triton_graphs._width(250, 1000) == 250
    assert triton_graphs._width(251, 1000) == 1000
    assert triton_graphs._width(1, 64) == 64
    assert triton_graphs._width(1, 5) == 5


@pytest.mark.parametrize("why", ["few", "short", "large", "capturing"])
def test_what_cannot_be_replayed_is_launched(
    why: str, cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(FEW[0], steps=1 if why == "short" else 4, batch=2)
    sizes = None
    cuda.capturing = why == "capturing"
    if why == "few":  # of packed sequences' steps, a window of two is not worth it
        args[0], sizes = args[0].flatten(0, 1), torch.tensor([2] * 4)
    if why == "large":
        monkeypatch.setattr(triton_graphs, "MAX_BYTES", 300)
    op(FEW[0], fused=True, batch_sizes=sizes)(*args)
    assert cuda.recorded == cuda.replayed == 0


def test_a_graph_that_differs_is_one_warning_and_never_used(
    cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, args = op(FEW[0], fused=True), arguments(FEW[0], steps=4)
    truth = plain(FEW[0], args, monkeypatch)
    original = triton_graphs._copy

    def spoil(source: Any, target: Any) -> None:
        original(source, target)
        if "gain" in target:  # what the window holds, and the loop does not see
            target["gain"][0] += 1e-15

    monkeypatch.setattr(triton_graphs, "_copy", spoil)
    with pytest.warns(RuntimeWarning, match=r"first result differed .* launched one by one"):
        check(output_and_grads(function, args), truth)
    replayed = cuda.replayed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(output_and_grads(function, args), truth)
    assert cuda.replayed == replayed


def test_a_failed_recording_is_one_warning(cuda: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    function, args = op(FEW[0], fused=True), arguments(FEW[0], steps=4)
    truth = plain(FEW[0], args, monkeypatch)[0]
    monkeypatch.setattr(triton_graphs, "record", fail)
    with pytest.warns(RuntimeWarning, match="recording a CUDA graph failed: operation not perm"):
        assert_equal(function(*args)[0], truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(function(*args)[0], truth)


def test_nan_equals_itself(cuda: Recorder) -> None:
    """A first run on bad data must not look like a bad graph."""
    args = arguments(FEW[0], steps=2)
    args[0][0, 0, 0] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert op(FEW[0], fused=True)(*args)[0].isnan().any()
    assert cuda.replayed == 1


def test_the_cache_is_bounded_and_keeps_what_is_used(
    cuda: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_graphs, "MAX_GRAPHS", 2)
    monkeypatch.setattr(triton_graphs, "IDLE_AFTER", 4)

    def run(batch: int) -> int:
        before = cuda.replayed
        with torch.no_grad():
            op(FEW[0], fused=True)(*arguments(FEW[0], steps=2, batch=batch))
        return cuda.replayed - before

    assert [run(1), run(2), run(3), run(1)] == [1, 1, 0, 1]  # no place for the third
    assert [run(1) for _ in range(3)] == [1, 1, 1]
    assert run(3) == 1  # in place of the second, long idle
    assert [run(2), run(1)] == [0, 1]


def test_inference_mode_does_not_spoil_a_graph(cuda: Recorder) -> None:
    args = arguments(FEW[2], steps=4)
    with torch.inference_mode():
        first = op(FEW[2], fused=True)(*args)[0]
        second = op(FEW[2], fused=True)(*args)[0]
    with torch.no_grad():
        third = op(FEW[2], fused=True)(*args)[0]
    check([second.clone(), third], [first.clone(), first.clone()])
    assert cuda.recorded == 1
