"""Writing files so that they are whole or absent, whenever the machine stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in errors that do not: a write that finds the disk full is told no name."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, *, flushed: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path``, and put it in place once its content is on the disk.

    The same folder is the same file system, so the last move is one step; ``$TMPDIR`` may be
    anywhere. If the body fails, ``path`` is what it was and nothing is left beside it. That the new
    name is on the disk too, :func:`sync_folder` sees to.

    Args:
        path: The file to make or replace.
        flushed: Whether to wait for the disk; what can be made again need not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with named(path), temporary.open("wb") as file:
            yield file
            file.flush()
            if flushed:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # what has failed is the first error
            temporary.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Give ``path`` a new content in one step, so that a reader never sees half of it."""
    with replacing(path) as file:
        file.write(text.encode())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk; a file's own fsync leaves them out."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left; no one else may write there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
