"""The commands of the README, as processes of their own."""

import importlib
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiments import only

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["model.hidden_size=8", "trainer.max_epochs=1"]


def call(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def start(folder: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / script), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
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


def test_what_the_monitor_saw_is_printed_or_why_there_is_nothing(tmp_path):
    assert "monitor:" not in call(tmp_path, "train.py", *SMALL).stdout
    late = call(tmp_path, "train.py", *SMALL, "monitor=true")
    assert "monitor: off when this run was made" in late.stdout
    own = call(tmp_path, "train.py", *SMALL, "monitor=true", "name=own")
    record = json.loads((tmp_path / "runs/japanese_vowels/rnn_ln-own/seed0/run.json").read_text())
    assert f"monitor: {record['diagnosis']}" in own.stdout


def test_ctrl_c_then_the_same_command(tmp_path):
    command = ["model.hidden_size=8", "model.dropout=0.2", "trainer.max_epochs=60"]
    run = "runs/japanese_vowels/rnn_ln-dropout-0.2-hidden_size-8-max_epochs-60/seed0"
    assert call(tmp_path / "whole", "train.py", *command).returncode == 0
    process = start(tmp_path / "again", "train.py", *command)
    record = tmp_path / "again" / run / "metrics.jsonl"
    while process.poll() is None and (not record.exists() or record.stat().st_size < 2000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode not in (None, 0)
    assert "the same command goes on from there" in printed
    status = json.loads((record.parent / "run.json").read_text())["status"]
    assert status == "interrupted"
    assert call(tmp_path / "again", "train.py", *command).returncode == 0
    assert record.read_bytes() == (tmp_path / "whole" / run / "metrics.jsonl").read_bytes()


def test_two_processes_make_the_steps_of_one(tmp_path):
    one = call(tmp_path / "one", "train.py", *SMALL, "model=gru_lncell")
    assert one.returncode == 0, one.stderr
    (tmp_path / "two").mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    script = str(ROOT / "scripts" / "train.py")
    overrides = [*SMALL, "model=gru_lncell", "trainer=ddp", "trainer.accelerator=cpu"]
    two = subprocess.run(
        [*launch, script, *overrides],
        cwd=tmp_path / "two",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("test/accuracy") == 1
    curves = [
        only(tmp_path.glob(f"{name}/runs/*/*/seed0/metrics.jsonl")) for name in ("one", "two")
    ]
    lines = [[json.loads(line) for line in path.read_text().splitlines()] for path in curves]
    for single, double in zip(*lines, strict=True):
        assert single.pop("value") == pytest.approx(double.pop("value"), rel=1e-5)
        assert single == double


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
        ("compare.py", ['arms=[rnn,"rnn_ln model.eps=0"]'], "the arm 'rnn_ln model.eps=0'"),
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
    folder = "rnn-vs-rnn_lncell-hidden_size-8-max_epochs-1"
    written = tmp_path / "runs/japanese_vowels/compare" / folder
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
    for curve in tmp_path.rglob("metrics.jsonl"):
        curve.unlink()
    broken = call(tmp_path, "compare.py", *arguments)
    assert broken.returncode != 0
    assert broken.stderr.startswith("error: a comparison needs at least one run that can be read")
    assert "Traceback" not in broken.stderr


def test_ctrl_c_ends_a_comparison_with_one_line(tmp_path):
    process = start(tmp_path, "compare.py", "arms=[rnn,rnn_ln]", "trainer.max_epochs=500")
    record = tmp_path / "runs/japanese_vowels/rnn-max_epochs-500/seed0"
    curve = record / "metrics.jsonl"
    while process.poll() is None and (not curve.exists() or curve.stat().st_size < 2000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode not in (None, 0)
    assert "interrupted; the same command goes on" in printed
    assert json.loads((record / "run.json").read_text())["status"] == "interrupted"


@pytest.fixture
def compare_script(tmp_path, monkeypatch):
    """The script as a module, since what it plans trains nothing."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("compare_script", ROOT / "scripts/compare.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (['arms=[rnn,"rnn data=mnist1d"]'], "data=mnist1d cannot be given in the arm"),
        (['arms=[rnn,"rnn seed=3"]'], "seed=3 cannot be given in the arm"),
        (['arms=[rnn,"rnn +name=x"]'], "name=x cannot be given in the arm"),
        (['arms=[rnn,"rnn resume=never"]'], "resume=never cannot be given in the arm"),
        (['arms=[rnn,"rnn model=lstm"]'], "model=lstm cannot be given in the arm"),
        (["seed=3"], "seed=3 cannot be given on the command line"),
        (["name=x"], "name=x cannot be given on the command line"),
        (["resume=never"], "resume=never cannot be given on the command line"),
        (["model=lstm"], "model=lstm cannot be given on the command line"),
        (['arms=[rnn,"rnn trainer.enable_progress_bar=true"]'], "are the same runs, runs/"),
        (["arms=[rnn,rnn_ln,rnn]"], "'rnn' and 'rnn' are the same runs"),
        (["arms=rnn"], r"arms must be a list, got rnn: write 'arms=\[rnn,rnn_ln\]'"),
        (["arms=[rnn,5]"], "an arm is a model.*got 5"),
        (["arms=[rnn,' ']"], "an arm is a model.*got ' '"),
        (["seeds=abc"], "seeds must be at least 1, and a whole number.*got abc"),
        (["seeds=1.5"], "seeds must be at least 1, and a whole number.*got 1.5"),
        (["seeds=true"], "seeds must be at least 1, and a whole number.*got True"),
    ],
)
def test_what_compare_refuses_before_it_trains(compare_script, arguments, words):
    with pytest.raises(compare_script.ConfigurationError, match=words):
        compare_script.plan(arguments)


def test_compare_refuses_a_folder_with_another_run_before_it_trains(compare_script, tmp_path):
    _, arms = compare_script.plan(["seeds=1"])
    other = compare_script.folder_of(arms["rnn_lncell"][0])
    other.path.mkdir(parents=True)
    shutil.copy(ROOT / "conf/trainer/default.yaml", other.config)
    with pytest.raises(compare_script.ConfigurationError, match="another configuration"):
        compare_script.plan(["seeds=1"])


def test_comparisons_that_train_differently_lie_apart(compare_script):
    def folder(*arguments: str) -> str:
        return str(compare_script.plan(["seeds=1", *arguments])[0])

    root = "runs/japanese_vowels/compare/"
    assert folder() == f"{root}rnn-vs-rnn_ln-vs-rnn_lncell"
    assert folder("trainer.accelerator=cpu") == folder()
    longer = folder("trainer.max_epochs=5")
    assert longer == f"{root}rnn-vs-rnn_ln-vs-rnn_lncell-max_epochs-5"
    # A key that only these arms' models have.
    heads = folder("arms=[transformer,transformer_post]", "model.num_heads=2")
    assert heads == f"{root}transformer-vs-transformer_post-num_heads-2"


def test_names_of_folders_are_short_and_tell_arms_apart(compare_script):
    texts = ["rnn a=1", "rnn a_1", "rnn_a=1", "rnn_a_1", "x" * 100, "x" * 101, "x" * 102, "rnn é"]
    names = [compare_script.short(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert names[3:5] == texts[3:5]
    assert max(map(len, names)) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
    assert len(compare_script.result_name([text * 9 for text in texts], "y" * 60)) == 100


def test_help_shows_how(tmp_path):
    assert "python scripts/compare.py" in call(tmp_path, "compare.py", "--help").stdout
    assert "rnn_lncell" in call(tmp_path, "train.py", "--help").stdout
