"""New sequences from files, block by block: a file may be larger than memory.

Text files hold a sequence a line; csv, tsv, jsonl and parquet files a sequence a row, in one of
their columns, written as in the files that a model was trained on, but in UTF-8, unpacked, and
separated by commas (csv) or tabs (tsv): a run does not keep how its own files were read. A json
file that is one list is read whole.
"""

from __future__ import annotations  # pandas and pyarrow take a second to import

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = 1024  # of a file that are in memory at a time
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
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


def read_rows(path: Path, column: str | None) -> Iterator[Row]:
    """Yield the sequences of a file in its order.

    Args:
        path: A file of one of ``FORMATS``.
        column: The column of a table that holds them.

    Raises:
        ValueError: If the file is of another format, has no such column, a row cannot be read, or a
            cell is empty; the message names file and row.
        OSError: If the file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"{path}: files must be of the formats {', '.join(FORMATS)}, in UTF-8 and not packed"
        )
    if suffix in TABLES and column is None:
        raise ValueError(
            f"{path} is a table: say which of its columns holds the sequences, column=NAME"
        )
    values = _VALUES[suffix](path, column or "")
    for number, value in enumerate(values):
        row = Row(path, number, value)
        if value is None:
            raise ValueError(f"{row.name}: column {column!r} is empty")
        yield row


def _text_lines(path: Path, column: str) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error}") from error


def _cells(path: Path, column: str) -> Iterator[str | None]:
    """Yield the cells of a csv or tsv file, as training reads them: text, an empty cell as None."""
    import pandas
    from pandas.errors import EmptyDataError, ParserError, ParserWarning

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        header = pandas.read_csv(path, sep=separator, nrows=0)
        _check_column(path, column, [str(name) for name in header.columns])
        # All columns: of a line with too many cells the right one cannot be known.
        blocks = pandas.read_csv(
            path,
            sep=separator,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            chunksize=ROWS,
        )
        with blocks, warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            for block in blocks:
                yield from (None if cell != cell else cell for cell in block[column].tolist())
    except (ParserError, ParserWarning, EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from error


def _json_lines(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        if file.read(1) == "[" and path.suffix.lower() == ".json":
            file.seek(0)
            try:
                yield from _entries(path, column, enumerate(json.load(file)))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}: {error}") from error
            return
        file.seek(0)
        rows = (line for line in file if line.strip())
        yield from _entries(path, column, enumerate(_parsed(path, rows)))


def _parsed(path: Path, lines: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(lines):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, data row {number} (counted from 0): {error}") from error


def _entries(path: Path, column: str, rows: Iterable[tuple[int, Any]]) -> Iterator[Any]:
    for number, row in rows:
        if not isinstance(row, dict) or column not in row:
            found = ", ".join(map(str, row)) if isinstance(row, dict) else "no columns"
            raise ValueError(
                f"{path}, data row {number} (counted from 0) has no {column!r}; there are {found}"
            )
        yield row[column]


def _parquet_values(path: Path, column: str) -> Iterator[Any]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            _check_column(path, column, file.schema_arrow.names)
            for block in file.iter_batches(batch_size=ROWS, columns=[column]):
                yield from block.column(0).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}") from error


def _check_column(path: Path, column: str, columns: list[str]) -> None:
    if column not in columns:
        raise ValueError(
            f"{path} has no column {column!r}; there are {', '.join(columns)}: column=NAME says "
            "which holds the sequences (columns are separated by commas in csv, by tabs in tsv)"
        )


_VALUES = {
    ".txt": _text_lines,
    ".csv": _cells,
    ".tsv": _cells,
    ".json": _json_lines,
    ".jsonl": _json_lines,
    ".parquet": _parquet_values,
}
