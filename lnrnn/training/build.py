"""From a checked configuration to data, model, task and trainer."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from omegaconf import DictConfig, OmegaConf

from lnrnn.checks import is_whole
from lnrnn.config.budget import counts_steps
from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.data import DataModule
from lnrnn.inference.build import build_model, explained
from lnrnn.models import RegressionHead, SequenceModel
from lnrnn.runs.effects import is_part_of, is_without_effect
from lnrnn.runs.folder import RunFolder, leaf_keys
from lnrnn.runs.machine import current_commit, installed_versions
from lnrnn.seeding import initialize
from lnrnn.training.best import BestWeights, tested_weights
from lnrnn.training.callbacks import Records, StepSeed, StepTimer
from lnrnn.training.checkpoint_io import CheckpointFiles
from lnrnn.training.checkpoints import Checkpoints
from lnrnn.training.class_weights import class_weights_of
from lnrnn.training.loggers import Identity, build_logger
from lnrnn.training.loops import use_own_loops
from lnrnn.training.monitor.callback import Monitor
from lnrnn.training.profiling import NoProfiler
from lnrnn.training.rank_agreement import check_launch, check_launches_nothing
from lnrnn.training.screen import Bar, Lines, ModelTable
from lnrnn.training.signals import Signals
from lnrnn.training.task import SequenceTask, parameter_groups


def build_data(config: DictConfig) -> Any:
    """Return the datamodule, loaded and checked.

    Raises:
        ConfigurationError: If the data cannot be read, or contradict the configuration.
    """
    datamodule = instantiate(config.data)
    if not isinstance(datamodule, DataModule):
        raise ConfigurationError(
            f"data._target_ ({config.data._target_}) must make an lnrnn.data.DataModule, which can "
            "be resumed in the middle of an epoch and divided among processes; got a "
            f"{type(datamodule).__name__}. lnrnn.data.sequence_data makes one of any source"
        )
    with explained("data"):
        datamodule.prepare_data()
        datamodule.setup("fit")
    return datamodule


def build_task(config: DictConfig, datamodule: Any) -> SequenceTask:
    """Return the task: encoder and head joined, every parameter drawn from (seed, its name).

    Raises:
        ConfigurationError: If the parts do not fit one another.
    """
    model = build_model(config)
    optimizer = instantiate(config.optimizer)
    with explained("model"):
        initialize(model, config.seed)
        task = SequenceTask(
            model,
            kind=datamodule.kind,
            num_classes=datamodule.num_classes,
            optimizer=optimizer,
            schedule=config.schedule,
            warmup_steps=config.warmup_steps,
            target_std=datamodule.target_scale[1],
            class_weights=class_weights_of(config, datamodule),
        )
        _check_numbers(datamodule, model)
    with explained("optimizer"):
        optimizer(parameter_groups(model))  # checks its settings; training makes its own
    return task


def _check_numbers(datamodule: Any, model: SequenceModel) -> None:
    """Check that the head gives as many numbers as the data have.

    Raises:
        ValueError: With the setting that makes them agree.
    """
    head = model.head
    if not isinstance(head, RegressionHead):
        return
    wanted = (datamodule.horizon, datamodule.per_step)
    if (head.num_outputs, head.per_step) != wanted:
        way_out = {
            (None, False): "head=regression",
            (None, True): "head=regression head.pooling=none",
        }.get(wanted, "head=forecast")
        what = (
            f"{wanted[0]} numbers a sequence"
            if wanted[0]
            else "a number at every step"
            if wanted[1]
            else "a number a sequence"
        )
        raise ValueError(f"the data have {what}, and the head gives something else: set {way_out}")


CONTRACT = (
    "model",
    "head",
    "data",
    "optimizer",
    "seed",
    "schedule",
    "warmup_steps",
    "early_stopping",
    "init_from",
    "init_parts",
    "freeze",
    "unfreeze_at",
    "class_weights",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.limit_train_batches",
    "trainer.precision",
)


def contract_of(config: DictConfig, datamodule: Any) -> dict[str, Any]:
    """Return what must be the same where a run is resumed: plain values by dotted key.

    The budget may change, and where it runs; what is learned, from what and how may not.
    """
    contract = {
        key: str(OmegaConf.select(config, key))
        for key in leaf_keys(config)
        if is_part_of(key, CONTRACT) and not is_without_effect(key)
    }
    return {**contract, "fingerprint of the data": datamodule.fingerprint}


@dataclass(frozen=True)
class Training:
    """A trainer, and those of its callbacks that are asked something later.

    Args:
        trainer: Runs the loops.
        timer: Keeps the time.
        checkpoints: Keeps the time of saving.
        best: Knows the best validation.
        signals: Must be entered while training.
        world: What a checkpoint notes that may change: number of processes, commit, versions.
    """

    trainer: Trainer
    timer: StepTimer
    checkpoints: Checkpoints
    best: BestWeights
    signals: Signals
    world: dict[str, Any]


def build_trainer(
    config: DictConfig,
    folder: RunFolder,
    contract: dict[str, Any],
    identity: Identity,
    *,
    continues: bool = False,
) -> Training:
    """Return the trainer with its callbacks.

    The order of the callbacks matters: records are written before a checkpoint notes their length.

    Args:
        config: The checked configuration.
        folder: The run's folder.
        contract: What every checkpoint notes, from :func:`contract_of`.
        identity: What loggers know the run by.
        continues: Whether the run continues the records in its folder.

    Raises:
        ConfigurationError: If Lightning refuses the settings or would start processes by itself,
            other processes were started than they say, or a logger's package is missing.
    """
    check_launch(config.trainer, os.environ)
    interval = config.trainer.get("val_check_interval")
    timer, signals = StepTimer(), Signals()
    versions = installed_versions()
    world = {"commit": current_commit(), **versions}
    callbacks: list[Callback] = [StepSeed(config.seed), timer]
    on_terminal = sys.stdout.isatty()
    if config.trainer.enable_progress_bar:
        callbacks += [Bar(), Lines()] if on_terminal else [Lines()]
    if config.trainer.enable_model_summary:
        callbacks.append(ModelTable())
    records = Records(folder, config.trainer.log_every_n_steps, continues=continues)
    callbacks.append(records)
    needed = tested_weights(config) == "best"
    best = BestWeights(folder, config.monitor_metric, versions, needed=needed)
    callbacks.append(best)
    if config.monitor:
        callbacks.append(Monitor(records))
    callbacks += build_early_stopping(config.early_stopping)
    checkpoints = Checkpoints(
        folder,
        config.checkpoint_every_n_steps,
        contract=contract,
        world=world,
        signals=signals,
    )
    callbacks.append(checkpoints)
    across = {"check_val_every_n_epoch": None} if counts_steps(interval) else {}
    profiler = {"profiler": NoProfiler()} if config.trainer.get("profiler") is None else {}
    trainer = instantiate(
        config.trainer,
        **across,
        **profiler,
        callbacks=callbacks,
        plugins=[CheckpointFiles(versions)],
        logger=build_logger(config.logger, folder, identity),
        default_root_dir=str(folder.path),
        enable_progress_bar=config.trainer.enable_progress_bar and on_terminal,
        log_every_n_steps=1,  # Records decides what is recorded when
        enable_model_summary=False,  # ModelTable shows it
        use_distributed_sampler=False,  # the datamodule slices each batch itself
        num_sanity_val_steps=0,
    )
    check_launches_nothing(trainer)
    use_own_loops(trainer)
    signals.keep_from(trainer)
    world = {"processes": trainer.world_size, **world}
    return Training(trainer, timer, checkpoints, best, signals, world)


def build_early_stopping(patience: Any) -> list[Callback]:
    """Return what ends training once val/loss is no longer getting better; nothing for None.

    Args:
        patience: Validations in a row without a new lowest val/loss.

    Raises:
        ConfigurationError: If it is not a whole number from 1 up.
    """
    if patience is None:
        return []
    if not is_whole(patience, least=1):
        raise ConfigurationError(
            "early_stopping must be null, or after how many validations without a lower val/loss "
            f"training ends, a whole number from 1 up; got {patience!r}"
        )
    # Asked right after a validation, never at an epoch's end without one, where there is no loss:
    # a budget in steps may end first, or a resumed run may not have come to its next validation.
    return [
        EarlyStopping(
            "val/loss", patience=patience, check_finite=False, check_on_train_epoch_end=False
        )
    ]


def check_loops(trainer: Trainer) -> None:
    """Check the settings with which Lightning cannot resume.

    Args:
        trainer: From :func:`build_trainer`.

    Raises:
        ConfigurationError: With the way out.
    """
    if getattr(trainer, "overfit_batches", 0):
        raise ConfigurationError(
            "trainer.overfit_batches is not supported, because Lightning would replace the loader "
            "that can resume. trainer.limit_train_batches=1 trains on a few batches."
        )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about things that this project has taken care of."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)  # below it: adverts, and what the summary says again
    profilers = logging.getLogger("lightning.pytorch.profilers")
    level_of_profilers = profilers.level
    profilers.setLevel(logging.INFO)  # what trainer.profiler=simple is asked for
    try:
        with warnings.catch_warnings():
            # Our loader starts at the checkpoint's batch by itself.
            warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
            # Small sets need no loader processes.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Metrics are combined over processes by torchmetrics, before they are logged.
            warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
            # Lightning 2.6 asks torch 2.13 in a way that torch has renamed.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated.*")
            yield
    finally:
        logger.setLevel(level)
        profilers.setLevel(level_of_profilers)
