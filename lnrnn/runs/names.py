"""Names of folders, made of letters, digits, ``.``, ``-`` and ``_`` only."""

import hashlib
import re


def plain(text: str) -> str:
    """Return a text with every run of other characters replaced by one ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def with_hash(name: str, text: str, digits: int = 8) -> str:
    """Return a name that tells ``text`` apart from others that it was shortened like.

    Args:
        name: What is left of the text.
        text: What the hash is of.
        digits: Of the hash, hexadecimal.
    """
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:digits]}"
