"""One split of per-example data: sequences laid end to end, checked once, cut into batches.

A Hugging Face ``Dataset`` answers one nested Python list per row; decoding a split once into flat
tensors makes a batch a few slices. Columns are called ``inputs`` and ``targets``.

Dimensions: n sequences, B of them in a batch, N steps in all, T in the longest of a batch,
F features.
"""

from __future__ import (
    annotations,
)  # `datasets` takes over a second to import: not before it is used

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lnrnn.data.batch import IGNORED, Batch
from lnrnn.data.checks import check_whole
from lnrnn.data.columns import Rows, numeric_column, sequence_column
from lnrnn.preparation import Scaling

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

Kind = Literal["classification", "tagging", "language_modeling", "regression"]


@dataclass(frozen=True)
class Claims:
    """What a configuration says about its data before any of it is read; the data must agree.

    Attributes:
        kind: What is predicted: a class, a class per step, the next symbol, or a number.
        num_features: Values per step; None for symbols.
        num_tokens: Different symbols, the padding symbol included; None for features.
        num_classes: Different classes; None for numbers.
        length: Steps of every sequence; None if they vary.
    """

    kind: Kind
    num_features: int | None
    num_tokens: int | None
    num_classes: int | None
    length: int | None

    def __post_init__(self) -> None:
        if (self.num_features is None) == (self.num_tokens is None):
            raise ValueError(
                "data are features or symbols: give exactly one of num_features and num_tokens, "
                f"got {self.num_features} and {self.num_tokens}"
            )
        if (self.num_classes is None) != (self.kind == "regression"):
            raise ValueError(
                f"num_classes goes with every kind but regression: {self.kind} cannot have "
                f"data.num_classes={self.num_classes}"
            )
        for name in ("num_features", "num_tokens", "num_classes", "length"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, smallest=1)


class Sequences(Dataset[Batch]):
    """The sequences of one split; indexing with a list of positions gives their batch.

    Args:
        values: All sequences end to end: (N, F) float32, or (N,) of any integer type.
        lengths: Steps of each sequence, (n,) int64.
        targets: (n,) int64 or float32; (N,) int64 if ``per_step``.
        padding: What fills a batch behind its shorter sequences.
        per_step: Whether every step has a target of its own.
        labels: The classes' names, in their order, where they have names.
        scaling: What ``values`` were centered and scaled by.
    """

    def __init__(
        self,
        values: Tensor,
        lengths: Tensor,
        targets: Tensor,
        *,
        padding: int = 0,
        per_step: bool = False,
        labels: tuple[str, ...] | None = None,
        scaling: Scaling | None = None,
    ) -> None:
        self.values, self.lengths, self.targets = values, lengths, targets
        self.padding, self.per_step = padding, per_step
        self.labels, self.scaling = labels, scaling
        self.ends = lengths.cumsum(0)
        self.fixed = bool((lengths == lengths[0]).all())

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, indices: list[int]) -> Batch:
        """Return the sequences at ``indices`` as one padded batch."""
        inputs = self._padded(self.values, indices, self.padding)
        if self.per_step:
            targets = self._padded(self.targets, indices, IGNORED)
        else:
            targets = self.targets[indices]
        return Batch(inputs, targets, None if self.fixed else self.lengths[indices])

    def _padded(self, values: Tensor, indices: list[int], padding: int) -> Tensor:
        """Return rows of ``values``, (B, T) or (B, T, F); symbols, stored small, become int64."""
        dtype = values.dtype if values.is_floating_point() else torch.int64
        if self.fixed:
            return values.unflatten(0, (len(self), -1))[indices].to(dtype)
        ends, lengths = self.ends[indices].tolist(), self.lengths[indices].tolist()
        rows = [values[end - t : end].to(dtype) for end, t in zip(ends, lengths, strict=True)]
        return pad_sequence(rows, batch_first=True, padding_value=padding)

    def content(self) -> list[Tensor]:
        """Return the tensors that make this split what it is."""
        return [self.values, self.lengths, self.targets]

    def preparation(self) -> dict[str, Any]:
        """Return how new sequences are to be treated, by the names of ``Preparation``."""
        symbols = "bytes" if self.values.dtype == torch.uint8 else "numbers"
        return {
            "symbols": None if self.values.is_floating_point() else symbols,
            "labels": self.labels,
            "scaling": self.scaling,
        }


def sequences_from(
    split: str, dataset: datasets.Dataset, claims: Claims, max_length: int | None = None
) -> Sequences:
    """Decode one split and check it against what the configuration claims.

    Args:
        split: Its name, for messages.
        dataset: Columns ``inputs`` (lists of numbers, lists of frames, or text) and ``targets``;
            and, where there are files, ``row``: which of their rows it was.
        claims: What the configuration says.
        max_length: Steps kept of each sequence; None keeps all.

    Raises:
        ValueError: If the split is empty, has an empty sequence, a non-finite value, a label
            outside the classes, or contradicts ``claims``. The message names split and row.
    """
    if len(dataset) == 0:
        raise ValueError(f"split '{split}' has no rows")
    table = dataset.with_format("arrow")[:]
    rows = Rows(split, table["row"].to_numpy() if "row" in dataset.column_names else None)
    values, lengths = sequence_column(rows, table["inputs"], claims.num_features, max_length)
    _check_lengths(rows, lengths, claims.length)
    owner = np.repeat(np.arange(len(lengths)), lengths)  # the row each step belongs to
    if claims.num_features is not None:
        _check_finite(rows, values, owner)
    else:
        _check_range(rows, values, owner, claims.num_tokens, "symbol", "num_tokens")
    targets = _targets(rows, table["targets"], claims, lengths, owner, max_length)
    return Sequences(
        torch.from_numpy(values),
        torch.from_numpy(lengths),
        torch.from_numpy(targets),
        padding=0 if claims.num_tokens is None else claims.num_tokens - 1,
        per_step=claims.kind == "tagging",
        labels=_label_names(dataset, claims),
    )


def standardized(splits: Mapping[str, Sequences]) -> dict[str, Sequences]:
    """Center and scale each feature of every split by statistics of ``train`` alone.

    Mean and biased standard deviation are taken over all steps of all training sequences; padding
    does not exist yet and cannot bias them. A constant feature is centered only.
    """
    train = splits["train"].values.double()  # (N, F)
    mean, std = train.mean(0), train.std(0, correction=0)
    std[std == 0] = 1
    return {
        name: Sequences(
            ((split.values.double() - mean) / std).float(),
            split.lengths,
            split.targets,
            labels=split.labels,
            scaling=Scaling(tuple(mean.tolist()), tuple(std.tolist())),
        )
        for name, split in splits.items()
    }


def _label_names(dataset: datasets.Dataset, claims: Claims) -> tuple[str, ...] | None:
    """Return the names that a column of class labels knows, if it knows one for each class."""
    names = getattr(dataset.features["targets"], "names", None)
    return tuple(names) if names is not None and len(names) == claims.num_classes else None


def _targets(
    rows: Rows,
    column: pa.ChunkedArray,
    claims: Claims,
    lengths: np.ndarray,
    owner: np.ndarray,
    max_length: int | None,
) -> np.ndarray:
    """Return what is to be predicted: (n,) float32 or int64, or (N,) int64 for a class per step."""
    if claims.kind == "tagging":
        targets, tagged = sequence_column(rows, column, None, max_length)
        if not np.array_equal(tagged, lengths):
            row = int(np.flatnonzero(tagged != lengths)[0])
            raise ValueError(
                f"every step needs a class: {rows.name(row)} has {lengths[row]} steps and "
                f"{tagged[row]} classes"
            )
    else:
        targets, owner = numeric_column(rows.split, column), np.arange(len(lengths))
    _check_finite(rows, targets, owner)
    if claims.num_classes is None:
        return targets.astype(np.float32)
    labels = targets.astype(np.int64)
    if (labels != targets).any():
        step = int(np.flatnonzero(labels != targets)[0])
        raise ValueError(
            f"a class is a whole number: {rows.name(int(owner[step]))} has {targets[step]}"
        )
    _check_range(rows, labels, owner, claims.num_classes, "label", "num_classes")
    return labels


def _check_lengths(rows: Rows, lengths: np.ndarray, claimed: int | None) -> None:
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise ValueError(f"a sequence needs at least one step: {rows.name(row)} is empty")
    if claimed is not None and (lengths != claimed).any():
        row = int(np.flatnonzero(lengths != claimed)[0])
        raise ValueError(
            f"data.length={claimed} says that every sequence has {claimed} steps, but "
            f"{rows.name(row)} has {lengths[row]}; set data.length=null for varying lengths"
        )


def _check_finite(rows: Rows, values: np.ndarray, owner: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"values must be finite: {rows.name(int(owner[bad[0]]))} has {values[bad[0]]}"
        )


def _check_range(
    rows: Rows, values: np.ndarray, owner: np.ndarray, size: int | None, what: str, key: str
) -> None:
    bad = np.flatnonzero((values < 0) | (values >= (size or 0)))
    if len(bad):
        raise ValueError(
            f"data.{key}={size} allows {what}s 0 to {(size or 0) - 1}, but "
            f"{rows.name(int(owner[bad[0]]))} has {values[bad[0]]}"
        )
