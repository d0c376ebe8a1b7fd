"""The used columns of csv, tsv, json, jsonl and parquet files, some thousand rows at a time.

No other column is looked at. Text is not taken for something else: csv cells stay as they are
written, whatever the rows before held.
"""

from __future__ import annotations  # pandas and pyarrow take a while to import: when data are read

import json
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lnrnn.data.csv_files import read_csv
from lnrnn.data.opening import check_text, open_bytes, unpacked_name
from lnrnn.data.reading import (
    CHUNK,
    Chunk,
    Reading,
    check_there,
    encoding_of,
    fitting,
    rows_at_once,
    undecodable,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = {".csv": ",", ".tsv": "\t", ".json": None, ".jsonl": None, ".parquet": None}
"""Suffixes and what separates the columns."""


def read_chunks(path: Path, wanted: dict[str, str], reading: Reading) -> Iterator[Chunk]:
    """Yield the rows of a file.

    Args:
        path: Its suffix tells its format; it may be packed (gz, bz2, xz, zip).
        wanted: Names of columns, and for each the setting that named it, for messages.
        reading: Separator and encoding.

    Raises:
        ValueError: If the format is unknown, a column is not there, or the file is damaged.
    """
    suffix = format_of(path)
    if suffix == ".parquet":
        yield from _read_parquet(path, wanted, reading)
        return
    check_text(path)
    if FORMATS[suffix] is None:
        yield from _read_json(path, wanted, reading)
    else:
        yield from read_csv(path, wanted, reading, FORMATS[suffix] or ",")


def format_of(path: Path) -> str:
    """Return which of ``FORMATS`` a file has.

    Raises:
        ValueError: If it is none of them.
    """
    suffix = Path(unpacked_name(path)).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"a table has one of the formats {', '.join(FORMATS)} (also packed: .csv.gz), got "
            f"{path.name}"
        )
    return suffix


def _read_parquet(path: Path, wanted: dict[str, str], reading: Reading) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_bytes(path) as stream, pq.ParquetFile(stream) as file:
            check_there(path, wanted, file.schema_arrow.names, reading)
            first = 0
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            at_once = fitting(file.metadata.num_rows, size, reading)
            for batch in file.iter_batches(batch_size=at_once, columns=list(wanted)):
                columns = {name: _plain(batch.column(name)) for name in wanted}
                yield Chunk(first, columns)
                first += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"could not find rows in {path}, read as parquet: {error}") from error


def _plain(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _read_json(path: Path, wanted: dict[str, str], reading: Reading) -> Iterator[Chunk]:
    encoding = encoding_of(path, reading)
    seen: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    first, at_once = 0, rows_at_once(path, reading)
    try:
        with open_bytes(path) as file:
            for number, row in enumerate(_json_rows(path, file, encoding)):
                if number < CHUNK:
                    seen.update(dict.fromkeys(row))
                rows.append({name: row.get(name) for name in wanted})
                if len(rows) == at_once:
                    check_there(path, wanted, list(seen), reading)
                    yield _json_chunk(path, first, rows, wanted)
                    first, rows = number + 1, []
    except UnicodeDecodeError as error:
        raise ValueError(undecodable(path, encoding, error, reading)) from error
    if rows:
        check_there(path, wanted, list(seen), reading)
        yield _json_chunk(path, first, rows, wanted)


def _json_rows(path: Path, file: IO[bytes], encoding: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array, or one a line."""
    with TextIOWrapper(file, encoding=encoding) as text:
        begin = text.read(1)
        while begin.isspace():
            begin = text.read(1)
        if begin == "[":
            try:
                rows = json.loads(begin + text.read())
            except json.JSONDecodeError as error:
                raise ValueError(f"could not find rows in {path}, read as json: {error}") from error
        else:
            rows = _lines(path, begin, text)
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise ValueError(
                    f"each row of json is an object, {{...}}, but {path}, data row {number} "
                    f"(counted from 0) is {str(row)[:40]}"
                )
            yield row


def _lines(path: Path, begin: str, text: TextIOWrapper) -> Iterator[Any]:
    for number, line in enumerate(text):
        whole = begin + line if number == 0 else line
        if not whole.strip():
            continue
        try:
            yield json.loads(whole)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"could not find rows in {path}, read as jsonl: line {number + 1}: {error}"
            ) from error


def _json_chunk(
    path: Path, first: int, rows: list[dict[str, Any]], wanted: dict[str, str]
) -> Chunk:
    columns = {
        name: _json_column(path, first, name, [row[name] for row in rows]) for name in wanted
    }
    return Chunk(first, columns)


def _json_column(path: Path, first: int, name: str, values: list[Any]) -> pa.Array:
    """Return a column; where its rows are of different kinds, name the first that is."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        if all(isinstance(value, (str, int, float)) for value in values):
            return pa.array([str(value) for value in values])  # labels: 1 and "one"
        for row, value in enumerate(values):
            for other in (values[0], None):  # unlike the first, or wrong by itself
                try:
                    pa.array([value] if other is None else [other, value])
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                    raise ValueError(
                        f"{path}, data row {first + row} (counted from 0), column '{name}': "
                        f"{str(value)[:60]} is of another kind than the rows before"
                    ) from error
        raise ValueError(f"{path}, column '{name}': {error}") from error
