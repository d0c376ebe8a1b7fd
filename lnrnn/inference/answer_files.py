"""Answers to the sequences of files, written as they come: csv, jsonl or parquet.

A line a sequence: its file and row, then the most probable class and the probability of each; for
numbers, the value; with a class a step, the labels and each step's highest probability, as lists.
"""

from __future__ import annotations  # pyarrow takes a second to import

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from torch import Tensor

from lnrnn.data.cells import frames_of_cells
from lnrnn.data.columns import Rows
from lnrnn.inference.inputs import to_steps
from lnrnn.inference.rows import Row, read_rows
from lnrnn.inference.trained_model import Predictions, TrainedModel
from lnrnn.preparation import Preparation
from lnrnn.runs.files import replacing

FORMATS = (".csv", ".jsonl", ".parquet")


class Writer(Protocol):
    """What takes lines, and is closed once."""

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        """Write some lines, which all have the same keys."""

    def close(self) -> None:
        """Write what is still to be written."""


def answer_files(
    model: TrainedModel, paths: Iterable[Path], column: str | None, batch_size: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the answers to every row of files, a batch at a time, in their order.

    Args:
        model: Answers.
        paths: The files, see :func:`lnrnn.inference.rows.read_rows`.
        column: The column that holds the sequences; None for that of the training data.
        batch_size: Sequences that are computed at a time.

    Raises:
        ValueError: If a file or a row is not what the model reads (the message names both), or
            no file has a row.
    """
    columns = model.preparation.columns
    if model.preparation.row_a_step:
        raise ValueError(
            f"this model was trained on tables with a row for every step, of {', '.join(columns)}, "
            "which files cannot give it yet: lnrnn.load(...).predict takes each sequence as an "
            f"array of steps and {len(columns)} numbers"
        )
    column = column if column is not None or not columns else columns[0]
    paths, waiting, found = list(paths), list[Row](), False
    for row in (row for path in paths for row in read_rows(path, column)):
        found = True
        waiting.append(row)
        if len(waiting) == batch_size:
            yield _lines(model, waiting, column)
            waiting = []
    if waiting:
        yield _lines(model, waiting, column)
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: there is no row to be answered")


def _lines(model: TrainedModel, rows: Sequence[Row], column: str | None) -> list[dict[str, Any]]:
    answers = model.answer([steps_in(row, column, model.preparation) for row in rows])
    return [
        {"file": str(row.file), "row": row.number, **_answer(answers, n)}
        for n, row in enumerate(rows)
    ]


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
    named = zip(answers.classes, chances.tolist(), strict=True)
    return {"label": label, **{f"probability of {name}": chance for name, chance in named}}


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
