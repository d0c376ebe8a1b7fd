"""Large texts: converted once into a cache of one's own, and mapped."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lnrnn.data import long_text, text_files

TEXT = "".join(f"line {number}: to be, or not to be.\n" for number in range(3000))


@pytest.fixture
def cache(folder, monkeypatch):
    """A cache of its own, and texts that are large from 1 kB on."""
    monkeypatch.setenv("LNRNN_CACHE", str(folder / "cache"))
    monkeypatch.setattr(long_text, "LARGE", 1000)
    return folder / "cache"


@pytest.fixture
def reachable():
    """A folder that others can go through, unlike pytest's own and perhaps ``$TMPDIR``."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def data(**settings) -> Any:
    return text_files(**{"files": "a.txt", "batch_size": 4, "window": 16, **settings})


def test_a_mapped_text_is_the_text(folder, cache, monkeypatch):
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text("fürst\r\n" * 200, encoding="utf-16")
    for settings in ({}, {"files": "b.txt", "encoding": "utf-16"}):
        mapped = data(**settings)
        order = mapped.order
        batches = list(mapped.train_dataloader())
        with monkeypatch.context() as patch:
            patch.setattr(long_text, "LARGE", 10**9)
            plain = data(**settings)
            assert (plain.fingerprint, plain.order) == (mapped.fingerprint, order)
            for one, other in zip(batches, plain.train_dataloader(), strict=True):
                assert torch.equal(one.inputs, other.inputs)
                assert torch.equal(one.targets, other.targets)
    assert len(list(cache.iterdir())) == 2


def test_another_content_is_converted_again_and_the_same_is_not(folder, cache):
    (folder / "a.txt").write_text(TEXT)
    first = data().fingerprint
    (made,) = cache.iterdir()
    before = made.stat()
    (folder / "again").mkdir()
    (folder / "again" / "b.txt").write_text(TEXT)
    assert data(files="again/b.txt").fingerprint == first
    assert made.stat().st_mtime_ns == before.st_mtime_ns
    os.utime(folder / "a.txt", (1, 1))
    same_size = TEXT.replace("line 7:", "LINE 7:")
    (folder / "a.txt").write_text(same_size)
    os.utime(folder / "a.txt", (1, 1))
    assert data().fingerprint != first
    assert len(list(cache.iterdir())) == 2


def test_the_cache_is_ours_alone(folder, cache, monkeypatch, reachable):
    cache = reachable / "cache"
    monkeypatch.setenv("LNRNN_CACHE", str(cache))
    (folder / "a.txt").write_text(TEXT)
    data().setup("fit")
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(ValueError, match=r"others may write .*Set LNRNN_CACHE"):
        data().setup("fit")
    cache.chmod(0o700)
    (made,) = cache.iterdir()
    made.rename(folder / "elsewhere")
    made.symlink_to(folder / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        data().setup("fit")


def test_an_interrupted_conversion_is_not_taken_for_a_whole_one(folder, cache, monkeypatch):
    (folder / "a.txt").write_text(TEXT)
    blocks = long_text._blocks

    def interrupted(paths, encoding):
        yield next(blocks(paths, encoding))[:1000]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(long_text, "_blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data().setup("fit")
    assert list(cache.iterdir()) == []
    (cache / ".killed.draft").write_bytes(b"half")
    assert bytes(data().splits["train"].text[:20].tolist()).decode() == TEXT[:20]
    assert (cache / ".killed.draft").exists(), "it may be another process's"
    os.utime(cache / ".killed.draft", (1, 1))
    (folder / "a.txt").write_text(TEXT + "more")
    data().setup("fit")
    assert not (cache / ".killed.draft").exists()


CONVERT = """
import sys
from lnrnn.data import long_text, text_files
long_text.LARGE = 1000
print(text_files(files="a.txt", batch_size=4, window=16).fingerprint)
"""


def test_processes_convert_at_the_same_time(folder, cache):
    (folder / "a.txt").write_text(TEXT * 50)
    started = [
        subprocess.Popen([sys.executable, "-c", CONVERT], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    found = {process.communicate(timeout=250)[0].strip() for process in started}
    assert found == {data().fingerprint}
    assert len(list(cache.iterdir())) == 1


MEASURE = """
import sys
import tempfile
from pathlib import Path
from lnrnn.data import text_files

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) >> 10 for line in lines if " kB" in line}

small = text_files(files="small.txt", batch_size=32, window=128)
small.fingerprint, small.order, next(iter(small.train_dataloader()))
before = resident()["VmHWM"]
large = text_files(files="large.txt", batch_size=32, window=128)
large.fingerprint, large.order
for _ in zip(range(4000), large.train_dataloader()):
    pass
print(resident()["VmHWM"] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_text(folder, monkeypatch):
    monkeypatch.setenv("LNRNN_CACHE", str(folder / "cache"))
    (folder / "small.txt").write_text(TEXT)
    line = (TEXT * 10).encode()
    with (folder / "large.txt").open("wb") as file:
        for _ in range(200_000_000 // len(line)):
            file.write(line)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 120, "megabytes more at the highest, for 200 MB of text"
