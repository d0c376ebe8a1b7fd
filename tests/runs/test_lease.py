"""Locks of other machines: touched while their owner lives, and lost after a while if not."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from lnrnn.runs import lease, lock
from lnrnn.runs.lease import TAKEN, Watch
from lnrnn.runs.lock import LOCK, is_held, locked
from lnrnn.training import ConfigurationError


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; it begins anywhere."""
    now = [1e6]
    monkeypatch.setattr(lease.time, "monotonic", lambda: now[0])
    return now


def leave(folder: Path, **changes) -> None:
    """Leave a lock of this very process behind, with some entries changed."""
    with locked(folder, leased=True):
        mine = json.loads((folder / LOCK).read_text())
    (folder / LOCK).write_text(json.dumps({**mine, **changes}))


def touch(folder: Path, number: int) -> None:
    os.utime(folder / LOCK, ns=(number, number))


def test_a_lock_of_another_machine_is_lost_once_it_was_not_touched_for_a_lease(tmp_path, clock):
    leave(tmp_path, host="elsewhere")
    watch = Watch()
    for number in range(5):  # as long as it is, it may take as long as it wants
        assert is_held(tmp_path, watch)
        clock[0] += 0.9 * lease.LEASE
        assert is_held(tmp_path, watch)
        touch(tmp_path, number)
    assert is_held(tmp_path, watch)
    clock[0] += lease.LEASE - 1
    assert is_held(tmp_path, watch)
    clock[0] += 1
    assert not is_held(tmp_path, watch)
    assert not (tmp_path / LOCK).exists()


def test_who_looks_for_the_first_time_waits_a_whole_lease(tmp_path, clock):
    leave(tmp_path, host="elsewhere")
    touch(tmp_path, 0)  # in 1970, by the clock of who knows
    assert is_held(tmp_path, Watch())
    clock[0] += lease.LEASE
    assert is_held(tmp_path, Watch())


@pytest.mark.parametrize("changes", [{"host": "elsewhere", "touched": False}, {}], ids=str)
def test_only_locks_that_are_touched_can_be_lost(tmp_path, clock, changes):
    """Those that are not leased are not; and those of this machine can be asked for."""
    leave(tmp_path, **changes)
    watch = Watch()
    assert is_held(tmp_path, watch)
    clock[0] += 2 * lease.LEASE
    assert is_held(tmp_path, watch)


def test_what_a_killed_process_of_this_machine_left_is_free_at_once(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    leave(tmp_path, pid=process.pid)
    assert not is_held(tmp_path, Watch())
    assert not is_held(tmp_path, Watch())  # there is none any more


def test_a_lock_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.02)
    with locked(tmp_path, leased=True):
        touch(tmp_path, 0)
        deadline = time.monotonic() + 20
        while (tmp_path / LOCK).stat().st_mtime_ns == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("owner", ["another", "none"])
def test_who_stood_still_and_lost_its_lock_ends_at_once(tmp_path, owner):
    """To another process, which may since have finished and left."""
    script = (
        "import sys, time; from pathlib import Path; from lnrnn.runs import lease\n"
        "from lnrnn.runs.lock import locked\n"
        "lease.BEAT = 0.05\n"
        "with locked(Path(sys.argv[1]), leased=True): print('mine', flush=True); time.sleep(60)\n"
        "print('not reached')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    others = json.dumps({**json.loads((tmp_path / LOCK).read_text()), "host": "elsewhere"})
    if owner == "another":
        (tmp_path / LOCK).write_text(others)
    else:
        (tmp_path / LOCK).unlink()
    printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (TAKEN, "")
    assert said == f"error: {tmp_path} was taken over while this process stood still\n"
    if owner == "another":
        assert (tmp_path / LOCK).read_text() == others
    else:
        assert not (tmp_path / LOCK).exists()


def test_a_lock_that_is_lost_during_a_touch_is_seen_lost_at_once(tmp_path, monkeypatch):
    """The touch waits for the disk; nobody waits for the next one to look whose the lock is."""
    ended, lost = threading.Event(), threading.Event()

    def stand_still(*_, **__) -> None:
        lost.set()
        monkeypatch.setattr(lease, "BEAT", 1000)

    monkeypatch.setattr(lease, "BEAT", 0.01)
    monkeypatch.setattr(lease.os, "utime", stand_still)
    monkeypatch.setattr(lease.os, "_exit", lambda _: ended.set())
    with lease.touched(tmp_path / LOCK, lost.is_set):
        assert ended.wait(20)


def test_who_leaves_late_does_not_remove_the_lock_of_its_next_owner(tmp_path, monkeypatch):
    """The lock was opened, then lost and taken, and only then looked at."""
    path, held = tmp_path / LOCK, ExitStack()
    held.enter_context(locked(tmp_path))

    def taken_meanwhile(*_) -> None:
        path.unlink()
        path.write_text("{}")

    monkeypatch.setattr(lock.fcntl, "flock", taken_meanwhile)
    held.close()
    assert path.read_text() == "{}"
    path.write_text(json.dumps({"pid": 10**30, "host": lock.socket.gethostname()}))
    lock.remove_stale_lock(tmp_path)
    assert path.read_text() == "{}"


def test_who_has_left_a_folder_does_not_mind_its_next_owner(tmp_path, monkeypatch):
    """A look at the lock may take longer than to leave it, and another to take it."""
    ended, looked = [], threading.Event()
    left = threading.Event()

    def is_lost() -> bool:
        left.wait(20)
        looked.set()
        return True

    monkeypatch.setattr(lease, "BEAT", 0.01)
    monkeypatch.setattr(lease.os, "_exit", ended.append)
    (tmp_path / LOCK).touch()
    with lease.touched(tmp_path / LOCK, is_lost):
        time.sleep(0.1)
    left.set()
    assert looked.wait(20)
    time.sleep(0.1)
    assert ended == []


@pytest.mark.parametrize(
    ("theirs", "held"),
    [
        ({"step": "0"}, False),  # this step, before the job was put back into the queue
        ({"step": "1"}, True),  # another one of the same job
        ({"step": "1", "restart": "1"}, False),
        ({"step": "0", "job": "78"}, True),
    ],
)
def test_steps_of_one_job_run_side_by_side(tmp_path, monkeypatch, theirs, held):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    leave(tmp_path, host="elsewhere", **theirs)
    assert is_held(tmp_path, Watch()) == held
    if held:
        with pytest.raises(ConfigurationError, match="is in use"):
            locked(tmp_path).__enter__()
