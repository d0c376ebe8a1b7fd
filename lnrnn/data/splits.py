"""Which rows are held out where a source has no split of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lnrnn.data.checks import check_share
from lnrnn.seeding import derive_seed

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Shares:
    """Parts held out where the source has no such split.

    Attributes:
        validation: Part of what is not for the test, 0 < validation < 1.
        test: Part of everything, 0 < test < 1.
        seed: Chooses the rows.
    """

    validation: float
    test: float
    seed: int

    def __post_init__(self) -> None:
        check_share(self.validation, "validation")
        check_share(self.test, "test")


@dataclass(frozen=True)
class SplitSeed:
    """The seed that chooses which examples are the test, so that several tests can be made.

    Attributes:
        key: The argument that sets it, such as ``"split_seed"``.
        seed: Its value.
        fresh: Whether another seed makes other examples; otherwise it shares out the same ones.
    """

    key: str
    seed: int
    fresh: bool = False


def hold_out(
    dataset: datasets.Dataset, share: float, seed: int, purpose: str
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Split a data set in two, every class in proportion, as :func:`held_out` chooses.

    Args:
        dataset: Rows with a column ``targets`` of whole numbers.
        share: Part to hold out, 0 < share < 1.
        seed: The split's own seed, not the run's: all seeds of a comparison see one split.
        purpose: What is held out, such as ``"validation"``.

    Returns:
        The rest and the part held out, both in the order of ``dataset``.

    Raises:
        ValueError: If ``share`` is outside (0, 1), or there are fewer than two rows.
    """
    targets = np.asarray(dataset.with_format("numpy")["targets"][:])
    mask = held_out(targets, share, seed, purpose)
    return dataset.select(np.flatnonzero(~mask)), dataset.select(np.flatnonzero(mask))


def held_out(targets: np.ndarray, share: float, seed: int, purpose: str) -> np.ndarray:
    """Choose rows to hold out, every class in proportion.

    The rows are shuffled, laid out class by class, and every k-th of them is held out: the number
    held out is ``round(share * rows)`` (at least one), and each class gives its part to within one.
    Where the targets are numbers, small and large ones are held out alike.

    Args:
        targets: What is to be predicted, (n,).
        share: Part to hold out, 0 < share < 1.
        seed: The split's own seed.
        purpose: What is held out, such as ``"validation"``.

    Returns:
        Which rows are held out, (n,) bool.

    Raises:
        ValueError: If ``share`` is outside (0, 1), or there are fewer than two rows.
    """
    check_share(share, purpose)
    rows = len(targets)
    if rows < 2:
        raise ValueError(
            f"a {purpose} share needs at least two rows to choose from, got {rows}: give more data "
            "or files of their own for each split"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "split", purpose))
    shuffled = torch.randperm(rows, generator=generator).numpy()
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    count = min(max(1, round(share * rows)), rows - 1)
    held = by_class[((np.arange(count) + 0.5) * rows / count).astype(int)]
    mask = np.zeros(rows, dtype=bool)
    mask[held] = True
    return mask


def shared_out(
    targets: np.ndarray, given: Collection[str], shares: Shares
) -> dict[str, np.ndarray]:
    """Return which rows to learn from go to which split, where a source has no such split.

    Args:
        targets: What is to be predicted of the rows that ``train`` has, (n,).
        given: The splits that the source has, ``train`` among them.
        shares: What is held out of ``train``.

    Returns:
        Positions of rows, in order, for ``train`` and every split that was not given.
    """
    left = np.arange(len(targets))
    parts: dict[str, np.ndarray] = {}
    for split, share in (("test", shares.test), ("validation", shares.validation)):
        if split not in given:
            mask = held_out(targets[left], share, shares.seed, split)
            parts[split], left = left[mask], left[~mask]
    return {"train": left, **parts}
