"""Workers of a comparison that a launcher has started: their result, warnings and interruptions."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import compare_process
import pytest
from comparison_results import result_in
from same_runs import assert_same_run

from lnrnn.training import RunFolder

COMMAND = (
    *("arms=[rnn,rnn_ln]", "seeds=1", "cost=false", "model.hidden_size=8", "jobs=1"),
    *("trainer.max_epochs=60", "trainer.log_every_n_steps=5", "checkpoint_every_n_steps=30"),
)
HERE = ("launcher=submitit", "launcher.cluster=local", "launcher.workers=2")
RUNS = [f"{arm}-hidden_size-8-log_every_n_steps-5-max_epochs-60" for arm in ("rnn", "rnn_ln")]


def begin(place: Path, *words: str) -> subprocess.Popen[str]:
    return compare_process.begin(place, *COMMAND, *words, start_new_session=True)


def runs_in(place: Path) -> list[RunFolder]:
    return [RunFolder(place / "runs" / "japanese_vowels" / name / "seed0") for name in RUNS]


def is_in_the_middle(run: RunFolder) -> bool:
    return run.checkpoints.exists() and run.newest_checkpoint() is not None


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    process = begin(place)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return place


@pytest.mark.timeout(600)  # eight starts of a process, two of them of five
def test_interrupted_workers_have_saved_and_the_same_command_ends_as_one_process(alone, tmp_path):
    """One worker is warned of its timeout on the way, and is queued again."""
    first = begin(tmp_path, *HERE)
    wait_until(lambda: any(map(is_in_the_middle, runs_in(tmp_path))), first)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=200)[0]
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "the workers have saved their runs and ended" in said
    begun = [run for run in runs_in(tmp_path) if run.path.exists()]
    stopped = [run for run in begun if run.read_record().status != "finished"]
    assert stopped
    assert all(run.read_record().status == "interrupted" for run in stopped)
    assert not list(tmp_path.rglob("run.lock"))

    second = begin(tmp_path, *HERE)
    warned: list[int] = []

    def are_at_work() -> bool:
        warned[:] = [task for job in children_of(second.pid) for task in children_of(job)]
        locks = list(tmp_path.rglob("seed0/run.lock"))
        return len(warned) == 2 and bool(locks) and all(map(children_of, warned))

    wait_until(are_at_work, second)
    os.kill(warned[0], signal.SIGUSR2)
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0, said
    assert result_in(tmp_path) == result_in(alone)
    assert all(run.read_record().resumed for run in stopped)
    for run, other in zip(runs_in(tmp_path), runs_in(alone), strict=True):
        assert_same_run(run, other)
    logs = [path.read_text() for path in tmp_path.rglob("*_log.err")]
    assert sum("Caught signal SIGUSR2" in log for log in logs) == 1


def test_nothing_is_submitted_where_every_run_has_its_result(alone, tmp_path):
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    process = begin(tmp_path, *HERE)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 0, said
    assert "every run has its result: no worker is started" in said
    assert not (tmp_path / "runs" / ".workers").exists()


def test_a_second_command_shares_the_work_of_the_first(tmp_path):
    """Tuning included, with two runs at a time in a worker; a job that is killed is made up for."""
    words = (
        *("arms=[rnn,rnn_ln]", "seeds=1", "cost=false", "model.hidden_size=8", "jobs=2"),
        *("trainer.max_epochs=2", "lr=[1e-3,1e-2]", "launcher=submitit", "launcher.cluster=local"),
    )
    first, second = (
        compare_process.begin(tmp_path, *words, f"launcher.workers={n}", start_new_session=True)
        for n in (2, 1)
    )
    wait_until(lambda: bool(list(tmp_path.rglob("seed0/run.lock"))), first)
    killed = children_of(children_of(first.pid)[0])[0]
    os.kill(killed, signal.SIGKILL)
    said = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [2, 0], said
    assert "its job ended without an answer" in said[0]
    assert all("written: runs" in text for text in said)
    runs = [RunFolder(path.parent) for path in tmp_path.rglob("seed0/run.json")]
    assert [run.read_record().status for run in runs] == ["finished"] * 4
    assert not list(tmp_path.rglob("run.lock"))
