"""Tables in which a row is one step of a sequence, in any order.

Dimensions: N steps of all series together, s series, F features.
"""

from __future__ import annotations  # pandas and pyarrow are imported when data are read

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lnrnn.data.apart import check_apart, check_times
from lnrnn.data.cells import numbers_of, without_words_for_missing
from lnrnn.data.columns import Rows, in_float32
from lnrnn.data.labels import classes_of, joined, warn_of_unlearned
from lnrnn.data.readers import read_chunks
from lnrnn.data.reading import Reading
from lnrnn.data.rows import labels_in, warn_of_long
from lnrnn.data.sequences import Claims, Sequences, checked, checked_targets
from lnrnn.data.splits import Shares, shared_out
from lnrnn.data.times import times_in
from lnrnn.data.windows import Cut, Windows

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class StepColumns:
    """Which columns of a table are used.

    Attributes:
        inputs: The features of a step, or the one symbol.
        targets: What is to be predicted; None where nobody knows it yet.
        group: Tells the series apart; None: every file is one.
        order: Puts the steps of a series in order; None: the order of the rows.
    """

    inputs: tuple[str, ...]
    targets: str | None
    group: str | None
    order: str | None

    def wanted(self) -> dict[str, str]:
        """Return their names, and for each the setting that named it."""
        named = dict.fromkeys(self.inputs, "input_columns")
        others = {"target_column": self.targets, "group_by": self.group, "order_by": self.order}
        for key, name in others.items():
            if name is not None:
                named.setdefault(name, key)
        return named


@dataclass
class Series:
    """The series of one source, each in order, laid end to end.

    Attributes:
        rows: Names of the rows in the order of the steps.
        values: (N, F) float32, or (N,) int64.
        targets: Numbers or labels, (N,); missing where no column of them was named.
        begins: Where each series begins, (s,).
        lengths: Its steps, (s,).
        names: What tells the series apart, (s,); None where every file is one.
        times: What put the steps in order, (N,) float64; None where rows did.
        order: The same as the files have it, (N,), in the order of their rows.
    """

    rows: Rows
    values: np.ndarray
    targets: pa.Array
    begins: np.ndarray
    lengths: np.ndarray
    names: Sequence[object] | None = None
    times: np.ndarray | None = None
    order: pa.Array | None = None


def read_series(
    split: str,
    paths: Sequence[Path],
    columns: StepColumns,
    reading: Reading,
    claims: Claims,
    *,
    gaps: bool,
) -> Series:
    """Read the files of one split.

    Args:
        split: Its name.
        paths: The files; a series may go on from one to the next if ``columns.group`` says so.
        columns: What is used.
        reading: How files are read.
        claims: What the configuration says.
        gaps: Whether a missing number is NaN; else it is an error.

    Raises:
        ValueError: If a cell cannot be read, or two steps of a series are at the same time; the
            message names file and row.
    """
    import pyarrow as pa

    starts: list[int] = []
    values, targets, groups, orders = [], [], [], []
    total = 0
    for number, path in enumerate(paths):
        starts.append(total)
        for chunk in read_chunks(path, columns.wanted(), reading):
            places = np.arange(total, total + len(chunk))
            rows = Rows(split, places, paths, np.array(starts))
            maskable = columns.targets is not None  # a configuration is not settled yet
            values.append(_inputs(rows, columns.inputs, chunk.columns, claims, gaps, maskable))
            if columns.targets is None:
                targets.append(pa.nulls(len(chunk)))
            else:
                targets.append(_targets(rows, columns.targets, chunk.columns, claims, gaps))
            if columns.group is None:
                groups.append(np.full(len(chunk), number))
            else:
                groups.append(_filled(rows, columns.group, chunk.columns[columns.group]))
            if columns.order is not None:
                orders.append(_filled(rows, columns.order, chunk.columns[columns.order]))
            total += len(chunk)
    if not total:
        raise ValueError(f"could not find rows in {', '.join(map(str, paths))}: none has any")
    rows = Rows(
        split, np.arange(total), paths, np.array(starts), columns.inputs[0], columns.targets
    )
    codes, names = _codes(groups)
    places, times, order = np.argsort(codes, kind="stable"), None, None
    if columns.order is not None:
        order = joined(orders)
        times = times_in(rows, columns.order, order)
        places = np.lexsort((times, codes))
        same = (np.diff(codes[places]) == 0) & (np.diff(times[places]) == 0)
        if same.any():
            first = int(np.flatnonzero(same)[0])
            one, other = rows.name(int(places[first])), rows.name(int(places[first + 1]))
            raise ValueError(
                f"one series has one step at a time, but {one} and {other} have the same "
                f"'{columns.order}': is data.group_by missing, or another column?"
            )
    lengths = np.bincount(codes)
    return Series(
        rows=Rows(split, places, paths, np.array(starts), columns.inputs[0], columns.targets),
        values=np.concatenate(values)[places],
        targets=joined(targets).take(pa.array(places)),
        begins=np.cumsum(lengths) - lengths,
        lengths=lengths,
        names=names,
        times=None if times is None else times[places],
        order=order,
    )


def splits_of_series(
    read: Mapping[str, Series],
    claims: Claims,
    shares: Shares,
    cut: Cut | None,
    *,
    by_time: bool,
    gaps: bool,
    learned: Sequence[str] | None = None,
    apart: bool = True,
) -> dict[str, Sequences | Windows]:
    """Return ``train``, ``validation`` and ``test``; no step is in two of them.

    Args:
        read: The splits that the source has, ``train`` at least.
        claims: What the configuration says.
        shares: What is held out where the source has no such split.
        cut: How series are cut into windows; None keeps them whole.
        by_time: Whether the end of every series is held out; else whole series are.
        gaps: Whether NaN stands for what is missing.
        learned: The classes' names that a trained model has; None: they are found.
        apart: Whether a series may be in one split only, unless ends are held out.

    Raises:
        ValueError: If the series contradict the configuration, or a split would be empty.
    """
    column = read["train"].rows.targets or ""
    names = None
    if claims.num_classes is None:
        targets = {s: part.targets.to_numpy(zero_copy_only=False) for s, part in read.items()}
    else:
        labels = {split: part.targets for split, part in read.items()}
        targets, names = classes_of(labels, column, claims.num_classes, learned)
    whole = not claims.per_step and claims.horizon is None  # a target a series
    if whole:
        for split, part in read.items():
            _check_constant(part, targets[split])
    pieces = {split: (part.begins, part.lengths) for split, part in read.items()}
    if by_time:
        if apart:
            check_times(read)
        pieces |= _ends_held_out(read["train"], read.keys(), shares)
    else:
        if apart:
            check_apart(read)
        begins = read["train"].begins
        balance = targets["train"][begins] if whole else np.zeros(len(begins))
        chosen = _series_held_out(balance, read, shares)
        for split, series in chosen.items():
            pieces[split] = (begins[series], read["train"].lengths[series])
    made: dict[str, Sequences | Windows] = {}
    for split in ("train", "validation", "test"):
        source = split if split in read else "train"
        part = _Part(split, read[source], targets[source], *pieces[split])
        made[split] = (
            part.sequences(claims, gaps) if cut is None else part.windows(claims, cut, gaps)
        )
        made[split].labels = names
    if claims.num_classes is not None:
        warn_of_unlearned({split: part.targets.numpy() for split, part in made.items()}, column)
    return made


@dataclass(frozen=True)
class _Part:
    """Pieces of series that make up one split."""

    split: str
    series: Series
    targets: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray

    def sequences(self, claims: Claims, gaps: bool) -> Sequences:
        kept, lengths = self.lengths > 0, self.lengths[self.lengths > 0]
        if not len(lengths):
            raise ValueError(f"split '{self.split}' has no steps: give more rows, or other shares")
        steps = self._steps()
        series = self.series.rows
        places = _places(series)
        rows = Rows(self.split, places[self.begins[kept]], *_rest(series))
        sizes = lengths if claims.per_step else None
        chosen = self.targets[steps if claims.per_step else self.begins[kept]]
        made = checked(rows, self.series.values[steps], lengths, chosen, claims, sizes, gaps=gaps)
        warn_of_long(rows, lengths, "data.window=N cuts series into windows of N steps")
        return made

    def windows(self, claims: Claims, cut: Cut, gaps: bool) -> Windows:
        steps = self._steps()
        starts = cut.starts(np.cumsum(self.lengths) - self.lengths, self.lengths)
        whole = cut.window + cut.horizon
        if not len(starts):
            longest = int(self.lengths.max(initial=0))
            raise ValueError(
                f"split '{self.split}' has no window: its longest series has {longest} steps, and "
                f"a window needs {whole} (data.window={cut.window}"
                + (f" and data.horizon={cut.horizon}" if cut.horizon else "")
                + "). Give longer series, a shorter window, or larger shares (data.validation, "
                "data.test)"
            )
        short = int((self.lengths < whole).sum())
        if short:
            warnings.warn(
                f"{short} of {len(self.lengths)} series of split '{self.split}' have fewer than "
                f"{whole} steps and give no window",
                stacklevel=2,
            )
        rows = Rows(self.split, _places(self.series.rows)[steps], *_rest(self.series.rows))
        return Windows(
            torch.from_numpy(self.series.values[steps]),
            torch.from_numpy(checked_targets(rows, self.targets[steps], claims, None, gaps)),
            torch.from_numpy(starts),
            cut,
            per_step=claims.per_step,
        )

    def _steps(self) -> np.ndarray:
        """Return where the steps of all pieces are, (N,)."""
        offsets = np.cumsum(self.lengths) - self.lengths
        first = np.repeat(self.begins - offsets, self.lengths)
        return first + np.arange(int(self.lengths.sum()))


def _ends_held_out(
    part: Series, given: Collection[str], shares: Shares
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cut the end of every series off, for the test, and what is before that, for validation."""
    left = part.lengths.copy()
    pieces = {}
    for split, share in (("test", shares.test), ("validation", shares.validation)):
        if split not in given:
            held = np.rint(share * left).astype(np.int64)
            left = left - held
            pieces[split] = (part.begins + left, held)
    return {"train": (part.begins, left), **pieces}


def _series_held_out(
    balance: np.ndarray, read: Mapping[str, Series], shares: Shares
) -> dict[str, np.ndarray]:
    missing = [split for split in ("test", "validation") if split not in read]
    if missing and len(balance) < 1 + len(missing):
        raise ValueError(
            f"whole series are held out for {' and '.join(missing)}, but there are only "
            f"{len(balance)}: hold out the end of each (data.split_by=time), or give files of "
            "their own for each split"
        )
    return shared_out(balance, read.keys(), shares)


def _check_constant(part: Series, targets: np.ndarray) -> None:
    """Check that what is to be predicted of a series is the same at all of its steps."""
    first = np.repeat(targets[part.begins], part.lengths)
    different = np.flatnonzero((targets != first) & ~(np.isnan(targets) & np.isnan(first)))
    if len(different):
        raise ValueError(
            f"a series has one target, but '{part.rows.targets}' changes within one: "
            f"{part.rows.name(int(different[0]))}. For a target at every step: data=table_tagging "
            "(classes), or data=table_regression data.per_step=true head.pooling=none (numbers)"
        )


def _inputs(
    rows: Rows,
    names: tuple[str, ...],
    columns: Mapping[str, pa.Array],
    claims: Claims,
    gaps: bool,
    maskable: bool,
) -> np.ndarray:
    if claims.num_features is not None:
        numbers = [
            numbers_of(rows, name, columns[name], gaps=gaps, maskable=maskable) for name in names
        ]
        values = np.stack(numbers, axis=1)
        infinite = np.flatnonzero(np.isinf(values).any(axis=1))
        if len(infinite):
            row = int(infinite[0])
            name = names[int(np.flatnonzero(np.isinf(values[row]))[0])]
            raise ValueError(f"values must be finite: {rows.name(row, name)} is infinite")
        kept = [in_float32(rows, *column) for column in zip(names, numbers, strict=True)]
        return np.stack(kept, axis=1)
    symbols = numbers_of(rows, names[0], columns[names[0]], gaps=False, maskable=False)
    bad = np.flatnonzero((symbols != np.rint(symbols)) | (symbols < 0))
    if len(bad) or symbols.max(initial=0) >= (claims.num_tokens or 0):
        row = int(bad[0]) if len(bad) else int(symbols.argmax())
        last = (claims.num_tokens or 0) - 1
        raise ValueError(
            f"data.num_tokens={claims.num_tokens} allows symbols 0 to {last}, "
            f"but {rows.name(row, names[0])} has {symbols[row]:g}"
        )
    return symbols.astype(np.int64)


def _targets(
    rows: Rows, name: str, columns: Mapping[str, pa.Array], claims: Claims, gaps: bool
) -> pa.Array:
    import pyarrow as pa

    if claims.num_classes is None:
        whole = not claims.per_step and claims.horizon is None
        numbers = numbers_of(rows, name, columns[name], gaps=gaps and not whole, maskable=not whole)
        return pa.array(numbers)
    column = columns[name]
    if gaps and claims.kind == "tagging":
        return labels_in(without_words_for_missing(column))
    return labels_in(_filled(rows, name, column))


def _filled(rows: Rows, name: str, column: pa.Array) -> pa.Array:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"every row needs a value, but {rows.name(row, name)} is empty")
    return column


def _codes(
    groups: list[pa.Array] | list[np.ndarray],
) -> tuple[np.ndarray, Sequence[object] | None]:
    """Number the groups in the order in which they first come, (N,) int64, and return them."""
    if isinstance(groups[0], np.ndarray):
        return np.unique(np.concatenate(groups), return_inverse=True)[1], None
    encoded = joined(groups).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, encoded.dictionary.to_pylist()


def _places(rows: Rows) -> np.ndarray:
    return rows.in_files if rows.in_files is not None else np.empty(0, dtype=np.int64)


def _rest(rows: Rows) -> tuple[Sequence[Path], np.ndarray | None, str | None, str | None]:
    return rows.files, rows.starts, rows.inputs, rows.targets
