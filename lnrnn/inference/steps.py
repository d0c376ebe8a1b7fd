"""New sequences from tables in which a row is a step: what is answered at once, and where it stood.

Like training, this reads its tables whole, since the steps of a series may stand anywhere in them.

Dimensions: N steps of all series together, W steps of a window.
"""

from __future__ import annotations  # pyarrow takes a second to import

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lnrnn.data.reading import Reading
from lnrnn.data.sequences import Claims, Kind
from lnrnn.data.steps import Series, StepColumns, read_series
from lnrnn.preparation import Preparation, Table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Piece:
    """A series, or a window of one, which a model answers at once.

    Attributes:
        begin: Its first step, counted over all series end to end.
        end: The step behind its last one.
        new: The first of its steps that no earlier window has.
    """

    begin: int
    end: int
    new: int


class StepTables:
    """The series of new files, which are read like those of a model's training.

    Args:
        paths: Tables; a series may go on from one to the next if a column tells the series apart.
        known: How the training data were treated.
        reading: How files are read.

    Raises:
        ValueError: If it is not known what tells the training series apart; or a table cannot be
            read, a column is not there, or a cell does not fit: the message names file and row.
    """

    def __init__(self, paths: Sequence[Path], known: Preparation, reading: Reading) -> None:
        if known.table is None:
            raise ValueError(
                "which column tells the series apart (data.group_by) is not among what was handed "
                "out with this model: hand it out again from its run (lnrnn export "
                "format=safetensors), or give arrays to lnrnn.load(...).predict"
            )
        self.table: Table = known.table
        self.columns = StepColumns(known.columns, None, self.table.group_by, self.table.order_by)
        claims = Claims(
            cast(Kind, known.kind),
            known.given_features,
            known.num_tokens,
            known.num_classes,
            known.length,
            horizon=known.horizon,
            every_step=known.per_step,
        )
        self.series: Series = read_series(
            "new", paths, self.columns, reading, claims, gaps=known.masked
        )
        self._groups = np.repeat(np.arange(len(self.series.lengths)), self.series.lengths)
        self._order = None if self.series.order is None else _plain(self.series.order)

    def pieces(self, window: int | None) -> Iterator[Piece]:
        """Yield what is answered at once, series by series, each in the order of its steps.

        Windows begin every ``data.stride`` steps, as in training, and one more ends with the
        series, so that every step is in one. Series that are too short for one are counted in a
        warning.

        Args:
            window: W; None takes series whole.

        Raises:
            ValueError: If all series are too short.
        """
        lengths = self.series.lengths
        if window is not None and (short := int((lengths < window).sum())):
            said = (
                f"{short} of {len(lengths)} series have fewer than {window} steps (data.window), "
                "and get no answer"
            )
            if short == len(lengths):
                raise ValueError(f"{self.series.rows.name(0)}: {said}")
            warnings.warn(said, stacklevel=2)
        for begin, length in zip(self.series.begins.tolist(), lengths.tolist(), strict=True):
            if window is None:
                yield Piece(begin, begin + length, begin)
            elif length >= window:
                last, new = begin + length - window, begin
                for start in (*range(begin, last, self.table.stride), last):
                    yield Piece(start, start + window, new)
                    new = start + window

    def values(self, piece: Piece) -> np.ndarray:
        """Return the numbers of a piece, (T, F), or its symbols, (T,)."""
        return self.series.values[piece.begin : piece.end]

    def name(self, piece: Piece) -> str:
        """Return what messages call a piece."""
        where = self.series.rows.name(piece.begin)
        if self.series.names is None:
            return f"the steps from {where} on"
        return f"{self.columns.group}={self._name_of(piece.begin)}, from {where} on"

    def place(self, step: int) -> dict[str, Any]:
        """Return where a step stood: file and row, its series and what put it in order."""
        file, row = self.series.rows.place(step)
        found: dict[str, Any] = {"file": str(file), "row": row}
        if self.columns.group is not None:
            found[_free(self.columns.group)] = self._name_of(step)
        if self.columns.order is not None and self._order is not None:
            in_files = self.series.rows.in_files
            place = step if in_files is None else int(in_files[step])
            found[_free(self.columns.order)] = self._order[place].as_py()
        return found

    def _name_of(self, step: int) -> Any:
        return (self.series.names or ())[int(self._groups[step])]


def _free(column: str) -> str:
    """Return a column's name, or where answers have one of that name, another."""
    ours = column in ("file", "row", "label", "value", "ahead")
    return f"data.{column}" if ours or column.startswith("probability of ") else column


def _plain(column: pa.Array) -> pa.Array:
    """Return dates as text, which any format of answers can hold."""
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_temporal(column.type) else column
