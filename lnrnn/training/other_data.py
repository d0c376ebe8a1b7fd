"""A trained model's test on other data than its run's."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from lnrnn.config.compose import instantiate
from lnrnn.config.other_data import check_changes
from lnrnn.data import DataModule
from lnrnn.data.scaling import scale_alike
from lnrnn.data.streams import Streams
from lnrnn.training.build import explained


def build_other_data(config: DictConfig, changes: Mapping[str, Any], own: DataModule) -> DataModule:
    """Return a run's data with another test split, loaded and checked.

    The other split is treated as the run's own was: numbers are centered and scaled by statistics
    of what the run learned from, labels are numbered as there, and a series that was learned from
    may come again.

    Args:
        config: The run's configuration.
        changes: By key of ``data``; ``files`` are those of the test.
        own: The run's data.

    Raises:
        ConfigurationError: If they may not be changed, or the data cannot be read.
    """
    arguments = check_changes(changes, config.data)
    if config.data.get("standardize"):  # by what the run learned from, not by their own
        arguments["standardize"] = False
    other = instantiate(config.data, **arguments)
    with explained("data"):
        other.read_as_test_of(own)
        like = own.splits["train"]
        if "standardize" in arguments and not isinstance(like, Streams):
            for split in other.splits.values():
                scale_alike(split, like)
    return other
