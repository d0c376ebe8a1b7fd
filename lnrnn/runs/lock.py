"""One folder, one run: who trains in a folder, and whether that process still lives."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import open_own
from lnrnn.runs.lease import Watch, touched
from lnrnn.runs.record import parse_json
from lnrnn.runs.reporting import best_effort

LOCK = "run.lock"
MACHINE = Path("/etc/machine-id")


class InUseError(ConfigurationError):
    """Another process that lives, or may live, trains in the folder."""


@contextmanager
def locked(folder: Path, *, leased: bool = False) -> Iterator[None]:
    """Hold ``folder`` for this process; it is made if need be, and removed if it stays empty.

    The lock is a file with the owner's process id, host and start. It counts as long as that
    process lives: what a killed one left is taken over, also where its id now belongs to another.

    Args:
        folder: A run's, or a comparison's.
        leased: Whether the lock is touched every few seconds, and is lost where it is not: for a
            process that nobody misses if it ends at once where it has lost it.

    Raises:
        InUseError: If another process that lives, or may live, holds the folder.
        ConfigurationError: If it may not be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path, me, refused = folder / LOCK, {**this_process(), "touched": leased}, False
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _take(path, me)
        except OSError as error:
            refused = True
            raise ConfigurationError(f"cannot use the folder {folder}: {error}") from error
        except ConfigurationError:
            refused = True
            raise
        with touched(path, lambda: _is_lost(path, me)) if leased else nullcontext():
            yield
    finally:  # also of a Ctrl-C while the lock was written
        try:
            _tidy(None if refused else path, me, made)
        except KeyboardInterrupt:
            _tidy(None if refused else path, me, made)
            raise


def _tidy(lock: Path | None, me: dict[str, Any], made: list[Path]) -> None:
    """Leave a lock that was taken, and remove the folders made for it that are empty."""
    if lock is not None:
        with best_effort(f"{lock} stays, and counts no longer when this process has ended"):
            _leave(lock, me)
    for parent in made:
        with suppress(OSError):  # a run is in it, or another has just begun there
            parent.rmdir()


def remove_stale_lock(folder: Path) -> None:
    """Remove the lock that a killed process left in a folder; not that of one that may live."""
    path = folder / LOCK
    with suppress(FileNotFoundError), open_own(path, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        owner = _read(file)
        stale = owner is None or not _may_live(owner, _describe(os.getpid()))
        if stale and _is_at(path, file):
            path.unlink()


def is_held(folder: Path, watch: Watch) -> bool:
    """Return whether another process holds a folder; the lock of one that is lost is removed.

    That of a killed process of this machine, or one of another machine that has not been touched
    for so long that its owner must be lost.

    Args:
        folder: A run's.
        watch: What this process has seen of locks before.

    Raises:
        OSError: If the lock cannot be read or removed.
    """
    path = folder / LOCK
    lapsed = watch.has_lapsed(path)
    try:
        with open_own(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            owner, me = _read(file), this_process()
            elsewhere = owner is not None and _is_elsewhere(owner, me)
            # Of one that is not leased, nobody can tell.
            if (
                owner
                and _may_live(owner, me)
                and not (lapsed and elsewhere and owner.get("touched") and watch.has_lapsed(path))
            ):
                return True
            if _is_at(path, file):
                path.unlink()
    except FileNotFoundError:
        pass
    return False


def this_process() -> dict[str, Any]:
    """Return what tells this process from every other one, for :func:`may_live`."""
    return _describe(os.getpid())


def may_live(owner: dict[str, Any]) -> bool:
    """Return whether a process may still live: it does, or nobody here can tell."""
    return _may_live(owner, this_process())


def _take(path: Path, me: dict[str, Any]) -> None:
    """Write this process into the lock, unless its owner lives."""
    while True:
        with open_own(path, "a+") as file:
            # Held while looking and writing only, so that of two that start at once one is first.
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):
                continue  # its owner has removed it in between
            owner = _read(file)
            if owner and _may_live(owner, me):
                raise InUseError(_refusal(path, owner, me))
            file.truncate(0)
            file.write(json.dumps(me) + "\n")
            file.flush()
            os.fsync(file.fileno())
            return


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _leave(path: Path, me: dict[str, Any]) -> None:
    """Remove the lock, unless it is another process's or something else is in its place."""
    try:
        file = open_own(path, "r+")
    except FileNotFoundError:
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # It is empty where a Ctrl-C came before it was written.
        mine = os.fstat(file.fileno()).st_size == 0 or _read(file) == me
        if mine and _is_at(path, file):  # and not taken over since it was opened
            path.unlink()


def _is_lost(path: Path, me: dict[str, Any]) -> bool:
    """Return whether a lock that was this process's is another's, or was removed."""
    try:
        with open_own(path, "r") as file:
            return _read(file) != me
    except FileNotFoundError:  # whoever took it over has finished, or is about to write its own
        return True


def _read(file: IO[str]) -> dict[str, Any] | None:
    file.seek(0)
    try:
        owner = parse_json(file.read(), LOCK)
    except ValueError:  # killed while it wrote, before it trained; a RecordError is one too
        return None
    return owner if isinstance(owner, dict) else None


def _describe(pid: int) -> dict[str, Any]:
    """Return what tells a process from every other one."""
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "machine": _machine(),
        "started": _start_of(pid),
        "job": os.environ.get("SLURM_JOB_ID"),
        "step": os.environ.get("SLURM_STEP_ID"),
        "restart": os.environ.get("SLURM_RESTART_COUNT"),
    }


def _machine() -> str | None:
    """Return what tells machines of one name apart; None where that cannot be known.

    It is made of the system's id, which is not to be shown.
    """
    try:
        identity = MACHINE.read_text().strip()
    except OSError:  # no systemd
        return None
    return hashlib.sha256(f"lnrnn {identity}".encode()).hexdigest()[:16] if identity else None


def _is_elsewhere(owner: dict[str, Any], me: dict[str, Any]) -> bool:
    """Return whether a process is of another machine, whose processes cannot be seen from here."""
    machines = owner.get("machine"), me["machine"]  # older versions did not note it
    return owner.get("host") != me["host"] or (None not in machines and machines[0] != machines[1])


def _may_live(owner: dict[str, Any], me: dict[str, Any]) -> bool:
    if _is_elsewhere(owner, me):
        if owner.get("job") is None or owner["job"] != me["job"]:
            return True
        # A requeued job keeps its number, and runs once at a time; its steps may run side by side.
        again = owner.get("restart") != me["restart"]
        return not again and owner.get("step") != me["step"]
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's, so it lives
        pass
    return owner.get("started") == _start_of(pid)


def _start_of(pid: int) -> str | None:
    """Return the boot and the tick at which a living process began; None if that cannot be known.

    A process that has ended and waits to be collected does not live.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Behind the name, which may hold anything: the state, and 19 fields later the start.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no Linux
        return None
    return f"{boot}/{fields[19]}" if fields[0] not in "ZX" else "ended"


def _refusal(path: Path, owner: dict[str, Any], me: dict[str, Any]) -> str:
    text = (
        f"{path.parent} is in use: process {owner.get('pid')} on {owner.get('host')} trains there."
    )
    if not _is_elsewhere(owner, me):
        return f"{text} Wait for it, or stop it; two runs in one folder would spoil each other."
    return f"{text} Whether it still lives cannot be seen from here; if not, remove {path}."
