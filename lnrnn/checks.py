"""What a single value must be, asked in every room."""

from numbers import Integral
from typing import TypeGuard


def is_whole(value: object, least: int | None = None) -> TypeGuard[int]:
    """Return whether a value is a whole number, which True and False are not.

    Args:
        value: Anything.
        least: The smallest that will do; None for any.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return least is None or int(value) >= least


def stays_below(text: str) -> bool:
    """Return whether a text, taken as a path, leads to something below where it is used.

    Example:
        >>> [stays_below(text) for text in ("mnist1d", "my/table", "../x", "/x", "a//b", "")]
        [True, True, False, False, False, False]
    """
    parts = text.split("/")
    return text.isprintable() and "\\" not in text and not {"", ".", ".."} & set(parts)
