"""Several runs at a time, each in a process of its own that any of them may lose.

The pools of the standard library lose all their work when one process is killed (``concurrent``)
or wait for it forever (``multiprocessing``), and a process that forks once torch has threads may
hang. So these are started afresh, and whatever ends one is an event for the one that waits.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe, wait
from types import FrameType
from typing import Any

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.folder import folder_of
from lnrnn.runs.interruption import STOPPING, Interrupted, ask_for_requeue
from lnrnn.runs.lease import TAKEN
from lnrnn.runs.lock import locked
from lnrnn.study.attempt import Failure
from lnrnn.study.child_processes import ending_of, environment_of
from lnrnn.study.overview import Overview
from lnrnn.study.plan import Task
from lnrnn.study.worker import ALONE, READY, SHARED, STOPPED

FALSE_STARTS = 3  # so many say that something is wrong with more than one process
MODULE = "lnrnn.study.worker"


class WorkerError(RuntimeError):
    """A process for training could not be started."""


class Worker:
    """One process, and what it is doing.

    Args:
        threads: How many its computations may use.
        shared: Whether processes of other machines may take its runs over.
    """

    def __init__(self, threads: int, *, shared: bool = False) -> None:
        self.task: Task | None = None
        self.ready = False
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        self._shown = 0
        self.connection, theirs = Pipe()
        number = theirs.fileno()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                MODULE,
                str(number),
                str(threads),
                SHARED if shared else ALONE,
            ],
            env=environment_of(threads),
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            pass_fds=[number],
            start_new_session=True,
        )
        theirs.close()

    def give(self, task: Task) -> bool:
        """Let the process train a run, and return whether it still lives to do so."""
        try:
            self.connection.send(task.experiment)
        except OSError:
            return False
        self.task = task
        return True

    def new_output(self) -> str:
        """Return what the process has printed since this was last asked."""
        number, size = self.output.fileno(), os.fstat(self.output.fileno()).st_size
        text = os.pread(number, size - self._shown, self._shown).decode(errors="replace")
        self._shown = size
        return text.strip()

    def finish(self) -> None:
        """Let the process end, with its run if it has one, and wait for that."""
        with suppress(OSError):  # it has ended already
            self.connection.send(None)
        self.process.wait()
        self.discard()

    def discard(self) -> None:
        """Cut the connection, at which the process saves its run and leaves; wait for that."""
        self.connection.close()
        self.process.wait()
        self.output.close()


class Pool:
    """Trains runs in several processes.

    Args:
        tasks: The runs.
        jobs: How many at a time.
        threads: How many threads each of them may use.
        overview: Is told what begins and how it ends.
        shared: Whether other processes train the same runs.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        jobs: int,
        threads: int,
        overview: Overview,
        *,
        shared: bool = False,
    ) -> None:
        self.shared = shared
        self.waiting = deque(tasks)
        self.jobs = jobs
        self.threads = threads
        self.overview = overview
        self.workers: list[Worker] = []
        self.false_starts = 0
        self.received: signal.Signals | None = None

    def run(self) -> None:
        """Train all runs; what goes wrong with one is told to the overview.

        Raises:
            Interrupted: If a signal asked to stop; all runs are saved.
            WorkerError: If a process cannot even be started.
        """
        with self._passing_on():
            try:
                self._work()
                for worker in self.workers:
                    worker.finish()
            finally:
                for worker in self.workers:
                    worker.discard()
        if self.received is not None:
            if self.received == signal.SIGUSR1:
                self.overview.say(ask_for_requeue())
            raise Interrupted(self.received, 0)

    def _work(self) -> None:
        while self.received is None:
            missing = min(self.jobs, len(self.waiting) + self._busy()) - len(self.workers)
            self.workers += [Worker(self.threads, shared=self.shared) for _ in range(missing)]
            for worker in self.workers:
                free = worker.ready and worker.task is None
                if free and self.waiting and worker.give(self.waiting[0]):
                    self.overview.begin(self.waiting.popleft())
            if not self._busy() and not self.waiting:
                return
            connections: dict[Any, Worker] = {worker.connection: worker for worker in self.workers}
            for connection in wait(list(connections), timeout=0.5):
                self._hear(connections[connection])

    def _busy(self) -> int:
        return sum(worker.task is not None for worker in self.workers)

    def _hear(self, worker: Worker) -> None:
        """Take in what a process says, or that it has ended."""
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if said == READY:
            worker.ready = True
        elif said == STOPPED:
            self._end(worker, Failure("a signal to its process alone stopped it; it is saved"))
        else:
            self._end(worker, said)

    def _end(self, worker: Worker, failure: Failure | None) -> None:
        if worker.task is not None and self.received is None:
            self.overview.end(worker.task, failure, worker.new_output())
        worker.task = None

    def _bury(self, worker: Worker) -> None:
        """Note what a process was doing that has ended by itself or was killed."""
        code = worker.process.wait()
        if self.received is not None:
            return
        if worker.task is not None:
            lost = f"its process was lost: {ending_of(code)}"
            taken = code == TAKEN  # and the record is of whoever took the run
            if not taken:
                self._note_failure(worker.task, lost)
            self._end(worker, Failure(lost, taken=taken))
        output = worker.new_output()
        self.workers.remove(worker)
        worker.discard()
        if not worker.ready:
            self._count_false_start(f"{ending_of(code)}\n{output}")

    def _count_false_start(self, why: str) -> None:
        self.false_starts += 1
        if self.false_starts == FALSE_STARTS:
            raise WorkerError(f"a process for training ended as it began, {why}")

    def _note_failure(self, task: Task, message: str) -> None:
        """Write into a run's record why it failed, which its own process could not."""
        folder = folder_of(task.experiment)
        if not folder.record.exists():
            return
        try:
            with locked(folder.path):
                if folder.read_record().status != "finished":  # perhaps by another worker, since
                    folder.update_record(status="failed", error=message)
        except (ConfigurationError, OSError) as error:  # the record then says that it is running
            self.overview.say(f"{task.title}: {error}")

    @contextmanager
    def _passing_on(self) -> Iterator[None]:
        """Pass signals on to all processes, which save and leave as a run alone would."""
        before = {number: signal.signal(number, self._note) for number in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        # A requeue is asked for once, when all have saved, and not by each of them.
        passed = signal.SIGTERM if number == signal.SIGUSR1 else number
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(passed)
