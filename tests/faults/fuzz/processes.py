"""Starting a command in a forked process that has imported everything, and sending it signals.

Python, torch and Lightning take seconds to import, a tiny run much less. So one process imports
them, starts no thread, and forks a child for each run, which does what the console command does;
in most without Hydra, which would take longer than all the rest.
"""

import atexit
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch

from lnrnn.cli import main as console
from lnrnn.cli import train
from lnrnn.config.compose import check_overrides, compose_experiment

OUTPUT = "output.txt"  # beside the runs: what the sessions print, one after the other
GRACE = 20.0  # seconds that torchrun gives the other ranks once one has ended
# Threads that take care of a fork themselves: that of pyarrow's memory allocator.
HARMLESS = ("jemalloc_bg_thd",)


def import_everything(place: Path) -> None:
    """Import what a run imports as it goes, found by making one in a child.

    Raises:
        RuntimeError: If that run fails, or an import has started a thread.
    """
    names = place / "modules.txt"
    short = ("trainer.max_steps=1", "model.hidden_size=8", "data.num_workers=1", "seed=0", "-m")
    child = start(("train", *short), place, then=lambda: names.write_text("\n".join(sys.modules)))
    while child.poll() is None:
        time.sleep(0.01)
    if child.code != 0:
        raise RuntimeError(f"a first run failed: {(place / OUTPUT).read_text()}")
    for name in names.read_text().split():
        with suppress(ImportError):  # made by a program, not read from a file
            import_module(name)
    import_module("lnrnn.cli.comparing")
    check_overrides([word for word in short if word != "-m"], multirun=False)  # its parser learns
    check_threads()


def check_threads() -> None:
    """Check that a child could go on: what another thread held would stay locked in it.

    Raises:
        RuntimeError: If there is a thread but this one.
    """
    tasks = Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()]
    others = [name for name in names if name not in HARMLESS]
    if others or torch.get_num_threads() != 1:
        raise RuntimeError(f"set OMP_NUM_THREADS=1; these threads run already: {others}")


class Process:
    """A child, and how it ended.

    Args:
        pid: Its process id, which is its session's and its group's too.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number if one killed it; None if it lives."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code


def start(
    words: Sequence[str],
    place: Path,
    *,
    program: str | None = None,
    variables: Mapping[str, str] | None = None,
    first: Callable[[], object] = bool,
    then: Callable[[], object] = bool,
) -> Process:
    """Start a command in a session of its own.

    Args:
        words: The command, without ``lnrnn``.
        place: Where it is started.
        program: What to execute with these words; nothing goes on as a fork of this process.
        variables: Set in its environment.
        first: Called in a fork as it begins.
        then: Called in a fork at its end.
    """
    place.mkdir(parents=True, exist_ok=True)
    (place / "tmp").mkdir(exist_ok=True)
    sys.stdout.flush()
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir(place)
            os.environ.update({"TMPDIR": str(place / "tmp"), **(variables or {})})
            _redirect(place / OUTPUT)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as before Python has begun
            os.write(theirs, b".")
            if program:
                os.execv(program, [program, *words])
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        _become(words, first, then)
    os.close(theirs)
    os.read(ours, 1)  # it has a session now, so that a signal to its group finds it
    os.close(ours)
    return Process(pid)


def _redirect(output: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)


def _become(
    words: Sequence[str], first: Callable[[], object], then: Callable[[], object]
) -> NoReturn:
    """Do what the console command does, and end as Python does."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["lnrnn", *words]
        first()
        console.main()
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        traceback.print_exc()
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
    try:
        then()
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        if code < 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code)


class Launch:
    """One command as a person starts it: a process, or two ranks as torchrun starts them.

    As a context it ends what is left of it.

    Args:
        words: The command, without ``lnrnn``.
        place: Where it is started.
        ranks: How many processes make it.
        how: One of ``STARTS``; for several ranks not ``console``.
    """

    def __init__(self, words: Sequence[str], place: Path, ranks: int, how: str) -> None:
        self._first_end: float | None = None
        program = console_command() if how == "console" else None
        is_composed = how == "composed" and words[0] == "train" and "-m" not in words
        first = composed_before(words) if is_composed else bool
        self.begun = time.monotonic()
        if ranks == 1:
            self.processes = [start(words, place, program=program, first=first)]
        else:
            shared = rendezvous(ranks)
            self.processes = [
                start(
                    words,
                    place,
                    variables={**shared, "RANK": rank, "LOCAL_RANK": rank},
                    first=first,
                )
                for rank in map(str, range(ranks))
            ]

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.send(signal.SIGKILL, "all")  # where it hangs, or whoever plays has stopped

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.begun

    def poll(self) -> int | None:
        """Return the exit code once all processes have ended: of several, one that is not zero."""
        codes = [process.poll() for process in self.processes]
        if None in codes and any(codes):
            self._end_the_others()
        if None in codes:
            return None
        return next(filter(None, codes), 0)

    def _end_the_others(self) -> None:
        """Do as torchrun, which sends SIGTERM when a rank has failed, and SIGKILL if need be."""
        now = time.monotonic()
        if self._first_end is None:
            self._first_end = now
            self.send(signal.SIGTERM, "all")
        elif now - self._first_end > GRACE:
            self.send(signal.SIGKILL, "all")

    def send(self, number: signal.Signals, target: str) -> bool:
        """Send a signal to ``all`` processes or ``one``; return whether any lived to get it."""
        alive = [process for process in self.processes if process.poll() is None]
        if target == "one":
            for process in alive[-1:]:
                os.kill(process.pid, number)
        else:
            for process in alive:
                os.killpg(process.pid, number)
        return bool(alive)


def composed_before(words: Sequence[str]) -> Callable[[], None]:
    """Return what lets ``lnrnn train`` in a child leave out Hydra, which this process has run."""
    experiment = compose_experiment(words[1:])

    def skip() -> None:
        whole: Any = train.train_each
        train.check_command_line = bool
        train.current_experiment = lambda _: experiment
        train.train_each = partial(whole.__wrapped__, None)

    return skip


def console_command() -> str:
    """Return where the console command is.

    Raises:
        RuntimeError: If it is not installed beside this Python.
    """
    found = shutil.which("lnrnn", path=str(Path(sys.executable).parent))
    if found is None:
        raise RuntimeError(f"there is no command lnrnn beside {sys.executable}: make install")
    return found


def rendezvous(ranks: int) -> dict[str, str]:
    """Return the variables by which torchrun's processes find one another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "fuzz",
    }


def living_in(place: Path) -> list[int]:
    """Return the processes that were started in a place and have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "cwd").startswith(str(place)):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state not in "ZX" else []
    return found
