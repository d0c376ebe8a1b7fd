"""Every arm at its own best learning rate, of the same grid and on the same seeds."""

from pathlib import Path

from rich.console import Console

from lnrnn.comparison import choose_rates
from lnrnn.comparison.tuning import describe_tuning
from lnrnn.runs.folder import folder_of
from lnrnn.study.missing import Failures, lost_runs, name_missing, sort_out, train_all
from lnrnn.study.plan import Task, build_once, tasks_of, tuning_runs
from lnrnn.study.settings import Settings

Folders = dict[str, dict[float, list[Path]]]  # an arm's name -> learning rate -> its runs


class TuningError(RuntimeError):
    """No learning rate can be chosen."""


def tune(settings: Settings, console: Console) -> tuple[dict[str, float], Folders, Failures]:
    """Train every arm at every rate, and choose by the validation loss.

    The seeds are those of the comparison, or tuning seeds where they were asked for.

    Returns:
        Each arm's rate, all folders, and the runs that diverged.

    Raises:
        TuningError: If runs failed that did not diverge, which would make the choice unfair; or if
            no run of any arm came to an end.
        ConfigurationError: If the runs cannot be made.
        Interrupted: If a signal asked to stop; all runs are saved.
    """
    runs = tuning_runs(settings)
    tasks: list[Task] = []
    for rate in settings.rates:
        at_rate = {name: rates[rate] for name, rates in runs.items()}
        tasks += tasks_of(at_rate, f" lr={rate:g}")
    failures: Failures = []
    if settings.train:
        build_once({name: rates[settings.rates[0]] for name, rates in runs.items()})
        failures = train_all("tuning", tasks, settings.jobs, console, shared=settings.worker)
        _check_complete(failures)
    else:
        name_missing(tasks, console)
    folders = {
        name: {rate: [folder_of(run).path for run in members] for rate, members in rates.items()}
        for name, rates in runs.items()
    }
    _check_any(folders, settings)
    rates = choose_rates(folders)
    for name, rate in rates.items():
        tried = ", ".join(f"{other:g}" for other in settings.rates)
        console.print(f"{name}: lr={rate:g}, the best of {tried}", markup=False, highlight=False)
    return rates, folders, failures


def check_tuned(settings: Settings) -> None:
    """Check that every tuning run has come to an end, where other processes train them.

    Raises:
        TuningError: If one has no result and did not diverge, which would make the choice unfair.
        ConfigurationError: If the data have changed since a run was finished.
    """
    runs = tuning_runs(settings)
    lacking = []
    for rate in settings.rates:
        at_rate = {name: rates[rate] for name, rates in runs.items()}
        lacking += sort_out([*tasks_of(at_rate, f" lr={rate:g}")])[0]
    if lacking:
        raise TuningError(
            "no learning rate is chosen, because tuning runs have no result; the same command goes "
            "on with them:\n" + "\n".join(f"  {task.title}: {task.folder}" for task in lacking)
        )


def _check_complete(failures: Failures) -> None:
    lost = [f"  {line}" for line in lost_runs(failures)]
    if lost:
        raise TuningError(
            "no learning rate is chosen, because tuning runs failed that did not diverge; the same "
            "command tries them again:\n" + "\n".join(lost)
        )


def _check_any(folders: Folders, settings: Settings) -> None:
    """Raise TuningError if no arm has a run that came to an end at any rate."""
    described = describe_tuning(folders)
    values = [
        value for arm in described["arms"] for rate in arm["rates"] for value in rate["values"]
    ]
    if all(value is None for value in values):
        tried = ", ".join(f"{rate:g}" for rate in settings.rates)
        raise TuningError(
            f"no arm has a finished run at any learning rate of {tried}, so there is nothing to "
            "choose from. If they diverged, try smaller ones: 'lr=[1e-5,1e-4,1e-3]'; without "
            "train=false what is missing is trained"
        )
