"""The trials of a search: a study of Optuna's, which any number of processes work at together.

A trial is an ordinary run in its own folder. The study holds which processes are at which trial; a
trial whose process was stopped or killed is taken up again, from the run's checkpoint.
"""

import csv
import io
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import replace_text, replacing
from lnrnn.runs.folder import RunFolder, folder_of
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.lock import may_live, this_process
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.reporting import best_effort
from lnrnn.study.search import OBJECTIVE, Search, Space
from lnrnn.training import NonFiniteError, train

JOURNAL = "journal.log"
OWNER, OVERRIDES, FOLDER, ERROR, AGAIN = "owner", "overrides", "folder", "error", "taken up again"


class Pruned(Exception):
    """A trial's validation losses are worse than what others had at the same step."""


class Reports(Callback):
    """Tells a study each validation's loss, and ends the run if it is of no use to go on.

    Args:
        trial: The study's.
        folder: The run's.
    """

    def __init__(self, trial: optuna.Trial, folder: RunFolder) -> None:
        self.trial = trial
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell what the run had before it was interrupted."""
        for step, loss in losses_of(self.folder):
            self.trial.report(loss, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the loss.

        Raises:
            Pruned: If the study's pruner says so.
        """
        self.trial.report(float(trainer.callback_metrics[OBJECTIVE]), trainer.global_step)
        if self.trial.should_prune():
            raise Pruned(f"pruned at step {trainer.global_step}: other trials were better there")


def losses_of(folder: RunFolder) -> list[tuple[int, float]]:
    """Return a run's steps and validation losses."""
    if not folder.metrics.exists():
        return []
    entries = read_metrics(folder.metrics, whole=False)
    return [(entry.step, entry.value) for entry in entries if entry.name == OBJECTIVE]


def open_study(search: Search) -> optuna.Study:
    """Return the study, which is made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: Any = search.storage
    if storage is None:
        search.folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(search.folder / JOURNAL)))
    with quiet_optuna():
        return optuna.create_study(
            storage=storage,
            study_name=search.folder.name,
            sampler=optuna.samplers.TPESampler(constant_liar=True),  # others are at work
            pruner=optuna.pruners.MedianPruner(),
            direction="minimize",
            load_if_exists=True,
        )


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's warnings of what is experimental in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: begun, and not taken up again under another number."""
    return [
        trial
        for trial in study.trials
        if trial.state != TrialState.WAITING and AGAIN not in trial.user_attrs
    ]


def work(search: Search, study: optuna.Study) -> None:
    """Make trials until there are as many as were asked for.

    Raises:
        ConfigurationError: If a study of that name searches something else.
        Interrupted: If a signal asked to stop; the run is saved, and its trial taken up again.
    """
    spaces = {key: distribution_of(space) for key, space in search.spaces.items()}
    while True:
        for trial in study.trials:
            owner = trial.user_attrs.get(OWNER)
            if trial.state == TrialState.RUNNING and owner and not may_live(owner):
                take_up_again(study, trial)
        waits = any(trial.state == TrialState.WAITING for trial in study.trials)
        if not waits and len(counted(study)) >= search.trials:
            return
        try:
            with quiet_optuna():
                trial = study.ask(spaces)
        except ValueError as error:
            raise ConfigurationError(
                f"the study {search.folder.name} searches something else ({error}): give this one "
                "another name, study=..."
            ) from error
        make(search, study, trial)


def take_up_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a trial whose process has ended back among those that wait."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, AGAIN, True)
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):  # another process was first
        return
    study.enqueue_trial(trial.params)


def make(search: Search, study: optuna.Study, trial: optuna.Trial) -> None:
    """Train one trial's run, and tell the study what came of it."""
    words = [f"{key}={space.written(trial.params[key])}" for key, space in search.spaces.items()]
    trial.set_user_attr(OWNER, this_process())
    trial.set_user_attr(OVERRIDES, words)
    try:
        experiment = compose_experiment([*search.shared, *words])
        folder = folder_of(experiment)
        trial.set_user_attr(FOLDER, str(folder.path))
        train(experiment, callbacks=[Reports(trial, folder)])
        study.tell(trial, losses_of(folder)[-1][1])
    except Pruned:
        study.tell(trial, state=TrialState.PRUNED)
    except NonFiniteError as error:  # as bad as can be, which a sampler should learn from
        trial.set_user_attr(ERROR, str(error))
        study.tell(trial, float("inf"))
    except (Interrupted, KeyboardInterrupt):
        with best_effort("the study does not know that this trial was interrupted"):
            take_up_again(study, study.trials[trial.number])
        raise
    except Exception as error:  # of one trial's settings, such as memory that is used up
        traceback.print_exc()
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)


def distribution_of(space: Space) -> BaseDistribution:
    """Return a space as Optuna has it."""
    if space.kind == "choice":
        return CategoricalDistribution(space.values)
    if space.kind == "int":
        return IntDistribution(*space.values)
    return FloatDistribution(*space.values, log=space.kind == "log")


def write_results(search: Search, study: optuna.Study) -> list[Path]:
    """Write ``trials.csv`` and Optuna's plots into the study's folder, and return their paths."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", OBJECTIVE, *search.spaces, FOLDER, ERROR])
    for trial in counted(study):
        values = [trial.params.get(key) for key in search.spaces]
        notes = [trial.user_attrs.get(key, "") for key in (FOLDER, ERROR)]
        rows.writerow([trial.number, trial.state.name.lower(), trial.value, *values, *notes])
    search.folder.mkdir(parents=True, exist_ok=True)
    replace_text(search.folder / "trials.csv", text.getvalue())
    return [search.folder / "trials.csv", *_plots(search, study)]


def _plots(search: Search, study: optuna.Study) -> list[Path]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    written = []
    for name in ("optimization_history", "slice", "parallel_coordinate", "intermediate_values"):
        with quiet_optuna():
            axes: Any = getattr(plots, f"plot_{name}")(study)
            figure = getattr(axes, "figure", None) or axes.flat[0].figure
            with replacing(search.folder / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
        written.append(search.folder / f"{name}.png")
    return written
