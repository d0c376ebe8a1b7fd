"""A worker of a comparison on the machine that a launcher has sent it to.

The job that the launcher started checks that it sees the study's folder, and runs the command
``lnrnn compare ... worker=true`` there, in a process of its own: signals and threads are then those
of a worker that was started by hand, whatever submitit or Ray do to the process of the job.
"""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import lnrnn
from lnrnn.runs.files import open_own
from lnrnn.study.child_processes import ending_of, environment_of

MARK = "mark"  # a file in the folder of a launch, whose text every worker must see
DONE = (0, 1)  # exit codes of a worker that did its part; 1: require_speedup is not met
CHECK = 0.5  # seconds between two looks whether the worker has ended


@dataclass(frozen=True)
class Ending:
    """How a worker ended.

    Args:
        number: Which of those that were launched.
        host: Its machine.
        problem: What went wrong; None if nothing did.
    """

    number: int
    host: str
    problem: str | None


class LaunchedWorker:
    """Runs one worker, wherever it is called.

    Args:
        words: The arguments of ``lnrnn compare``, without those of the launcher.
        place: The folder that the command was typed in, on a disk that all machines share.
        logs: The launch's own folder, below ``place``.
        mark: What its file ``MARK`` holds.
        threads: How many the worker's computations use.
    """

    def __init__(
        self, words: tuple[str, ...], place: Path, logs: Path, mark: str, threads: int
    ) -> None:
        self.words = words
        self.place = place
        self.logs = logs
        self.mark = mark
        self.threads = threads
        self.version = lnrnn.__version__
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int) -> Ending:
        """Work until the comparison is done."""
        problem = self._unfit()
        if problem is None:
            log = self.log_of(number)
            with open_own(log, "ab") as output, self._passing_on():
                code = self._work(output)
            if code not in DONE:
                problem = f"{ending_of(code)}; {_first_error(log)}its output is in {log}"
        return Ending(number, socket.gethostname(), problem)

    def log_of(self, number: int) -> Path:
        """Return the file of what a worker prints."""
        return self.logs / f"worker-{number}.log"

    def checkpoint(self, number: int) -> Any:
        """Save the run under way, and return what goes on with it: submitit asks before a timeout.

        Args:
            number: As in the call.
        """
        from submitit.helpers import DelayedSubmission

        self.stop()
        return DelayedSubmission(self, number)

    def stop(self) -> None:
        """Let the worker save its run and leave, and wait for that."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "process": None}

    def _unfit(self) -> str | None:
        """Return why no worker can work here; None if one can."""
        path = self.logs / MARK
        try:
            with open_own(path) as file:
                seen = file.read().decode(errors="replace")
        except OSError:
            seen = None
        if seen != self.mark:
            return (
                f"it does not see {self.logs}: all workers need the folder {self.place} on a disk "
                "that they share, under the same path"
            )
        if lnrnn.__version__ != self.version:
            return (
                f"it has lnrnn {lnrnn.__version__}, and the comparison was launched by "
                f"{self.version}: install the same on all machines"
            )
        return None

    def _work(self, output: Any) -> int:
        """Run the command, and return its exit code."""
        # submitit's warning goes to all processes of a job, and only this one knows what it means.
        with _handled(signal.SIGUSR2, signal.SIG_IGN):
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lnrnn", "compare", *self.words],
                cwd=self.place,
                env=environment_of(self.threads),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            while True:
                try:  # for a moment only: Ray's interruption is seen between two waits
                    return self.process.wait(CHECK)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            self.stop()

    @contextmanager
    def _passing_on(self) -> Iterator[None]:
        """Hand SIGTERM on to the worker, which saves its run and leaves."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)

        with _handled(signal.SIGTERM, pass_on):
            yield


@contextmanager
def _handled(
    number: signal.Signals, handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> Iterator[None]:
    """Handle a signal in another way for a while, where Python may do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _first_error(log: Path) -> str:
    """Return what a worker's output tells first of an error, for a sentence: the cause of others.

    Lines that begin with spaces continue it.
    """
    try:
        with open_own(log) as file:
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    begin = next((i for i, line in enumerate(lines) if line.startswith("error: ")), None)
    if begin is None:
        return ""
    more = takewhile(lambda line: line.startswith("  "), lines[begin + 1 :])
    found = [lines[begin].removeprefix("error: "), *map(str.strip, more)]
    return f"{' '.join(found)}; "
