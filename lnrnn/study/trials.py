"""The trials of a search: a study of Optuna's, which any number of processes work at together.

A trial is an ordinary run in its own folder. The study holds which processes are at which trial; a
trial whose process was stopped or killed is taken up again, from the run's checkpoint.
"""

import csv
import io
import time
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
from lnrnn.runs.checkpoint_files import CheckpointError
from lnrnn.runs.effects import is_without_effect
from lnrnn.runs.files import replace_text, replacing
from lnrnn.runs.folder import RunFolder, folder_of
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.lock import InUseError, may_live, this_process
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.reporting import best_effort
from lnrnn.study.database import loss_of, open_database
from lnrnn.study.search import OBJECTIVE, Search, Space
from lnrnn.training import NonFiniteError, train

JOURNAL = "journal.log"
OWNER, OVERRIDES, FOLDER, ERROR, AGAIN = "owner", "overrides", "folder", "error", "taken up again"
SEARCHED = "searched"  # what a study was made for
PATIENCE = 10.0  # seconds from a study's making until it must say what it searches
PAUSE = 1.0  # seconds before other values are drawn, where another process is at these


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


def result_of(folder: RunFolder) -> float:
    """Return the loss of the validation whose weights a finished run has tested.

    Raises:
        ConfigurationError: If it was never validated.
    """
    losses, record = losses_of(folder), folder.read_record()
    if not losses:
        raise ConfigurationError(
            f"{folder.path} has no {OBJECTIVE}, since it was never validated: train for longer, or "
            "validate more often (trainer.val_check_interval)"
        )
    return dict(losses)[record.best["step"]] if record.tested == "best" else losses[-1][1]


def open_study(search: Search) -> optuna.Study:
    """Return the study, which is made if it is not there.

    Raises:
        ConfigurationError: If a study of that name searches something else; or the database cannot
            be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = search.folder.name
    if search.storage is None:
        search.folder.mkdir(parents=True, exist_ok=True)
        storage: Any = JournalStorage(JournalFileBackend(str(search.folder / JOURNAL)))
    else:  # a database holds the studies of all data sets
        name = f"{search.folder.parent.parent.name}/{name}"
        storage = open_database(search.storage)
    with quiet_optuna():
        try:  # of several that start at once, one makes it, and notes what it is for
            study = optuna.create_study(
                storage=storage, study_name=name, direction="minimize", load_if_exists=False
            )
            study.set_user_attr(SEARCHED, searched(search))
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(storage=storage, study_name=name)
        study.sampler = optuna.samplers.TPESampler(constant_liar=True)  # others are at work
        study.pruner = optuna.pruners.MedianPruner()
    check_search(search, study)
    return study


def searched(search: Search) -> list[str]:
    """Return what a study notes of its search, a line for each key."""
    wanted = {key: f"{space.kind}({_listed(space)})" for key, space in search.spaces.items()}
    said = (text.partition("=") for text in search.shared)
    shared = [f"{key}={value}" for key, _, value in said if not is_without_effect(key.lstrip("+~"))]
    return sorted([*(f"{key}={space}" for key, space in wanted.items()), *shared])


def check_search(search: Search, study: optuna.Study) -> None:
    """Check that a study is of this search.

    Raises:
        ConfigurationError: If it is of another.
    """
    lines, deadline = searched(search), time.monotonic() + PATIENCE
    while (known := study.user_attrs.get(SEARCHED)) is None and time.monotonic() < deadline:
        time.sleep(PAUSE / 10)  # whoever made it a moment ago is about to note it
    if known is None:  # it was killed in between
        study.set_user_attr(SEARCHED, lines)
    elif known != lines:
        changes = [f"  {text}: then" for text in known if text not in lines]
        changes += [f"  {text}: now" for text in lines if text not in known]
        raise ConfigurationError(
            f"the study {search.folder.name} searches something else:\n" + "\n".join(changes) + "\n"
            "Give this one another name, study=..."
        )


def _listed(space: Space) -> str:
    return ",".join(map(str, space.values))


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
        ConfigurationError: If a trial's settings do not fit together.
        CheckpointError: If a checkpoint cannot be written; the trial is taken up again.
        OSError: If another file cannot be written; the trial is taken up again.
        StorageInternalError: If the database does not answer, or another error of it; ``loss_of``
            knows them.
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
        with quiet_optuna():
            trial = study.ask(spaces)
        make(search, study, trial)


def take_up_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a trial whose process has ended back among those that wait."""
    if leave_out(study, trial):
        study.enqueue_trial(trial.params)


def leave_out(study: optuna.Study, trial: FrozenTrial) -> bool:
    """End a trial that is not to count; return whether this process was the first to do so."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, AGAIN, True)
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, RuntimeError):
        return False
    return True


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
        study.tell(trial, result_of(folder))
    except Pruned:
        study.tell(trial, state=TrialState.PRUNED)
    except NonFiniteError as error:  # as bad as can be, which a sampler should learn from
        trial.set_user_attr(ERROR, str(error))
        study.tell(trial, float("inf"))
    except InUseError:  # another process has drawn the same values
        leave_out(study, study.trials[trial.number])
        time.sleep(PAUSE)
    except ConfigurationError:  # in the words of this one; the next would end like it
        leave_out(study, study.trials[trial.number])
        raise
    except (Interrupted, KeyboardInterrupt, CheckpointError, OSError):
        with best_effort("the study does not know that this trial was interrupted"):
            take_up_again(study, study.trials[trial.number])
        raise
    except Exception as error:  # of one trial's settings, such as memory that is used up
        if search.storage is not None and loss_of(error):
            raise
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
