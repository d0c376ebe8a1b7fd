"""Sweeps from the command line: a run that fails keeps no other from being made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus

from lnrnn.cli import train as command
from lnrnn.config.compose import check_overrides
from lnrnn.config.errors import ConfigurationError

QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
SHORT = ("model.hidden_size=8", "trainer.max_epochs=1", *QUIET)


@pytest.fixture
def lnrnn_train(tmp_path, monkeypatch):
    """Gives the command ``lnrnn train``, which returns its exit code and what its jobs returned."""
    monkeypatch.chdir(tmp_path)
    jobs = []

    class Observed(JobReturn):
        def __init__(self) -> None:
            super().__init__()
            jobs.append(self)

    def call(*words: str):
        jobs.clear()
        command.failures.clear()
        monkeypatch.setattr(sys, "argv", ["lnrnn train", *words, *SHORT])
        code: object = 0
        try:
            command.main()
        except SystemExit as stop:
            code = stop.code
        return code, jobs

    monkeypatch.setattr("hydra.core.utils.JobReturn", Observed)
    yield call
    command.failures.clear()


def write_table(path: Path) -> None:
    rows = [f"{'ab' if row % 2 else 'ba'},{row % 2}" for row in range(24)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")


TABLE = ("-m", "data=table_files")


def test_every_error_is_printed_and_the_others_are_made(lnrnn_train, capsys):
    write_table(Path("ok.csv"))
    code, jobs = lnrnn_train(*TABLE, "data.files=nothing.csv,ok.csv,none.csv")
    assert [job.status for job in jobs] == [
        *(JobStatus.FAILED, JobStatus.COMPLETED, JobStatus.FAILED),
    ]
    captured = capsys.readouterr()
    for name in ("nothing.csv", "none.csv"):
        assert f"nothing matches {name}" in captured.err.split("Error executing job")[0]
        assert f"nothing matches {name}" in str(code)
    assert str(code).startswith("2 runs of the sweep failed")
    assert "Traceback" not in captured.err
    assert len(list(Path("runs").glob("table_files/*/seed0/run.json"))) == 1


def test_one_error_nobody_expected_ends_no_sweep_and_its_exit_code_is_one(
    lnrnn_train, capsys, monkeypatch
):
    whole = command.train_one

    def train_one(config):
        if config.seed == 0:
            raise RuntimeError("out of memory")
        return whole(config)

    monkeypatch.setattr(command, "train_one", train_one)
    code, jobs = lnrnn_train("-m", "seed=0,1")
    assert code == 1
    assert [job.status for job in jobs] == [JobStatus.FAILED, JobStatus.COMPLETED]
    assert "RuntimeError: out of memory" in capsys.readouterr().err


def test_a_run_that_diverges_has_failed_and_the_others_tell_a_sweeper_their_loss(lnrnn_train):
    code, jobs = lnrnn_train("-m", "optimizer.lr=1e30,1e-3")
    assert code == 1
    assert [job.status for job in jobs] == [JobStatus.FAILED, JobStatus.COMPLETED]
    (metrics,) = Path("runs").glob("*/*lr-1e-3*/seed0/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    losses = [line["value"] for line in lines if line["name"] == "val/loss"]
    assert jobs[1].return_value == losses[-1]
    # A finished run, which is not made again, tells the same.
    code, jobs = lnrnn_train("-m", "optimizer.lr=1e-3")
    assert code == 0
    assert jobs[0].return_value == losses[-1]


def test_runs_that_differ_do_not_share_a_folder(lnrnn_train):
    code, jobs = lnrnn_train("-m", "optimizer.lr=1e-2,1e-3", "name=same")
    assert not jobs
    assert "would share the folder runs/japanese_vowels/rnn_ln-same/seed0" in str(code)
    assert "+optimizer.lr: 0.001" in str(code)
    assert not Path("runs").exists()
    code, jobs = lnrnn_train("-m", "optimizer.lr=interval(1e-3,1e-2)", "name=same")
    assert not jobs
    assert "gives all of them one folder" in str(code)


def test_runs_that_are_the_same_may_share_one(lnrnn_train):
    code, jobs = lnrnn_train("-m", "data.num_workers=0,0", "name=same")
    assert code == 0
    assert [job.status for job in jobs] == [JobStatus.COMPLETED] * 2


def test_a_sweep_over_numbers_needs_no_name():
    assert len(check_overrides(["optimizer.lr=interval(1e-3,1e-2)"], multirun=True)) == 1
    with pytest.raises(ConfigurationError, match="leave the name out"):
        check_overrides(["optimizer.lr=interval(1e-3,1e-2)", "name=x"], multirun=True)


def test_the_profiler_that_is_asked_for_prints(tmp_path):
    """In a process of its own: Lightning writes to where errors went when it was imported."""
    words = [sys.executable, "-m", "lnrnn", "train", "+trainer.profiler=simple", *SHORT]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Profiler Report" in done.stdout + done.stderr
    assert "run_training_batch" in done.stdout + done.stderr


def test_shell_completion_is_refused_in_words(lnrnn_train):
    code, _ = lnrnn_train("-sc", "install=bash")
    assert "--shell-completion is not offered" in str(code)
