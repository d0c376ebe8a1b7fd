"""The workers of a comparison as tasks on a Ray cluster that runs already."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.interruption import STOPPING, Interrupted
from lnrnn.study.launched import Ending, LaunchedWorker
from lnrnn.study.launcher_options import RayOptions

PAUSE = 1.0  # seconds between two looks at the tasks
PATIENCE_FIRST = 10.0  # seconds that a cluster has to answer at all
PATIENCE = 120.0  # seconds that interrupted workers have to save their runs


class RayTasks:
    """Tasks that were started. They end with this process, and Ray starts lost ones again.

    Args:
        worker: What each of them runs.
        options: What was asked for.

    Raises:
        ConfigurationError: If Ray is not installed, or no cluster is there.
    """

    stops = True  # when nobody waits for them

    def __init__(self, worker: LaunchedWorker, options: RayOptions) -> None:
        try:
            ray = self.ray = import_module("ray")  # by name: nothing here is checked against it
        except ImportError as error:
            raise ConfigurationError("launcher=ray needs pip install 'lnrnn[ray]'") from error
        self.options = options
        before = signal.getsignal(signal.SIGTERM)
        try:
            _check_answers(options.address)
            ray.init(address=options.address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigurationError(
                f"there is no Ray cluster at launcher.address={options.address}: {error}\n"
                "One is started by `ray start --head` on a machine, and `ray start "
                "--address=HOST:6379` on every other"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own in place
        task = ray.remote(
            num_cpus=options.cpus, num_gpus=options.gpus, scheduling_strategy="SPREAD"
        )(_work)
        self.tasks = {task.remote(worker, number): number for number in range(options.workers)}

    def __str__(self) -> str:
        ray = self.ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = [node for node in nodes if _fits(node, self.options)]
        text = f"{len(self.tasks)} tasks on a Ray cluster of {len(nodes)} machines"
        if fitting:
            return text
        return (
            f"{text}, of which none has launcher.cpus={self.options.cpus} and "
            f"launcher.gpus={self.options.gpus}: they wait for one that has"
        )

    def endings(self) -> Iterator[Ending]:
        """Yield how each worker ended, in the order in which they do.

        Raises:
            KeyboardInterrupt: If Ctrl-C came.
            Interrupted: If another signal came.
        """
        ray = self.ray
        waiting = list(self.tasks)
        with _noted() as received:
            while waiting:
                done, waiting = ray.wait(waiting, timeout=PAUSE)
                if received:
                    raise _interruption(received[0])
                for task in done:
                    yield self._ending(task)

    def leave(self) -> str:
        """Stop the workers, and return what became of them."""
        ray = self.ray
        for task in self.tasks:
            ray.cancel(task)
        _, left = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=PATIENCE)
        if left:
            return (
                f"{len(left)} workers have not ended in {PATIENCE:g} seconds, and are killed: "
                "their runs go on from their last checkpoints"
            )
        return "the workers have saved their runs and ended"

    def _ending(self, task: Any) -> Ending:
        ray = self.ray
        try:
            return ray.get(task)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            reason = lines[-1] if lines else type(error).__name__
            hint = ""
            if "lnrnn" in str(error) and "ModuleNotFoundError" in str(error):
                hint = ": install lnrnn on all machines of the cluster"
            return Ending(self.tasks[task], "the cluster", f"{reason}{hint}")


@contextmanager
def _noted() -> Iterator[list[signal.Signals]]:
    """Note signals: an exception that is raised while Ray waits comes out of it as another."""
    received: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interruption(number: signal.Signals) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Interrupted(number, 0)


def _check_answers(address: str) -> None:
    """Raise OSError where nobody answers: Ray would try for minutes, and end the process itself."""
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=PATIENCE_FIRST).close()


def _work(worker: LaunchedWorker, number: int) -> Ending:
    return worker(number)


def _fits(node: dict[str, float], options: RayOptions) -> bool:
    return node.get("CPU", 0) >= options.cpus and node.get("GPU", 0) >= options.gpus
