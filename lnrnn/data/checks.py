"""What a single setting of ``conf/data`` may be."""

from numbers import Real

from lnrnn.checks import is_whole


def check_whole(key: str, value: object, smallest: int) -> None:
    """Check a setting that counts something.

    Args:
        key: Its name below ``data``, for messages.
        value: What was given.
        smallest: The smallest value allowed.

    Raises:
        TypeError: If it is not a whole number; true and false are not.
        ValueError: If it is below ``smallest``.
    """
    if not is_whole(value):
        raise TypeError(f"data.{key} must be a whole number, got {value!r}")
    if int(value) < smallest:
        raise ValueError(f"data.{key} must be at least {smallest}, got {value}")


def check_share(share: object, purpose: str) -> None:
    """Check a part of the data, strictly between 0 and 1.

    Args:
        share: What was given.
        purpose: What it is for, such as ``"validation"``.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is outside (0, 1).
    """
    if isinstance(share, bool) or not isinstance(share, Real):
        raise TypeError(f"the {purpose} share must be a number, got {share!r}")
    if not 0 < float(share) < 1:
        raise ValueError(f"the {purpose} share must be between 0 and 1, got {share}")
