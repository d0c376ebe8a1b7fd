"""Checkpoints of a few kilobytes that would fill the memory, or keep the processor busy forever."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.training import ConfigurationError

WEIGHTS = {"w": torch.arange(4.0)}


def saved(path: Path, **entries: Any) -> Path:
    torch.save({"state_dict": WEIGHTS, **entries}, path)
    return path


def packed(path: Path, *, compression: int = zipfile.ZIP_STORED, change: Any = None) -> Path:
    """Pack a checkpoint anew, with records that ``change`` makes of their names and contents."""
    packed = path.with_name("packed.ckpt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", compression) as new:
        for record in old.infolist():
            content = old.read(record)
            new.writestr(record.filename, change(record.filename, content) if change else content)
    return packed


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "step.ckpt"


def test_what_torch_writes_is_read(path):
    views = {"view": torch.zeros(100)[3:7], "empty": torch.zeros(0), "number": torch.tensor(1.0)}
    checkpoint = read_checkpoint(saved(path, carried_state=(views, [views]), loops={}))
    assert torch.equal(checkpoint["state_dict"]["w"], WEIGHTS["w"])
    read_checkpoint(packed(saved(path)))


def test_compressed_records_are_refused_unread(path, monkeypatch):
    """16 MB of zeros in 16 kB; a real one would be 16 GB."""
    bomb = packed(saved(path, x=torch.zeros(1 << 22)), compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 50_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ConfigurationError, match=r"would become 1677\d+ in memory"):
        read_checkpoint(bomb)


def test_records_that_share_their_bytes_are_refused(path):
    """Nothing is compressed, but the directory has the same record a thousand times."""
    with zipfile.ZipFile(saved(path, x=torch.zeros(10_000)), "a") as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        archive.filelist += [largest] * 1000
        archive.writestr("another", b"")  # so that the directory is written anew
    with pytest.raises(ConfigurationError, match="would become"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1 << 40),
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros(1 << 40, device="meta"),
    ],
)
@pytest.mark.parametrize("place", ["state_dict", "optimizer_states", "carried_state"])
def test_a_tensor_that_claims_more_than_it_holds_is_refused(tensor, place, path):
    entries = {"state_dict": {"w": tensor}, "optimizer_states": [{0: tensor}]}
    entries["carried_state"] = (tensor,)
    with pytest.raises(ConfigurationError, match="claims more numbers than it holds"):
        read_checkpoint(saved(path, **{place: entries[place]}))


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(path):
    huge = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")

    def lie(name: str, content: bytes) -> bytes:
        lied = content.replace(b"K\x04t", huge + b"t").replace(b"K\x04\x85", huge + b"\x85")
        assert lied != content or not name.endswith("data.pkl")
        return lied

    with pytest.raises(ConfigurationError, match="damaged or not a checkpoint"):
        read_checkpoint(packed(saved(path), change=lie))


def test_lists_in_lists_take_no_time(path):
    """10 to the 40 entries, and a list that holds itself: each list is looked into once."""
    many: list[Any] = []
    for _ in range(40):
        many = [many] * 10
    endless: list[Any] = []
    endless.append(endless)
    checkpoint = read_checkpoint(saved(path, loops=[many, endless]))
    assert len(checkpoint["loops"]) == 2
    many.append({"_target_": "os.system"})
    with pytest.raises(ConfigurationError, match="the name of code to run"):
        read_checkpoint(saved(path, loops=[endless, many]))


@pytest.mark.parametrize(
    "entries",
    [
        {"state_dict": [1]},
        {"state_dict": {"w": 3}},
        {"contract": [1]},
        {"world": "x"},
        {"records": []},
        {"records": {"losses": [], "count": 0, "epoch": 0, "length": "long"}},
    ],
)
def test_parts_of_the_wrong_kind_are_refused(entries, path):
    with pytest.raises(ConfigurationError, match="is not a checkpoint of lnrnn"):
        read_checkpoint(saved(path, **entries))


@pytest.mark.parametrize("content", [b"", b"text" * 500, b"\x80\x02X\xff\xff\xff\x7fabc."])
def test_what_is_no_archive_is_refused(content, path):
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="damaged or not a checkpoint"):
        read_checkpoint(path)
