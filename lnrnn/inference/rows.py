"""New sequences from files with one a row, block by block: a file may be larger than memory.

Text files hold a sequence a line; csv, tsv, jsonl and parquet files a sequence a row, in one of
their columns. They are read as training reads its own: packed or not, with its separator and its
encoding. A json file that is one list is read whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from lnrnn.data.opening import check_text, marked_encoding, open_bytes, unpacked_name
from lnrnn.data.readers import FORMATS as TABLES
from lnrnn.data.readers import read_chunks
from lnrnn.data.reading import Reading

ROWS = 1024  # of a file that are in memory at a time
FORMATS = (*TABLES, ".txt")


@dataclass(frozen=True)
class Row:
    """One sequence of a file.

    Args:
        file: The file.
        number: Its row, counted from 0 without a header.
        value: Text or numbers, as the file has them.
    """

    file: Path
    number: int
    value: Any

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.file}, data row {self.number} (counted from 0)"


def read_rows(path: Path, column: str | None, reading: Reading) -> Iterator[Row]:
    """Yield the sequences of a file in its order.

    Args:
        path: A file of one of ``FORMATS``; it may be packed (gz, bz2, xz, zip).
        column: The column of a table that holds them.
        reading: How it is read.

    Raises:
        ValueError: If the file is of another format, has no such column, a row cannot be read, or a
            cell is empty; the message names file and row.
        OSError: If the file cannot be read.
    """
    suffix = Path(unpacked_name(path)).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{path}: files must be of the formats {', '.join(FORMATS)}, also packed (.csv.gz)"
        )
    if suffix == ".txt":
        yield from _lines(path, reading)
        return
    if column is None:
        raise ValueError(
            f"{path} is a table: say which of its columns holds the sequences, column=NAME"
        )
    for chunk in read_chunks(path, {column: "column"}, replace(reading, rows=ROWS)):
        for number, value in enumerate(chunk.columns[column].to_pylist(), chunk.first):
            row = Row(path, number, value)
            if value is None:
                raise ValueError(f"{row.name}: column {column!r} is empty")
            yield row


def _lines(path: Path, reading: Reading) -> Iterator[Row]:
    check_text(path)
    encoding = reading.encoding or marked_encoding(path) or "utf-8"
    try:
        with open_bytes(path) as file, TextIOWrapper(file, encoding, newline="\n") as text:
            for number, line in enumerate(text):
                yield Row(path, number, line.rstrip("\r\n"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in {encoding.upper()} ({error}): say what it is, such as "
            f"{reading.prefix}encoding=latin-1"
        ) from error
