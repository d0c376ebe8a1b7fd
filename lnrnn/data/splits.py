"""Which rows are held out where a source has no split of its own."""

from __future__ import annotations

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


def hold_out(
    dataset: datasets.Dataset, share: float, seed: int, purpose: str
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Split a data set in two, every class in proportion.

    The rows are shuffled, laid out class by class, and every k-th of them is held out: the number
    held out is ``round(share * rows)`` (at least one), and each class gives its part to within one.

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
    check_share(share, purpose)
    rows = len(dataset)
    if rows < 2:
        raise ValueError(
            f"a {purpose} share needs at least two rows to choose from, got {rows}: give more data "
            "or files of their own for each split"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "split", purpose))
    shuffled = torch.randperm(rows, generator=generator).numpy()
    targets = np.asarray(dataset.with_format("numpy")["targets"][:])
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    count = min(max(1, round(share * rows)), rows - 1)
    held = by_class[((np.arange(count) + 0.5) * rows / count).astype(int)]
    mask = np.zeros(rows, dtype=bool)
    mask[held] = True
    return dataset.select(np.flatnonzero(~mask)), dataset.select(np.flatnonzero(mask))
