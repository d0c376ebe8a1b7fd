"""Several real processes on one machine make one run, started as on one, on two, and by SLURM.

Two of them share 45, 11 and 23 sequences in batches of 8, so that no split divides evenly. The
first value of a sequence is its name, and `seen.Encoder` notes what each process is given.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import compose
from sameness import assert_same_run

from lnrnn.training import RunFolder, train

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"files": range(45), "validation_files": range(45, 56), "test_files": range(56, 79)}
LEARNED = "optimizer.lr=5e-3"
DDP = ("trainer=ddp", "trainer.accelerator=cpu")
TWO_NODES = (*DDP, "trainer.devices=1", "trainer.num_nodes=2")
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> tuple[str, ...]:
    """Write the tables, and return the overrides of the run that every test makes."""
    place, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    paths = []
    for split, names in SIZES.items():
        rows = [
            {"text": [name, *(draw.gauss(40 * (name % 3), 30) for _ in range(5))], "label": name % 3}
            for name in names
        ]
        path = place / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(f"data.{split}={path}")
    return (
        *("data=table_files", *paths, "data.num_classes=3", "data.num_features=1"),
        *("data.num_tokens=null", "data.standardize=false", "data.batch_size=8", "name=small"),
        *("model=gru_ln", "model._target_=seen.Encoder", "trust=[seen]", "model.hidden_size=8"),
        *("trainer.max_epochs=40", "trainer.log_every_n_steps=3", "checkpoint_every_n_steps=20"),
    )


class Launch:
    """Processes that are started together, each with its own folder to start in."""

    def __init__(self, place: Path) -> None:
        self.seen = place / f"seen{len(list(place.glob('seen*')))}"
        self.seen.mkdir(parents=True)
        self.processes: list[Process] = []
        self.begun = time.time()

    def add(self, folder: Path, *command: str, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        own = {
            "OMP_NUM_THREADS": "1",
            "SEEN": str(self.seen),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        }
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, **own, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)

    def finish(self, timeout: float = 200) -> tuple[list[int], str]:
        """Return the exit codes, and all that was printed."""
        printed = [process.communicate(timeout=timeout)[0] for process in self.processes]
        return [process.returncode for process in self.processes], "\n".join(printed)

    def wait_for(self, place: Path, share: float, whole: RunFolder) -> None:
        """Wait until this launch, and none before it, has written a share of a run's records."""
        size = share * whole.metrics.stat().st_size
        while all(process.poll() is None for process in self.processes):
            records = [path.stat() for path in place.glob("*/runs/*/*/seed0/metrics.jsonl")]
            if any(file.st_mtime > self.begun and file.st_size >= size for file in records):
                return
            time.sleep(0.01)

    def notes(self, rank: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.seen / str(rank)).read_text().splitlines()]


def torchrun(launch: Launch, folder: Path, flags: tuple[str, ...], *overrides: str) -> None:
    script = str(ROOT / "scripts" / "train.py")
    launch.add(folder, "-m", "torch.distributed.run", *flags, script, *overrides)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_nodes(place: Path, folders: tuple[str, str], *overrides: str) -> Launch:
    launch, endpoint = Launch(place), f"127.0.0.1:{free_port()}"
    for folder in folders:
        flags = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=test")
        flags = (*flags, f"--rdzv-endpoint={endpoint}", "--local-addr=127.0.0.1")
        torchrun(launch, place / folder, flags, *TWO_NODES, *overrides)
    return launch


def srun(place: Path, *overrides: str) -> Launch:
    """Start two processes as SLURM does, with a ``scontrol`` that takes notes."""
    launch, port = Launch(place), str(free_port())
    scontrol = place / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {place}/asked\n')
    scontrol.chmod(0o755)
    job = {"JOB_ID": "4711", "JOB_NAME": "run", "NODELIST": "127.0.0.1", "NODEID": "0"}
    job |= {"NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1"}
    for rank in ("0", "1"):
        task = {f"SLURM_{key}": value for key, value in {**job, "PROCID": rank, "LOCALID": rank}.items()}
        path = f"{place}{os.pathsep}{os.environ['PATH']}"
        script = str(ROOT / "scripts" / "train.py")
        launch.add(place / "a", script, *DDP, *overrides, PATH=path, MASTER_PORT=port, **task)
    return launch


def folder_in(place: Path, name: str = "gru_ln-small") -> RunFolder:
    return RunFolder(next(place.glob(f"runs/table_files/{name}/seed0")))


def values(folder: RunFolder) -> Iterator[tuple[tuple, float]]:
    for text in folder.metrics.read_text().splitlines():
        line = json.loads(text)
        yield (line["step"], line["epoch"], line["name"]), line["value"]


@pytest.fixture(scope="module")
def one(settings, tmp_path_factory) -> RunFolder:
    """The run that one process makes."""
    place = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", str(place))
        return train(compose(*settings, LEARNED), place / "runs")[0]


@pytest.fixture(scope="module")
def sweep(settings, tmp_path_factory) -> tuple[Launch, Path, list[int], str]:
    """Two processes that make a sweep: a run that diverges, the run, and the same run again."""
    place = tmp_path_factory.mktemp("two")
    launch = Launch(place)
    jobs = ("seed=1,0,0", "optimizer.lr=5e-3", "-m")
    torchrun(launch, place, ("--standalone", "--nproc-per-node=2"), *DDP, *settings, *jobs)
    return (launch, place, *launch.finish())


@pytest.fixture(scope="module")
def two(sweep) -> RunFolder:
    """The run that two processes make without interruption."""
    return folder_in(sweep[1])


def test_two_processes_have_the_loss_curve_of_one(one, two):
    gap = 0.0
    for (key, value), (other_key, other) in zip(values(one), values(two), strict=True):
        assert key == other_key
        gap = max(gap, abs(value - other))
    print(gap)
    assert gap < 1e-5
