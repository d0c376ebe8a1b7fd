"""Centering and scaling by what the training split holds.

Dimensions: N steps of all sequences of a split, F features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lnrnn.data.sequences import Sequences
from lnrnn.data.windows import Windows


def scale_inputs(splits: Mapping[str, Sequences | Windows]) -> None:
    """Center and scale each feature of every split by statistics of ``train`` alone.

    Mean and biased standard deviation are taken over all steps of all training sequences; padding
    does not exist yet and cannot bias them, and what is missing (NaN) is left out. A constant
    feature is centered only.
    """
    train = splits["train"].values.double()  # (N, F)
    if train.isnan().any():
        mean = train.nanmean(0)
        std = (train - mean).square().nanmean(0).sqrt()
    else:
        mean, std = train.mean(0), train.std(0, correction=0)
    std[std == 0] = 1
    del train
    for split in splits.values():
        split.values = ((split.values.double() - mean) / std).float()


def scale_targets(splits: Mapping[str, Sequences | Windows]) -> None:
    """Center and scale numbers to predict by statistics of ``train``, which every split keeps."""
    train = splits["train"].targets.double()
    known = train[~train.isnan()]
    if not len(known):
        raise ValueError("no row to learn from has a number to predict: all are missing")
    mean, std = known.mean(), known.std(correction=0)
    if std == 0:
        std = torch.ones(())
    for split in splits.values():
        split.targets = ((split.targets.double() - mean) / std).float()
        split.scale = (float(mean), float(std))


def mask_missing(splits: Mapping[str, Sequences | Windows]) -> None:
    """Put 0 (after scaling: the mean) for what is missing, and a feature that says so beside each.

    (N, F) becomes (N, 2F): the second half is 1 where the first was missing, else 0.
    """
    for split in splits.values():
        split.values = _masked(split.values)


def _masked(values: Tensor) -> Tensor:
    missing = values.isnan()
    return torch.cat((values.masked_fill(missing, 0.0), missing.to(values.dtype)), dim=1)
