"""A loader whose processes outlive a signal to the whole group, and end when theirs says so."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.queues import Queue
from threading import Thread
from typing import Any

from torch.utils.data import DataLoader

from lnrnn.data.batch import Batch

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class LoaderError(OSError):
    """The system has no room for a loader process."""


class Loader(DataLoader[Batch]):
    """A loader whose processes continue when a signal is sent to the whole group, as schedulers do.

    If they died, the training process could not make the step after which it saves. They are born
    with the signals blocked, so that there is no moment at which one could hit them.
    """

    def __iter__(self) -> Any:
        if self.num_workers and sys.platform == "linux":
            # The default until Python 3.14, whose other ways put a process between this one and
            # its loaders: they would not know their parent.
            self.multiprocessing_context = "fork"
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        try:
            return super().__iter__()
        except OSError as error:
            raise LoaderError(
                f"no loader process can be started: {error}. They need room in /dev/shm, and "
                "data.num_workers=0 needs none"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen_to_the_parent(worker: int) -> None:
    """Let a loader process end when the training process says so, by SIGTERM as torch does.

    And when a batch cannot be handed over, because /dev/shm is full: Python would print that and
    drop the batch, for which the training process would wait forever.
    """
    feeder: Any = Queue  # whose hook is there for others to replace, and in no stub
    feeder._on_queue_feeder_error = staticmethod(_end_at_once)
    Thread(target=_end_when_told, args=(os.getppid(),), daemon=True).start()


def _end_at_once(error: Exception, batch: object) -> None:
    sys.stderr.write(f"lnrnn: a loader process cannot hand over a batch: {error}\n")
    sys.stderr.flush()
    os._exit(1)


def _end_when_told(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
