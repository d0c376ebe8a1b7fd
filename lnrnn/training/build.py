"""From a checked configuration to data, model, task and trainer."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import MLFlowLogger
from omegaconf import DictConfig, OmegaConf

from lnrnn.models import SequenceModel
from lnrnn.seeding import initialize
from lnrnn.training.callbacks import Records, StepSeed, StepTimer
from lnrnn.training.checkpoints import Checkpoints
from lnrnn.training.checks import ConfigurationError
from lnrnn.training.configuration import instantiate
from lnrnn.training.run import RunFolder, is_without_effect, leaf_keys
from lnrnn.training.screen import Lines, ModelTable
from lnrnn.training.task import SequenceTask, parameter_groups


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what goes wrong while an object is built into a ConfigurationError that says where."""
    try:
        yield
    except ConfigurationError:
        raise
    except (ValueError, TypeError, NotImplementedError, OSError, ImportError) as error:
        raise ConfigurationError(f"{what}: {error}") from error


def build_data(config: DictConfig) -> Any:
    """Return the datamodule, loaded and checked.

    Raises:
        ConfigurationError: If the data cannot be had, or contradict the configuration.
    """
    datamodule = instantiate(config.data)
    with explained("data"):
        datamodule.prepare_data()
        datamodule.setup("fit")
    return datamodule


def build_task(config: DictConfig, datamodule: Any) -> SequenceTask:
    """Return the task: encoder and head joined, every parameter drawn from (seed, its name).

    Raises:
        ConfigurationError: If the parts do not fit one another.
    """
    encoder = instantiate(config.model)
    head = instantiate(config.head)
    optimizer = instantiate(config.optimizer)
    with explained("model"):
        model = SequenceModel(encoder, head)
        initialize(model, config.seed)
        task = SequenceTask(
            model,
            kind=datamodule.kind,
            num_classes=datamodule.num_classes,
            optimizer=optimizer,
            schedule=config.schedule,
            warmup_steps=config.warmup_steps,
        )
    with explained("optimizer"):
        optimizer(parameter_groups(model))  # checks its settings; training makes its own
    return task


def contract_of(config: DictConfig, datamodule: Any) -> dict[str, Any]:
    """Return what must be the same where a run goes on: plain values by dotted key.

    The budget may change, and where it runs; what is learned, from what and how may not.
    """
    parts = ("model", "head", "data", "optimizer", "seed", "schedule", "warmup_steps")
    contract = {
        key: str(OmegaConf.select(config, key))
        for key in leaf_keys(config)
        if key.split(".")[0] in parts and not is_without_effect(key)
    }
    return {**contract, "fingerprint of the data": datamodule.fingerprint}


def build_trainer(
    config: DictConfig, folder: RunFolder, contract: dict[str, Any]
) -> tuple[Trainer, StepTimer]:
    """Return the trainer with its callbacks, and the one among them that keeps the time.

    The order of the callbacks matters: records are written before a checkpoint notes their length.

    Args:
        config: The checked configuration.
        folder: The run's folder.
        contract: What every checkpoint notes, from :func:`contract_of`.

    Raises:
        ConfigurationError: If Lightning refuses the settings, or a logger's package is missing.
    """
    launched = {"WORLD_SIZE", "SLURM_NTASKS"} & set(os.environ)
    if str(config.trainer.strategy).startswith("ddp") and not launched:
        raise ConfigurationError(
            "several processes are started by torchrun (or SLURM), not by the script itself: "
            "torchrun --nproc-per-node=2 scripts/train.py trainer=ddp"
        )
    timer = StepTimer()
    callbacks: list[Callback] = [StepSeed(config.seed), timer]
    on_terminal = sys.stdout.isatty()
    if config.trainer.enable_progress_bar:
        callbacks.append(RichProgressBar() if on_terminal else Lines())
    if config.trainer.enable_model_summary:
        callbacks.append(ModelTable())
    callbacks += [
        Records(folder, config.trainer.log_every_n_steps),
        Checkpoints(folder, config.checkpoint_every_n_steps, contract),
    ]
    trainer = instantiate(
        config.trainer,
        callbacks=callbacks,
        logger=build_logger(config.logger, folder),
        default_root_dir=str(folder.path),
        enable_progress_bar=config.trainer.enable_progress_bar and on_terminal,
        log_every_n_steps=1,  # Records decides what is recorded when
        enable_model_summary=False,  # ModelTable shows it
        enable_checkpointing=False,  # Checkpoints does it
        use_distributed_sampler=False,  # the datamodule slices each batch itself
        num_sanity_val_steps=0,
    )
    return trainer, timer


def build_logger(node: DictConfig | None, folder: RunFolder) -> Any:
    """Return the chosen logger, writing below the run's folder, or False for none.

    Raises:
        ConfigurationError: If its package is not installed; the message says which extra to take.
    """
    if not node:
        return False
    settings: dict[str, Any] = {"save_dir": str(folder.path)}
    if node._target_.endswith(MLFlowLogger.__name__) and node.tracking_uri is None:
        settings["tracking_uri"] = (folder.path / "mlflow").resolve().as_uri()
    try:
        return instantiate(node, **settings)
    except ConfigurationError as error:
        extra = node._target_.rpartition(".")[2].removesuffix("Logger").lower()
        raise ConfigurationError(
            f"{error}\nIf its package is not installed: pip install 'lnrnn[{extra}]'"
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about things that this project has taken care of."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)  # below it: adverts, and what the summary says again
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
