"""A comparison in several processes, and what ends one of them, all of them or their parent."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from same_runs import assert_same_run

from lnrnn.training import RunFolder

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (
    *("arms=[rnn,rnn_ln]", "seeds=2", "cost=false", "model.hidden_size=8", "model.dropout=0.2"),
    *("trainer.max_epochs=70", "trainer.log_every_n_steps=5", "checkpoint_every_n_steps=30"),
)
RUNS = "runs/japanese_vowels/{}-dropout-0.2-hidden_size-8-log_every_n_steps-5-max_epochs-70/seed{}"
FIRST = [RUNS.format(arm, 0) for arm in ("rnn", "rnn_ln")]
TIMES = {"seconds_per_step", "seconds_per_save", "seconds"}
HISTORY = {"resumed", "began_from"}


def begin(place: Path, jobs: int) -> subprocess.Popen[str]:
    """Start a comparison of ``jobs`` processes with one thread each."""
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "compare.py"), *COMMAND, f"jobs={jobs}"],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": str(jobs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(place: Path, jobs: int) -> None:
    process = begin(place, jobs)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed


def result_in(place: Path) -> dict[str, Any]:
    (path,) = list(place.glob("runs/japanese_vowels/compare/*/compare.json"))
    return without_times(json.loads(path.read_text()))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def owner_of(folder: Path) -> int | None:
    """Return the process that trains in a folder; None if none does."""
    try:
        return json.loads((folder / "run.lock").read_text())["pid"]
    except (OSError, ValueError):
        return None


def await_records(process: subprocess.Popen[str], place: Path, size: int) -> list[int]:
    """Wait until both first runs have so many bytes of records; return who trains them."""
    begun = time.time()
    while process.poll() is None:
        owners = [owner_of(place / path) for path in FIRST]
        records = [place / path / "metrics.jsonl" for path in FIRST]
        states = [path.stat() for path in records if path.exists()]
        new = [state for state in states if state.st_mtime > begun and state.st_size >= size]
        if len(new) == 2 and None not in owners:
            return [owner for owner in owners if owner is not None]
        time.sleep(0.01)
    raise AssertionError(process.communicate()[0])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def check_stopped(place: Path) -> None:
    for path in FIRST:
        record = json.loads((place / path / "run.json").read_text())
        assert (record["status"], record["signal"]) == ("interrupted", "SIGTERM")
        assert not (place / path / "run.lock").exists()


def interrupt(place: Path, size: int) -> None:
    """Send SIGTERM to the parent alone: every run is saved."""
    process = begin(place, 2)
    owners = await_records(process, place, size)
    assert len({*owners, process.pid}) == 3
    process.terminate()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + SIGTERM, printed
    assert printed.rstrip().endswith("interrupted; the same command resumes it")
    assert "Traceback" not in printed
    assert not any(map(is_alive, owners))
    check_stopped(place)


def kill_the_parent(place: Path, size: int) -> None:
    """Its processes notice, save their runs and leave."""
    process = begin(place, 2)
    owners = await_records(process, place, size)
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(map(is_alive, owners)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    check_stopped(place)


def kill_a_worker(place: Path, size: int) -> None:
    """Its run is named, and all others come to their end, the one with a damaged checkpoint too."""
    damaged = RunFolder(place / FIRST[1]).newest_checkpoint()
    assert damaged is not None
    damaged.write_bytes(damaged.read_bytes()[:-1])
    process = begin(place, 2)
    owners = await_records(process, place, size)
    os.kill(owners[0], SIGKILL)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 2, printed
    assert printed.count("rnn, seed 0: its process was lost: killed by SIGKILL") == 2
    # What a process says stands in lines of its own, with the name of its run.
    warned = f"^rnn_ln, seed 0: .*UserWarning: .*{damaged.name} is skipped: it is damaged"
    assert re.search(warned, printed, re.MULTILINE)
    assert "1 run failed; the same command tries again" in printed
    assert "Traceback" not in printed
    rnn, rnn_ln = (arm["runs"] for arm in result_in(place)["arms"])
    assert [run["status"] for run in rnn] == ["failed", "finished"]
    assert [run["status"] for run in rnn_ln] == ["finished", "finished"]


@pytest.mark.timeout(600)  # five comparisons, which wait for other work on a busy machine
def test_a_comparison_that_is_stopped_and_killed_ends_as_one_that_was_not(tmp_path):
    """And as one whose runs were trained one after the other, with as many threads each."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    finish(whole, 1)
    interrupt(again, 1000)
    kill_the_parent(again, 4000)
    kill_a_worker(again, 8000)
    finish(again, 2)
    assert result_in(again) | {"command": None} == result_in(whole) | {"command": None}
    for arm in ("rnn", "rnn_ln"):
        for seed in (0, 1):
            path = RUNS.format(arm, seed)
            assert_same_run(RunFolder(again / path), RunFolder(whole / path))
            records = [
                json.loads(RunFolder(place / path).record.read_text()) for place in (again, whole)
            ]
            same = [
                {key: value for key, value in record.items() if key not in TIMES | HISTORY}
                for record in records
            ]
            assert same[0] == same[1]
    resumed = RunFolder(again / FIRST[0]).read_record().resumed
    assert len(resumed) == 3
    assert not list(again.rglob("*.tmp"))
