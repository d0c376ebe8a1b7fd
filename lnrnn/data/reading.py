"""How tables are read, and what every reader of one needs: blocks of rows, encodings, checks."""

from __future__ import annotations  # pandas and pyarrow take a while to import: when data are read

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lnrnn.data.opening import known_encoding, marked_encoding, open_bytes

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 20_000
"""Rows that are read at once; fewer where they are long."""
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        separator: What separates the columns of csv and tsv; None: as the suffix says, or what the
            header has, if the columns are there.
        encoding: Of csv, tsv and json; None: UTF-8, or what a byte order mark tells.
        rows: How many are read at once at most; None: ``CHUNK``.
        prefix: What stands before the names of settings in messages.
    """

    separator: str | None = None
    encoding: str | None = None
    rows: int | None = None
    prefix: str = "data."

    def __post_init__(self) -> None:
        if self.separator is not None and (
            not isinstance(self.separator, str) or len(self.separator) != 1
        ):
            raise ValueError(
                f"{self.prefix}separator must be one character, got {self.separator!r}"
            )
        if self.encoding is not None:
            known_encoding(str(self.encoding), self.prefix)


@dataclass(frozen=True)
class Chunk:
    """Rows of one file that follow one another.

    Attributes:
        first: Place of the first in its file.
        columns: The wanted columns by name, all of one length.
    """

    first: int
    columns: dict[str, pa.Array | pa.ChunkedArray]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def check_there(
    path: Path, wanted: dict[str, str], names: Sequence[str], reading: Reading, hint: str = ""
) -> None:
    """Raise ValueError unless every wanted column is there, once."""
    for name, key in wanted.items():
        if name not in names:
            raise ValueError(
                f"{reading.prefix}{key}={name} is not a column of {path}; there are "
                f"{', '.join(names)}{hint}"
            )
        if (count := list(names).count(name)) > 1:
            raise ValueError(
                f"{reading.prefix}{key}={name} is the name of {count} columns of {path}: give each "
                "a name of its own"
            )


def rows_at_once(path: Path, reading: Reading) -> int:
    """Return how many rows fit into memory well, by the length of the first lines."""
    with open_bytes(path) as file:
        begin = file.read(1 << 20)
    return fitting(begin.count(b"\n"), len(begin), reading)


def fitting(rows: int, size: int, reading: Reading) -> int:
    """Return how many rows fit into memory well, where so many take ``size`` bytes."""
    return max(1, min(reading.rows or CHUNK, CHUNK_BYTES * max(rows, 1) // max(size, 1)))


def encoding_of(path: Path, reading: Reading) -> str:
    """Return the encoding of a text: what was said, or what the file tells."""
    return str(reading.encoding) if reading.encoding else marked_encoding(path) or "utf-8"


def undecodable(path: Path, encoding: str, error: UnicodeDecodeError, reading: Reading) -> str:
    """Say in which line it is, and how to say what the encoding is."""
    place = ""
    with open_bytes(path) as file:
        for number, line in enumerate(file):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as found:
                place = f", line {number + 1}: {line[max(0, found.start - 10) : found.end + 10]!r}"
                break
    return (
        f"{path} is not {encoding}{place} ({error.reason}): say what it is, such as "
        f"{reading.prefix}encoding=latin-1, cp1252 or utf-16"
    )
