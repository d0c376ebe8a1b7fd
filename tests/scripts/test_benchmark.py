"""The benchmark: fair rivals, complete rows, and tables that can be made again from them."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.loops import LOOPS, scripted
from benchmarks.report import markdown
from benchmarks.rows import Row, read_rows
from benchmarks.timing import interleave
from benchmarks.workloads import Workload
from norm_cases import LAYERS, randomized
from numerics import EXACT, assert_close, cotangents

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
CELLS = ("lstm", "gru", "rnn")
MODES = ("training", "inference", "forward", "bf16", "packed", "streaming", "memory", "end-to-end")
RUNS = [("overhead", "lstm"), ("overhead", "rnn")]  # a data set each
RIVALS = ("cell norm", "torch", "torch + norm", "reference", "TorchScript", "Python loop")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("compiled", [False, True], ids=["Python", "TorchScript"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_loops_compute_what_the_reference_does(cell: str, compiled: bool) -> None:
    layer = randomized(LAYERS[cell](5, 7, norm="cell", eps=1e-3, dtype=torch.float64, fused=False))
    loop = scripted(LOOPS[cell](layer)) if compiled else LOOPS[cell](layer)
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    names = ["output", "x", *(name for name, _ in layer.named_parameters())]
    truth = output_and_grads(layer, x)
    # TorchScript changes what it runs during its first calls.
    for _ in range(4 if compiled else 1):
        for name, value, expected in zip(names, output_and_grads(loop, x), truth, strict=True):
            assert_close(value, expected, EXACT, name)


def output_and_grads(module: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    output = module(x)[0]
    leaves = [x, *module.parameters()]
    return [output, *torch.autograd.grad([output], leaves, cotangents([output]))]


def test_quick_measures_everything(tmp_path: Path) -> None:
    """Every mode and cell gives a row; the tables and the figure can be made from the file."""
    out, picture = tmp_path / "rows.jsonl", tmp_path / "ratios.png"
    measured = call("--quick", "--out", str(out), "--markdown", "--figure", str(picture))
    assert measured.returncode == 0, measured.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    # Peak memory is read from Linux's /proc.
    modes = [m for m in MODES if m != "memory" or Path("/proc/self/clear_refs").exists()]
    expected = [*((m, c) for m in modes for c in CELLS), *RUNS]
    assert [(r["mode"], r["cell"]) for r in lines] == expected
    for row in lines:
        assert {"cpu", "capability", "torch", "python", "lnrnn", "commit"} <= row.keys()
        assert row["heap"] == "stock"
        assert len(row["ratios"]) == len(row["values"]) - 1 >= 1
        values = [value for values in row["values"].values() for value in values]
        assert all(value is None or value > 0 for value in values)
        assert all(0 < r["low"] <= r["median"] <= r["high"] for r in row["ratios"].values())
    assert picture.read_bytes().startswith(b"\x89PNG")

    again = call("--read", str(out), "--markdown", "--figure", str(tmp_path / "again.png"))
    assert again.returncode == 0, again.stderr
    assert again.stdout.partition("\nfigure:")[0] == measured.stdout.partition("\nfigure:")[0]
    assert (tmp_path / "again.png").read_bytes() == picture.read_bytes()
    tables = again.stdout.partition("\n| ")[2]
    assert tables.count("\n| ---") == len(modes) + 1
    assert "LSTM: cell norm / TorchScript | " in tables


def test_a_precision_is_named_and_refused_where_it_would_not_hold(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    options = ["--quick", "--precision", "medium", "--cells", "rnn", "--no-loops"]
    assert call(*options, "--modes", "inference", "--out", str(out)).returncode == 0
    assert json.loads(out.read_text())["precision"] == "medium"
    refused = call(*options, "--modes", "inference", "memory")
    assert refused.returncode == 1
    assert "--precision holds in this process" in refused.stderr


def test_a_kept_heap_is_named(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    options = ["--quick", "--modes", "inference", "--cells", "rnn", "--no-loops"]
    answer = call(*options, "--heap", "keep", "--out", str(out), "--markdown")
    assert answer.returncode == 0, answer.stderr
    assert "heap keep" in answer.stdout
    assert json.loads(out.read_text())["heap"] == "keep"
    assert "| RNN: cell norm / torch, heap kept | " in answer.stdout


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | int | None:
    """Run the script in this process and return what it exits with."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as left:
        importlib.import_module("benchmark").main()
    return left.value.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shapes", "128,64"], "a shape is steps,batch,input,hidden"),
        (["--shapes", "128,64,0,256"], "got '128,64,0,256'"),
        (["--repeats", "0"], "a whole number of at least 1, got '0'"),
        (["--modes", "backward"], "invalid choice: 'backward'"),
        (["--read", str(SCRIPT)], "line 1, is not a measurement"),
        (["--read", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_bad_input_is_refused_with_words(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run_here(monkeypatch, *arguments)
    assert code not in (0, None)
    assert words in f"{code}{capsys.readouterr().err}"


def test_help_explains_every_mode_and_rival(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    for word in (*MODES, *RIVALS):
        assert f"\n  {word} " in text


def test_candidates_take_turns() -> None:
    called: list[str] = []
    runs = {name: lambda name=name: called.append(name) for name in "abc"}
    times = interleave(Workload(runs, rare=frozenset("c")), repeats=4)
    assert "".join(called) == "ab" + "bca" + "ab" + "ba" + "bac"
    assert [value is None for value in times["c"]] == [False, True, True, False]
    assert None not in times["a"] + times["b"]


def row(heap: str) -> Row:
    values: dict[str, list[float | None]] = {
        "ours": [1.0, 4.0, 9.0, 2.0],
        "torch": [2.0, 2.0, 9.0, None],
    }
    return Row("training", "rnn", (1, 2, 3, 4), 1, "ms", values, "", {"heap": heap})


def test_ratios_are_of_one_round(tmp_path: Path) -> None:
    stock = row("stock")
    assert stock.ratio("ours", "torch") == (0.75, 1.0, 1.5)
    assert stock.median("torch") == 2.0
    (tmp_path / "row.jsonl").write_text(stock.to_json() + "\n")
    assert read_rows([tmp_path / "row.jsonl"]) == [stock]


def test_threads_share_a_field_and_heaps_stand_below_one_another() -> None:
    rows = [row("stock"), replace(row("stock"), threads=2), row("keep")]
    assert markdown(rows).splitlines() == [
        "| training, 1 / 2 threads | (1, 2, 3, 4) |",
        "| --- | --- |",
        "| RNN: ours / torch | 1.00 / 1.00 |",
        "| RNN: ours / torch, heap kept | 1.00 / - |",
    ]
