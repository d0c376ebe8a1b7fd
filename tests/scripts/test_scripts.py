"""The commands of the README, as processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["model.hidden_size=8", "trainer.max_epochs=1"]


def call(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_train_then_evaluate(tmp_path):
    trained = call(tmp_path, "train.py", *SMALL)
    assert trained.returncode == 0, trained.stderr
    run = "runs/japanese_vowels/rnn_ln-hidden_size-8-max_epochs-1/seed0"
    assert f"run:    {run}" in trained.stdout
    assert "test/accuracy" in trained.stdout
    assert "epoch 1  step 7  val/accuracy" in trained.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    evaluated = call(tmp_path, "evaluate.py", f"run={run}")
    assert evaluated.returncode == 0, evaluated.stderr
    record = json.loads((tmp_path / run / "run.json").read_text())
    assert evaluated.stdout.count(f"{record['metrics']['test/accuracy']:.6f}") == 2


def test_a_sweep_makes_its_runs_once(tmp_path):
    command = ["model=rnn,rnn_ln", "model.eps=1e-5,1e-3", "trainer.max_epochs=1", "-m"]
    first = call(tmp_path, "train.py", *command)
    assert first.returncode == 0, first.stderr
    records = sorted(tmp_path.glob("runs/*/*/seed0/run.json"))
    assert len(records) == 4
    assert all(json.loads(path.read_text())["status"] == "finished" for path in records)
    times = [path.stat().st_mtime_ns for path in records]
    assert call(tmp_path, "train.py", *command).returncode == 0
    assert [path.stat().st_mtime_ns for path in records] == times


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train.py", ["model=rnn_nl"], "error: there is no model=rnn_nl"),
        ("train.py", ["model.epss=1"], "Did you mean eps?"),
        ("train.py", ["model=rnn,rnn_nl", "-m"], "error: there is no model=rnn_nl"),
        ("train.py", ["data.num_features=13"], "13"),
        ("evaluate.py", [], "run must be given"),
        ("evaluate.py", ["run=nowhere"], "no run lies there"),
        ("compare.py", ["seeds=0"], "seeds must be at least 1"),
        ("compare.py", ["arms=[rnn]"], "two different arms"),
        ("compare.py", ["arms=[rnn,lstn]"], "Did you mean lstm?"),
    ],
)
def test_bad_input_gives_one_clear_line_and_no_traceback(script, arguments, words, tmp_path):
    answer = call(tmp_path, script, *arguments)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.rglob("run.json"))


def test_compare_reuses_runs_and_writes_its_result(tmp_path):
    arguments = ["arms=[rnn,rnn_lncell]", "seeds=2", *SMALL]
    first = call(tmp_path, "compare.py", *arguments)
    assert first.returncode == 0, first.stderr
    written = tmp_path / "runs/japanese_vowels/compare/rnn-vs-rnn_lncell"
    result = json.loads((written / "compare.json").read_text())
    assert [arm["name"] for arm in result["arms"]] == ["rnn", "rnn_lncell"]
    assert result["seeds"] == [0, 1]
    assert result["pairs"][0]["n"] == 2
    assert list(written.glob("*.png"))
    before = (written / "compare.json").read_bytes()
    again = call(tmp_path, "compare.py", *arguments)
    assert again.returncode == 0, again.stderr
    assert (written / "compare.json").read_bytes() == before
    assert "no claim" in again.stdout


def test_help_shows_how(tmp_path):
    assert "python scripts/compare.py" in call(tmp_path, "compare.py", "--help").stdout
    assert "rnn_lncell" in call(tmp_path, "train.py", "--help").stdout
