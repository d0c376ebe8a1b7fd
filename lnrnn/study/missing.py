"""Training what a comparison lacks, one run at a time or several."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.finished import complete
from lnrnn.runs.folder import folder_of
from lnrnn.runs.interruption import was_pressed
from lnrnn.runs.lease import Watch
from lnrnn.runs.lock import is_held
from lnrnn.study.attempt import Failure, attempt, diverged_before
from lnrnn.study.overview import Overview
from lnrnn.study.plan import Task
from lnrnn.study.pool import Pool
from lnrnn.training.run import is_finished

Failures = list[tuple[Task, Failure]]
PAUSE = 2.0  # seconds between two looks at what other processes are training


def train_all(
    what: str, tasks: Sequence[Task], jobs: int, console: Console, *, shared: bool = False
) -> Failures:
    """Train every run that has no result yet; return those that failed, now or before.

    Args:
        what: Names it for the person who waits.
        tasks: The runs.
        jobs: How many are trained at a time. Each has that share of torch's threads, also where
            one alone is left: their number decides the last bits, and runs of one comparison
            should have the same.
        console: Where the progress is shown.
        shared: Whether other processes train the same runs. Those that they are training are left
            to them and waited for; what they leave undone is taken over.

    Raises:
        ConfigurationError: If the data have changed since a run was finished.
        Interrupted: If a signal asked to stop; all runs are saved.
    """
    if was_pressed():  # and a library kept the exception to itself
        raise KeyboardInterrupt
    waiting, failures = sort_out(tasks)
    for task, failure in failures:
        said = f"{task.title}: {failure.message}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    if shared:
        return failures + _train_shared(what, waiting, jobs, console)
    return failures + _train(Overview(what, waiting, console), waiting, jobs, shared=False)


def _train(overview: Overview, tasks: Sequence[Task], jobs: int, *, shared: bool) -> Failures:
    """Train runs, one at a time or several, and return those that failed."""
    if not tasks:
        return []
    with overview.drawn():
        if min(jobs, len(tasks)) > 1:
            Pool(tasks, jobs, share_of_threads(jobs), overview, shared=shared).run()
        else:
            with threads_of_one(jobs):
                for task in tasks:
                    overview.begin(task)
                    overview.end(task, attempt(task.experiment, shared=shared))
    return overview.failures


def _train_shared(what: str, waiting: list[Task], jobs: int, console: Console) -> Failures:
    """Train what no other process is training, until every run has a result or has failed here."""
    watch, failures, told = Watch(), Failures(), 0
    while waiting:
        free = [task for task in waiting if not is_held(task.folder, watch)]
        if free:
            overview = Overview(what, free, console, shared=True)
            failures += _train(overview, free, jobs, shared=True)
        elif len(waiting) != told:
            told = len(waiting)
            console.print(f"{what}: waiting for {told} runs that other processes train")
        else:
            time.sleep(PAUSE)
        failed = [task.folder for task, _ in failures]
        waiting, diverged = sort_out([task for task in waiting if task.folder not in failed])
        failures += diverged
    return failures


def sort_out(tasks: Sequence[Task]) -> tuple[list[Task], Failures]:
    """Return the runs that are to be trained, and those that diverged before.

    Raises:
        ConfigurationError: If the data have changed since a run was finished.
    """
    waiting, diverged = [], []
    for task in tasks:
        folder = folder_of(task.experiment)
        try:
            folder.read_record()
        except ConfigurationError:  # damaged; training it says so, and the others continue
            waiting.append(task)
            continue
        failure = diverged_before(folder)
        if failure is not None:
            diverged.append((task, failure))
        elif not is_finished(folder, task.experiment.config):
            waiting.append(task)
        else:
            try:
                complete(folder)
            except ConfigurationError:  # as above
                waiting.append(task)
    return waiting, diverged


def lost_runs(failures: Failures) -> list[str]:
    """Return why runs failed that did not diverge: a line for each reason, with the first run.

    A mistake that all have in common, such as a GPU that is not there, is told once.
    """
    titles: dict[str, list[str]] = {}
    for task, failure in failures:
        if not failure.diverged:
            titles.setdefault(failure.message, []).append(task.title)
    return [
        f"{first}, and {len(others)} more: {message}" if others else f"{first}: {message}"
        for message, (first, *others) in titles.items()
    ]


def name_missing(tasks: Sequence[Task], console: Console) -> None:
    """Print which runs are not there, where none is trained."""
    lacking = [task for task in tasks if not folder_of(task.experiment).record.exists()]
    if not lacking:
        return
    console.print(f"train=false: {len(lacking)} of {len(tasks)} runs are missing:")
    for task in lacking:
        console.print(f"  {task.title}: {task.folder}", markup=False, soft_wrap=True)


def share_of_threads(jobs: int) -> int:
    """Return how many of torch's threads each of several runs may use."""
    return max(1, torch.get_num_threads() // jobs)


@contextmanager
def threads_of_one(jobs: int) -> Iterator[None]:
    """Give torch the threads of one of several runs, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(share_of_threads(jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)
