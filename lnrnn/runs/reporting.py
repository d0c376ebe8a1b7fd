"""What is done about a failure, and may fail too: it must not hide the failure."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def best_effort(trouble: str) -> Iterator[None]:
    """Do what belongs to a failure under way; if that fails too, say so and go on.

    A person needs to know of the first failure. What follows from it, such as a record that cannot
    be written to a full disk either, is a line before its message.

    Args:
        trouble: What it means if this fails, for that line.
    """
    try:
        yield
    except Exception as error:
        with suppress(OSError, ValueError):  # stderr may be on that disk too, or closed
            sys.stderr.write(f"warning: {trouble}: {error}\n")
            sys.stderr.flush()
