"""What is written in one cell of a table: a number, several of them, or several labels."""

from __future__ import annotations  # pyarrow is imported when data are read

import re
from typing import TYPE_CHECKING

import numpy as np

from lnrnn.data.columns import Rows, in_float32, is_text, numeric_column

if TYPE_CHECKING:
    import pyarrow as pa

_BETWEEN = re.compile(r"[\s,;]+")
_NOTHING_BETWEEN = re.compile(r"(^|[,;])\s*[,;]|[,;]\s*$")
_DECIMAL_COMMAS = re.compile(r"-?\d+,\d+(\s+-?\d+,\d+)+")
_BETWEEN_SEMICOLONS = re.compile(r"-?\d+,\d+(\s*;\s*-?\d+,\d+)+")  # or frames of two features
_MISSING = {"", "na", "nan", "null", "none", "n/a", "?"}


def number_of(word: str) -> float:
    """Return the number that a word writes; NaN for one that says that it is missing."""
    return float("nan") if word.strip().lower() in _MISSING else float(word)


def numbers_of(
    rows: Rows, name: str, column: pa.Array, *, gaps: bool, maskable: bool = True
) -> np.ndarray:
    """Return one number a row, (n,) float64.

    Args:
        rows: Names of the rows, for messages.
        name: The column's.
        column: Numbers, or text that writes them.
        gaps: Whether a missing number is NaN; else it is an error.
        maskable: Whether the configuration could let it be missing, which the error says then.

    Raises:
        ValueError: If a cell holds something else.
    """
    if is_text(column.type):
        numbers = _written(rows, name, column)
    else:
        numbers = numeric_column(rows, name, column, gaps=True).astype(np.float64)
    if not gaps and np.isnan(numbers).any():
        first = int(np.flatnonzero(np.isnan(numbers))[0])
        more = int(np.isnan(numbers).sum()) - 1
        raise ValueError(
            f"a number is missing in {rows.name(first, name)}"
            + (f" (and {more} more)" if more else "")
            + (": fill it in, or set data.missing=mask" if maskable else ": fill it in")
        )
    return numbers


def _written(rows: Rows, name: str, column: pa.Array) -> np.ndarray:
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # one by one, to know which it is
        numbers = np.empty(len(column), dtype=np.float64)
    for row, cell in enumerate(column.to_pylist()):
        try:
            numbers[row] = number_of(cell or "")
        except ValueError as error:
            raise ValueError(
                f"a number is expected in {rows.name(row, name)}, which has {cell[:40]!r}"
            ) from error
    return numbers


def frames_of_cells(
    rows: Rows, cells: list[str | None], num_features: int, *, gaps: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Read cells of numbers, each frame after frame.

    Args:
        rows: Names of the rows, for messages.
        cells: Numbers with spaces, commas or semicolons between them.
        num_features: Numbers a frame.
        gaps: Whether numbers may be missing: a cell that ends in a separator lacks its last one.

    Returns:
        Frames end to end, (N, F) float32, and how many each cell has, (n,) int64.

    Raises:
        ValueError: If a cell holds something else, or no whole number of frames.
    """
    numbers: list[float] = []
    counts = np.empty(len(cells), dtype=np.int64)
    for row, cell in enumerate(cells):
        words = _words(cell, gaps=gaps)
        try:
            numbers += [number_of(word) for word in words]
        except ValueError as error:
            raise ValueError(
                "a cell holds numbers between spaces, commas or semicolons; "
                f"{rows.name(row, rows.inputs)}: {error}; for text set data.num_features=null "
                "data.num_tokens=257"
            ) from error
        text = (cell or "").strip("[] \n\t")
        if _DECIMAL_COMMAS.fullmatch(text) or (
            num_features == 1 and _BETWEEN_SEMICOLONS.fullmatch(text)
        ):
            raise ValueError(
                f"{rows.name(row, rows.inputs)} has {str(cell)[:40]!r}: are these decimal commas? "
                "Write points, or numbers with one kind of separator between them"
            )
        if len(words) % num_features:
            raise ValueError(
                f"data.num_features={num_features} does not fit {rows.name(row, rows.inputs)}: "
                f"{len(words)} numbers are not whole frames"
            )
        counts[row] = len(words) // num_features
    flat = np.array(numbers, dtype=np.float64)
    kept = in_float32(rows, rows.inputs, flat, counts * num_features)
    return kept.reshape(-1, num_features), counts


def labels_of_cells(
    cells: list[str | None], *, gaps: bool = False
) -> tuple[list[str | None], np.ndarray]:
    """Return the labels of cells end to end, and how many each cell has, (n,) int64.

    Where there may be ``gaps``, a word that says that it is missing is None.
    """
    words = [_words(cell, gaps=gaps) for cell in cells]
    labels = [word for cell in words for word in cell]
    missing = _MISSING if gaps else set()
    return (
        [None if word.lower() in missing else word for word in labels],
        np.array([len(cell) for cell in words]),
    )


def without_words_for_missing(column: pa.Array) -> pa.Array:
    """Return labels in which a word that says that one is missing is null."""
    import pyarrow as pa

    if not is_text(column.type):
        return column
    words = column.to_pylist()
    return pa.array(
        [None if word is None or word.strip().lower() in _MISSING else word for word in words],
        column.type,
    )


def _words(cell: str | None, *, gaps: bool = False) -> list[str]:
    """Return what stands between separators; between two commas that may be an empty word.

    Behind the last separator there is one only where there may be gaps.
    """
    text = (cell or "").strip("[] \n\t")
    if not gaps:
        text = text.rstrip(" ,;")
    if _NOTHING_BETWEEN.search(text):
        return [word.strip() for word in re.split(r"[,;]", text)]
    return [word for word in _BETWEEN.split(text) if word]
