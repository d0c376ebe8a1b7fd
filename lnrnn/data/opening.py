"""Opening the user's files: what is packed is unpacked, what is no text is said to be none.

What a file is, is read from its first bytes, not from its name.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from zipfile import BadZipFile, ZipFile

_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_ZIP = b"PK\x03\x04"
_FOREIGN = {  # first bytes, what such a file is, and the way out
    b"PAR1": ("a parquet table", "data=table_files reads its columns, as NAME.parquet"),
    b"%PDF": ("a PDF", "save its text as a file of its own"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "unpack it first: unzstd FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save it as csv or text"),
}
_MARKS = {  # a byte order mark and the encoding it tells; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file; gz, bz2, xz and a zip of one file are unpacked as they are read.

    Raises:
        ValueError: If it is an archive of several files, of another kind, or damaged.
    """
    first = _first_bytes(path)
    try:
        if first.startswith(_ZIP):
            with ZipFile(path) as archive, archive.open(_only_member(path, archive)) as file:
                yield file
            return
        opener = next((o for magic, o in _PACKED.items() if first.startswith(magic)), open)
        with cast(IO[bytes], opener(path, "rb")) as file:
            yield file
    except (BadZipFile, EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged, it cannot be unpacked: {error}") from error


def unpacked_name(path: Path) -> str:
    """Return a file's name without the suffix of what it is packed in; of a zip, its member's."""
    if _first_bytes(path).startswith(_ZIP):
        try:
            with ZipFile(path) as archive:
                return _only_member(path, archive)
        except BadZipFile as error:
            raise ValueError(f"{path} is damaged, it cannot be unpacked: {error}") from error
    return path.stem if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zst") else path.name


def check_text(path: Path) -> None:
    """Refuse what is known to be no text.

    Raises:
        ValueError: With what it is, and the way out.
    """
    with open_bytes(path) as file:
        first = file.read(8)
    for magic, (what, way_out) in _FOREIGN.items():
        if first.startswith(magic):
            raise ValueError(f"{path} is {what}: {way_out}")


def marked_encoding(path: Path) -> str | None:
    """Return the encoding that a byte order mark at a file's begin tells, or None."""
    with open_bytes(path) as file:
        first = file.read(4)
    return next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)


def known_encoding(name: str, prefix: str = "data.") -> str:
    """Return the name of an encoding that Python knows.

    Args:
        name: As it was given.
        prefix: What stands before the setting's name in messages.

    Raises:
        ValueError: If it knows none of that name.
    """
    try:
        "".encode(name)  # refuses codecs that are not of text, such as hex
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(
            f"{prefix}encoding={name} is unknown: utf-8, utf-16, latin-1, cp1252, ... "
            "(https://docs.python.org/3/library/codecs.html#standard-encodings)"
        ) from None


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _only_member(path: Path, archive: ZipFile) -> str:
    members = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if len(members) != 1:
        raise ValueError(f"{path} is a zip archive of {len(members)} files: unpack it first")
    return members[0]
