"""How a run that a signal stops says so: its exit code, its words, and SLURM's requeue."""

import os
import signal
import subprocess

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(SystemExit):
    """A run was stopped by a signal; its exit code is 128 and the signal's number.

    Args:
        name: The signal.
        step: Optimizer steps done.
    """

    def __init__(self, name: signal.Signals, step: int) -> None:
        super().__init__(128 + name)
        self.signal = name
        self.step = step
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
