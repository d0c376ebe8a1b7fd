"""Centering and scaling by what the training split holds.

Dimensions: N steps of all sequences of a split, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from lnrnn.data.sequences import Sequences
from lnrnn.data.windows import Windows
from lnrnn.preparation import Scaling


def scale_inputs(splits: Mapping[str, Sequences | Windows]) -> None:
    """Center and scale each feature of every split by statistics of ``train`` alone.

    Mean and biased standard deviation are taken over all steps of all training sequences; padding
    does not exist yet and cannot bias them, and what is missing (NaN) is left out. A constant
    feature is centered only.
    """
    train = splits["train"].values.double()  # (N, F)
    with _one_thread():
        if train.isnan().any():
            mean = train.nanmean(0)
            std = (train - mean).square().nanmean(0).sqrt()
        else:
            mean, std = train.mean(0), train.std(0, correction=0)
    std[std == 0] = 1
    del train
    scaling = Scaling(tuple(mean.tolist()), tuple(std.tolist()))
    for split in splits.values():
        split.values = ((split.values.double() - mean) / std).float()
        split.scaling = scaling


def scale_targets(splits: Mapping[str, Sequences | Windows]) -> None:
    """Center and scale numbers to predict by statistics of ``train``, which every split keeps."""
    train = splits["train"].targets.double()
    known = train[~train.isnan()]
    if not len(known):
        raise ValueError("no row to learn from has a number to predict: all are missing")
    with _one_thread():
        mean, std = known.mean(), known.std(correction=0)
    if std == 0:
        std = torch.ones(())
    for split in splits.values():
        split.targets = ((split.targets.double() - mean) / std).float()
        split.scale = (float(mean), float(std))


def scale_alike(split: Sequences | Windows, like: Sequences | Windows) -> None:
    """Treat a split that was only masked as another was treated: its numbers, those to predict too.

    Args:
        split: As it was read; where values may be missing, masked.
        like: Scaled by statistics of its own.
    """
    if like.scaling is not None:
        statistics = (like.scaling.mean, like.scaling.std)
        mean, std = (torch.tensor(part, dtype=torch.float64) for part in statistics)
        given, mask = split.values[:, : len(mean)], split.values[:, len(mean) :]
        given = ((given.double() - mean) / std).float()
        if like.masked:
            given = given.masked_fill(mask.bool(), 0.0)
        split.values = torch.cat((given, mask), dim=1)
        split.scaling = like.scaling
    if like.scale != (0.0, 1.0):
        mean, std = like.scale
        split.targets = ((split.targets.double() - mean) / std).float()
        split.scale = like.scale


def mask_missing(splits: Mapping[str, Sequences | Windows]) -> None:
    """Put 0 (after scaling: the mean) for what is missing, and a feature that says so beside each.

    (N, F) becomes (N, 2F): the second half is 1 where the first was missing, else 0.
    """
    for split in splits.values():
        split.values = _masked(split.values)
        split.masked = True


def _masked(values: Tensor) -> Tensor:
    missing = values.isnan()
    return torch.cat((values.masked_fill(missing, 0.0), missing.to(values.dtype)), dim=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sum in one order: with several threads the last bits would depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
