"""A save that fails at byte k: the disk is full, or the process is killed there.

The bytes of a save are those of the checkpoint, its manifest and the pointer, in this order.
"""

import errno
import os
import random
from pathlib import Path

import pytest
import torch
from experiments import compose, only
from same_runs import assert_same_run

from lnrnn.runs.checkpoint_files import (
    checkpoints_in,
    newest_good,
    problem_of,
    read_checkpoint,
)
from lnrnn.training import CheckpointError, ConfigurationError, RunFolder, evaluate, train
from lnrnn.training.checkpoint_io import CheckpointFiles

STATE = {"global_step": 20, "state_dict": {"weight": torch.arange(2000.0)}}
SMALL = ("model.hidden_size=8", "trainer.max_epochs=1", "checkpoint_every_n_steps=2")


class Killed(BaseException):
    """The process is gone: nothing after this cleans anything up."""


class Failing:
    """Passes a file's calls on, and fails once ``left`` more bytes have been written."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def write(self, data):
        room = self.disk.left
        self.disk.left -= len(data)
        if self.disk.left >= 0:
            return self.file.write(data)
        self.file.write(bytes(data)[:room])
        self.file.flush()
        raise self.disk.error

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


class Disk:
    """Lets writing of checkpoints end with ``error`` after ``left`` bytes."""

    def __init__(self, patch, left, error):
        self.left, self.error = left, error
        opened, removed = Path.open, Path.unlink

        def open_failing(path, mode="r", *args, **kwargs):
            file = opened(path, mode, *args, **kwargs)
            return Failing(file, self) if mode == "xb" and path.suffix == ".tmp" else file

        patch.setattr(Path, "open", open_failing)
        if isinstance(error, Killed):
            # What is left of one death is there when the next process comes.
            patch.setattr(Path, "unlink", lambda *a, **k: removed(*a, **k) if self.left >= 0 else 0)


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def folder(tmp_path):
    """A folder with two good checkpoints."""
    for step in (10, 15):
        CheckpointFiles({}).save_checkpoint(
            {**STATE, "global_step": step}, tmp_path / f"step-{step:08d}.ckpt"
        )
    return tmp_path


def size_of_a_save(tmp_path: Path) -> int:
    other = tmp_path / "size"
    other.mkdir()
    CheckpointFiles({}).save_checkpoint(STATE, other / "step-00000020.ckpt")
    return sum(path.stat().st_size for path in other.iterdir())


def points(size: int) -> list[int]:
    """Return bytes to fail at: the first, the last, the edges of the files, and any others."""
    draw = random.Random(0)
    return sorted({0, 1, 511, 512, size - 20, size - 1, *(draw.randrange(size) for _ in range(24))})


def test_the_size_is_where_a_save_no_longer_fails(folder, tmp_path, monkeypatch):
    """The points of the sweeps lie inside a save, and no save is longer."""
    Disk(monkeypatch, size_of_a_save(tmp_path), full())
    CheckpointFiles({}).save_checkpoint(STATE, folder / "step-00000020.ckpt")
    assert newest_good(folder)[0] == folder / "step-00000020.ckpt"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_full_disk_at_byte_k(number, folder, tmp_path):
    error = OSError(number, os.strerror(number))
    for k in points(size_of_a_save(tmp_path)):
        path = folder / "step-00000020.ckpt"
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, k, error)
            with pytest.raises(CheckpointError, match=os.strerror(number)) as caught:
                CheckpointFiles({}).save_checkpoint(STATE, path)
        assert "checkpoints before it are intact" in str(caught.value)
        assert not list(folder.glob(".*"))
        assert problem_of(folder / "step-00000010.ckpt") is None
        assert problem_of(folder / "step-00000015.ckpt") is None
        assert newest_good(folder)[0] in (folder / "step-00000015.ckpt", path)


def test_killed_at_byte_k(folder, tmp_path):
    for k in points(size_of_a_save(tmp_path)):
        path = folder / "step-00000020.ckpt"
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, k, Killed())
            with pytest.raises(Killed):
                CheckpointFiles({}).save_checkpoint(STATE, path)
        newest, _ = newest_good(folder)
        assert newest is not None
        assert newest.name in ("step-00000015.ckpt", path.name)
        assert (folder / "last").read_text() == "step-00000015.ckpt\n"
        assert problem_of(folder / "step-00000010.ckpt") is None


def test_a_flipped_bit_is_seen_anywhere(folder):
    path = folder / "step-00000015.ckpt"
    good = path.read_bytes()
    for k in points(len(good)):
        path.write_bytes(good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :])
        newest, skipped = newest_good(folder)
        assert newest == folder / "step-00000010.ckpt"
        assert "damaged" in skipped[path]
        with pytest.raises(ConfigurationError, match="damaged"):
            read_checkpoint(path)
    path.write_bytes(good)
    assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], torch.arange(2000.0))


def test_two_good_ones_are_kept(folder):
    CheckpointFiles({}).save_checkpoint(STATE, folder / "step-00000020.ckpt")
    assert [path.name for path in checkpoints_in(folder)] == [
        "step-00000020.ckpt",
        "step-00000015.ckpt",
    ]
    assert len(list(folder.iterdir())) == 5  # and their manifests, and the pointer


def test_temporary_files_lie_beside_their_place(folder, monkeypatch):
    """So $TMPDIR may be full, missing or on another file system."""
    monkeypatch.setenv("TMPDIR", "/nowhere")
    replaced = []
    original = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append((a, b)), original(a, b)))
    CheckpointFiles({}).save_checkpoint(STATE, folder / "step-00000020.ckpt")
    assert len(replaced) == 3
    assert all(Path(a).parent == Path(b).parent for a, b in replaced)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunFolder:
    return train(compose(*SMALL), tmp_path_factory.mktemp("whole"))[0]


@pytest.mark.parametrize("k", [0, 700, 20_000, 40_000, 60_000])
@pytest.mark.parametrize("error", [full(), Killed()], ids=["full", "killed"])
def test_a_run_goes_on_after_a_save_that_failed(k, error, whole, tmp_path):
    """The disk fails after so many bytes of all saves together; three of them are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointFiles, "save_checkpoint", failing_save(k, error))
        with pytest.raises((CheckpointError, Killed)):
            train(compose(*SMALL), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    if isinstance(error, OSError):
        assert folder.read_record().status == "failed"
        assert "No space left" in (folder.read_record().error or "")
    train(compose(*SMALL), tmp_path)
    assert_same_run(folder, whole)
    assert not list(folder.path.rglob("*.tmp"))


def failing_save(k: int, error: BaseException):
    """Return a save_checkpoint with a disk of its own, so that no other file meets it."""
    original, left = CheckpointFiles.save_checkpoint, [k]

    def save(self, checkpoint, path, storage_options=None):
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, left[0], error)
            try:
                original(self, checkpoint, path)
            finally:
                left[0] = disk.left

    return save


def test_every_checkpoint_damaged_is_an_error(whole, tmp_path):
    train(compose(*SMALL), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    folder.update_record(status="interrupted")
    for path in checkpoints_in(folder.checkpoints):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigurationError, match=r"no checkpoint in .* can be used") as caught:
        train(compose(*SMALL), tmp_path)
    assert str(caught.value).count("is damaged: its sha256") == 2


def test_a_damaged_checkpoint_is_named_and_skipped(whole, tmp_path):
    train(compose(*SMALL), tmp_path)
    folder = RunFolder(only(tmp_path.glob("*/*/seed0")))
    folder.update_record(status="interrupted")
    newest = folder.newest_checkpoint()
    assert newest is not None
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=f"{newest.name} is skipped: it is damaged"):
        assert evaluate(folder.path).checkpoint != newest
    with pytest.warns(UserWarning, match=f"{newest.name} is skipped: it is damaged"):
        train(compose(*SMALL), tmp_path)
    assert_same_run(folder, whole)
    assert newest.with_suffix(".damaged").exists()
    resumed = folder.read_record().resumed
    assert [list(entry["skipped"]) for entry in resumed] == [[newest.name]]
