"""Arrow columns as flat NumPy arrays.

Dimensions: n rows, N steps of all rows together, F features.
"""

from __future__ import annotations  # pyarrow is imported with `datasets`, when data are read

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """How messages name the rows of a split.

    Attributes:
        split: Name of the split.
        in_files: Which row of its files, end to end, each row was, (n,) int64; None: as they are.
        files: The files that it was read from; none where there are no such files.
        starts: The first row of each of them, counted over all, (files,) int64.
        inputs: Name of the column of sequences, where there is one.
        targets: Name of the column of what is to be predicted.
    """

    split: str
    in_files: np.ndarray | None = None
    files: Sequence[Path] = ()
    starts: np.ndarray | None = None
    inputs: str | None = None
    targets: str | None = None

    def name(self, row: int, column: str | None = None) -> str:
        """Return where a row is to be found: in which file, and in which column if it is given."""
        place = row if self.in_files is None else int(self.in_files[row])
        if self.starts is None:
            return f"split '{self.split}', row {place}" + (f", column '{column}'" if column else "")
        file, number = self.place(row)
        where = f"{file}, data row {number} (counted from 0)"
        return where + (f", column '{column}'" if column else "")

    def place(self, row: int) -> tuple[Path, int]:
        """Return the file of a row that was read from one, and its number there, from 0."""
        place = row if self.in_files is None else int(self.in_files[row])
        starts = np.empty(0, dtype=np.int64) if self.starts is None else self.starts
        file = int(np.searchsorted(starts, place, side="right")) - 1
        return self.files[file], place - int(starts[file])


def sequence_column(
    rows: Rows,
    column: pa.ChunkedArray | pa.Array,
    num_features: int | None,
    max_length: int | None,
    *,
    gaps: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Lay a column of sequences end to end.

    Args:
        rows: Names of the rows, for messages.
        column: Text (becomes UTF-8 bytes), lists of symbols, lists of numbers (one feature) or
            lists of frames.
        num_features: Values per step; None for symbols and text.
        max_length: Steps kept of each row; None keeps all.
        gaps: Whether a missing number of a frame is NaN; else it is an error.

    Returns:
        Values, (N, F) float32, (N,) int64 or (N,) uint8 (text), and lengths, (n,) int64.

    Raises:
        ValueError: If the column holds something else, or another number of features.
    """
    import pyarrow as pa

    text, lists = is_text(column.type), is_list(column.type)
    if num_features is None and text:
        return truncated(*_text_bytes(column), max_length)
    if num_features is not None and lists:
        return truncated(*_frames(rows, column, num_features, gaps), max_length)
    if lists:
        symbols, lengths = _flattened(column)
        if pa.types.is_integer(symbols.type):
            values = numeric_column(rows, rows.inputs, symbols, sizes=lengths).astype(np.int64)
            return truncated(values, lengths, max_length)
    raise ValueError(_mismatch(rows, column.type, num_features))


def numeric_column(
    rows: Rows,
    name: str | None,
    column: pa.ChunkedArray | pa.Array,
    *,
    sizes: np.ndarray | None = None,
    gaps: bool = False,
    maskable: bool = False,
) -> np.ndarray:
    """Return a column of numbers as an array.

    Args:
        rows: Names of the rows, for messages.
        name: The column's, for messages.
        column: The numbers.
        sizes: How many of them belong to each row; None where each is a row.
        gaps: Whether a missing number is NaN; else it is an error.
        maskable: Whether the configuration could let it be missing, which the error says then.
    """
    import pyarrow as pa

    if gaps and pa.types.is_null(column.type):  # of rows in which all are missing
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"expected numbers in {rows.name(0, name)}, got {column.type}")
    if column.null_count and not gaps:
        place = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        row = place if sizes is None else int(np.searchsorted(np.cumsum(sizes), place, "right"))
        more = f" (and {column.null_count - 1} more)" if column.null_count > 1 else ""
        raise ValueError(
            f"a number is missing in {rows.name(row, name)}{more}: fill it in"
            + (", or with data=table_files set data.missing=mask" if maskable else "")
        )
    return column.to_numpy(zero_copy_only=False)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds strings or bytes."""
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in tests) or pa.types.is_large_binary(kind)


def _mismatch(rows: Rows, kind: pa.DataType, num_features: int | None) -> str:
    claimed = "symbols or text" if num_features is None else f"{num_features} features a step"
    return (
        f"the configuration says {claimed}, but the inputs in {rows.name(0, rows.inputs)} are "
        f"{kind}: "
        "set data.num_tokens=257 data.num_features=null for text, and the reverse for numbers"
    )


def _text_bytes(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    texts = [t.encode() if isinstance(t, str) else t or b"" for t in column.to_pylist()]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), lengths


def _flattened(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Take one level of lists off; a missing list counts as empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.call_function("list_value_length", [column]), 0)
    flat = pc.call_function("list_flatten", [column])
    if isinstance(flat, pa.ChunkedArray):
        flat = flat.combine_chunks()
    return flat, lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _frames(
    rows: Rows, column: pa.ChunkedArray | pa.Array, num_features: int, gaps: bool
) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    values, lengths = _flattened(column)
    if not is_list(values.type):  # a list of numbers: one feature a step
        sizes = np.ones(len(values), dtype=np.int64)
    else:
        values, sizes = _flattened(pa.chunked_array([values]))
    if (sizes != num_features).any():
        step = int(np.flatnonzero(sizes != num_features)[0])
        row = int(np.searchsorted(np.cumsum(lengths), step, side="right"))
        raise ValueError(
            f"data.num_features={num_features} does not fit {rows.name(row, rows.inputs)}, whose "
            f"steps have {sizes[step]} values"
        )
    counts = lengths * num_features
    flat = numeric_column(rows, rows.inputs, values, sizes=counts, gaps=gaps, maskable=True)
    return in_float32(rows, rows.inputs, flat, counts).reshape(-1, num_features), lengths


def in_float32(
    rows: Rows, column: str | None, values: np.ndarray, sizes: np.ndarray | None = None
) -> np.ndarray:
    """Return numbers as they are kept.

    Args:
        rows: Names of the rows, for messages.
        column: The name of what has them.
        values: The numbers, (n,).
        sizes: How many of them each row has, if not one.

    Raises:
        ValueError: If one is finite and beyond what float32 holds.
    """
    too_large = np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max)
    if too_large.any():
        first = int(np.flatnonzero(too_large)[0])
        row = first if sizes is None else int(np.searchsorted(np.cumsum(sizes), first, "right"))
        raise ValueError(
            f"values are kept in float32, which ends at 3.4e38: {rows.name(row, column)} has "
            f"{values[first]:g}. Write the column in another unit"
        )
    return values.astype(np.float32)


def is_list(kind: pa.DataType) -> bool:
    """Return whether a column holds lists."""
    import pyarrow as pa

    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def truncated(
    values: np.ndarray, lengths: np.ndarray, max_length: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first ``max_length`` steps of each row, of values laid end to end."""
    if max_length is None or not len(lengths) or lengths.max() <= max_length:
        return values, lengths
    starts = np.cumsum(lengths) - lengths
    position = np.arange(len(values)) - np.repeat(starts, lengths)
    return values[position < max_length], np.minimum(lengths, max_length)
