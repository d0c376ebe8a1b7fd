"""One split of per-example data: sequences laid end to end, checked once, cut into batches.

A Hugging Face ``Dataset`` answers one nested Python list per row; decoding a split once into flat
tensors makes a batch a few slices. Columns are called ``inputs`` and ``targets``.

Dimensions: n sequences, B of them in a batch, N steps in all, T in the longest of a batch,
F features.
"""

from __future__ import (
    annotations,
)  # `datasets` takes over a second to import: not before it is used

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from lnrnn.data.batch import IGNORED, NOTHING, Batch
from lnrnn.data.checks import check_whole
from lnrnn.data.columns import Rows, in_float32, numeric_column, sequence_column
from lnrnn.preparation import Scaling

if TYPE_CHECKING:
    import datasets

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
        horizon: Numbers to predict of each sequence; None for one.
        every_step: Whether a number is predicted at every step.
    """

    kind: Kind
    num_features: int | None
    num_tokens: int | None
    num_classes: int | None
    length: int | None
    horizon: int | None = None
    every_step: bool = False

    @property
    def per_step(self) -> bool:
        """Whether every step has a target of its own."""
        return self.kind == "tagging" or self.every_step

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
        for name in ("num_features", "num_tokens", "num_classes", "length", "horizon"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, smallest=1)


class Sequences(Dataset[Batch]):
    """The sequences of one split; indexing with a list of positions gives their batch.

    Args:
        values: All sequences end to end: (N, F) float32, or (N,) of any integer type.
        lengths: Steps of each sequence, (n,) int64.
        targets: (n,) int64 or float32; (N,) if ``per_step``.
        padding: What fills a batch behind its shorter sequences.
        per_step: Whether every step has a target of its own.
        scale: Mean and standard deviation by which number targets were centered and scaled.
    """

    labels: tuple[str, ...] | None = None  # the classes' names, in their order
    scaling: Scaling | None = None  # what values were centered and scaled by
    masked = False  # whether values have a second half that says what was missing

    def __init__(
        self,
        values: Tensor,
        lengths: Tensor,
        targets: Tensor,
        *,
        padding: int = 0,
        per_step: bool = False,
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.values, self.lengths, self.targets = values, lengths, targets
        self.padding, self.per_step, self.scale = padding, per_step, scale
        self.ends = lengths.cumsum(0)
        self.fixed = bool((lengths == lengths[0]).all())

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, indices: list[int]) -> Batch:
        """Return the sequences at ``indices`` as one padded batch."""
        inputs = self._padded(self.values, indices, self.padding)
        if self.per_step:
            nothing = NOTHING if self.targets.is_floating_point() else IGNORED
            targets = self._padded(self.targets, indices, nothing)
        else:
            targets = self.targets[indices]
        return Batch(inputs, targets, None if self.fixed else self.lengths[indices])

    def _padded(self, values: Tensor, indices: list[int], padding: float) -> Tensor:
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


def sequences_from(
    split: str, dataset: datasets.Dataset, claims: Claims, max_length: int | None = None
) -> Sequences:
    """Decode one split and check it against what the configuration claims.

    Args:
        split: Its name, for messages.
        dataset: Columns ``inputs`` (lists of numbers, lists of frames, or text) and ``targets``;
            and, where rows were held out, ``row``: which it was before.
        claims: What the configuration says.
        max_length: Steps kept of each sequence; None keeps all.

    Raises:
        ValueError: If the split is empty, has an empty sequence, a non-finite value, a label
            outside the classes, or contradicts ``claims``. The message names split and row.
    """
    if len(dataset) == 0:
        raise ValueError(f"split '{split}' has no rows")
    table = dataset.with_format("arrow")[:]
    places = table["row"].to_numpy() if "row" in dataset.column_names else None
    rows = Rows(split, places)
    values, lengths = sequence_column(rows, table["inputs"], claims.num_features, max_length)
    if claims.kind == "tagging":
        targets, tagged = sequence_column(rows, table["targets"], None, max_length)
        return checked(rows, values, lengths, targets, claims, tagged)
    return checked(rows, values, lengths, numeric_column(rows, None, table["targets"]), claims)


def checked(
    rows: Rows,
    values: np.ndarray,
    lengths: np.ndarray,
    targets: np.ndarray,
    claims: Claims,
    target_lengths: np.ndarray | None = None,
    *,
    gaps: bool = False,
) -> Sequences:
    """Return the sequences of a split, checked against what the configuration claims.

    Args:
        rows: Names of the rows, for messages.
        values: All sequences end to end, (N, F) or (N,).
        lengths: Steps of each, (n,).
        targets: One a sequence, (n,), or one a step, (N,).
        claims: What the configuration says.
        target_lengths: Where there is one a step, how many each sequence has, (n,).
        gaps: Whether NaN stands for a missing value, or for a step where nothing is predicted.

    Raises:
        ValueError: As :func:`sequences_from`.
    """
    _check_lengths(rows, lengths, claims.length)
    if claims.num_features is not None:
        _check_finite(rows, rows.inputs, values, lengths, gaps)
    else:
        _check_range(rows, rows.inputs, values, lengths, claims.num_tokens, "symbol", "num_tokens")
    per_step = target_lengths is not None
    if target_lengths is not None and not np.array_equal(target_lengths, lengths):
        row = int(np.flatnonzero(target_lengths != lengths)[0])
        one, many = ("class", "classes") if claims.kind == "tagging" else ("number", "numbers")
        raise ValueError(
            f"every step needs a {one}: {rows.name(row, rows.targets)} has {lengths[row]} steps "
            f"and {target_lengths[row]} {many}"
        )
    targets = checked_targets(rows, targets, claims, lengths if per_step else None, gaps)
    return Sequences(
        torch.from_numpy(values),
        torch.from_numpy(lengths),
        torch.from_numpy(targets),
        padding=0 if claims.num_tokens is None else claims.num_tokens - 1,
        per_step=per_step,
    )


def checked_targets(
    rows: Rows, targets: np.ndarray, claims: Claims, sizes: np.ndarray | None, gaps: bool
) -> np.ndarray:
    """Return what is to be predicted, float32 numbers or int64 classes.

    Args:
        rows: Names of the rows, for messages.
        targets: One a row, or one a step.
        claims: What the configuration says.
        sizes: Where there is one a step, the steps of each row.
        gaps: Whether NaN is a step where nothing is predicted.

    Raises:
        ValueError: If one is not finite, or not one of the classes.
    """
    _check_finite(rows, rows.targets, targets, sizes, gaps)
    if claims.num_classes is None:
        return in_float32(rows, rows.targets, targets, sizes)
    if gaps and targets.dtype.kind == "f":
        targets = np.where(np.isnan(targets), IGNORED, targets)
    labels = targets.astype(np.int64)
    if (labels != targets).any():
        step = int(np.flatnonzero(labels != targets)[0])
        raise ValueError(
            "a class is a whole number: "
            f"{rows.name(_row_of(step, sizes), rows.targets)} has {targets[step]}"
        )
    predicted = labels[labels != IGNORED] if gaps else labels
    if len(predicted) and (predicted.min() < 0 or predicted.max() >= claims.num_classes):
        _check_range(rows, rows.targets, labels, sizes, claims.num_classes, "label", "num_classes")
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


def _row_of(step: int, sizes: np.ndarray | None) -> int:
    """Return the row that a step belongs to, or where each row is one step, itself."""
    return step if sizes is None else int(np.searchsorted(np.cumsum(sizes), step, side="right"))


def _check_finite(
    rows: Rows, name: str | None, values: np.ndarray, sizes: np.ndarray | None, gaps: bool
) -> None:
    if values.dtype.kind != "f":
        return
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        step = int(np.flatnonzero(bad.reshape(len(values), -1).any(axis=1))[0])
        raise ValueError(
            f"values must be finite: {rows.name(_row_of(step, sizes), name)} has {values[step]}"
        )


def _check_range(
    rows: Rows,
    name: str | None,
    values: np.ndarray,
    sizes: np.ndarray | None,
    size: int | None,
    what: str,
    key: str,
) -> None:
    if not len(values) or (values.min() >= 0 and values.max() < (size or 0)):
        return
    step = int(np.flatnonzero((values < 0) | (values >= (size or 0)))[0])
    raise ValueError(
        f"data.{key}={size} allows {what}s 0 to {(size or 0) - 1}, but "
        f"{rows.name(_row_of(step, sizes), name)} has {values[step]}"
    )
