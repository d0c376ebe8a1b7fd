"""The scripts about a GPU, as far as they go without one."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import benchmark_cuda
import pytest
import roofline
import torch
from benchmarks.autocast import torch_lstm_dtype


@pytest.fixture(autouse=True)
def switches_put_back() -> Iterator[None]:
    products: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [product.allow_tf32 for product in products]
    yield
    for product, allowed in zip(products, before, strict=True):
        product.allow_tf32 = allowed


def test_the_benchmark_prints_a_row_a_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--device cpu --cells lstm --dtypes fp32 --shapes 4,2,3,5 --repeats 1"
    monkeypatch.setattr("sys.argv", ["benchmark_cuda.py", *options.split()])
    benchmark_cuda.main()
    text = capsys.readouterr().out
    given = torch_lstm_dtype() or "nothing (float32 is timed)"
    assert f"torch's own LSTM gives {given} under bf16's autocast\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| lstm")]
    assert [row.split("|")[3].strip() for row in rows] == ["training", "inference"]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")[4:]]
        assert len(cells) == len(benchmark_cuda.COLUMNS)
        assert all(float(cell.split()[0]) > 0 for cell in cells)


def test_every_candidate_is_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first run allocates, chooses algorithms and compiles."""
    ran: list[str] = []

    def run(name: str) -> benchmark_cuda.Run:
        return benchmark_cuda.Run(lambda: ran.append(name), 4.0)

    def measure(call: Any, device: str) -> float:
        call()
        return float(ran.count(ran[-1]))

    monkeypatch.setattr(benchmark_cuda, "measure", measure)
    runs = {name: run(name) for name in benchmark_cuda.COLUMNS}
    times = benchmark_cuda.interleave(runs, 4, "cpu")
    assert times[benchmark_cuda.BASE] == [4.0 * n for n in (3, 4, 5, 6)]
    assert times[benchmark_cuda.LOOP] == [4.0 * n for n in (2, 3)]


def test_every_row_begins_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are places for sixteen, and a row of training takes two."""
    windows: dict[int, object] = {}
    graphs = SimpleNamespace(GRAPHS=SimpleNamespace(windows=windows))
    monkeypatch.setitem(sys.modules, "lnrnn.ops.triton_graphs", graphs)
    found: list[int] = []

    def record(*_: object) -> dict[str, list[float]]:
        found.append(len(windows))
        windows[len(windows)] = None
        return {name: [1.0] for name in benchmark_cuda.COLUMNS}

    monkeypatch.setattr(benchmark_cuda, "interleave", record)
    options = "--device cpu --cells rnn gru --shapes 4,2,3,5 --repeats 1"
    monkeypatch.setattr("sys.argv", ["benchmark_cuda.py", *options.split()])
    benchmark_cuda.main()
    assert found == [0] * 8


@pytest.mark.parametrize(("option", "word"), [("", "off"), ("--tf32", "on")])
def test_float32_is_the_same_on_both_sides(
    option: str,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert torch.backends.cudnn.allow_tf32  # as torch has it
    argv = f"benchmark_cuda.py --device cpu --seconds -1 --shapes 4,2,3,5 {option}".split()
    monkeypatch.setattr("sys.argv", argv)
    benchmark_cuda.main()
    assert f"TF32: cuBLAS {word}, cuDNN {word}\n" in capsys.readouterr().out


def test_rows_that_time_does_not_allow_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--device cpu --cells rnn --shapes 4,2,3,5 --seconds -1"
    monkeypatch.setattr("sys.argv", ["benchmark_cuda.py", *options.split()])
    benchmark_cuda.main()
    assert "4 of 4 rows are left out: the time is over" in capsys.readouterr().out


def test_a_shorter_loop_is_scaled() -> None:
    runs = benchmark_cuda.candidates("rnn", (8, 2, 3, 5), "training", None, "cpu", loop_steps=2)
    assert runs[benchmark_cuda.LOOP].scale == 4
    assert {runs[n].scale for n in benchmark_cuda.COLUMNS if n != benchmark_cuda.LOOP} == {1}
    for run in runs.values():
        run.call()


def test_ratios_are_taken_within_a_round() -> None:
    times = {name: [2.0, 4.0, 8.0] for name in benchmark_cuda.COLUMNS}
    times[benchmark_cuda.BASE] = [1.0, 4.0, 2.0]
    times[benchmark_cuda.LOOP] = [30.0]
    assert benchmark_cuda.summaries(times)[2] == "4.00 (2.00)"
    assert benchmark_cuda.summaries(times)[-1] == "30.00 (30.00)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_the_benchmark_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark_cuda.py"])
    with pytest.raises(SystemExit, match="no CUDA device here"):
        benchmark_cuda.main()


def test_the_estimate_grows_with_the_work_and_says_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assumed = roofline.Assumptions()
    for cell in roofline.GATES:
        for count in (roofline.forward, roofline.backward):
            times = [roofline.microseconds(count(cell, h, 64), assumed) for h in (256, 1024, 4096)]
            assert times == sorted(times)
            small = count(cell, 128, 64)
            plain = roofline.microseconds(small, assumed, graph=False)
            assert plain > roofline.microseconds(small, assumed)
    roofline.main()
    assert "Estimated, not measured" in capsys.readouterr().out
