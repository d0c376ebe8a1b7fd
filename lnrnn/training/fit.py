"""One training run from configuration to result."""

import hashlib
from pathlib import Path
from typing import Any, cast

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import OmegaConf
from torch import nn

from lnrnn.training.build import (
    build_data,
    build_task,
    build_trainer,
    contract_of,
    quiet_lightning,
)
from lnrnn.training.callbacks import StepTimer
from lnrnn.training.checkpoints import check_contract, check_fits, read_checkpoint
from lnrnn.training.checks import ConfigurationError
from lnrnn.training.configuration import Experiment
from lnrnn.training.curves import plot_curves
from lnrnn.training.metrics import PRIMARY_METRIC
from lnrnn.training.run import (
    RunFolder,
    check_configuration,
    choose_checkpoint,
    current_commit,
    describe_machine,
    folder_of,
    forget_later,
    installed_versions,
    replace_text,
)
from lnrnn.training.task import SequenceTask


def train(experiment: Experiment, root: Path = Path("runs")) -> tuple[RunFolder, dict[str, Any]]:
    """Train, or go on with, or only report the run that an experiment describes.

    A finished run is not repeated. An unfinished one goes on from its newest checkpoint and ends
    in the weights and records of a run that was never stopped.

    Args:
        experiment: From :func:`lnrnn.training.configuration.compose_experiment`.
        root: The folder that holds all runs.

    Returns:
        The run's folder and the content of its ``run.json``.

    Raises:
        ConfigurationError: If configuration, data, folder or checkpoint do not fit together.
        NonFiniteError: If a loss or gradient is not finite; earlier checkpoints are kept.
    """
    config, folder = experiment.config, folder_of(experiment, root)
    checkpoint = choose_checkpoint(folder, config.resume)
    check_configuration(folder, config)
    if folder.read_record().get("status") == "finished":
        return folder, folder.read_record()

    datamodule = build_data(config)
    task = build_task(config, datamodule)
    contract = contract_of(config, datamodule)
    if checkpoint is not None:
        saved = read_checkpoint(checkpoint)
        check_fits(saved, task, checkpoint)
        check_contract(saved, contract, checkpoint)
    with quiet_lightning():
        trainer, timer = build_trainer(config, folder, contract)
        _open(folder, experiment, task, datamodule, checkpoint, trainer)
        trainer.callbacks.append(Status(folder, timer))  # pyright: ignore[reportAttributeAccessIssue]
        for logger in trainer.loggers:
            logger.log_hyperparams(cast(dict, OmegaConf.to_container(config)))
        try:
            trainer.fit(task, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except MisconfigurationException as error:
            raise ConfigurationError(f"trainer: {error}") from error
        trainer.test(task, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        folder.update_record(
            status="finished",
            steps=trainer.global_step,
            **_step_time(folder, timer, trainer),
            metrics={name: value for name, value in metrics.items() if name.startswith("test/")},
        )
        plot_curves(folder.metrics, folder.curves)
    return folder, folder.read_record()


class Status(Callback):
    """Notes in ``run.json`` that a run was interrupted or failed, and why."""

    def __init__(self, folder: RunFolder, timer: StepTimer) -> None:
        self.folder = folder
        self.timer = timer

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the status; the exception goes its way."""
        if not trainer.is_global_zero:
            return
        stopped = not isinstance(exception, Exception)  # Ctrl-C or a signal
        self.folder.update_record(
            status="interrupted" if stopped else "failed",
            steps=trainer.global_step,
            error=f"{type(exception).__name__}: {exception}",
            **_step_time(self.folder, self.timer, trainer),
        )


def _step_time(folder: RunFolder, timer: StepTimer, trainer: Trainer) -> dict[str, float | None]:
    """Return the median seconds per optimizer step, or what an earlier session noted."""
    if timer.median is None:
        return {"seconds_per_step": folder.read_record().get("seconds_per_step")}
    return {"seconds_per_step": timer.median * trainer.accumulate_grad_batches}


@rank_zero_only
def _open(
    folder: RunFolder,
    experiment: Experiment,
    task: SequenceTask,
    datamodule: Any,
    checkpoint: Path | None,
    trainer: Trainer,
) -> None:
    """Make the folder and write what is known before the first step."""
    metric, higher_is_better = PRIMARY_METRIC[datamodule.kind]
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    if checkpoint is not None:
        forget_later(folder, checkpoint)
    replace_text(folder.config, OmegaConf.to_yaml(experiment.config))
    folder.write_record(
        {
            "status": "running",
            "data": experiment.data,
            "model": experiment.model,
            "name": experiment.config.name,
            "seed": experiment.config.seed,
            "overrides": list(experiment.overrides),
            "metric": metric,
            "higher_is_better": higher_is_better,
            "parameters": sum(parameter.numel() for parameter in task.parameters()),
            "seconds_per_step": folder.read_record().get("seconds_per_step"),
            "versions": installed_versions(),
            "commit": current_commit(),
            "machine": describe_machine(trainer.strategy.root_device.type),
            "data_fingerprint": datamodule.fingerprint,
            "initial_parameters": _digests(task.model),
        }
    )


def _digests(model: nn.Module) -> dict[str, str]:
    """Return a short digest of every parameter, to show which ones two runs share."""
    return {
        name: hashlib.sha256(parameter.detach().cpu().numpy().tobytes()).hexdigest()[:12]
        for name, parameter in model.named_parameters()
    }
