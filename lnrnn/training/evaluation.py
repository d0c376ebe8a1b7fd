"""Test a trained model again, from nothing but its run's folder."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.lightning_nodes import check_trainer
from lnrnn.config.values import check_keys, check_nodes, check_trust
from lnrnn.runs.best_files import newest_best, read_best
from lnrnn.runs.checkpoint_files import newest_good, read_checkpoint
from lnrnn.runs.folder import RunFolder, check_files
from lnrnn.training.best import PREFIX
from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.resume import check_fits


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        checkpoint: The file whose weights were tested.
        weights: ``best``, those of the best validation, or ``last``.
        metrics: Test metrics by name.
        recorded: The test metrics in the run's ``run.json``; empty if it never finished.
        same_data: Whether the data are those that the run was trained on.
    """

    checkpoint: Path
    weights: str
    metrics: dict[str, float]
    recorded: dict[str, float]
    same_data: bool


def evaluate(run: Path, trust: Sequence[str] = (), test: str | None = None) -> Evaluation:
    """Rebuild the model from a run's folder and test it. Nothing is written.

    Args:
        run: A run's folder, or one of the checkpoints inside it.
        trust: Packages that its configuration may name beside our own list. The folder may have
            come from somebody else, so what it says of trust counts for nothing.
        test: Which weights: ``best``, ``last``, or None for those that the run itself has tested.

    Raises:
        ConfigurationError: If folder, configuration or checkpoint is missing, or they do not fit.
    """
    checkpoint, folder, config = _locate(run, test)
    weights = "best" if checkpoint.suffix == ".safetensors" else "last"
    _settle_trust(config, trust)
    check_nodes(config, ("data", "head", "model", "trainer"), ())
    check_keys(config, trust=trust)
    check_trainer(config.trainer)
    datamodule = build_data(config)
    task = build_task(config, datamodule)
    if weights == "best":
        state = {PREFIX + name: value for name, value in read_best(checkpoint).items()}
    else:
        state = read_checkpoint(checkpoint)["state_dict"]
    check_fits({"state_dict": state}, task, checkpoint)
    with quiet_lightning():
        trainer = instantiate(
            config.trainer,
            accelerator="auto",  # where a run was trained does not matter here
            devices=1,
            num_nodes=1,
            strategy="auto",
            logger=False,
            profiler=None,  # one may write files
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        task = trainer.precision_plugin.convert_module(task)  # before its weights are loaded
        task.load_state_dict(state)
        trainer.test(task, datamodule=datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    record = folder.read_record()
    same_data = record.data_fingerprint in (None, datamodule.fingerprint)
    return Evaluation(checkpoint, weights, metrics, record.metrics, same_data)


def _settle_trust(config: DictConfig, trust: Sequence[str]) -> None:
    asked = check_trust(config.get("trust") or [])
    if missing := sorted(set(asked) - set(trust)):
        raise ConfigurationError(
            f"this run names classes or functions of {', '.join(missing)}. If you trust them, and "
            f"whoever made this folder, say so on the command line: 'trust=[{','.join(asked)}]'"
        )
    config.trust = list(trust)


def _locate(run: Path, test: str | None) -> tuple[Path, RunFolder, DictConfig]:
    """Return the file that ``run`` and ``test`` mean, the folder it is in, its configuration."""
    folder = RunFolder(run.parent.parent if run.is_file() else run)
    config = folder.read_config()
    check_files(folder.path)
    if test not in (None, "best", "last"):
        raise ConfigurationError(f"test must be best, last or null, got {test!r}")
    if test is not None and run.is_file():
        raise ConfigurationError(f"test={test} chooses a file of a run's folder: {run} is one")
    if (test or folder.read_record().tested) == "best" and not run.is_file():
        checkpoint, skipped = newest_best(folder.checkpoints)
    else:
        checkpoint, skipped = (run, {}) if run.is_file() else newest_good(folder.checkpoints)
    for path, why in skipped.items():
        warnings.warn(f"{path} is skipped: {why}", stacklevel=1)
    if checkpoint is None:
        raise ConfigurationError(f"run={run}: {folder.checkpoints} holds no checkpoint yet")
    return checkpoint, folder, config
