"""What a configuration may say of where weights come from, and of which are not trained."""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import ListConfig

from lnrnn.checks import is_whole
from lnrnn.config.errors import ConfigurationError

EPOCHS = re.compile(r"([1-9][0-9]{0,8}) ?epochs?")


def check_transfer(config: Mapping[str, Any]) -> None:
    """Check what is said of initial weights and of parts that are frozen.

    Args:
        config: With the keys ``init_from``, ``init_parts``, ``freeze`` and ``unfreeze_at``.

    Raises:
        ConfigurationError: If a value does not fit, or has no effect without another.
    """
    source = config["init_from"]
    if source is not None and (not isinstance(source, str) or not source):
        raise ConfigurationError(
            f"init_from must be null, or a run's folder or file of weights, got {source!r}"
        )
    for key in ("init_parts", "freeze"):
        names_of(key, config[key])
    if config["init_parts"] is not None and source is None:
        raise ConfigurationError("init_parts has no effect without init_from=RUN")
    when = config["unfreeze_at"]
    is_epochs = isinstance(when, str) and EPOCHS.fullmatch(when)
    if when is not None and not is_epochs and not is_whole(when, least=1):
        raise ConfigurationError(
            "unfreeze_at must be null, a number of optimizer steps such as 200, or one of epochs "
            f"such as 2epochs, from 1 up; got {when!r}"
        )
    if when is not None and config["freeze"] is None:
        raise ConfigurationError(
            "unfreeze_at has no effect without something frozen: freeze=encoder"
        )


def names_of(key: str, value: Any) -> tuple[str, ...]:
    """Return the names of parts that ``init_parts`` or ``freeze`` has; none for null.

    Raises:
        ConfigurationError: If it is neither a name nor a list of at least one.
    """
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if (
        not isinstance(names, list | tuple | ListConfig)
        or not names
        or not all(isinstance(name, str) and re.fullmatch(r"[\w.*?]+", name) for name in names)
    ):
        raise ConfigurationError(
            f"{key} must be null, a name of a part such as encoder, or a list of such names, in "
            f"which * stands for any letters; got {value!r}"
        )
    return tuple(names)
