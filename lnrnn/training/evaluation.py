"""Test a trained model again, from nothing but its run's folder."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.checkpoints import check_fits, read_checkpoint
from lnrnn.training.configuration import ConfigurationError, check_keys, instantiate
from lnrnn.training.run import RunFolder


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        checkpoint: The file whose weights were tested.
        metrics: Test metrics by name.
        recorded: The test metrics in the run's ``run.json``; empty if it never finished.
    """

    checkpoint: Path
    metrics: dict[str, float]
    recorded: dict[str, float]


def evaluate(run: Path) -> Evaluation:
    """Rebuild the model from a run's folder and test it. Nothing is written.

    Args:
        run: A run's folder, or one of the checkpoints inside it.

    Raises:
        ConfigurationError: If folder, configuration or checkpoint is missing, or they do not fit.
    """
    checkpoint, folder = _locate(run)
    config = OmegaConf.load(folder.config)
    if not isinstance(config, DictConfig):
        raise ConfigurationError(f"{folder.config} is not a configuration")
    check_keys(config)
    datamodule = build_data(config)
    task = build_task(config, datamodule)
    saved = read_checkpoint(checkpoint)
    check_fits(saved, task, checkpoint)
    task.load_state_dict(saved["state_dict"])
    with quiet_lightning():
        trainer = instantiate(
            config.trainer,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        trainer.test(task, datamodule=datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Evaluation(checkpoint, metrics, folder.read_record().get("metrics", {}))


def _locate(run: Path) -> tuple[Path, RunFolder]:
    """Return the checkpoint that ``run`` means and the folder it lies in."""
    folder = RunFolder(run.parent.parent if run.is_file() else run)
    if not folder.config.is_file():
        raise ConfigurationError(
            f"run={run}: no run lies there ({folder.config} is missing). Give the folder that "
            "training printed, such as runs/japanese_vowels/rnn_ln/seed0."
        )
    checkpoint = run if run.is_file() else folder.newest_checkpoint()
    if checkpoint is None:
        raise ConfigurationError(f"run={run}: {folder.checkpoints} holds no checkpoint yet")
    return checkpoint, folder
