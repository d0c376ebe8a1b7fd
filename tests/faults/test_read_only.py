"""A folder that may not be written: runs that are to be made there, and runs that are there."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("train", "model.hidden_size=8", "trainer.max_epochs=1", "trainer.limit_train_batches=2")
DAC_OVERRIDE, DAC_READ_SEARCH, DROP = 1, 2, 24  # of linux/capability.h and linux/prctl.h


def lnrnn(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command without root's right to write where nobody may."""
    return subprocess.run(
        [sys.executable, "-m", "lnrnn", *arguments],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=obey_modes if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )


def obey_modes() -> None:
    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        if ctypes.CDLL(None).prctl(DROP, capability, 0, 0, 0):
            os._exit(99)


@pytest.fixture
def closed():
    """Close a folder and what is in it; open it again at the end."""
    folders: list[Path] = []

    def close(top: Path) -> None:
        folders.extend([top, *(path for path in top.rglob("*") if path.is_dir())])
        for folder in folders:
            folder.chmod(0o555)

    yield close
    for folder in folders:
        folder.chmod(0o755)


def test_a_run_that_cannot_be_made_is_one_line(closed, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    closed(runs)
    answer = lnrnn(tmp_path, *SMALL)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("error: cannot use the folder runs/japanese_vowels/")
    assert "Permission denied" in line
    assert not list(runs.iterdir())


def test_a_finished_run_is_read(closed, tmp_path):
    assert lnrnn(tmp_path, *SMALL).returncode == 0
    (folder,) = tmp_path.glob("runs/*/*/seed0")
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    closed(tmp_path / "runs")
    for arguments in (SMALL, ("evaluate", f"run={folder}")):
        answer = lnrnn(tmp_path, *arguments)
        assert answer.returncode == 0, answer.stderr
        assert "test/accuracy" in answer.stdout
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written


def test_an_unfinished_run_is_refused_and_left_as_it_is(closed, tmp_path):
    assert lnrnn(tmp_path, *SMALL).returncode == 0
    (folder,) = tmp_path.glob("runs/*/*/seed0")
    record = folder / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"interrupted"'))
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    closed(tmp_path / "runs")
    answer = lnrnn(tmp_path, *SMALL)
    assert answer.returncode == 1
    assert answer.stderr.strip().splitlines()[-1].startswith("error: cannot ")
    assert "Traceback" not in answer.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == written
