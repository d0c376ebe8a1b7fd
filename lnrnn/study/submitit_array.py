"""The workers of a comparison as one array of SLURM jobs, by submitit."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.interruption import STOPPING, Interrupted
from lnrnn.study.launched import Ending, LaunchedWorker
from lnrnn.study.launcher_options import SubmititOptions

PAUSE = 1.0  # seconds between two looks at the jobs
SAFE_PATH = "PYTHONSAFEPATH"  # as python -P
WARNED = 120  # seconds before its time is up, a job is told


class SubmititArray:
    """Jobs that were submitted.

    Args:
        worker: What each of them runs.
        options: What was asked for.
        logs: A folder on the shared disk, where submitit keeps the jobs' calls and output.

    Raises:
        ConfigurationError: If submitit is not installed, there is no SLURM here, or it refuses the
            jobs.
    """

    def __init__(self, worker: LaunchedWorker, options: SubmititOptions, logs: Path) -> None:
        try:
            import submitit
            from submitit.core.utils import FailedJobError
        except ImportError as error:
            raise ConfigurationError(
                "launcher=submitit needs pip install 'lnrnn[submitit]'"
            ) from error
        self.options = options
        try:
            executor = submitit.AutoExecutor(
                logs,
                cluster=options.cluster,
                slurm_max_num_timeout=options.max_timeouts,
                local_max_num_timeout=options.max_timeouts,
            )
            executor.update_parameters(**_parameters(options))
            with _undisturbed() as self.received:
                self.jobs = executor.map_array(worker, list(range(options.workers)))
        except (RuntimeError, ValueError, FailedJobError) as error:
            hint = "; launcher.cluster=local tries it on this machine"
            raise ConfigurationError(
                f"submitit cannot submit the jobs: {error}{hint if _lacks_slurm(error) else ''}"
            ) from error

    @property
    def stops(self) -> bool:
        """Whether the workers end when nobody waits for them."""
        return self.options.cluster == "local"

    def __str__(self) -> str:
        return f"{len(self.jobs)} jobs of {self.options.cluster}: {_names(self.jobs)}"

    def endings(self) -> Iterator[Ending]:
        """Yield how each worker ended, in the order in which they do.

        Raises:
            Interrupted: If a signal came while they were submitted.
        """
        if self.received:
            number = signal.Signals(self.received[0])
            self.received.clear()
            raise Interrupted(number, 0)
        waiting = dict(enumerate(self.jobs))
        while waiting:
            for number, job in [*waiting.items()]:
                if job.done():
                    del waiting[number]
                    yield _ending(number, job)
            if waiting:
                time.sleep(PAUSE)

    def leave(self) -> str:
        """Leave the jobs, and return what becomes of them. Those of this machine are stopped."""
        if not self.stops:
            array = self.jobs[0].job_id.partition("_")[0]
            return (
                f"the workers go on as the SLURM jobs {_names(self.jobs)}; scancel {array} stops "
                "them, and saves the runs under way"
            )
        for job in self.jobs:
            if not job.done():  # else its number may be another process's by now
                with suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)
        for _ in self.endings():
            pass
        return "the workers have saved their runs and ended"


@contextmanager
def _undisturbed() -> Iterator[list[int]]:
    """Note the signals that ask to stop: of jobs that are half submitted nobody would know.

    The processes that are started meanwhile ignore Ctrl-C, which a terminal sends to them too and
    which is for this one: what it means for them is said in :meth:`SubmititArray.leave`. And they
    import nothing from the folder that the command was typed in: Python looks there first for what
    ``-m`` names and imports, which is how submitit starts them.
    """
    received: list[int] = []
    path = os.environ.get(SAFE_PATH)
    before = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in STOPPING
        if number != signal.SIGINT
    }
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ[SAFE_PATH] = "1"
    try:
        yield received
    finally:
        os.environ.pop(SAFE_PATH)
        if path is not None:
            os.environ[SAFE_PATH] = path
        for number, handler in before.items():
            signal.signal(number, handler)


def _parameters(options: SubmititOptions) -> dict[str, Any]:
    """Return what was asked for as submitit calls it."""
    found = {
        "name": "lnrnn",
        "timeout_min": options.timeout_min,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus,
        "nodes": 1,
        "tasks_per_node": 1,
        "mem_gb": options.mem_gb,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_qos": options.qos,
        "slurm_array_parallelism": options.parallel or options.workers,
        "slurm_setup": options.setup or None,
        "local_setup": options.setup or None,
        "slurm_signal_delay_s": WARNED,
        # A job that was warned asks to be queued again, which SLURM may be told not to do.
        "slurm_additional_parameters": {
            option: value
            for option, value in {"requeue": True, **options.sbatch}.items()
            if value is not False  # submitit would write --requeue=False, which sbatch refuses
        },
    }
    return {key: value for key, value in found.items() if value is not None}


def _ending(number: int, job: Any) -> Ending:
    from submitit.core.utils import UncompletedJobError

    error = job.exception()
    if error is None:
        return job.result()
    if isinstance(error, UncompletedJobError):  # whose words are the last lines of a log
        error = "its job ended without an answer, as one that is killed or out of memory does"
    reason = str(error).strip().splitlines()
    return Ending(
        number,
        f"job {job.job_id}",
        f"{reason[-1] if reason else type(error).__name__} (state {job.state}); what submitit says "
        f"is in {job.paths.stderr}",
    )


def _names(jobs: list[Any]) -> str:
    first, last = jobs[0].job_id, jobs[-1].job_id
    return first if first == last else f"{first} to {last}"


def _lacks_slurm(error: Exception) -> bool:
    return "srun" in str(error) or "sbatch" in str(error)
