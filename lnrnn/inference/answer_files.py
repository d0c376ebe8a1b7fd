"""Answers to the sequences of files, written as they come: csv, jsonl or parquet.

Where a row of a file is a sequence, a line a sequence: its file and row, then the most probable
class and the probability of each; for numbers, the value; with a class a step, the labels and each
step's highest probability, as lists. Where a row is a step, a line an answer: one a step for
answers at every step, one a number of the horizon, else one a series or window.
"""

from __future__ import annotations  # pyarrow takes a second to import

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np
from torch import Tensor

from lnrnn.data.cells import frames_of_cells
from lnrnn.data.columns import Rows
from lnrnn.data.opening import unpacked_name
from lnrnn.data.reading import Reading
from lnrnn.inference.inputs import to_steps
from lnrnn.inference.rows import Row, read_rows
from lnrnn.inference.steps import Piece, StepTables
from lnrnn.inference.trained_model import Predictions, TrainedModel
from lnrnn.preparation import Preparation, Table
from lnrnn.runs.files import replacing

FORMATS = (".csv", ".jsonl", ".parquet")
T = TypeVar("T")


class Writer(Protocol):
    """What takes lines, and is closed once."""

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write some lines, which all have the same keys."""

    def close(self) -> None:
        """Write what is still to be written."""


def answer_files(
    model: TrainedModel,
    paths: Iterable[Path],
    column: str | None,
    batch_size: int,
    *,
    separator: str | None = None,
    encoding: str | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the answers to files, a batch at a time, in their order.

    Args:
        model: Answers.
        paths: The files, see :func:`lnrnn.inference.rows.read_rows`; where the training tables had
            a row for every step, :class:`lnrnn.inference.steps.StepTables`.
        column: The column that holds the sequences; None for that of the training data.
        batch_size: Sequences that are computed at a time.
        separator: What separates the columns of csv; None: as in training.
        encoding: Of text, csv and json; None: as in training.

    Raises:
        ValueError: If a file or a row is not what the model reads (the message names both), or
            no file has a row.
    """
    known, paths = model.preparation, list(paths)
    table = known.table or Table()
    _check_used(paths, separator, encoding)
    reading = Reading(
        table.separator if separator is None else separator,
        table.encoding if encoding is None else encoding,
        prefix="",
    )
    if not known.row_a_step:
        if column is None and known.columns:
            column = known.columns[0]
        return _answer_rows(model, paths, column, reading, batch_size)
    if column is not None:
        raise ValueError(
            f"column={column} is for tables with a row for every sequence, and this model was "
            f"trained on tables with a row for every step, of {', '.join(known.columns)}: leave it "
            "out"
        )
    return _answer_steps(model, StepTables(paths, known, reading), batch_size)


def _check_used(paths: list[Path], separator: str | None, encoding: str | None) -> None:
    """Raise ValueError at what no file is read by."""
    suffixes = {Path(unpacked_name(path)).suffix.lower() for path in paths}
    if separator is not None and not suffixes & {".csv", ".tsv"}:
        raise ValueError(
            f"separator={separator} is for csv and tsv, and none of the files is one: leave it out"
        )
    if encoding is not None and suffixes == {".parquet"}:
        raise ValueError(
            f"encoding={encoding} is for text, and parquet files know theirs: leave it out"
        )


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _answer_rows(
    model: TrainedModel, paths: list[Path], column: str | None, reading: Reading, batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    rows = (row for path in paths for row in read_rows(path, column, reading))
    found = False
    for some in _batched(rows, batch_size):
        found = True
        answers = model.answer([steps_in(row, column, model.preparation) for row in some])
        yield [
            {"file": str(row.file), "row": row.number, **_answer(answers, n)}
            for n, row in enumerate(some)
        ]
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: there is no row to be answered")


def _answer_steps(
    model: TrainedModel, tables: StepTables, batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    known = model.preparation
    for some in _batched(tables.pieces(known.window), batch_size):
        prepared = [to_steps(tables.values(piece), known, tables.name(piece)) for piece in some]
        answers = model.answer(prepared)
        yield [
            line
            for n, piece in enumerate(some)
            for line in _lines_of_piece(tables, piece, answers, n, known)
        ]


def _lines_of_piece(
    tables: StepTables, piece: Piece, answers: Predictions, n: int, known: Preparation
) -> Iterator[dict[str, Any]]:
    """Yield the lines of one piece; each says which is the last step that it is an answer to."""
    last = tables.place(piece.end - 1)
    if known.horizon is not None:
        for ahead, value in enumerate(answers.values[n], 1):
            yield {**last, "ahead": ahead, "value": value}
    elif known.per_step and known.num_classes is None:
        for step in range(piece.new, piece.end):
            yield {**tables.place(step), "value": answers.values[n][step - piece.begin]}
    elif known.kind == "tagging":
        chances = answers.probabilities[n].tolist()
        for step in range(piece.new, piece.end):
            place = step - piece.begin
            named = _named(answers, answers.labels[n][place], chances[place])
            yield {**tables.place(step), **named}
    else:
        yield {**last, **_answer(answers, n)}


def steps_in(row: Row, column: str | None, known: Preparation) -> Tensor:
    """Return a row as a model reads it; numbers in a cell are read as training reads them.

    Args:
        row: Of a file.
        column: The column that holds it, for messages.
        known: How the training data were treated.

    Raises:
        ValueError: If the row is not what the model reads; the message names it.
    """
    value = row.value
    if isinstance(value, str) and known.given_features is not None:
        named = Rows("", np.array([row.number]), [row.file], np.array([0]), column)
        value = frames_of_cells(named, [value], known.given_features, gaps=known.masked)[0]
    return to_steps(value, known, row.name)


def _answer(answers: Predictions, n: int) -> dict[str, Any]:
    if answers.values:
        return {"value": answers.values[n]}
    label, chances = answers.labels[n], answers.probabilities[n]
    if isinstance(label, list):
        return {"labels": label, "probabilities": chances.max(-1).values.tolist()}
    return _named(answers, label, chances.tolist())


def _named(answers: Predictions, label: str, chances: Sequence[float]) -> dict[str, Any]:
    every = zip(answers.classes, chances, strict=True)
    return {"label": label, **{f"probability of {name}": chance for name, chance in every}}


@contextmanager
def writing(path: Path) -> Iterator[Writer]:
    """Open a file for answers, which is there once all of them are.

    Args:
        path: Its name says its format, one of ``FORMATS``.

    Raises:
        ValueError: If the format is another.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"out={path}: answers are written as {', '.join(FORMATS)}")
    with replacing(path) as file:
        writer = _WRITERS[suffix](file)
        yield writer
        writer.close()


class Csv:
    """Answers as comma-separated values, with a header; lists are written as JSON.

    Args:
        file: Where to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer: csv.DictWriter[str] | None = None

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write some lines."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._text, list(lines[0]), lineterminator="\n")
            self._writer.writeheader()
        for line in lines:
            self._writer.writerow(
                {k: json.dumps(v) if isinstance(v, list) else v for k, v in line.items()}
            )

    def close(self) -> None:
        """Leave the file open to whoever opened it."""
        self._text.flush()
        self._text.detach()


class JsonLines:
    """Answers as one JSON object a line.

    Args:
        file: Where to.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write some lines."""
        for line in lines:
            self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())

    def close(self) -> None:
        """Do nothing: a line is whole once it is written."""


class Parquet:
    """Answers as a parquet file, a row group for each batch of some thousand.

    Args:
        file: Where to.
    """

    ROWS = 4096

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._writer = file, None
        self._waiting: list[dict[str, Any]] = []

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write some lines, once there are enough for a group."""
        self._waiting += lines
        if len(self._waiting) >= self.ROWS:
            self._flush()

    def close(self) -> None:
        """Write the rest, and the end of the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        if not self._waiting:
            return
        table = pyarrow.Table.from_pylist(self._waiting)
        if self._writer is None:
            self._writer = ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)
        self._waiting = []


_WRITERS: dict[str, Any] = {".csv": Csv, ".jsonl": JsonLines, ".parquet": Parquet}
