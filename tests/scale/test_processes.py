"""Several real processes on one machine make one run, started as on one, on two, and by SLURM.

Two of them share 45, 11 and 23 sequences in batches of 8, so that no split divides evenly. The
first value of a sequence is its name, and `seen_examples.Encoder` notes what each process is given.
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
from same_runs import assert_same_run

from lnrnn.training import RunFolder, train

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"files": range(45), "validation_files": range(45, 56), "test_files": range(56, 79)}
LEARNS, DIVERGES = "optimizer.lr=5e-3", "optimizer.lr=1e30"
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
            {
                "text": [name, *(draw.gauss(40 * (name % 3), 30) for _ in range(5))],
                "label": name % 3,
            }
            for name in names
        ]
        path = place / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths.append(f"data.{split}={path}")
    return (
        *("data=table_files", *paths, "data.num_classes=3", "data.num_features=1"),
        *("data.num_tokens=null", "data.standardize=false", "data.batch_size=8"),
        *(
            "model=gru_ln",
            "model._target_=seen_examples.Encoder",
            "trust=[seen_examples]",
            "model.hidden_size=8",
        ),
        *("trainer.max_epochs=30", "trainer.log_every_n_steps=3", "checkpoint_every_n_steps=20"),
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
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support"))),
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
            time.sleep(0.02)

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


def srun(place: Path, folders: tuple[str, str], *overrides: str) -> Launch:
    """Start two processes as SLURM does, with a ``scontrol`` that takes notes."""
    launch, port = Launch(place), str(free_port())
    scontrol = place / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {place}/asked\n')
    scontrol.chmod(0o755)
    job = {"JOB_ID": "4711", "JOB_NAME": "run", "NODELIST": "127.0.0.1", "NODEID": "0"}
    job |= {"NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1"}
    for rank, folder in zip(("0", "1"), folders, strict=True):
        task = {
            f"SLURM_{key}": value for key, value in {**job, "PROCID": rank, "LOCALID": rank}.items()
        }
        path = f"{place}{os.pathsep}{os.environ['PATH']}"
        script = str(ROOT / "scripts" / "train.py")
        launch.add(place / folder, script, *DDP, *overrides, PATH=path, MASTER_PORT=port, **task)
    return launch


def folder_in(place: Path, like: RunFolder) -> RunFolder:
    """Return the folder below ``place`` of the run that ``like`` is a folder of."""
    return RunFolder(place / Path(*like.path.parts[like.path.parts.index("runs") :]))


def flat(shares: list[list[list[int]]]) -> list[int]:
    return [name for share in shares for batch in share for name in batch]


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
        return train(compose(*settings, LEARNS), place / "runs")[0]


@pytest.fixture(scope="module")
def sweep(settings, tmp_path_factory) -> tuple[Launch, Path, list[int], str]:
    """Two processes that make a sweep: a run that diverges, the run, and the same run again."""
    place = tmp_path_factory.mktemp("two")
    launch = Launch(place)
    jobs = (f"{DIVERGES},5e-3,5e-3", "-m")
    torchrun(launch, place, ("--standalone", "--nproc-per-node=2"), *DDP, *settings, *jobs)
    return (launch, place, *launch.finish())


@pytest.fixture(scope="module")
def two(sweep, one) -> RunFolder:
    """The run that two processes make without interruption."""
    return folder_in(sweep[1], one)


def test_two_processes_have_the_loss_curve_of_one(one, two):
    curve = list(values(one))
    first, *_, last = (value for key, value in curve if "train/loss" in key)
    assert last < 0.7 * first
    for (key, value), (other_key, other) in zip(curve, values(two), strict=True):
        assert other_key == key
        assert other == pytest.approx(value, rel=1e-5, abs=1e-5)
    assert two.read_record().processes == 2


def test_metrics_of_shares_are_those_of_the_whole(one, two):
    """A sample that is counted twice would move an accuracy by 1/11 or 1/23 at least."""
    accuracies = [
        [value for key, value in values(folder) if key[2].endswith("/accuracy")]
        for folder in (one, two)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=1e-7)
    assert len(set(accuracies[0])) > 2
    test = accuracies[1][-1] * len(SIZES["test_files"])
    assert test == pytest.approx(round(test), abs=1e-5)


def test_every_example_goes_to_one_process_once_an_epoch(sweep):
    launch, epochs, per_epoch = sweep[0], 30, 6
    trained, tested = [], []  # by process: the names in each batch of the run
    for rank in (0, 1):
        notes = launch.notes(rank)
        batches = [note["names"] for note in notes if note["training"]]
        trained.append(batches[-epochs * per_epoch :])  # before it the run that diverged
        tested.append([note["names"] for note in notes if not note["training"]][-3:])
    for epoch in range(epochs):
        parts = [share[epoch * per_epoch : (epoch + 1) * per_epoch] for share in trained]
        sizes = [len(part) + len(other) for part, other in zip(*parts, strict=True)]
        assert sizes == [8, 8, 8, 8, 7, 6]
        assert sorted(flat(parts)) == [*SIZES["files"]]
    assert sorted(flat(tested)) == [*SIZES["test_files"]]


def test_a_sweep_under_torchrun_is_made_in_step(sweep):
    """A run that diverges does not keep the others from being made, nor is one made twice."""
    launch, place, codes, printed = sweep
    records = [json.loads(path.read_text()) for path in place.glob("runs/*/*/seed0/run.json")]
    assert sorted(record["status"] for record in records) == ["failed", "finished"]
    assert codes == [1]
    assert "stopped: the " in " ".join(printed.split())
    assert printed.count("test/accuracy") == 2  # of the run, and of its record
    assert len(launch.notes(0)) == len(launch.notes(1))


def test_two_nodes_are_killed_and_resumed(settings, two, tmp_path):
    overrides = (*settings, LEARNS)
    launch = two_nodes(tmp_path, ("a", "b"), *overrides)
    launch.wait_for(tmp_path, 1 / 3, two)
    os.kill(launch.notes(0)[0]["process"], signal.SIGKILL)
    begun = time.monotonic()
    codes, _ = launch.finish()
    assert time.monotonic() - begun < 60
    assert 0 not in codes
    written = [place for place in (tmp_path / "a", tmp_path / "b") if any(place.iterdir())]
    assert len(written) == 1  # by process 0 alone
    name = written[0].name
    codes, printed = two_nodes(tmp_path, (name, name), *overrides).finish()
    assert codes == [0, 0], printed
    folder = folder_in(written[0], two)
    assert folder.read_record().resumed
    assert_same_run(folder, two)


def test_slurm_warns_two_processes_and_runs_them_again_in_their_folder(settings, two, tmp_path):
    overrides = (*settings, LEARNS)
    launch = srun(tmp_path, ("a", "a"), *overrides)
    launch.wait_for(tmp_path, 1 / 2, two)
    for process in launch.processes:
        process.send_signal(signal.SIGUSR1)
    codes, printed = launch.finish()
    assert codes == [128 + signal.SIGUSR1] * 2, printed
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    folder = folder_in(tmp_path / "a", two)
    assert folder.read_record().signal == "SIGUSR1"
    codes, printed = srun(tmp_path, ("a", "b"), *overrides).finish()
    assert codes == [1, 1]
    said = " ".join(printed.split())
    assert said.count("the processes of this run do not agree: continues from: ") == 2
    assert not any((tmp_path / "b").iterdir())
    codes, printed = srun(tmp_path, ("a", "a"), *overrides).finish()
    assert codes == [0, 0], printed
    assert_same_run(folder, two)
