"""Leases: whether a process of another machine still lives, as far as its lock tells.

Nobody can ask another machine for its processes, and clocks differ. So whoever holds a lock touches
it every few seconds, and whoever waits for it looks whether it changes, by a clock of its own.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BEAT = 10.0  # seconds from one touch to the next
LEASE = 180.0  # seconds; a shared disk may show what it knew a minute ago
TAKEN = 75  # exit code: somebody else has the folder (EX_TEMPFAIL)


@contextmanager
def touched(lock: Path, is_lost: Callable[[], bool]) -> Iterator[None]:
    """Touch a lock every ``BEAT`` seconds.

    A process that was stopped for longer than ``LEASE`` seconds may find its lock another's, or
    gone with that other, who has finished. It ends at once then, and saves nothing: two runs in one
    folder would spoil each other.

    Args:
        lock: This process's.
        is_lost: Tells whether it no longer is.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            # First: where the disk stood still, this waited for it, and what comes next is new.
            with suppress(OSError):
                os.utime(lock, follow_symlinks=False)
            with suppress(OSError):  # a disk that does not answer may do so at the next
                if is_lost() and not over.is_set():  # and not since it was left
                    text = f"error: {lock.parent} was taken over while this process stood still\n"
                    with suppress(OSError, ValueError):
                        sys.stderr.write(text)
                        sys.stderr.flush()
                    os._exit(TAKEN)

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()


class Watch:
    """Looks at locks again and again, and tells which have not changed for ``LEASE`` seconds."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def has_lapsed(self, lock: Path) -> bool:
        """Return whether a lock is as it was at a look that is ``LEASE`` seconds ago."""
        try:
            found = lock.lstat()
        except FileNotFoundError:
            self._seen.pop(lock, None)
            return False
        state, now = (found.st_ino, found.st_mtime_ns), time.monotonic()
        before, since = self._seen.setdefault(lock, (state, now))
        if before != state:
            self._seen[lock] = (state, now)
            return False
        return now - since >= LEASE
