"""The real script, killed by real signals again and again, and started with the same command.

Where a kill falls is drawn from a seed, as a share of the records that the whole run writes, and a
delay; checkpoints are so frequent that some fall into a save.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1

import pytest
import torch
from experiments import compose, only
from same_runs import assert_same_run, predictions

from lnrnn.training import RunFolder, train

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.hidden_size=8", "model.dropout=0.2", "trainer.log_every_n_steps=5")
CHAINS = {
    "killed": (
        ("trainer.max_epochs=60", "checkpoint_every_n_steps=4"),
        (SIGKILL,) * 7,
    ),
    "stopped": (
        ("trainer.max_epochs=60", "schedule=cosine", "warmup_steps=20", "early_stopping=50"),
        (SIGTERM, SIGINT, SIGTERM, SIGINT, SIGTERM),
    ),
    "language model": (
        (
            *("data=text_files", "data.batch_size=4", "data.window=16", "model=gru_ln"),
            *("data.num_workers=2", "trainer.max_epochs=12", "checkpoint_every_n_steps=9"),
        ),
        (SIGTERM, SIGKILL, SIGTERM, SIGKILL, SIGINT),
    ),
    "requeued": (
        ("trainer.max_epochs=60", "trainer.accumulate_grad_batches=3", "data.num_workers=1"),
        (SIGUSR1, SIGKILL, SIGUSR1, SIGTERM, SIGUSR1),
    ),
}
SLURM = {"JOB_ID": "77", "NTASKS": "1", "JOB_NAME": "run", "PROCID": "0", "LOCALID": "0"}


def start(place: Path, overrides: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start the script in a process group of its own, with a SLURM that takes notes."""
    (place / "bin").mkdir(parents=True, exist_ok=True)
    scontrol = place / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {place}/asked\n')
    scontrol.chmod(0o755)
    paths = {
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "OMP_NUM_THREADS": f"{torch.get_num_threads()}",
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *overrides],
        cwd=place,
        env={**os.environ, **paths, **{f"SLURM_{key}": value for key, value in SLURM.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(place: Path, overrides: tuple[str, ...]) -> RunFolder:
    process = start(place, overrides)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return RunFolder(only(place.glob("runs/*/*/seed0")))


def interrupt(place: Path, overrides: tuple[str, ...], size: int, delay: float, number: int) -> str:
    """Start the script, send a signal at ``size`` bytes of records, and return what it printed."""
    begun, process = time.time(), start(place, overrides)
    while process.poll() is None and not is_at(place, process.pid, size, begun):
        time.sleep(0.002)
    time.sleep(delay)
    os.killpg(process.pid, number)  # as a terminal and a scheduler do: loader processes too
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == (-SIGKILL if number == SIGKILL else 128 + number), printed
    return printed


def is_at(place: Path, pid: int, size: int, begun: float) -> bool:
    """Return whether this process, and no earlier one, has written so many bytes of records."""
    try:
        folder = RunFolder(only(place.glob("runs/*/*/seed0")))
        owner = json.loads((folder.path / "run.lock").read_text())["pid"]
        records = folder.metrics.stat()
    except (StopIteration, OSError, ValueError):
        return False
    return owner == pid and records.st_mtime > begun and records.st_size >= size


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_of_interruptions(chain, tmp_path):
    overrides, signals = CHAINS[chain]
    if "data=text_files" in overrides:
        text = tmp_path / "text.txt"
        text.write_text("".join(chr(97 + (i * i) % 26) for i in range(2500)))
        overrides = (*overrides, f"data.files={text}")
    overrides = (*overrides, *SMALL)
    whole, _ = train(compose(*overrides), tmp_path / "whole")
    total = whole.metrics.stat().st_size
    draw = random.Random(chain)
    again = tmp_path / "again"
    folder = RunFolder(again / "runs" / whole.path.relative_to(tmp_path / "whole"))
    for index, number in enumerate(signals):
        size = int(total * (index + draw.random()) / (len(signals) + 2))
        printed = interrupt(again, overrides, size, draw.random() / 20, number)
        if number != SIGKILL:
            name = signal.Signals(number).name
            record = folder.read_record()
            assert (record.status, record.signal) == ("interrupted", name)
            assert record.exit_code == 128 + number
            assert f"stopped by {name}" in " ".join(printed.split())
            assert not (folder.path / "run.lock").exists()
    assert len(folder.read_record().resumed) >= len(signals) - 2
    assert finish(again, overrides).path == folder.path
    assert_same_run(folder, whole)
    assert torch.equal(predictions(folder), predictions(whole))
    assert not list(again.rglob("*.tmp"))
    asked = again / "asked"
    lines = asked.read_text().splitlines() if asked.exists() else []
    assert lines == ["requeue 77"] * signals.count(SIGUSR1)
