"""The used columns of csv and tsv files: which form they have, and rows that do not fit it."""

from __future__ import annotations  # pandas and pyarrow take a while to import: when data are read

import csv
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from lnrnn.data.opening import open_bytes
from lnrnn.data.reading import (
    Chunk,
    Reading,
    check_there,
    encoding_of,
    rows_at_once,
    undecodable,
)

if TYPE_CHECKING:
    import pandas as pd

_SEPARATORS = (",", ";", "\t", "|")


def read_csv(path: Path, wanted: dict[str, str], reading: Reading, usual: str) -> Iterator[Chunk]:
    """Yield the rows of a file, as `lnrnn.data.readers.read_chunks` does.

    Args:
        path: The file.
        wanted: Names of columns, and for each the setting that named it.
        reading: Separator and encoding.
        usual: What separates columns where nothing else is said or seen.
    """
    import pandas as pd
    import pyarrow as pa

    encoding = encoding_of(path, reading)
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
                chunksize=rows_at_once(path, reading),
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
        raise ValueError(undecodable(path, encoding, error, reading)) from error
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
    for form in forms:
        names = _header(path, form, encoding)
        if all(name in names for name in wanted):
            break
    else:
        form = _Form(usual, spaced=True)
        names = _header(path, form, encoding)
    hint = f" ({reading.prefix}separator is what separates them)"
    check_there(path, wanted, names, reading, hint)
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
