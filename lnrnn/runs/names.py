"""Names of folders, made of letters, digits, ``.``, ``-`` and ``_`` only."""

import hashlib
import re
from collections.abc import Sequence

WHOLE = 60  # characters up to which a name is left as it is
LONGEST = 100  # of one that was shortened


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


def joined(parts: Sequence[str]) -> str:
    """Return parts with ``-`` between them; over 60 characters shortened, with a hash at the end.

    Long parts lose their middle, so that keys and the ends of paths can be recognized; what has no
    room within 100 even so is counted: ``eps-1e-3-files-our..may.csv-f3cc-and-2-more-1a2b3c4d``.
    """
    name = "-".join(parts)
    if len(name) <= WHOLE:
        return name
    room = len(with_hash(name, name)) - len(name)
    kept = [part if len(part) <= 26 else f"{part[:9]}..{part[-15:]}" for part in parts]
    short = "-".join(kept)
    while len(short) + room > LONGEST:
        kept.pop()
        short = "-".join([*kept, f"and-{len(parts) - len(kept)}-more"])
    return with_hash(short, name)


def cut(name: str) -> str:
    """Return what versions before 0.2 made of a name over 60 characters."""
    return name if len(name) <= WHOLE else with_hash(name[:51], name)
