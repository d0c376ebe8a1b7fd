"""How many classes the user's own tables have, where the configuration does not say."""

from __future__ import annotations  # pyarrow is imported when data are read

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lnrnn.data.cells import labels_of_cells, without_words_for_missing
from lnrnn.data.columns import is_list, is_text, truncated
from lnrnn.data.files import find_splits
from lnrnn.data.labels import distinct_labels, joined, numbers_in
from lnrnn.data.readers import read_chunks
from lnrnn.data.reading import Reading
from lnrnn.data.rows import labels_in

if TYPE_CHECKING:
    import pyarrow as pa

MANY = 20  # different labels from which on they may be something else


def count_classes(
    *,
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None = None,
    test_files: str | Sequence[str] | None = None,
    task: str = "classification",
    input_columns: Sequence[str] | None = None,
    target_column: str = "label",
    missing: str = "error",
    max_length: int | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> int:
    """Return how many different labels the files of all splits have.

    The arguments are those of `lnrnn.data.table_files`. Only the column of labels is read, and once
    for a file that stays as it is.

    Raises:
        ValueError: If they cannot be classes: numbers that are not whole, hardly two rows with the
            same, or the same in all; or the column cannot be read.
        TypeError: If ``files`` is not a path, a glob or a list of them.
        FileNotFoundError: If a path or glob names no file.
    """
    found = find_splits(files, validation_files, test_files)
    rows_of_steps = task == "tagging" and input_columns is None
    states = tuple(
        (split, tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths))
        for split, paths in found.items()
    )
    gaps = task == "tagging" and missing == "mask"
    limit = max_length if rows_of_steps else None
    return _count(states, target_column, rows_of_steps, gaps, limit, Reading(separator, encoding))


@lru_cache(maxsize=16)
def _count(
    states: tuple[tuple[str, tuple[tuple[Path, int, int], ...]], ...],
    column: str,
    rows_of_steps: bool,
    gaps: bool,
    limit: int | None,
    reading: Reading,
) -> int:
    every: set[Any] = set()
    total = 0
    for _, files in states:
        pieces = []
        for path, _, _ in files:
            for chunk in read_chunks(path, {column: "target_column"}, reading):
                labels = _labels(chunk.columns[column], rows_of_steps, gaps, limit)
                total += len(labels)
                pieces.append(labels.unique())
        every |= distinct_labels(joined(pieces)) if pieces else set()
    return _checked(every, column, total)


def _labels(column: pa.Array, rows_of_steps: bool, gaps: bool, limit: int | None) -> pa.Array:
    """Return the labels of some rows, as they are read for training: of `limit` steps a row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if rows_of_steps and is_text(column.type):
        words, lengths = labels_of_cells(column.to_pylist(), gaps=gaps)
        return _first(pa.array(words, pa.large_string()), lengths, limit)
    if rows_of_steps and is_list(column.type):
        sizes = pc.call_function("list_value_length", [column]).drop_null()
        lengths = sizes.to_numpy(zero_copy_only=False).astype(np.int64)
        flat = pc.call_function("list_flatten", [column])
        return labels_in(_first(flat, lengths, limit))
    if gaps:
        column = without_words_for_missing(column)
    return labels_in(column)


def _first(flat: pa.Array, lengths: Any, limit: int | None) -> pa.Array:
    """Return the first `limit` labels of each row, which have `lengths` of them."""
    import pyarrow as pa

    if limit is None:
        return flat
    kept, _ = truncated(np.arange(len(flat)), lengths, limit)
    return flat.take(pa.array(kept))


def _checked(labels: set[Any], column: str, total: int) -> int:
    """Return how many classes there are, if they look like classes."""
    broken = sorted(filter(_is_broken, labels), key=str)
    if broken and all(_is_broken(label) or numbers_in({label}) for label in labels):
        raise ValueError(
            f"a class is a whole number or a name, but column '{column}' has {broken[0]}: if "
            "numbers are what is to be predicted, take data=table_regression"
        )
    numbers = numbers_in(labels)
    kinds = {str(label) for label in labels} if numbers is None else set(numbers.values())
    if len(kinds) < 2:
        one = f"the label {next(iter(labels))} in every row" if kinds else "no labels"
        raise ValueError(f"column '{column}' has {one}, so there is nothing to tell apart")
    if len(kinds) > MANY and 2 * len(kinds) > total:
        raise ValueError(
            f"column '{column}' has {len(kinds)} different labels in {total} places, hardly two of "
            "each: is it the right one (data.target_column)? If it is, say so with "
            f"data.num_classes={len(kinds)}"
        )
    return len(kinds)


def _is_broken(label: Any) -> bool:
    """Return whether a label is a number that is not whole."""
    try:
        number = float(label)
    except ValueError:
        return False
    return math.isfinite(number) and number != int(number)
