"""A run's own files: opened where they are and nowhere else, and written whole or not at all.

A run's folder may come from somebody else, and a name in it may be a link to any file at all.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

# Windows has neither. The second returns at once from opening a pipe that nobody writes to.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# A link that wandb makes, anew in every session, into the user's cache. Nothing here opens it.
_OF_WANDB = "wandb/*run-*/logs/debug-core.log"
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # as `replacing` names them


def open_own(path: Path, mode: str = "rb") -> Any:
    """Open one of a run's own files, and never what a link in its place leads to.

    Args:
        path: The file.
        mode: As for ``open``, without ``w``, since :func:`replacing` makes files anew. A file that
            may be changed must have no second name (hard link), by which it may belong elsewhere.

    Returns:
        What ``open`` does.

    Raises:
        FileNotFoundError: If it is not there.
        OSError: If it is a link or no file, or has a second name and may be changed.
    """
    if "w" in mode:
        raise ValueError(f"mode {mode!r} would empty {path} before it is looked at: use replacing")
    file = path.open(mode) if not _FLAGS else open(path, mode, opener=_open_unfollowed)  # noqa: SIM115
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise OSError(f"{path} is not a file")
    if mode not in ("r", "rb") and found.st_nlink > 1:
        file.close()
        raise OSError(
            f"{path} has a second name (a hard link), so what is written here would change that "
            "file too: put a copy in its place"
        )
    return file


def _open_unfollowed(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | _FLAGS, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(f"{path} is a link, which is not followed: put a copy in its place") from None


def is_of_the_disk(error: OSError) -> bool:
    """Return whether a disk is full, broken or may not be written, and not something else amiss."""
    disk = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return error.errno in disk


def misplaced(folder: Path) -> str | None:
    """Return what is wrong with a run's or a comparison's folder, if something in it is elsewhere.

    Nothing in it may be a link, nor be anything but a file or a folder. The folder itself may be
    one. Loggers keep folders of their own in it, in which links may lead to what is in it too.
    """
    home = folder.resolve()
    for path in _below(folder):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # another process has just removed it
            continue
        if stat.S_ISLNK(mode):
            if path.relative_to(folder).match(_OF_WANDB):
                continue
            of_a_logger = path.parent not in (folder, folder / "checkpoints")
            if not (of_a_logger and path.resolve().is_relative_to(home)):
                return (
                    f"{path} is a link, but a run's files must be in its folder: what is written "
                    "and removed there would be elsewhere. Put a copy in its place, or move the "
                    "folder away; the folder as a whole may be a link."
                )
        elif not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return f"{path} is neither a file nor a folder, and no run makes such: remove it."
    return None


def _below(folder: Path) -> Iterator[Path]:
    """Yield everything in a folder and its folders, nothing through a link."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *files))


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
    name is on the disk too, :func:`sync_folder` sees to. Where ``path`` was a link, the link is
    replaced and not what it led to.

    Args:
        path: The file to make or replace.
        flushed: Whether to wait for the disk; what can be made again need not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a process that had this id and was killed
    try:
        # Never what somebody has put there in between.
        with named(path), temporary.open("xb") as file:
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
        if _TEMPORARY.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
