"""How a run that a signal stops says so: its exit code, its words, and SLURM's requeue."""

import os
import signal
import subprocess
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_pressed = False  # whether Ctrl-C has come since listen_from_the_start


def listen_from_the_start() -> None:
    """Remember a Ctrl-C before there is a run that would have to be saved.

    A KeyboardInterrupt may come out of a library as another error, or not at all: on the way out,
    OmegaConf looks at its half-made nodes, and fails. So the end of a command asks `was_pressed`,
    and a run that begins all the same stops after its first step. A second one ends the process.
    """
    signal.signal(signal.SIGINT, _remember)


def _remember(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def was_pressed() -> bool:
    """Return whether Ctrl-C has come while nothing else listened."""
    return _pressed


class Interrupted(SystemExit):
    """A run was stopped by a signal; its exit code is 128 and the signal's number.

    Args:
        name: The signal.
        step: Optimizer steps done.
        finished: Whether the run came to its end all the same.
    """

    def __init__(self, name: signal.Signals, step: int, *, finished: bool = False) -> None:
        super().__init__(128 + name)
        self.signal = name
        self.step = step
        self.finished = finished
        self.requeue = ""

    def __str__(self) -> str:
        return f"stopped by {self.signal.name} at step {self.step}{self.requeue}"


def ask_for_requeue() -> str:
    """Ask SLURM to run this job again, and return in words what came of it."""
    job = os.environ.get("SLURM_JOB_ID")
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    if job is None:
        return "not requeued: this is not a SLURM job"
    command = ["scontrol", "requeue", job]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not requeued: {error}"
    if answer.returncode:
        return f"not requeued: {answer.stderr.strip() or answer.returncode}"
    return "requeued"
