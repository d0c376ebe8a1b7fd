"""A process that trains the runs it is sent, one after the other, for :mod:`lnrnn.study.pool`.

It has a session of its own, so that what a terminal sends to all reaches only the parent, which
passes it on. When the parent is gone, however it ended, the connection ends, and the run under way
is saved and left as at a SIGTERM.
"""

import os
import queue
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType

import torch

from lnrnn.config.compose import Experiment
from lnrnn.runs.interruption import Interrupted
from lnrnn.study.attempt import attempt

READY = "ready"
STOPPED = "stopped"
SHARED, ALONE = "shared", "alone"  # whether others may take over what it trains


def main() -> None:
    """Train what comes until nothing more will, or a signal comes."""
    torch.set_num_threads(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    connection = Connection(int(sys.argv[1]))
    experiments: queue.SimpleQueue[Experiment | None] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(connection, experiments), daemon=True).start()
    try:
        connection.send(READY)
        while (experiment := experiments.get()) is not None:
            failure = attempt(experiment, shared=sys.argv[3] == SHARED)
            with suppress(OSError):  # where the output goes there may be no room
                sys.stdout.flush()
                sys.stderr.flush()
            connection.send(failure)
    except Interrupted:
        with suppress(OSError):  # the parent may be gone
            connection.send(STOPPED)
    except OSError:  # it is gone; the run that had ended is whole
        pass


def listen(connection: Connection, experiments: "queue.SimpleQueue[Experiment | None]") -> None:
    """Hand on what the parent sends; when it is gone, stop as it would have asked to."""
    try:
        while (experiment := connection.recv()) is not None:
            experiments.put(experiment)
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
    experiments.put(None)


def stop(number: int, frame: FrameType | None) -> None:
    """Leave at once: while a run is trained, it listens to signals itself, and saves."""
    raise Interrupted(signal.Signals(number), 0)


if __name__ == "__main__":
    main()
