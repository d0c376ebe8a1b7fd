"""The user's own tables: a sequence a row, or a step a row."""

from __future__ import annotations  # pyarrow is imported when data are read

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from lnrnn.data.checks import check_whole
from lnrnn.data.columns import Rows
from lnrnn.data.datamodule import AnySplits, DataModule, split_data
from lnrnn.data.files import find_splits
from lnrnn.data.readers import read_chunks
from lnrnn.data.reading import Reading
from lnrnn.data.rows import read_rows, sequences_of_rows
from lnrnn.data.sequences import Claims, Kind, Sequences
from lnrnn.data.splits import Shares, SplitSeed
from lnrnn.data.steps import StepColumns, read_series, splits_of_series
from lnrnn.data.streams import NUM_SYMBOLS
from lnrnn.data.windows import Cut, Windows

if TYPE_CHECKING:
    import pyarrow as pa

TASKS: dict[str, Kind] = {
    "classification": "classification",
    "tagging": "tagging",
    "regression": "regression",
    "forecasting": "regression",
}


def table_files(
    *,
    files: str | Sequence[str],
    num_classes: int | None,
    task: str = "classification",
    validation_files: str | Sequence[str] | None = None,
    test_files: str | Sequence[str] | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    split_by: str | None = None,
    split_seed: int = 0,
    input_column: str = "text",
    input_columns: Sequence[str] | None = None,
    target_column: str = "label",
    group_by: str | None = None,
    order_by: str | None = None,
    per_step: bool = False,
    window: int | None = None,
    horizon: int | None = None,
    stride: int = 1,
    missing: str = "error",
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    length: int | None = None,
    max_length: int | None = None,
    standardize: bool = True,
    separator: str | None = None,
    encoding: str | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Learn from csv, tsv, json, jsonl or parquet files, also packed ones (gz, bz2, xz, zip).

    A row is a sequence and its target, or, with ``input_columns``, one step of a sequence.

    Args:
        files: A path or glob, or a list of them, to learn from.
        num_classes: Different labels; None where numbers are predicted.
        task: ``classification`` (a class a sequence), ``tagging`` (a class a step), ``regression``
            (a number) or ``forecasting`` (the numbers that follow).
        validation_files: Files to follow training; None takes a share.
        test_files: Files for the final test; None takes a share.
        validation: That share for validation, of what is not for the test.
        test: That share for the test.
        split_by: A step a row: ``group`` holds out whole series, ``time`` the end of each; None:
            ``group`` where there is ``group_by`` or more than one file, else ``time``. A sequence a
            row: rows are held out, each class in proportion.
        split_seed: Chooses them. Not the run's seed: runs that are compared share one split.
        input_column: The sequence of a row: text (read as bytes); or numbers, as a list, as a list
            of frames, or (csv) written in one cell with spaces, commas or semicolons between them.
        input_columns: The features of a step, where a row is a step.
        target_column: The label: a whole number from 0, or a name (classes are numbered in the
            order of the sorted names); or the number to predict. Where every step has one, and a
            row is a sequence, as many in one cell.
        group_by: A step a row: the column that tells the series apart; None: every file is one.
        order_by: A step a row: the column, a number or a date, that puts the steps of a series in
            order; None: the order of the rows.
        per_step: Whether ``regression`` predicts a number at every step.
        window: A step a row: steps of the windows that series are cut into; None keeps them whole.
        horizon: Steps that ``forecasting`` predicts.
        stride: Steps from one window to the next.
        missing: ``error`` names what is missing; ``mask`` puts the mean (0 without
            ``standardize``), with a second feature that is 1 where it
            was missing, and predicts nothing where a step's target is missing.
        num_features: Numbers per step, with ``missing=mask`` twice as many; None for text.
        num_tokens: 257 for text (bytes and the padding symbol); None for numbers.
        length: Steps of every sequence; None if they vary.
        max_length: A sequence a row: steps (bytes) kept of each; None keeps all.
        standardize: Whether to center and scale numbers by training statistics. Those to predict
            are too, and metrics are in the units of the files.
        separator: What separates columns of csv; None: what the header has.
        encoding: Of csv and json; None: UTF-8, or what a byte order mark tells.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        ValueError: When read: if a file is empty or in two splits, a column is not there, a
            sequence is empty, or a value does not fit; the message names file, row and column. When
            constructed: if settings contradict one another.
        TypeError: When constructed, if a size is not a whole number or a share is not a
            number. When read, if ``files`` is not a path, a glob or a list of them.
        FileNotFoundError: When read, if a path or glob names no file.
    """
    layout = Layout(
        task=task,
        split_by=split_by,
        input_column=input_column,
        input_columns=None if input_columns is None else tuple(_names(input_columns)),
        target_column=target_column,
        group_by=group_by,
        order_by=order_by,
        per_step=per_step,
        window=window,
        horizon=horizon,
        stride=stride,
        missing=missing,
        max_length=max_length,
        num_features=num_features,
    )
    claims = Claims(
        TASKS[task],
        num_features,
        num_tokens,
        num_classes,
        length,
        horizon=horizon,
        every_step=per_step,
    )
    if window is not None and length not in (None, window):
        raise ValueError(f"data.length={length} contradicts data.window={window}")
    read = partial(
        _read_tables,
        (files, validation_files, test_files),
        layout,
        replace(claims, num_features=layout.columns_of_numbers),
        Shares(validation, test, split_seed),
        Reading(separator, encoding),
    )
    return split_data(
        read,
        claims,
        standardize=standardize,
        masked=layout.gaps,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        files=True,
        split=_split_seed(layout, test_files, split_seed),
    )


def _split_seed(
    layout: Layout, test_files: str | Sequence[str] | None, seed: int
) -> SplitSeed | str:
    """Return the seed that chooses the test, or why there is none."""
    if test_files is not None:
        return "data.test_files are the test"
    by_group = layout.split_by == "group" or (layout.split_by is None and layout.group_by)
    if layout.input_columns is not None and not by_group:
        return "the end of each series is the test, unless data.split_by=group holds out whole ones"
    return SplitSeed("split_seed", seed)


@dataclass(frozen=True)
class Layout:
    """How sequences stand in a table, as ``table_files`` takes it; contradictions are refused."""

    task: str
    split_by: str | None
    input_column: str
    input_columns: tuple[str, ...] | None
    target_column: str
    group_by: str | None
    order_by: str | None
    per_step: bool
    window: int | None
    horizon: int | None
    stride: int
    missing: str
    max_length: int | None
    num_features: int | None

    def __post_init__(self) -> None:
        self._check_choices()
        for name in ("window", "horizon", "stride", "max_length"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, smallest=1)
        if self.task == "forecasting" and None in (self.window, self.horizon, self.input_columns):
            raise ValueError(
                "forecasting needs data.input_columns, data.window (steps that are seen) and "
                f"data.horizon (steps that are predicted), got {self.input_columns}, "
                f"{self.window} and {self.horizon}"
            )
        if self.horizon is not None and self.task != "forecasting":
            raise ValueError(
                f"data.horizon={self.horizon} is for forecasting: data=table_forecasting"
            )
        if self.per_step and self.task != "regression":
            raise ValueError(
                f"data.per_step=true is for regression, and data.task={self.task}: a class at "
                "every step is data=table_tagging"
            )
        if self.input_columns is None:
            self._check_row()
        else:
            self._check_step()

    @property
    def gaps(self) -> bool:
        """Whether values may be missing."""
        return self.missing == "mask"

    @property
    def columns_of_numbers(self) -> int | None:
        """Numbers per step as the files have them."""
        if self.num_features is None or not self.gaps:
            return self.num_features
        return self.num_features // 2

    @property
    def cut(self) -> Cut | None:
        """How series are cut into windows."""
        return None if self.window is None else Cut(self.window, self.horizon or 0, self.stride)

    def _check_choices(self) -> None:
        for name, choices in (
            ("task", TASKS),
            ("split_by", (None, "group", "time")),
            ("missing", ("error", "mask")),
            ("per_step", (True, False)),
        ):
            value = getattr(self, name)
            if not any(value is choice or value == choice for choice in choices):
                shown = ", ".join("null" if c is None else str(c).lower() for c in choices)
                raise ValueError(f"data.{name} must be one of {shown}, got {value!r}")
        if self.gaps and (self.num_features is None or self.num_features % 2):
            raise ValueError(
                "data.missing=mask gives every column of numbers a second feature: "
                f"data.num_features must be twice their number, got {self.num_features}"
            )

    def _check_row(self) -> None:
        for name in ("group_by", "order_by", "split_by", "window"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"data.{name}={getattr(self, name)} is for tables in which a row is a step: "
                    "name the columns of its features, data.input_columns=[x1,x2]"
                )
        if self.stride != 1:
            raise ValueError(f"data.stride={self.stride} needs data.window")

    def _check_step(self) -> None:
        columns = self.input_columns or ()
        expected = 1 if self.columns_of_numbers is None else self.columns_of_numbers
        if len(columns) != expected:
            raise ValueError(
                f"data.input_columns has {len(columns)} columns, but data.num_features="
                f"{self.num_features}"
                + (" with data.missing=mask, which doubles them" if self.gaps else "")
                + f": set data.num_features={len(columns) * (1 + self.gaps)} data.num_tokens=null"
            )
        if self.max_length is not None:
            raise ValueError(
                "data.max_length is for tables in which a row is a sequence; data.window cuts these"
            )
        if self.window is None and self.stride != 1:
            raise ValueError(f"data.stride={self.stride} needs data.window")


def _names(columns: Sequence[str]) -> Sequence[str]:
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise TypeError(f"data.input_columns must be a list of names, got {columns!r}")
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"data.input_columns must be different names, got {list(columns)}")
    return columns


def _read_tables(
    given: tuple[str | Sequence[str], str | Sequence[str] | None, str | Sequence[str] | None],
    layout: Layout,
    claims: Claims,
    shares: Shares,
    reading: Reading,
    like: Sequences | Windows | None = None,
) -> AnySplits:
    """Read the splits; ``like`` is what a model has learned from, where they only test it."""
    found = find_splits(*given)
    learned = None
    if like is not None and claims.num_classes is not None:
        learned = like.labels or tuple(map(str, range(claims.num_classes)))
    if layout.input_columns is not None:
        columns = StepColumns(
            layout.input_columns, layout.target_column, layout.group_by, layout.order_by
        )
        series = {
            split: read_series(split, paths, columns, reading, claims, gaps=layout.gaps)
            for split, paths in found.items()
        }
        one = layout.group_by is None and len(found["train"]) == 1
        by_time = layout.split_by == "time" or (layout.split_by is None and one)
        made = splits_of_series(
            series,
            claims,
            shares,
            layout.cut,
            by_time=by_time,
            gaps=layout.gaps,
            learned=learned,
            apart=like is None,  # a known series may be tested again, on later steps
        )
        _check_learnable(made["train"].values, layout)
        return made
    rows = {}
    for split, paths in found.items():
        chunks = _row_chunks(split, paths, layout, reading)
        rows[split] = read_rows(split, chunks, claims, layout.max_length, gaps=layout.gaps)
    sequences = sequences_of_rows(rows, claims, shares, gaps=layout.gaps, learned=learned)
    _check_learnable(sequences["train"].values, layout)
    return sequences


def _check_learnable(values: Tensor, layout: Layout) -> None:
    """Check that no feature, of (N, F), misses at every step that is learned from."""
    if not layout.gaps:
        return
    empty = values.isnan().all(0).nonzero().flatten().tolist()
    if empty:
        column = f"number {empty[0]} (counted from 0) of the steps in '{layout.input_column}'"
        if layout.input_columns is not None:
            column = f"column '{layout.input_columns[empty[0]]}'"
        raise ValueError(
            f"{column} is missing in every row to learn from, so it can be neither scaled nor "
            "learned: leave it out, or give rows that have it"
        )


def _row_chunks(
    split: str, paths: Sequence[Path], layout: Layout, reading: Reading
) -> Iterator[tuple[Rows, pa.Array, pa.Array]]:
    inputs, targets = layout.input_column, layout.target_column
    wanted = {inputs: "input_column", targets: "target_column"}
    starts: list[int] = []
    total = 0
    for path in paths:
        starts.append(total)
        for chunk in read_chunks(path, wanted, reading):
            places = np.arange(total, total + len(chunk))
            rows = Rows(split, places, paths, np.array(starts), inputs, targets)
            yield rows, chunk.columns[inputs], chunk.columns[targets]
            total += len(chunk)
    if not total:
        raise ValueError(f"could not find rows in {', '.join(map(str, paths))}: none has any")
