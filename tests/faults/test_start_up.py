"""Ctrl-C at many moments of a real start: a shell sees 130, and the next start is not refused."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTS = 12
ENDED = (128 + signal.SIGINT, -signal.SIGINT)  # Python's own way before our code; both are 130


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), "model.hidden_size=8", *arguments],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background may have had them, and so this, ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> float:
    """Return the seconds that a start and one step take on this machine now."""
    begun = time.monotonic()
    process = start(tmp_path_factory.mktemp("whole"), "trainer.max_steps=1")
    printed, _ = process.communicate(timeout=250)
    assert process.returncode == 0, printed
    return time.monotonic() - begun


@pytest.mark.parametrize("index", range(STARTS))
def test_ctrl_c_at_any_moment_of_the_start(index, whole, tmp_path):
    process = start(tmp_path, "trainer.max_steps=100000")
    try:
        time.sleep(whole * (index + random.Random(index).random()) / STARTS)
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode in ENDED, printed
    assert not list(tmp_path.rglob("run.lock"))
