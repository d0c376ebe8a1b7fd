"""From a checked configuration to a model."""

from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.models import SequenceModel


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what goes wrong while an object is built into a ConfigurationError that says where."""
    try:
        yield
    except ConfigurationError:
        raise
    except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
        raise ConfigurationError(f"{what}: {error}") from error


def build_model(config: DictConfig) -> SequenceModel:
    """Return encoder and head joined, as torch initializes them.

    Args:
        config: A configuration with the nodes ``model`` and ``head``.

    Raises:
        ConfigurationError: If the parts do not fit one another, or name what they may not.
    """
    encoder, head = instantiate(config.model), instantiate(config.head)
    with explained("model"):
        return SequenceModel(encoder, head)
