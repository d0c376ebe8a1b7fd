"""Data sets of the Hugging Face hub, each pinned to a revision."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from glob import has_magic
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

from lnrnn.data.checks import check_whole
from lnrnn.data.columns import Rows
from lnrnn.data.datamodule import DataModule, split_data, stream_data
from lnrnn.data.reading import CHUNK
from lnrnn.data.rows import read_rows, sequences_of_rows
from lnrnn.data.sequences import Claims, Sequences
from lnrnn.data.splits import Shares
from lnrnn.data.streams import NUM_SYMBOLS

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


def hub_text(
    *,
    repository: str,
    subset: str | None,
    revision: str,
    text_column: str = "text",
    train_split: str = "train",
    validation_split: str = "validation",
    test_split: str = "test",
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    num_classes: int | None = NUM_SYMBOLS,
    length: int | None = None,
    batch_size: int = 32,
    window: int = 128,
    num_workers: int = 0,
) -> DataModule:
    """Predict the next byte of a text of the hub, whose rows are laid end to end.

    Args:
        repository: Its id on the hub, such as ``Salesforce/wikitext``. A folder of that path below
            the current one is taken instead.
        subset: Which of the repository's data sets; None if it has one.
        revision: Commit of the repository.
        text_column: Column that holds the text.
        train_split: The hub's name of the split to learn from.
        validation_split: The one to follow training.
        test_split: The one for the final test.
        num_features: None; these are symbols.
        num_tokens: 257: the bytes and the padding symbol.
        num_classes: 257; padding is never a target.
        length: None; windows are cut by ``window``.
        batch_size: Streams read side by side, all processes together.
        window: Bytes per stream and batch, through which gradients flow.
        num_workers: Loader processes.

    Raises:
        ConnectionError: When read, if the data are neither cached nor within reach; the message has
            the command that fetches them.
        ValueError: When read, if a split or column is not there.
    """
    names = {"train": train_split, "validation": validation_split, "test": test_split}
    return stream_data(
        partial(_read_text, repository, subset, revision, names, text_column),
        Claims("language_modeling", num_features, num_tokens, num_classes, length),
        batch_size=batch_size,
        window=window,
        num_workers=num_workers,
        split=f"the hub's split {test_split} is the test",
    )


def hub_table(
    *,
    repository: str,
    subset: str | None,
    revision: str,
    num_classes: int | None,
    input_column: str = "text",
    target_column: str = "label",
    train_split: str = "train",
    validation_split: str | None = None,
    test_split: str = "test",
    validation: float = 0.1,
    split_seed: int = 0,
    num_features: int | None = None,
    num_tokens: int | None = NUM_SYMBOLS,
    length: int | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    num_workers: int = 0,
    seed: int = 0,
) -> DataModule:
    """Classify texts of the hub, read as bytes.

    Args:
        repository: Its id on the hub, such as ``stanfordnlp/imdb``. A folder of that path below the
            current one is taken instead.
        subset: Which of the repository's data sets; None if it has one.
        revision: Commit of the repository.
        num_classes: Different labels.
        input_column: The text, or a list of numbers.
        target_column: The label: a whole number from 0, or a name.
        train_split: The hub's name of the split to learn from.
        validation_split: The one to follow training; None takes a share of ``train_split``.
        test_split: The one for the final test. Its labels must be public.
        validation: That share, every class in proportion.
        split_seed: Chooses it. Not the run's seed: runs that are compared share one split.
        num_features: None for text.
        num_tokens: 257: the bytes and the padding symbol.
        length: None; texts vary.
        max_length: Bytes kept of each text; None keeps all.
        batch_size: Sequences in a batch, all processes together.
        num_workers: Loader processes.
        seed: The run's seed, which decides the order.

    Raises:
        ConnectionError: When read, if the data are neither cached nor within reach; the message has
            the command that fetches them.
        ValueError: When read, if a split or column is not there or a label is outside the classes.
    """
    names = {"train": train_split, "test": test_split}
    if validation_split is not None:
        names["validation"] = validation_split
    if max_length is not None:
        check_whole("max_length", max_length, smallest=1)
    claims = Claims("classification", num_features, num_tokens, num_classes, length)
    # The test share is never used: a hub set names its test split.
    shares = Shares(validation, test=validation, seed=split_seed)
    read = partial(_read_hub, repository, subset, revision, names)
    return split_data(
        partial(_read_table, read, (input_column, target_column), claims, shares, max_length),
        claims,
        standardize=False,
        masked=False,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        split=f"the hub's split {test_split} is the test",
    )


def _read_text(
    repository: str, subset: str | None, revision: str, names: dict[str, str], text_column: str
) -> datasets.DatasetDict:
    import datasets

    splits = _read_hub(repository, subset, revision, names)
    for name, rows in splits.items():
        if text_column not in rows.column_names:
            raise ValueError(
                f"data.text_column={text_column} is not a column of split '{name}'; there are "
                f"{', '.join(rows.column_names)}"
            )
    return datasets.DatasetDict(
        {
            name: rows.select_columns(text_column).rename_columns({text_column: "text"})
            for name, rows in splits.items()
        }
    )


def _read_table(
    read: Callable[[], Mapping[str, datasets.Dataset]],
    columns: tuple[str, str],
    claims: Claims,
    shares: Shares,
    max_length: int | None,
) -> dict[str, Sequences]:
    found = read()
    rows = {
        split: read_rows(
            split, _row_chunks(split, dataset, columns), claims, max_length, gaps=False
        )
        for split, dataset in found.items()
    }
    splits = sequences_of_rows(rows, claims, shares, gaps=False)
    names = getattr(found["train"].features[columns[1]], "names", None)
    if names is not None and len(names) == claims.num_classes:
        for split in splits.values():
            split.labels = tuple(names)
    return splits


def _row_chunks(
    split: str, dataset: datasets.Dataset, columns: tuple[str, str]
) -> Iterator[tuple[Rows, pa.Array, pa.Array]]:
    inputs, targets = columns
    for key, name in (("input_column", inputs), ("target_column", targets)):
        if name not in dataset.column_names:
            raise ValueError(
                f"data.{key}={name} is not a column of split '{split}'; there are "
                f"{', '.join(dataset.column_names)}"
            )
    tables: Any = dataset.select_columns([inputs, targets]).with_format("arrow")
    first = 0
    for table in tables.iter(batch_size=CHUNK):
        rows = Rows(split, np.arange(first, first + len(table)), inputs=inputs, targets=targets)
        yield rows, table[inputs].combine_chunks(), table[targets].combine_chunks()
        first += len(table)


def _read_hub(
    repository: str, subset: str | None, revision: str, names: dict[str, str]
) -> dict[str, datasets.Dataset]:
    """Return the named splits of one revision, from the cache if they are there."""
    import datasets

    command = _fetching_command(repository, subset, revision)
    if Path(repository).is_dir() and has_magic(str(Path(repository).resolve())):
        raise ValueError(
            f"the folder {Path(repository).resolve()} cannot be read: `datasets` takes its path "
            "for a pattern, because of *, ? or [ in it. Move or rename the folder."
        )
    if not Path(repository).is_dir() and not _within_reach(repository, revision):
        raise ConnectionError(_unreachable(repository, command))
    try:
        loaded = datasets.load_dataset(repository, subset, revision=revision)
    except ConnectionError as error:
        raise ConnectionError(_unreachable(repository, command)) from error
    except RuntimeError as error:  # `datasets` 5 says so, and runs no scripts
        if "scripts are no longer supported" not in str(error):
            raise
        raise ValueError(
            f"{repository} has a loading script, which is not run: only tables are read (parquet, "
            "csv, json). Take a revision or a copy without a script that has such files."
        ) from error
    missing = [name for name in names.values() if name not in loaded]
    if missing:
        raise ValueError(
            f"{repository} has no split {', '.join(missing)}; there are "
            f"{', '.join(map(str, loaded))}"
        )
    splits = {role: loaded[name] for role, name in names.items()}
    for rows in splits.values():
        check_revision(rows, repository, revision, command)
    return splits


def check_revision(rows: datasets.Dataset, repository: str, revision: str, command: str) -> None:
    """Raise ValueError if the rows were made from files of another commit than the pinned one.

    Offline, `datasets` answers with whatever revision of the repository it finds in its cache.
    """
    addresses = [a for a in rows.info.download_checksums or {} if a.startswith("hf://")]
    is_commit = re.fullmatch("[0-9a-f]{40}", revision) is not None
    if is_commit and not all(f"@{revision}/" in address for address in addresses):
        raise ValueError(
            f"the cache holds another revision of {repository} than data.revision={revision}: "
            f"{addresses[0]}; fetch the right one with: {command}"
        )


def _within_reach(repository: str, revision: str) -> bool:
    """Return whether it is worth asking: `datasets` alone would try an absent hub for 23 s."""
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, "README.md", revision=revision, repo_type="dataset")
    if constants.is_offline_mode() or isinstance(cached, str):
        return True  # decided at once, by `datasets`
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=10).close()
    except HTTPError:
        return True  # it answers, if not with what was asked
    except OSError:
        return False
    return True


def _fetching_command(repository: str, subset: str | None, revision: str) -> str:
    """Return a line for a shell; the names come from a configuration, so they are quoted twice."""
    names = [json.dumps(repository), *([json.dumps(subset)] if subset else [])]
    arguments = ", ".join([*names, f"revision={json.dumps(revision)}"])
    code = f"import datasets; datasets.load_dataset({arguments})"
    return f"HF_HUB_OFFLINE=0 python -c {quote(code)}"


def _unreachable(repository: str, command: str) -> str:
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE=1" if constants.is_offline_mode() else "the hub does not answer"
    return (
        f"{repository} is not in the local cache and cannot be fetched now ({reason}). Where there "
        f"is a network (HF_HOME is the cache's folder, to copy or share), run: {command}"
    )
