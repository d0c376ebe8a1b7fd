"""Arrow columns as flat NumPy arrays.

Dimensions: n rows, N steps of all rows together, F features.
"""

from __future__ import annotations  # pyarrow is imported with `datasets`, when data are read

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Rows:
    """How messages name the rows of a split.

    Attributes:
        split: Name of the split.
        in_files: Which row of the source's files each row was, (n,) int64, before a share was
            held out; None where there are no such files.
    """

    split: str
    in_files: np.ndarray | None = None

    def name(self, row: int) -> str:
        """Return where a row of the split is to be found."""
        if self.in_files is None:
            return f"split '{self.split}', row {row}"
        place = self.in_files[row]
        return f"split '{self.split}', data row {place} of its files (counted from 0)"


def sequence_column(
    rows: Rows, column: pa.ChunkedArray, num_features: int | None, max_length: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Lay a column of sequences end to end.

    Args:
        rows: Names of the rows, for messages.
        column: Text (becomes UTF-8 bytes), lists of symbols, lists of numbers (one feature) or
            lists of frames.
        num_features: Values per step; None for symbols and text.
        max_length: Steps kept of each row; None keeps all.

    Returns:
        Values, (N, F) float32, (N,) int64 or (N,) uint8 (text), and lengths, (n,) int64.

    Raises:
        ValueError: If the column holds something else, or another number of features.
    """
    import pyarrow as pa

    text, lists = is_text(column.type), _is_list(column.type)
    if num_features is None and text:
        return _truncated(*_text_bytes(column), max_length)
    if num_features is not None and lists:
        return _truncated(*_frames(rows, column, num_features), max_length)
    if lists:
        symbols, lengths = _flattened(column)
        if pa.types.is_integer(symbols.type):
            values = numeric_column(rows.split, symbols).astype(np.int64)
            return _truncated(values, lengths, max_length)
    raise ValueError(_mismatch(rows.split, column.type, num_features))


def numeric_column(split: str, column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of numbers as an array; a missing value is an error."""
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"expected numbers in split '{split}', got {column.type}")
    if column.null_count:
        raise ValueError(
            f"split '{split}' has {column.null_count} missing values among its numbers"
        )
    return column.to_numpy()


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds strings or bytes."""
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in tests) or pa.types.is_large_binary(kind)


def _mismatch(split: str, kind: pa.DataType, num_features: int | None) -> str:
    claimed = "symbols or text" if num_features is None else f"{num_features} features a step"
    return (
        f"the configuration says {claimed}, but the inputs of split '{split}' are {kind}: "
        "set data.num_tokens=257 data.num_features=null for text, and the reverse for numbers"
    )


def _text_bytes(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    texts = [t.encode() if isinstance(t, str) else t or b"" for t in column.to_pylist()]
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), lengths


def _flattened(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Take one level of lists off; a missing list counts as empty."""
    import pyarrow.compute as pc

    lengths = (
        pc.fill_null(pc.call_function("list_value_length", [column]), 0).to_numpy().astype(np.int64)
    )
    return pc.call_function("list_flatten", [column]).combine_chunks(), lengths


def _frames(
    rows: Rows, column: pa.ChunkedArray, num_features: int
) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa

    values, lengths = _flattened(column)
    if not _is_list(values.type):  # a list of numbers: one feature a step
        sizes = np.ones(len(values), dtype=np.int64)
    else:
        values, sizes = _flattened(pa.chunked_array([values]))
    if (sizes != num_features).any():
        step = int(np.flatnonzero(sizes != num_features)[0])
        row = int(np.searchsorted(np.cumsum(lengths), step, side="right"))
        raise ValueError(
            f"data.num_features={num_features} does not fit {rows.name(row)}, whose steps "
            f"have {sizes[step]} values"
        )
    flat = numeric_column(rows.split, values).astype(np.float32)
    return flat.reshape(-1, num_features), lengths


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _truncated(
    values: np.ndarray, lengths: np.ndarray, max_length: int | None
) -> tuple[np.ndarray, np.ndarray]:
    if max_length is None or not len(lengths) or lengths.max() <= max_length:
        return values, lengths
    starts = np.cumsum(lengths) - lengths
    position = np.arange(len(values)) - np.repeat(starts, lengths)
    return values[position < max_length], np.minimum(lengths, max_length)
