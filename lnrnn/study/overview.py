"""What a person sees of many runs: how many are done, which are under way, how long it takes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lnrnn.config.compose import Experiment
from lnrnn.runs.files import open_own
from lnrnn.runs.folder import folder_of
from lnrnn.runs.record import RecordError, parse_json
from lnrnn.study.attempt import Failure
from lnrnn.study.plan import Task

WHOLE_TIME = 1e9  # seconds: the estimate is over the comparison, since a run may take hours


class Overview:
    """A bar over all runs, and a line for each one that fails.

    Args:
        what: Names what is done.
        tasks: What is to be trained.
        console: Where it is drawn.
        shared: Whether other processes train the same runs, so that one may be taken.
    """

    def __init__(
        self, what: str, tasks: Sequence[Task], console: Console, *, shared: bool = False
    ) -> None:
        self.failures: list[tuple[Task, Failure]] = []
        self._shared = shared
        self._what = what
        self._running: list[Task] = []
        self._done = 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[done]}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("to go"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=WHOLE_TIME,
        )
        self._bar = self._progress.add_task(what, total=len(tasks), done=0)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw the bar, and move it on while runs are made."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(1):
                self._update()

        follower = threading.Thread(target=follow, daemon=True)
        with self._progress:
            follower.start()
            try:
                yield
            finally:
                over.set()
                follower.join()

    def begin(self, task: Task) -> None:
        """Show that a run is under way."""
        self._running.append(task)
        self._update()

    def end(self, task: Task, failure: Failure | None, output: str = "") -> None:
        """Count a run as done, with what it printed and why it failed."""
        self._running.remove(task)
        self._done += 1
        if output:
            self.say(f"{task.title}: {output}")
        if failure is not None and not (failure.taken and self._shared):
            self.failures.append((task, failure))
            self.say(f"{task.title}: {failure.message}")
        self._update()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _update(self) -> None:
        running = tuple(self._running)
        titles = " | ".join(task.title for task in running)
        self._progress.update(
            self._bar,
            completed=self._done + sum(share_done(task.experiment) for task in running),
            done=self._done,
            description=f"{self._what}: {titles}" if titles else self._what,
        )


def share_done(experiment: Experiment) -> float:
    """Return how much of its budget a run's records cover, from 0 to just below 1."""
    try:
        with open_own(folder_of(experiment).metrics) as file:
            file.seek(max(0, file.seek(0, 2) - 400))
            entry = parse_json(file.read().splitlines()[-1], "the last line")
        trainer = experiment.config.trainer
        steps = entry["step"] / trainer.max_steps if trainer.max_steps > 0 else 0.0
        epochs = (entry["epoch"] + 1) / trainer.max_epochs if trainer.max_epochs else 0.0
    except (OSError, RecordError, IndexError, KeyError, TypeError, OverflowError):
        # nothing yet, half a line, or none that a run writes
        return 0.0
    return min(0.99, max(steps, epochs, 0.0))
