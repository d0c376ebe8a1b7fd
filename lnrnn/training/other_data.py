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
    if not config.data.get("standardize"):
        other = instantiate(config.data, **arguments)
        with explained("data"):
            other.setup("test")
        return other
    own = instantiate(config.data)
    other = instantiate(config.data, **arguments, standardize=False)
    with explained("data"):
        like = own.splits["train"]
        for split in other.splits.values():  # by what the run learned from, not by their own
            if not isinstance(like, Streams):
                scale_alike(split, like)
    return other
