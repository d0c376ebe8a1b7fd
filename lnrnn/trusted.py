"""Whether nobody else can have written what is in a folder, so that it may be used unseen."""

import os
import stat
import sys
from pathlib import Path


def distrusted(folder: Path) -> str | None:
    """Return why somebody else may have written what is in ``folder``, or None if nobody can have.

    The folder and what is in it must belong to us or to root, and be writable by nobody else. The
    same is true of the folders above it, but that everybody may write into one like ``/tmp``,
    where nobody can move away what is another's. So nothing can be exchanged after the look. Our
    home and what is above it are as they are: who can change those has us anyway.

    Args:
        folder: Without links in its path.
    """
    if sys.platform == "win32":  # nothing is built there
        return None
    home = Path("~").expanduser().resolve()
    closed = False  # to others: below, what is writable by all can be reached by none
    for path in (*reversed(folder.parents), folder):
        if home.is_relative_to(path):
            continue
        found = path.lstat()
        kept = path != folder and found.st_mode & stat.S_ISVTX
        if (why := _problem(path, found, closed=bool(closed or kept))) is not None:
            return why
        closed = closed or not found.st_mode & 0o011
    for path in folder.iterdir():
        try:
            found = path.lstat()
        except FileNotFoundError:  # a compiler's draft
            continue
        if (why := _problem(path, found, closed=closed)) is not None:
            return why
    return None


def _problem(path: Path, found: os.stat_result, *, closed: bool) -> str | None:
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if found.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to user {found.st_uid}"
    if not closed and _others_may_write(found):
        return f"others may write {path}"
    return None


def _others_may_write(found: os.stat_result) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_ours_alone(found.st_gid)


def _is_ours_alone(gid: int) -> bool:
    """Return whether a group is the one that many systems make for each user, with nobody else."""
    import grp  # here: Windows has neither
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}
