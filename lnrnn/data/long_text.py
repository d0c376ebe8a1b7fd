"""Long texts as one array of bytes: small ones in memory, large ones mapped from a file.

A large text is converted once (unpacked, decoded, laid end to end) into a file of the cache, named
by a hash of what its files hold, and mapped from there: memory holds what is being read.
"""

from __future__ import annotations

import codecs
import hashlib
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from lnrnn.data.opening import check_text, marked_encoding, open_bytes
from lnrnn.trusted import distrusted

LARGE = 32 << 20
"""Bytes of files from which on a text is mapped."""
_BLOCK = 4 << 20
_FORGOTTEN = 24 * 3600  # seconds
_VERSION = b"bytes-1"  # of the conversion: part of the name of what it makes


class MappedBytes:
    """The bytes of a file, mapped: pages come into memory when they are read, and can leave it.

    Args:
        path: The file, which nobody may change in place.

    Attributes:
        tensor: (N,) uint8. Nothing may be written into it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.tensor: Tensor = torch.frombuffer(self._map, dtype=torch.uint8)

    def release(self) -> None:
        """Let the pages that were read leave this process's memory; the system may keep them."""
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows has none
            self._map.madvise(mmap.MADV_DONTNEED)

    def __reduce__(self) -> tuple[type[MappedBytes], tuple[Path]]:
        return MappedBytes, (self._path,)


def read_bytes(paths: Sequence[Path], encoding: str | None) -> Tensor | MappedBytes:
    """Return files laid end to end, in memory or mapped.

    Args:
        paths: The files, in order.
        encoding: What they are in; their characters become UTF-8. None takes bytes as they are.

    Raises:
        ValueError: If one is no text, damaged, or not in that encoding; or if others may write into
            the cache.
    """
    for path in paths:
        _check(path, encoding)
    if sum(path.stat().st_size for path in paths) < LARGE:
        content = bytearray()
        for block in _blocks(paths, encoding):
            content += block
        if not content:
            raise ValueError(f"{', '.join(map(str, paths))}: nothing is in there")
        return torch.frombuffer(content, dtype=torch.uint8)
    folder = cache_folder()
    digest = hashlib.sha256(_VERSION + str(encoding).encode())
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    converted = folder / f"{digest.hexdigest()[:32]}.bytes"
    if not converted.exists():
        _convert(paths, encoding, converted)
    return MappedBytes(converted)


def cache_folder() -> Path:
    """Return the folder of what was converted, in which only we can write.

    It is ``$LNRNN_CACHE``, or ``lnrnn/data`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        ValueError: If others may write there, or we may not.
    """
    given = os.environ.get("LNRNN_CACHE")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lnrnn" / "data"
    folder = (Path(given) if given else usual).expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = distrusted(folder)
    except OSError as error:
        why = str(error)
    if why is not None:
        raise ValueError(
            f"large texts are converted into {folder}, which cannot be used: {why}. Set "
            "LNRNN_CACHE to a folder into which only you can write"
        )
    return folder


def _convert(paths: Sequence[Path], encoding: str | None, target: Path) -> None:
    """Write the text beside its place and move it there when it is whole.

    Several processes may do so at the same time: each writes a file of its own, and all are alike.
    """
    for forgotten in target.parent.glob(".*.draft"):  # by processes that were killed
        with suppress(FileNotFoundError):  # another process has moved it to its place
            if time.time() - forgotten.stat().st_mtime > _FORGOTTEN:
                forgotten.unlink()
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=".draft")
    try:
        with os.fdopen(handle, "wb") as file:
            for block in _blocks(paths, encoding):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            if not file.tell():
                raise ValueError(f"{', '.join(map(str, paths))}: nothing is in there")
        Path(draft).replace(target)
    finally:
        Path(draft).unlink(missing_ok=True)


def _blocks(paths: Sequence[Path], encoding: str | None) -> Iterator[bytes]:
    for path in paths:
        decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
        with open_bytes(path) as file:
            read = 0
            while block := file.read(_BLOCK):
                try:
                    yield decoder.decode(block).encode() if decoder else block
                except UnicodeDecodeError as error:
                    raise ValueError(_undecodable(path, encoding, read, error)) from error
                read += len(block)
        try:
            yield decoder.decode(b"", final=True).encode() if decoder else b""
        except UnicodeDecodeError as error:
            raise ValueError(_undecodable(path, encoding, read, error)) from error


def _undecodable(path: Path, encoding: str | None, read: int, error: UnicodeDecodeError) -> str:
    return (
        f"{path} is not {encoding} near byte {read + error.start:,} ({error.reason}): give another "
        "data.encoding, or null for its bytes as they are"
    )


def _check(path: Path, encoding: str | None) -> None:
    check_text(path)
    marked = marked_encoding(path)
    if encoding is None and marked not in (None, "utf-8-sig"):
        raise ValueError(
            f"{path} is in {marked}, where every other byte of most texts is 0: set "
            f"data.encoding={marked}"
        )
