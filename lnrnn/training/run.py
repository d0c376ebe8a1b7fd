"""One training run from configuration to result."""

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from signal import SIGUSR1
from statistics import median
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf

from lnrnn.config.compose import Experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.best_files import keep_only
from lnrnn.runs.checkpoint_files import read_checkpoint
from lnrnn.runs.confusion import plot_confusion, table_of, write_confusion
from lnrnn.runs.curves import plot_curves
from lnrnn.runs.files import open_own, replace_text
from lnrnn.runs.finished import complete, has_the_same_data
from lnrnn.runs.folder import RunFolder, check_configuration, folder_of
from lnrnn.runs.interruption import Interrupted, ask_for_requeue
from lnrnn.runs.lock import locked
from lnrnn.runs.machine import current_commit, describe_machine, installed_versions
from lnrnn.runs.model_file import with_settings, write_model
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RecordError, RunRecord, pack_correct
from lnrnn.runs.reporting import best_effort
from lnrnn.runs.weights import check_fits, model_weights
from lnrnn.training.accelerator import check_gpu
from lnrnn.training.autocast import computed_in_float16
from lnrnn.training.build import (
    Training,
    build_data,
    build_task,
    build_trainer,
    check_loops,
    contract_of,
    quiet_lightning,
)
from lnrnn.training.callbacks import StepTimer, dropout_seed
from lnrnn.training.class_weights import unequal_classes
from lnrnn.training.finite import NonFiniteError
from lnrnn.training.freezing import freeze
from lnrnn.training.fresh_memory import fresh_memory_as_it_is
from lnrnn.training.loader_failures import explained_loaders
from lnrnn.training.loggers import Identity, finishing, identity_of, log_configuration
from lnrnn.training.loops import first_limit
from lnrnn.training.metrics import PRIMARY_METRIC
from lnrnn.training.monitor.diagnosis import diagnose
from lnrnn.training.rank_agreement import Agreement
from lnrnn.training.resume import (
    Start,
    check_contract,
    choose_start,
    differences,
    history,
    tidy,
)
from lnrnn.training.screen import say
from lnrnn.training.task import SequenceTask
from lnrnn.training.warm_start import DIGEST, how_it_started, read_initial, start_from


def train(
    experiment: Experiment,
    root: Path = Path("runs"),
    *,
    callbacks: Sequence[Callback] = (),
    leased: bool = False,
) -> tuple[RunFolder, RunRecord]:
    """Train, resume, or only report the run that an experiment describes.

    A finished run is not repeated. An unfinished one is resumed from its newest checkpoint and ends
    in the weights and records of a run that was never stopped.

    Args:
        experiment: From :func:`lnrnn.config.compose.compose_experiment`.
        root: The folder that holds all runs.
        callbacks: Are told of the run beside its own, which come first; none may change it.
        leased: Whether processes of other machines may take the run over once this one has stood
            still for minutes; it ends at once then.

    Returns:
        The run's folder and the content of its ``run.json``.

    Raises:
        ConfigurationError: If configuration, data, folder or checkpoint do not fit together, or
            another process trains in the folder.
        CheckpointError: If a checkpoint cannot be written; earlier ones are kept.
        OSError: If another file of the run cannot be written; checkpoints are kept.
        NonFiniteError: If a loss or gradient is not finite; earlier checkpoints are kept.
        Interrupted: If a signal asked to stop; the run is saved.
    """
    config, folder = experiment.config, folder_of(experiment, root)
    check_configuration(folder, config)
    if config.resume != "never" and is_finished(folder, config):
        complete(folder)
        return folder, folder.read_record()
    first = is_first_process()
    with locked(folder.path, leased=leased) if first else nullcontext():
        if config.resume == "never" and not first:
            start = Start()  # the first process, which makes the folder, has looked
        else:
            start = choose_start(folder, config.resume)
        check_configuration(folder, config)
        if not is_finished(folder, config):  # by one that held the lock a moment ago
            try:
                _train(experiment, folder, root, start, callbacks)
            except RecordError as error:
                raise ConfigurationError(
                    f"{error}. Something has changed the run's records: put the file back, or move "
                    "the run's folder away and start from scratch."
                ) from error
    return folder, folder.read_record()


def is_finished(folder: RunFolder, config: DictConfig) -> bool:
    """Return whether a run is finished.

    Raises:
        ConfigurationError: If it is, but its data have changed since.
    """
    record = folder.read_record()
    if record.status != "finished":
        return False
    if has_the_same_data(record, config):
        return True
    before, now = record.data_fingerprint, build_data(config).fingerprint
    if before != now:
        raise ConfigurationError(
            f"{folder.path} holds a finished run, but the data have changed since: their "
            f"fingerprint was {before} then and is {now} now. Give the run a name of its own "
            "(name=...), or move that folder away."
        )
    return True


def _train(
    experiment: Experiment,
    folder: RunFolder,
    root: Path,
    start: Start,
    callbacks: Sequence[Callback],
) -> None:
    """Train from ``start`` to the end, and write down what came out."""
    config = experiment.config
    check_gpu(config.trainer)
    datamodule = build_data(config)
    task = build_task(config, datamodule)
    contract = contract_of(config, datamodule)
    saved, initial = None, None
    if start.checkpoint is None:
        initial = read_initial(config)
        contract |= {} if initial is None else {DIGEST: initial.sha256}
    else:
        saved = read_checkpoint(start.checkpoint)
        check_fits(model_weights(saved["state_dict"]), task.model, start.checkpoint)
        contract |= {
            key: value for key, value in saved.get("contract", {}).items() if key == DIGEST
        }
        check_contract(saved, contract, start.checkpoint)
    step = saved["global_step"] if saved and start.continues else None
    identity = identity_of(folder.read_record(), root, step)
    with quiet_lightning():
        training = build_trainer(config, folder, contract, identity, continues=start.continues)
        trainer = training.trainer
        datamodule.trainer = trainer  # as Lightning will: it knows how long an epoch is
        check_loops(trainer)
        batches = datamodule.batches_per_epoch()
        limit = first_limit(trainer, batches)
        changed = differences(saved, training.world) if saved else []
        position = start.checkpoint and (start.checkpoint.name, start.continues)
        agreement = Agreement({**contract, "continues from": position})
        status = Status(folder, config, training.timer)
        if initial is not None:  # in the numbers that training is in, or their ends would be lost
            task = cast(SequenceTask, trainer.precision_plugin.convert_module(task))
        origin = start_from(initial, task.model, config) if initial is not None else {}
        trainer.callbacks[:0] = freeze(config, task.model, trainer, batches, step or 0)  # pyright: ignore[reportAttributeAccessIssue]
        trainer.callbacks += [*callbacks, agreement, status]  # pyright: ignore[reportAttributeAccessIssue]
        with training.signals:  # from before the record says "running": what stops it says so too
            if trainer.is_global_zero:
                started = how_it_started(folder.read_record(), origin, task.model, start, contract)
                _open(folder, experiment, started, datamodule, start, training, changed, identity)
                told = (
                    limit,
                    unequal_classes(config, datamodule),
                    computed_in_float16(
                        task.model, config.trainer.precision, trainer.strategy.root_device
                    ),
                )
                for line in filter(None, told):
                    say(line)
            with finishing(trainer.loggers):
                plain = cast(dict, OmegaConf.to_container(config))
                log_configuration(trainer.loggers, plain)
                tested = _run(config, training, task, datamodule, start.checkpoint, status)
                if trainer.is_global_zero:
                    classes = datamodule.preparation.class_names
                    _finish(folder, config, training, task, tested, classes)
                # A sweep's next job may be this run again: all find it finished.
                trainer.strategy.barrier()
                received = training.signals.agreed(trainer)
    if received:  # in the last moments: what was asked to stop here is more than this run
        raise Interrupted(received, trainer.global_step, finished=True)


def _finish(
    folder: RunFolder,
    config: DictConfig,
    training: Training,
    task: SequenceTask,
    tested: str,
    classes: Sequence[str],
) -> None:
    """Leave what a finished run promises; that it is finished is said last."""
    trainer = training.trainer
    with open_own(folder.metrics) as file:
        os.fsync(file.fileno())
    plot_curves(folder.metrics, folder.curves)
    if task.confusion is not None:
        table = table_of(task.confusion.tolist(), classes)
        write_confusion(folder.confusion, table)
        plot_confusion(table, folder.confusion.with_suffix(".png"))
    best = training.best.best
    keep_only(folder.checkpoints, {best.step} if best is not None else set())
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    folder.update_record(
        status="finished",
        steps=trainer.global_step,
        **_step_time(folder, training.timer, trainer),
        seconds_per_save=median(training.checkpoints.seconds or [0.0]),
        metrics={name: value for name, value in metrics.items() if name.startswith("test/")},
        test_correct=_test_correct(task, trainer),
        tested=tested,
        best={} if best is None else asdict(best),
        **_diagnosis(folder, config),
    )


def _test_correct(task: SequenceTask, trainer: Trainer) -> dict[str, Any]:
    """Return which test examples were classified rightly; of several processes each has a share."""
    if not task.test_correct or trainer.world_size > 1:
        return {}
    return pack_correct(torch.cat(task.test_correct).tolist())


def _diagnosis(folder: RunFolder, config: DictConfig) -> dict[str, str]:
    """Return in words what the monitor saw; nothing if it was off."""
    if not config.monitor:
        return {}
    return {"diagnosis": diagnose(folder.metrics, OmegaConf.select(config, "model.eps"))}


def _run(
    config: DictConfig,
    training: Training,
    task: SequenceTask,
    datamodule: Any,
    checkpoint: Path | None,
    status: "Status",
) -> str:
    """Train and test; return which weights were tested, ``best`` or ``last``."""
    trainer = training.trainer
    # Lightning restores weights first and converts the module later: float64 would lose its end.
    task = cast(SequenceTask, trainer.precision_plugin.convert_module(task))
    with fresh_memory_as_it_is(), explained_loaders(datamodule.num_workers):
        try:
            trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
            chosen = training.best.chosen(trainer, config)
            if chosen is not None:
                training.best.load(task, chosen)
            trainer.test(task, datamodule=datamodule, verbose=False)
        except MisconfigurationException as error:
            raise ConfigurationError(f"trainer: {error}") from error
        except Exception as error:
            # Lightning tidies up after a failure, and where that fails too, tells of nothing else.
            if status.exception in (None, error):
                raise
            raise status.exception from None
    return "last" if chosen is None else "best"


class Status(Callback):
    """Notes in ``run.json`` that a run was interrupted or failed, and why.

    Whatever goes wrong with that, the run ends with what ended it.
    """

    def __init__(self, folder: RunFolder, config: DictConfig, timer: StepTimer) -> None:
        self.exception: BaseException | None = None  # what ended the run
        self.folder = folder
        self.config = config
        self.timer = timer

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the status, and ask for a requeue if that was the signal; then it goes its way."""
        self.exception = exception
        if not trainer.is_global_zero:
            return
        stopped = not isinstance(exception, Exception)  # Ctrl-C or a signal
        steps = exception.steps if isinstance(exception, NonFiniteError) else None
        changes: dict[str, Any] = {
            "status": "interrupted" if stopped else "failed",
            "steps": trainer.global_step if steps is None else steps,
            "error": f"{type(exception).__name__}: {exception}",
            "diverged": isinstance(exception, NonFiniteError),
        }
        with best_effort("run.json lacks the diagnosis"):
            changes |= _diagnosis(self.folder, self.config)
        with best_effort("run.json lacks the time per step"):
            changes |= _step_time(self.folder, self.timer, trainer)
        if isinstance(exception, Interrupted):
            changes |= {"signal": exception.signal.name, "exit_code": exception.code}
        with best_effort("run.json still says that the run goes on"):
            try:
                self.folder.update_record(**changes)
            except RuntimeError:  # torch's handler of a lost loader process raises anywhere, once
                self.folder.update_record(**changes)
        if isinstance(exception, Interrupted) and exception.signal == SIGUSR1:
            # The record comes first: SLURM may be quick.
            exception.requeue = f", {ask_for_requeue()}"
            with best_effort("run.json lacks what SLURM answered"):
                self.folder.update_record(error=f"{type(exception).__name__}: {exception}")


def _step_time(folder: RunFolder, timer: StepTimer, trainer: Trainer) -> dict[str, float | None]:
    """Return the median seconds per optimizer step, or what an earlier session noted."""
    if timer.median is None:
        return {"seconds_per_step": folder.read_record().seconds_per_step}
    return {"seconds_per_step": timer.median * trainer.accumulate_grad_batches}


def _open(
    folder: RunFolder,
    experiment: Experiment,
    started: dict[str, Any],
    datamodule: Any,
    start: Start,
    training: Training,
    changed: list[str],
    identity: Identity,
) -> None:
    """Make the folder, tidy it, and write what is known before the first step."""
    metric, higher_is_better = PRIMARY_METRIC[datamodule.kind]
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    tidy(folder, start)
    for path, why in start.skipped.items():
        warnings.warn(f"{path} is skipped: {why}", stacklevel=1)
    for difference in changed:
        warnings.warn(f"the run resumes with something else: {difference}", stacklevel=1)
    replace_text(folder.config, OmegaConf.to_yaml(experiment.config))
    write_model(folder.model, with_settings(datamodule.preparation, experiment.config))
    before = folder.read_record()
    folder.write_record(
        RunRecord(
            status="running",
            identity=identity.text if training.trainer.loggers else before.identity,
            data=experiment.data,
            model=experiment.model,
            name=experiment.config.name,
            seed=experiment.config.seed,
            overrides=list(experiment.overrides),
            metric=metric,
            higher_is_better=higher_is_better,
            seconds_per_step=before.seconds_per_step,
            processes=training.trainer.world_size,
            versions=installed_versions(),
            commit=current_commit(),
            machine=describe_machine(training.trainer.strategy.root_device.type),
            data_fingerprint=datamodule.fingerprint,
            data_order=datamodule.order,
            dropout_seed=dropout_seed(experiment.config.seed, step=0, rank=0),
            split_sizes={name: len(split) for name, split in datamodule.splits.items()},
            split={} if isinstance(datamodule.split, str) else asdict(datamodule.split),
            **started,
            **history(before, start, changed),
        )
    )
