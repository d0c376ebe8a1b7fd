"""Tables in which a row is a sequence, with what is to be predicted from it.

Dimensions: n rows, N steps of all rows together, F features.
"""

from __future__ import annotations  # pyarrow is imported when data are read

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lnrnn.data.cells import frames_of_cells, labels_of_cells, numbers_of
from lnrnn.data.columns import Rows, is_list, is_text, sequence_column, truncated
from lnrnn.data.labels import classes_of, joined, warn_of_unlearned
from lnrnn.data.sequences import Claims, Sequences, checked
from lnrnn.data.splits import Shares, shared_out

if TYPE_CHECKING:
    import pyarrow as pa

LONG = 10_000
"""Steps from which on a sequence that is many times longer than most others is worth a word."""

RowChunks = Iterable[tuple[Rows, "pa.Array", "pa.Array"]]
"""Rows that follow one another: their names, sequences and targets."""


@dataclass
class Read:
    """What was read of the rows of one source, in their order.

    Attributes:
        rows: Names of the rows.
        values: Sequences end to end, in pieces: (?, F) float32 or (?,) of a whole type.
        lengths: Steps of each, in pieces.
        targets: Numbers or labels, one a row or one a step, in pieces.
        target_lengths: Where there is one a step, how many each row has, in pieces.
    """

    rows: Rows
    values: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    targets: list[pa.Array] = field(default_factory=list)
    target_lengths: list[np.ndarray] = field(default_factory=list)

    def taken(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sequences at some positions, in their order, end to end, and their lengths."""
        lengths = np.concatenate(self.lengths)
        chosen = np.zeros(len(lengths), dtype=bool)
        chosen[positions] = True
        shape = (int(lengths[chosen].sum()), *self.values[0].shape[1:])
        values = np.empty(shape, dtype=self.values[0].dtype)
        begin = row = 0
        for piece, sizes in zip(self.values, self.lengths, strict=True):
            kept = piece[np.repeat(chosen[row : row + len(sizes)], sizes)]
            values[begin : begin + len(kept)] = kept
            begin, row = begin + len(kept), row + len(sizes)
        return values, lengths[chosen]


def read_rows(
    split: str, chunks: RowChunks, claims: Claims, max_length: int | None, *, gaps: bool
) -> Read:
    """Decode the rows of one source.

    Args:
        split: Name of the source's split.
        chunks: Its rows.
        claims: What the configuration says.
        max_length: Steps kept of each row; None keeps all.
        gaps: Whether a missing number is NaN; else it is an error.

    Raises:
        ValueError: If there are no rows, or a row cannot be read; the message names it.
    """
    import pyarrow as pa

    read = Read(Rows(split))
    for rows, inputs, targets in chunks:
        read.rows = rows
        _check_filled(rows, inputs, rows.inputs)
        if claims.num_features is not None and is_text(inputs.type):
            values, lengths = frames_of_cells(
                rows, inputs.to_pylist(), claims.num_features, gaps=gaps
            )
            values, lengths = truncated(values, lengths, max_length)
        else:
            values, lengths = sequence_column(
                rows, inputs, claims.num_features, max_length, gaps=gaps
            )
        read.values.append(values)
        read.lengths.append(lengths)
        if claims.per_step:
            _add_targets_of_steps(read, rows, targets, claims, max_length, gaps)
        else:
            _check_filled(rows, targets, rows.targets)
            if claims.num_classes is None:
                name = rows.targets or "targets"
                targets = pa.array(numbers_of(rows, name, targets, gaps=False, maskable=False))
            read.targets.append(labels_in(targets))
    if not read.lengths:
        raise ValueError(f"split '{split}' has no rows")
    return read


def sequences_of_rows(
    read: Mapping[str, Read],
    claims: Claims,
    shares: Shares,
    *,
    gaps: bool,
    learned: Sequence[str] | None = None,
) -> dict[str, Sequences]:
    """Return ``train``, ``validation`` and ``test``, what the source lacks taken from ``train``.

    Args:
        read: What was read of the splits that the source has, ``train`` at least.
        claims: What the configuration says.
        shares: What is held out where the source has no such split.
        gaps: Whether NaN stands for what is missing.
        learned: The classes' names that a trained model has; None: they are found.

    Raises:
        ValueError: If the rows contradict the configuration; the message names the first.
    """
    every = {split: joined(part.targets) for split, part in read.items()}
    column = read["train"].rows.targets or "targets"
    names = None
    if claims.num_classes is None:
        targets = {split: part.to_numpy(zero_copy_only=False) for split, part in every.items()}
    else:
        targets, names = classes_of(every, column, claims.num_classes, learned)
    lengths = {s: np.concatenate(part.target_lengths or [[]]) for s, part in read.items()}
    balance = np.zeros(len(lengths["train"])) if claims.per_step else targets["train"]
    positions = {split: np.arange(sum(map(len, part.lengths))) for split, part in read.items()}
    positions |= shared_out(balance, read.keys(), shares)
    splits: dict[str, Sequences] = {}
    for split in ("train", "validation", "test"):
        source = split if split in read else "train"
        part, places = read[source], positions[split]
        values, steps = part.taken(places)
        rows = _named(part.rows, places)
        if claims.per_step:
            sizes = lengths[source].astype(np.int64)
            mask = np.zeros(len(sizes), dtype=bool)
            mask[places] = True
            chosen = targets[source][np.repeat(mask, sizes)]
            splits[split] = checked(rows, values, steps, chosen, claims, sizes[mask], gaps=gaps)
        else:
            chosen = targets[source][places]
            splits[split] = checked(rows, values, steps, chosen, claims, gaps=gaps)
        splits[split].labels = names
        warn_of_long(rows, steps, "data.max_length=N keeps the first N steps of each row")
    if claims.num_classes is not None:
        warn_of_unlearned({split: part.targets.numpy() for split, part in splits.items()}, column)
    return splits


def warn_of_long(rows: Rows, lengths: np.ndarray, way_out: str) -> None:
    """Say so where one sequence is so long that its batch would be padding above all.

    Args:
        rows: Names of the sequences.
        lengths: Steps of each.
        way_out: The setting that makes sequences shorter.
    """
    longest, usual = int(lengths.max()), float(np.median(lengths))
    if longest >= LONG and longest > 20 * usual:
        row = int(lengths.argmax())
        warnings.warn(
            f"{rows.name(row)} has {longest:,} steps and half of all have {usual:g} or fewer: its "
            f"batch is padded to that, and takes time and memory. {way_out}",
            stacklevel=2,
        )


def labels_in(column: pa.Array) -> pa.Array:
    """Return a column of labels as text or numbers; true and false are 1 and 0."""
    import pyarrow as pa

    return column.cast(pa.int64()) if pa.types.is_boolean(column.type) else column


def _add_targets_of_steps(
    read: Read, rows: Rows, targets: pa.Array, claims: Claims, max_length: int | None, gaps: bool
) -> None:
    """Add a class or a number for every step; cells of text are cut at their separators."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _check_filled(rows, targets, rows.targets)
    if claims.num_classes is None:
        if is_text(targets.type):
            column = Rows(rows.split, rows.in_files, rows.files, rows.starts, rows.targets)
            numbers, lengths = frames_of_cells(column, targets.to_pylist(), 1, gaps=gaps)
        else:
            numbers, lengths = sequence_column(rows, targets, 1, None, gaps=gaps)
        flat = pa.array(numbers[:, 0])
    elif is_text(targets.type):
        words, lengths = labels_of_cells(targets.to_pylist(), gaps=gaps)
        flat = pa.array(words, pa.large_string())
    elif is_list(targets.type):
        sizes = pc.call_function("list_value_length", [targets])
        lengths = sizes.to_numpy(zero_copy_only=False).astype(np.int64)
        flat = labels_in(pc.call_function("list_flatten", [targets]))
    else:
        raise ValueError(
            f"every step needs a class, but {rows.name(0, rows.targets)} has one of type "
            f"{targets.type} for the whole row: data=table_files has one a row"
        )
    if flat.null_count and not gaps:
        place = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        raise ValueError(f"a label is missing in {rows.name(row, rows.targets)}")
    if max_length is not None:
        kept, shorter = truncated(np.arange(len(flat)), lengths, max_length)
        flat, lengths = flat.take(pa.array(kept)), shorter
    read.targets.append(flat)
    read.target_lengths.append(lengths)


def _check_filled(rows: Rows, column: pa.Array, name: str | None) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            "every row needs a sequence and what is to be predicted, but "
            f"{rows.name(row, name)} is empty"
        )


def _named(rows: Rows, places: np.ndarray) -> Rows:
    return Rows(rows.split, places, rows.files, rows.starts, rows.inputs, rows.targets)
