"""Parts of a model by name: ``encoder``, ``embedding``, ``head.linear``, ``*bias*``."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import suggest


def is_part(name: str, pattern: str) -> bool:
    """Return whether a tensor is, or is inside, a part.

    Args:
        name: The tensor's, such as ``encoder.layer.weight_ih_l0``.
        pattern: A dotted piece of such names: ``encoder``, ``layer``, ``layer.weight_ih_l0``; ``*``
            stands for any letters.

    Example:
        >>> is_part("encoder.embedding.weight", "embedding")
        True
        >>> is_part("encoder.layer.bias_ih_l0", "*bias*")
        True
        >>> is_part("encoder.layer.bias_ih_l0", "bias")
        False
    """
    pieces = (pattern, f"{pattern}.*", f"*.{pattern}", f"*.{pattern}.*")
    return any(fnmatchcase(name, piece) for piece in pieces)


def select(names: Iterable[str], patterns: Sequence[str], key: str) -> list[str]:
    """Return the names that are in one of the parts.

    Args:
        names: Of tensors.
        patterns: Names of parts, see :func:`is_part`.
        key: The setting they are from, for messages.

    Raises:
        ConfigurationError: If a part has no tensor; with the parts that there are.
    """
    names = list(names)
    for pattern in patterns:
        if not any(is_part(name, pattern) for name in names):
            parts = sorted({part for name in names for part in _parts(name)})
            raise ConfigurationError(
                f"{key}={pattern}: the model has no such part. {suggest(pattern, parts)}"
                f"Its parts: {', '.join(parts)}"
            )
    return [name for name in names if any(is_part(name, pattern) for pattern in patterns)]


def _parts(name: str) -> list[str]:
    """Return a tensor's name, and those of the modules that it is in."""
    pieces = name.split(".")
    return [".".join(pieces[:count]) for count in range(1, len(pieces) + 1)]
