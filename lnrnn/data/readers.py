"""The used columns of csv, tsv, json, jsonl and parquet files, some thousand rows at a time.

No other column is looked at. Text is not taken for something else: csv cells stay as they are
written, whatever the rows before held.
"""

from __future__ import annotations  # pandas and pyarrow take a while to import: when data are read

import csv
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lnrnn.data.opening import (
    check_text,
    known_encoding,
    marked_encoding,
    open_bytes,
    unpacked_name,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMATS = {".csv": ",", ".tsv": "\t", ".json": None, ".jsonl": None, ".parquet": None}
"""Suffixes and what separates the columns."""
CHUNK = 20_000
"""Rows that are read at once; fewer where they are long."""
CHUNK_BYTES = 32 << 20
_SEPARATORS = (",", ";", "\t", "|")


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
        yield from _read_csv(path, wanted, reading, FORMATS[suffix] or ",")


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


def _read_csv(path: Path, wanted: dict[str, str], reading: Reading, usual: str) -> Iterator[Chunk]:
    import pandas as pd
    import pyarrow as pa

    encoding = _encoding_of(path, reading)
    try:
        form, names = _form_of(path, wanted, reading.separator or usual, encoding, reading)
        with open_bytes(path) as file:
            # All columns: of a row with too many cells nobody knows which one is the surplus.
            rows = pd.read_csv(
                file,
                sep=form.separator,
                encoding=encoding,
                header=0,
                names=range(len(names)),  # pandas gives a name that is there twice another
                index_col=False,
                dtype=str,
                keep_default_na=False,  # "null" and "NA" are words
                na_values=[""],
                skipinitialspace=form.spaced,
                chunksize=_rows_at_once(path, reading),
            )
            first = 0
            for frame in _frames(path, rows, encoding, form):
                table = {
                    name: pa.Array.from_pandas(frame[names.index(name)], type=pa.large_string())
                    for name in wanted
                }
                yield Chunk(first, table)
                first += len(frame)
    except UnicodeDecodeError as error:
        raise ValueError(_undecodable(path, encoding, error, reading)) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"could not find rows in {path}, read as csv: {error}") from error


@dataclass(frozen=True)
class _Form:
    """How the cells of a csv are told apart.

    Attributes:
        separator: What separates them.
        spaced: Whether spaces may stand behind it, which are not part of the next cell.
    """

    separator: str
    spaced: bool


def _frames(
    path: Path, rows: Iterator[pd.DataFrame], encoding: str, form: _Form
) -> Iterator[pd.DataFrame]:
    """Yield blocks of rows; pandas only warns of one whose rows are longer than the header."""
    import pandas as pd

    while True:
        try:
            with warnings.catch_warnings():  # not around the yield: what comes there is not ours
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = next(rows, None)
        except pd.errors.ParserWarning as error:
            raise ValueError(_too_long(path, encoding, form)) from error
        if frame is None:
            return
        yield frame


def _too_long(path: Path, encoding: str, form: _Form) -> str:
    """Say which row has more cells than the header."""
    place = ""
    with open_bytes(path) as file, TextIOWrapper(file, encoding=encoding, newline="") as text:
        lines = csv.reader(text, delimiter=form.separator, skipinitialspace=form.spaced)
        rows = filter(None, lines)
        with suppress(csv.Error):  # a cell of more than 128 KiB: the message has no row then
            header = len(next(rows))
            # pandas allows one separator at the end of a row.
            row = next(
                number
                for number, cells in enumerate(rows)
                if len(cells) > header + 1 or any(cells[header:])
            )
            place = f", data row {row} (counted from 0)"
    return (
        f"{path}{place} has more cells than the header: write one for each column, and a cell with "
        f"{form.separator!r} in it between quotes"
    )


def _form_of(
    path: Path, wanted: dict[str, str], usual: str, encoding: str, reading: Reading
) -> tuple[_Form, list[str]]:
    """Return how a csv is written, such that the columns that are wanted are there, and all names.

    In "a, b" the second name is b, unless somebody wants it with the space.
    """
    separators = (usual, *(() if reading.separator else _SEPARATORS))
    forms = [_Form(separator, spaced) for separator in separators for spaced in (False, True)]
    found = {form: _header(path, form, encoding) for form in forms}
    fitting = [form for form, names in found.items() if all(name in names for name in wanted)]
    form = fitting[0] if fitting else _Form(usual, spaced=True)
    names = found[form]
    hint = f" ({reading.prefix}separator is what separates them)"
    _check_there(path, wanted, names, reading, hint)
    return form, names


def _header(path: Path, form: _Form, encoding: str) -> list[str]:
    """Return the names of the columns."""
    import pandas as pd

    with open_bytes(path) as file:
        first = pd.read_csv(
            file,
            sep=form.separator,
            encoding=encoding,
            header=None,
            nrows=1,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=form.spaced,
        )
    names = [name.rstrip() if form.spaced else name for name in first.iloc[0]]
    return [name or f"Unnamed: {place}" for place, name in enumerate(names)]  # as pandas says


def _read_parquet(path: Path, wanted: dict[str, str], reading: Reading) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_bytes(path) as stream, pq.ParquetFile(stream) as file:
            _check_there(path, wanted, file.schema_arrow.names, reading)
            first = 0
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            at_once = _fitting(file.metadata.num_rows, size, reading)
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
    encoding = _encoding_of(path, reading)
    seen: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    first, at_once = 0, _rows_at_once(path, reading)
    try:
        with open_bytes(path) as file:
            for number, row in enumerate(_json_rows(path, file, encoding)):
                if number < CHUNK:
                    seen.update(dict.fromkeys(row))
                rows.append({name: row.get(name) for name in wanted})
                if len(rows) == at_once:
                    _check_there(path, wanted, list(seen), reading)
                    yield _json_chunk(path, first, rows, wanted)
                    first, rows = number + 1, []
    except UnicodeDecodeError as error:
        raise ValueError(_undecodable(path, encoding, error, reading)) from error
    if rows:
        _check_there(path, wanted, list(seen), reading)
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


def _check_there(
    path: Path, wanted: dict[str, str], names: Sequence[str], reading: Reading, hint: str = ""
) -> None:
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


def _rows_at_once(path: Path, reading: Reading) -> int:
    """Return how many rows fit into memory well, by the length of the first lines."""
    with open_bytes(path) as file:
        begin = file.read(1 << 20)
    return _fitting(begin.count(b"\n"), len(begin), reading)


def _fitting(rows: int, size: int, reading: Reading) -> int:
    return max(1, min(reading.rows or CHUNK, CHUNK_BYTES * max(rows, 1) // max(size, 1)))


def _encoding_of(path: Path, reading: Reading) -> str:
    return str(reading.encoding) if reading.encoding else marked_encoding(path) or "utf-8"


def _undecodable(path: Path, encoding: str, error: UnicodeDecodeError, reading: Reading) -> str:
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
