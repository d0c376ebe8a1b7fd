"""From the labels of a table to classes, numbered from 0."""

from __future__ import annotations  # pyarrow is imported when data are read

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lnrnn.data.batch import IGNORED
from lnrnn.data.columns import is_text

if TYPE_CHECKING:
    import pyarrow as pa

# What is a number and no name: "01" is a name, as nobody writes a number in that way.
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.0*)?")


def joined(pieces: Sequence[pa.Array]) -> pa.Array:
    """Return labels that were read piece by piece as one column, whatever kinds they are."""
    import pyarrow as pa

    kinds = {piece.type for piece in pieces}
    if len(kinds) > 1:
        common = pa.large_string() if any(map(is_text, kinds)) else pa.float64()
        pieces = [piece.cast(common) for piece in pieces]
    return pa.concat_arrays(pieces)


def classes_of(
    splits: Mapping[str, pa.Array],
    column: str,
    num_classes: int | None,
    learned: Sequence[str] | None = None,
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Return the class of every label, (n,) int64 or, where it isn't whole, float64.

    Whole numbers from 0 are classes as they are. Names are numbered in the order of the sorted
    names; and so are numbers that aren't the classes 0, 1, ..., such as 1 and 2 or -1 and 1, where
    there are ``num_classes`` of them, which is said. Numbers that are left are checked later,
    row by row.

    Args:
        splits: The labels by split; a missing one gets ``IGNORED`` for its class.
        column: Name of their column, for messages.
        num_classes: Different labels.
        learned: The classes' names as a trained model has them, whose numbers are kept; None: they
            are found.

    Returns:
        The classes by split, and the classes' names; None where the labels are their numbers.

    Raises:
        ValueError: If there are not ``num_classes`` different names, or one was not learned.
    """
    distinct = {split: distinct_labels(labels) for split, labels in splits.items()}
    every = set().union(*distinct.values())
    numbers = numbers_in(every)
    names = None
    if learned is not None:
        classes, names = _as_learned(every, column, learned), tuple(learned)
    elif numbers is None:
        classes = _named(every, column, num_classes)
        names = tuple(sorted({str(label) for label in every}))
    else:
        classes = numbers
        others = sorted(set(numbers.values()))
        fits = all(0 <= label < (num_classes or 0) for label in others)
        if len(others) == num_classes and not fits:
            place = {number: float(k) for k, number in enumerate(others)}
            classes = {label: place[number] for label, number in numbers.items()}
            names = tuple(f"{number:g}" for number in others)
            shown = ", ".join(names[:20])
            warnings.warn(
                f"the labels of column '{column}' are {shown}: they are taken as the classes 0 to "
                f"{len(others) - 1}, in this order",
                stacklevel=2,
            )
    return {split: _looked_up(labels, classes) for split, labels in splits.items()}, names


def distinct_labels(labels: pa.Array) -> set[Any]:
    """Return the different labels of a column, without what is missing."""
    import pyarrow.compute as pc

    return set(pc.call_function("unique", [labels]).to_pylist()) - {None}


def numbers_in(labels: set[Any]) -> dict[Any, float] | None:
    """Return the number that each label is, or None if one is a name."""
    for label in labels:
        if isinstance(label, str) and not _NUMBER.fullmatch(label.strip()):
            return None
    return {label: float(label) for label in labels}


def _named(labels: set[Any], column: str, num_classes: int | None) -> dict[Any, float]:
    names = sorted({str(label) for label in labels})
    if len(names) != num_classes:
        raise ValueError(
            f"data.num_classes={num_classes}, but column '{column}' has {len(names)} different "
            f"labels: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}. "
            f"data.num_classes={len(names)} fits them, and data.num_classes=count counts; a "
            "trained run keeps the number of the files that it has learned from"
        )
    place = {name: float(k) for k, name in enumerate(names)}
    return {label: place[str(label)] for label in labels}


def _as_learned(labels: set[Any], column: str, learned: Sequence[str]) -> dict[Any, float]:
    """Return the class of each label where a trained model's are ``learned``, in this order."""
    numbers, written = numbers_in(labels), numbers_in(set(learned))
    if numbers is not None and written is not None:  # 1, "1" and 1.0 are one
        by_number = {written[name]: float(k) for k, name in enumerate(learned)}
        found = {label: by_number.get(number) for label, number in numbers.items()}
    else:
        by_name = {name: float(k) for k, name in enumerate(learned)}
        found = {label: by_name.get(str(label)) for label in labels}
    unknown = sorted(str(label) for label, place in found.items() if place is None)
    if unknown:
        raise ValueError(
            f"column '{column}' has labels that the model has not learned: "
            f"{', '.join(unknown[:20])}; its classes are {', '.join(learned[:20])}"
        )
    return {label: place for label, place in found.items() if place is not None}


def warn_of_unlearned(splits: Mapping[str, np.ndarray], column: str) -> None:
    """Say so where a split has a class that no row to learn from has.

    Args:
        splits: Classes by split.
        column: Name of the labels' column.
    """
    learned = np.unique(splits["train"])
    for split, classes in splits.items():
        if len(unlearned := np.setdiff1d(classes, [*learned, IGNORED])):
            shown = ", ".join(str(label) for label in unlearned[:20])
            warnings.warn(
                f"no row to learn from has class {shown} of column '{column}', which the split "
                f"'{split}' has: it cannot be learned. Give more rows of it, or other data.test, "
                "data.validation or data.split_seed",
                stacklevel=2,
            )


def _looked_up(labels: pa.Array, classes: Mapping[Any, float]) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if labels.null_count:
        known = labels.is_valid().to_numpy(zero_copy_only=False)
        found = _looked_up(labels.drop_null(), classes)
        every = np.full(len(labels), IGNORED, dtype=found.dtype)
        every[known] = found
        return every
    if is_text(labels.type):
        texts = [label for label in classes if isinstance(label, str)]  # numbers: of other splits
        names = pa.array(texts, labels.type)
        places = pc.call_function("index_in", [labels], pc.SetLookupOptions(names))
        found = places.to_numpy(zero_copy_only=False)
        numbers = np.array([classes[label] for label in texts])[found]
    else:
        own = [label for label in classes if not isinstance(label, str)]  # texts: of other splits
        known = np.array(own, dtype=np.float64)
        order = np.argsort(known)
        found = np.searchsorted(known[order], labels.cast(pa.float64()).to_numpy())
        numbers = np.array([classes[label] for label in own])[order[found]]
    whole = numbers.astype(np.int64)
    return whole if (whole == numbers).all() else numbers
