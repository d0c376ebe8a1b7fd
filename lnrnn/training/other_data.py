"""A trained model's test on other data than its run's."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig

from lnrnn.config.compose import instantiate
from lnrnn.config.other_data import check_changes
from lnrnn.data import DataModule
from lnrnn.data.datamodule import Split
from lnrnn.data.sequences import Claims, standardized
from lnrnn.training.build import explained


def build_other_data(config: DictConfig, changes: Mapping[str, Any]) -> DataModule:
    """Return a run's data with another test split, loaded and checked.

    The other split is treated as the run's own was: numbers are centered and scaled by statistics
    of what the run learned from, and labels are numbered as there.

    Args:
        config: The run's configuration.
        changes: By key of ``data``; ``files`` are those of the test.

    Raises:
        ConfigurationError: If they may not be changed, or the data cannot be read.
    """
    arguments = check_changes(changes, config.data)
    other = instantiate(config.data, **arguments)
    if config.data.get("standardize") and other.num_features is not None:
        claims = Claims(
            other.kind, other.num_features, other.num_tokens, other.num_classes, other.length
        )
        own = instantiate(config.data, standardize=False)
        raw = instantiate(config.data, **arguments, standardize=False)
        read = partial(_standardized_alike, own, raw)
        other = DataModule(read, claims, batch_size=other.batch_size, num_workers=other.num_workers)
    with explained("data"):
        other.setup("test")
    return other


def _standardized_alike(own: DataModule, other: DataModule) -> Mapping[str, Split]:
    # The other's training split is not the run's: nothing of its files is held out for a test.
    return standardized({"train": own.splits["train"], "test": other.splits["test"]})  # pyright: ignore[reportArgumentType]
