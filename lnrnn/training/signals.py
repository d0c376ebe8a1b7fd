"""Signals that ask a run to stop: noted when they come, obeyed between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer

from lnrnn.runs.interruption import STOPPING, was_pressed


class Signals:
    """Notes SIGINT, SIGTERM and SIGUSR1 while it is entered; :class:`Checkpoints` asks for them.

    Nothing is done inside a handler but to note the number. A second SIGINT ends the process at
    once, wherever it is.
    """

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        self._before = {number: signal.getsignal(number) for number in STOPPING}
        if was_pressed():  # and a library kept the exception to itself
            self._received = signal.SIGINT
        self._listen()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            _handle(number, handler)

    def keep_from(self, trainer: Trainer) -> None:
        """Let a trainer not listen itself.

        Lightning's handler calls collectives from anywhere, and what it raises at the next batch
        ends the process with 0, unsaved.
        """
        trainer._signal_connector.register_signal_handlers = _nothing

    def _listen(self) -> None:
        for number in STOPPING:
            if number != self._received:  # of a SIGINT that has come, the second one ends it all
                _handle(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def agreed(self, trainer: Trainer) -> signal.Signals | None:
        """Return the signal that any process has received, the same in all; None if there is none.

        Every process must ask at the same step: with several, this is a collective operation.
        """
        number = self._received
        if trainer.world_size > 1:
            flag = torch.tensor(number, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            number = int(flag)
        return signal.Signals(number) if number else None


def _nothing() -> None:
    pass


def _handle(number: signal.Signals, handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():  # Python allows no other one
        signal.signal(number, handler)
