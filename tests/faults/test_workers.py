"""One comparison that several workers share: their result, and what one leaves to the others."""

import json
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
    *("arms=[rnn,rnn_ln]", "seeds=2", "cost=false", "model.hidden_size=8", "jobs=1"),
    *("trainer.max_epochs=30", "trainer.log_every_n_steps=5", "checkpoint_every_n_steps=30"),
)
NAME = "{}-hidden_size-8-log_every_n_steps-5-max_epochs-30/seed{}"
RUNS = [NAME.format(arm, seed) for seed in range(2) for arm in ("rnn", "rnn_ln")]
# A process that takes itself for another machine, and waits for others a moment only.
ELSEWHERE = """
import socket, sys
from lnrnn.runs import lease
from lnrnn.study import missing
from lnrnn.cli import comparing, main
lease.BEAT, lease.LEASE = 0.2, 3.0
missing.PAUSE = comparing.PAUSE = 0.2
name = sys.argv.pop(1)
socket.gethostname = lambda: name
main.main()
"""


def begin(place: Path, *words: str, host: str = "here") -> subprocess.Popen[str]:
    program = ("-c", ELSEWHERE, host)
    return compare_process.begin(place, *COMMAND, *words, program=program, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def folder(place: Path, name: str) -> RunFolder:
    return RunFolder(place / "runs" / "japanese_vowels" / name)


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_in_the_middle(run: RunFolder) -> bool:
    """Return whether a run has a checkpoint, and is some way behind it."""
    newest = run.newest_checkpoint() if run.checkpoints.exists() else None
    return newest is not None and run.metrics.exists() and run.metrics.stat().st_size > 2000


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    finish(begin(place))
    return place


def owner_of(run: RunFolder) -> int | None:
    """Return the process that is at a run; None if none is."""
    try:
        return json.loads((run.path / "run.lock").read_text())["pid"]
    except (OSError, ValueError):
        return None


def test_two_workers_side_by_side_make_the_result_of_one(alone, tmp_path):
    workers = [begin(tmp_path, "worker=true", host=host) for host in ("one", "two")]
    owners: dict[str, set[int]] = {name: set() for name in RUNS}
    while any(worker.poll() is None for worker in workers):
        for name in RUNS:
            owner = owner_of(folder(tmp_path, name))
            owners[name] |= set() if owner is None else {owner}
        time.sleep(0.005)
    said = [finish(worker) for worker in workers]
    assert result_in(tmp_path) == result_in(alone)
    for name in RUNS:
        assert_same_run(folder(tmp_path, name), folder(alone, name))
        assert not (folder(tmp_path, name).path / "run.lock").exists()
        assert not folder(tmp_path, name).read_record().resumed
    assert set().union(*owners.values()) == {worker.pid for worker in workers}
    wrote = ["written: runs" in text for text in said]
    left = ["written by another process: runs" in text for text in said]
    assert sorted(wrote) == sorted(left) == [False, True], said


@pytest.mark.parametrize("other", ["here", "elsewhere"])
def test_what_a_killed_worker_was_at_is_taken_over(alone, tmp_path, other):
    """Of the same machine at once; of another, when it has not touched its lock for a while."""
    first = begin(tmp_path, "worker=true")
    wait_for(lambda: is_in_the_middle(folder(tmp_path, RUNS[0])), first)
    second = begin(tmp_path, "worker=true", host=other)
    wait_for(lambda: folder(tmp_path, RUNS[1]).record.exists(), second)
    run = next(run for run in (folder(tmp_path, n) for n in RUNS) if owner_of(run) == first.pid)
    first.kill()
    first.communicate()
    printed = finish(second)
    assert "written: runs" in printed
    assert run.read_record().status == "finished"
    assert result_in(tmp_path)["pairs"] == result_in(alone)["pairs"]
    for name in RUNS:
        assert_same_run(folder(tmp_path, name), folder(alone, name))
