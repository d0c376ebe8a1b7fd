"""How much each class weighs in the loss, and whether classes are unequal."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from lnrnn.config.errors import ConfigurationError
from lnrnn.data import DataModule
from lnrnn.data.batch import IGNORED
from lnrnn.data.windows import Windows

UNEQUAL = 3  # times as many examples as another class has
_AT_ONCE = 4096  # windows


def class_weights_of(config: DictConfig, data: DataModule) -> Tensor | None:
    """Return what a configuration lets each class weigh, (C,) float32; None for all alike.

    ``balanced`` gives class c the weight N / (C N_c), for N_c of N training targets: every class
    has the same part in the loss of the training set.

    Args:
        config: With the key ``class_weights``, where it is not from an older version.
        data: The data.

    Raises:
        ConfigurationError: If the data have no classes or others, or a class to be balanced has
            no example.
    """
    given = config.get("class_weights")
    if given is None:
        return None
    if data.kind not in ("classification", "tagging") or data.num_classes is None:
        raise ConfigurationError(
            f"class_weights={given} is for classes, and this is {data.kind.replace('_', ' ')}: "
            "leave it out"
        )
    names = data.preparation.class_names
    if given != "balanced":
        if len(given) != data.num_classes:
            raise ConfigurationError(
                f"class_weights has {len(given)} numbers, and the data have {data.num_classes} "
                f"classes: {', '.join(names)}"
            )
        return torch.tensor(list(given), dtype=torch.float32)
    counts = class_counts(data)
    if missing := [name for name, count in zip(names, counts.tolist(), strict=True) if not count]:
        raise ConfigurationError(
            f"class_weights=balanced: no training example is of {', '.join(missing)}. Give a "
            f"weight for each of {', '.join(names)}: 'class_weights=[...]'"
        )
    return (counts.sum() / (data.num_classes * counts.double())).float()


def unequal_classes(config: DictConfig, data: DataModule) -> str | None:
    """Say that the classes of a classification are unequal; None if they are not, or weighed."""
    if data.kind != "classification" or config.get("class_weights") is not None:
        return None
    counts, names = class_counts(data), data.preparation.class_names
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] <= UNEQUAL * counts[least]:
        return None
    return (
        f"classes are unequal: of {int(counts.sum()):,} training examples {int(counts[most]):,} "
        f"are {names[most]!r} and {int(counts[least]):,} {names[least]!r}. macro_f1 counts all "
        "classes alike, as accuracy does not (monitor_metric=val/macro_f1), and "
        "class_weights=balanced lets them weigh alike in the loss"
    )


def class_counts(data: DataModule) -> Tensor:
    """Return how many training targets each class has, (C,) int64."""
    assert data.num_classes is not None
    counts = torch.zeros(data.num_classes, dtype=torch.int64)
    for targets in _targets(data.splits["train"]):
        counts += torch.bincount(targets[targets != IGNORED], minlength=data.num_classes)
    return counts


def _targets(split: Any) -> Iterator[Tensor]:
    if not isinstance(split, Windows):
        yield split.targets
        return
    for first in range(0, len(split), _AT_ONCE):  # a step may be in several windows, or in none
        indices = list(range(first, min(first + _AT_ONCE, len(split))))
        yield split[indices].targets.flatten()
