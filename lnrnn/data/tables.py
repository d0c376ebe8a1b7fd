"""Classification of the user's own tables: one row, one sequence and its label."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from lnrnn.data.columns import Rows, is_text
from lnrnn.data.datamodule import DataModule, sequence_data
from lnrnn.data.files import find_splits
from lnrnn.data.sequences import Claims
from lnrnn.data.splits import Shares, hold_out
from lnrnn.data.streams import NUM_SYMBOLS

if TYPE_CHECKING:
    import datasets

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


def table_files(
    *,
    files: str | Sequence[str],
    num_classes: int | None,
    validation_files: str | Sequence[str] | None = None,
    test_files: str | Sequence[str] | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    split_seed: int = 0,
    input_column: str = "text",
    target_column: str = "label",
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    length: int | None = None,
    max_length: int | None = None,
    standardize: bool = True,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Classify the rows of csv, tsv, json, jsonl or parquet files.

    Args:
        files: A path or glob, or a list of them, all of one format, to learn from.
        num_classes: Different labels.
        validation_files: Files to follow training; None takes a share of the rows.
        test_files: Files for the final test; None takes a share of the rows.
        validation: That share for validation, of the rows that are not for the test.
        test: That share for the test. Both keep every class in proportion.
        split_seed: Chooses them. Not the run's seed: runs that are compared share one split.
        input_column: The sequence: text (read as bytes); or numbers, as a list, as a list of
            frames, or (csv) written in one cell with spaces, commas or semicolons between them.
        target_column: The label: a whole number from 0, or a name (classes are numbered in the
            order of the sorted names).
        num_features: Numbers per step; None for text. Cells of numbers are cut into frames.
        num_tokens: 257 for text (bytes and the padding symbol); None for numbers.
        length: Steps of every sequence; None if they vary.
        max_length: Steps (bytes) kept of each sequence; None keeps all.
        standardize: Whether to center and scale numbers by training statistics.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        ValueError: When read: if a file is empty or in two splits, a column is not there, a
            sequence is empty, or the labels are not ``num_classes``. When constructed: if a share
            is outside (0, 1). Rows are named as they are in the files of the split, end to end
            and counted from 0 without the header, also where a share was taken from them.
        TypeError: When constructed, if a size is not a whole number or a share is not a
            number. When read, if ``files`` is not a path, a glob or a list of them.
        FileNotFoundError: When read, if a path or glob names no file.
    """
    columns = Columns(input_column, target_column, num_features, num_classes)
    shares = Shares(validation, test, split_seed)
    read = partial(_read_files, files, validation_files, test_files, input_column)
    return sequence_data(
        partial(labeled_splits, read, columns, shares),
        Claims("classification", num_features, num_tokens, num_classes, length),
        standardize=standardize and num_features is not None,
        max_length=max_length,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used, and what is expected in them.

    Attributes:
        inputs: Name of the column of sequences.
        targets: Name of the column of labels.
        num_features: Numbers per step; None for text.
        num_classes: Different labels.
    """

    inputs: str
    targets: str
    num_features: int | None
    num_classes: int | None


def labeled_splits(
    read: Callable[[], Mapping[str, datasets.Dataset]], columns: Columns, shares: Shares
) -> datasets.DatasetDict:
    """Return ``train``, ``validation`` and ``test``: columns ``inputs``, ``targets`` and ``row``.

    Args:
        read: Returns the splits that the source has, ``train`` at least.
        columns: Where sequences and labels are.
        shares: What is held out where the source has no such split.

    Raises:
        ValueError: If a column is not there, or the labels are not ``num_classes`` names.
    """
    import datasets

    splits = {split: _chosen(split, rows, columns) for split, rows in read().items()}
    splits = _numbered(splits, columns)
    for split, share in (("test", shares.test), ("validation", shares.validation)):
        if split not in splits:
            splits["train"], splits[split] = hold_out(splits["train"], share, shares.seed, split)
    return datasets.DatasetDict({name: splits[name] for name in ("train", "validation", "test")})


def _chosen(split: str, rows: datasets.Dataset, columns: Columns) -> datasets.Dataset:
    """Keep the two columns under their common names; cells of written numbers become lists.

    The rows are numbered before any are held out, so that messages can name the user's own.
    """
    import datasets
    import pyarrow as pa

    for key, name in (("input_column", columns.inputs), ("target_column", columns.targets)):
        if name not in rows.column_names:
            raise ValueError(
                f"data.{key}={name} is not a column of split '{split}'; there are "
                f"{', '.join(rows.column_names)}"
            )
    table = rows.with_format("arrow")[:]
    inputs, targets = table[columns.inputs], table[columns.targets]
    labels = rows.features[columns.targets]
    names = Rows(split, np.arange(len(table)))
    for name, column in ((columns.inputs, inputs), (columns.targets, targets)):
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise ValueError(
                f"every row needs a sequence and a label, but '{name}' is empty in "
                f"{names.name(row)}"
            )
    if pa.types.is_boolean(targets.type):
        targets = targets.cast(pa.int64())
    if columns.num_features is not None and is_text(inputs.type):
        cells = inputs.to_pylist()
        inputs = pa.array([_frames(names, i, c, columns.num_features) for i, c in enumerate(cells)])
    chosen = datasets.Dataset(
        pa.table({"inputs": inputs, "targets": targets, "row": names.in_files})
    )
    if isinstance(labels, datasets.ClassLabel):  # of the hub, where classes have names
        with _no_progress_bars():
            chosen = chosen.cast_column("targets", labels)
    return chosen


def _frames(rows: Rows, row: int, cell: str | None, num_features: int) -> list[list[float]]:
    """Read the numbers of one cell, (T, F), frame after frame."""
    words = re.split(r"[\s,;]+", (cell or "").strip("[] \n\t"))
    try:
        numbers = [float(word) for word in words if word]
    except ValueError as error:
        raise ValueError(
            f"a cell holds numbers between spaces, commas or semicolons; {rows.name(row)}: "
            f"{error}; for text set data.num_features=null data.num_tokens=257"
        ) from error
    if len(numbers) % num_features:
        raise ValueError(
            f"data.num_features={num_features} does not fit {rows.name(row)}: "
            f"{len(numbers)} numbers are not whole frames"
        )
    return [numbers[i : i + num_features] for i in range(0, len(numbers), num_features)]


def _numbered(splits: dict[str, datasets.Dataset], columns: Columns) -> dict[str, datasets.Dataset]:
    """Number labels that are names, in the order of all the sorted names; leave numbers alone."""
    import datasets
    import pyarrow as pa

    columns_of_names = {name: rows["targets"][:] for name, rows in splits.items()}
    if not any(isinstance(label, str) for labels in columns_of_names.values() for label in labels):
        return splits
    names = sorted({str(label) for labels in columns_of_names.values() for label in labels})
    if len(names) != columns.num_classes:
        raise ValueError(
            f"data.num_classes={columns.num_classes}, but column '{columns.targets}' has "
            f"{len(names)} different labels: {', '.join(names[:20])}"
            + (", ..." if len(names) > 20 else "")
        )
    place = {name: i for i, name in enumerate(names)}
    with _no_progress_bars():
        return {
            split: rows.remove_columns("targets")
            .add_column("targets", pa.array([place[str(name)] for name in columns_of_names[split]]))
            .cast_column("targets", datasets.ClassLabel(names=names))
            for split, rows in splits.items()
        }


def _read_files(
    files: str | Sequence[str],
    validation_files: str | Sequence[str] | None,
    test_files: str | Sequence[str] | None,
    input_column: str,
) -> dict[str, datasets.Dataset]:
    found = find_splits(files, validation_files, test_files)
    return {split: _read_table(paths, input_column) for split, paths in found.items()}


def _read_table(paths: list[Path], input_column: str) -> datasets.Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    suffixes = {path.suffix.lower() for path in paths}
    if len(suffixes) != 1 or not suffixes <= FORMATS.keys():
        raise ValueError(
            f"files of a split must share one of the formats {', '.join(FORMATS)}, got "
            f"{', '.join(sorted(suffixes))}"
        )
    suffix = suffixes.pop()
    options: dict[str, Any] = {}
    if FORMATS[suffix] == "csv":
        # The sequence is text even where all of it looks like numbers, and "null" is a word.
        options = {
            "sep": "\t" if suffix == ".tsv" else ",",
            "converters": {input_column: str},
            "keep_default_na": False,
            "na_values": [""],
        }
    # In memory, by way of a folder that is gone afterwards: nothing stale, nothing left behind.
    # `datasets` takes the whole path of a file for a pattern (or, with "::", for an address), the
    # part that nobody typed too. So it is given links, in whose names there is nothing of the kind.
    with TemporaryDirectory() as folder, _no_progress_bars():
        links = [Path(folder, f"{number}{suffix}") for number in range(len(paths))]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.absolute())
        try:
            loaded = load_dataset(
                FORMATS[suffix],
                data_files=[escape(str(link)) for link in links],
                cache_dir=str(Path(folder, "cache")),
                keep_in_memory=True,
                **options,
            )
        except (DatasetGenerationError, ValueError) as error:
            raise ValueError(
                f"could not find rows in {', '.join(map(str, paths))}, read as {suffix[1:]}: "
                f"{error.__cause__ or error}"
            ) from error
    return loaded["train"]  # the name that `datasets` gives to a table without splits


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Silence the bars of `datasets`, which a local file does not deserve."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
