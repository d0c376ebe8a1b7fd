"""The scripts about a GPU, as far as they go without one."""

import benchmark_cuda
import pytest
import roofline
import torch


def test_the_benchmark_prints_a_row_a_measurement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--device cpu --cells lstm --dtypes fp32 --shapes 4,2,3,5 --repeats 1"
    monkeypatch.setattr("sys.argv", ["benchmark_cuda.py", *options.split()])
    benchmark_cuda.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| lstm")]
    assert [row.split("|")[3].strip() for row in rows] == ["training", "inference"]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")[4:]]
        assert len(cells) == len(benchmark_cuda.COLUMNS)
        assert all(float(cell.split()[0]) > 0 for cell in cells)


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
