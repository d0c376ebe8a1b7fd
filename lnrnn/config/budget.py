"""When a run ends and when it validates: settled once, from what files and overrides say.

A data set's file says how many epochs are usual (``trainer.default_epochs``). Nobody has asked for
that, so it is a limit only where ``trainer`` has neither ``max_epochs`` nor ``max_steps``.
"""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, open_dict

from lnrnn.checks import is_whole
from lnrnn.config.errors import ConfigurationError

USUAL = "default_epochs"
NO_LIMIT = -1  # Lightning's word for it


def settle_budget(config: DictConfig, overrides: Sequence[str]) -> None:
    """Write a run's limits into ``trainer``, and take ``default_epochs`` out of a configuration.

    What is written is what holds, so a run's ``config.yaml`` says when it ends.

    Args:
        config: A composed configuration, which is changed.
        overrides: What was typed.

    Raises:
        ConfigurationError: If a limit is not a whole number, or there is none.
    """
    for text in overrides:
        if USUAL in text and text.lstrip("+~").startswith("trainer"):
            raise ConfigurationError(
                f"{text}: {USUAL} is what a data set's file says, and no limit where there is "
                "another. Give the limit itself: trainer.max_epochs=5"
            )
    trainer = config.get("trainer")
    if not isinstance(trainer, DictConfig):
        return  # what is wrong with it is said where nodes are checked
    with open_dict(trainer):
        usual = trainer.pop(USUAL, NO_LIMIT)
        steps = _limit("max_steps", trainer.get("max_steps", NO_LIMIT))
        epochs = trainer.get("max_epochs")
        if epochs is None:
            epochs = NO_LIMIT if steps > 0 else usual
        trainer.max_steps, trainer.max_epochs = steps, _limit("max_epochs", epochs)
    if trainer.max_steps == trainer.max_epochs == NO_LIMIT:
        raise ConfigurationError("training needs an end: set trainer.max_epochs or max_steps")
    _check_interval(trainer)


def counts_steps(interval: Any) -> bool:
    """Return whether a ``val_check_interval`` is in optimizer steps, and no share of an epoch."""
    return is_whole(interval, least=1) or (isinstance(interval, float) and interval > 1)


def _limit(key: str, value: Any) -> int:
    if value == NO_LIMIT or is_whole(value, least=1):
        return value
    raise ConfigurationError(
        f"trainer.{key} must be a whole number from 1 up, or {NO_LIMIT} for no limit; got {value!r}"
    )


def _check_interval(trainer: DictConfig) -> None:
    interval = trainer.get("val_check_interval")
    if interval is None:
        return
    share = isinstance(interval, float) and 0 < interval <= 1
    if not share and not (counts_steps(interval) and interval % 1 == 0):
        raise ConfigurationError(
            "trainer.val_check_interval must be a whole number of optimizer steps, such as 100, or "
            f"a share of an epoch, such as 0.25 (1.0 is at its end); got {interval!r}"
        )
    if not share:
        trainer.val_check_interval = int(interval)  # 1e2 is a float to YAML
    every = trainer.get("check_val_every_n_epoch")
    if counts_steps(interval) and every is not None:
        raise ConfigurationError(
            f"trainer.val_check_interval={interval} counts optimizer steps over all epochs, so "
            f"trainer.check_val_every_n_epoch={every} cannot hold too: leave one of them out"
        )
