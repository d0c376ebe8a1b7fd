"""Which of a run's files holds the weights that are asked for, and what is in it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor, nn

from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import check_trust
from lnrnn.runs.best_files import newest_best, read_best
from lnrnn.runs.checkpoint_files import newest_good, read_checkpoint
from lnrnn.runs.folder import RunFolder, check_files

BEST = ".safetensors"  # how files of weights alone end
PREFIX = "model."  # of the model's tensors among the task's


def locate(run: Path, weights: str | None) -> tuple[Path, RunFolder, DictConfig]:
    """Return the file of weights, the folder it is in, and that run's configuration.

    Args:
        run: A run's folder, or a file inside its ``checkpoints``.
        weights: Which of a folder: ``best``, ``last``, or None for those that the run has tested at
            its end.

    Raises:
        ConfigurationError: If folder or file is missing, or something in the folder is a link.
    """
    folder = RunFolder(run.parent.parent if run.is_file() else run)
    config = folder.read_config()
    check_files(folder.path)
    if weights not in (None, "best", "last"):
        raise ConfigurationError(f"weights must be best, last or null, got {weights!r}")
    if weights is not None and run.is_file():
        raise ConfigurationError(
            f"weights={weights} chooses a file of a run's folder: {run} is one"
        )
    if run.is_file():
        return run, folder, config
    best = (weights or folder.read_record().tested) == "best"
    found, skipped = (newest_best if best else newest_good)(folder.checkpoints)
    for path, why in skipped.items():
        warnings.warn(f"{path} is skipped: {why}", stacklevel=2)
    if found is None and best:
        raise ConfigurationError(
            f"run={run}: {folder.checkpoints} holds no best weights; weights=last takes the last"
        )
    if found is None:
        raise ConfigurationError(f"run={run}: {folder.checkpoints} holds no checkpoint yet")
    return found, folder, config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the model's tensors from a file of weights, or from a checkpoint.

    Raises:
        ConfigurationError: If the file is not what a run writes.
    """
    if path.suffix == BEST:
        return read_best(path)
    return model_weights(read_checkpoint(path)["state_dict"])


def model_weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a task's tensors under the names that they have in its model."""
    return {
        name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)
    }


def settle_trust(config: DictConfig, trust: Sequence[str]) -> None:
    """Let a run's configuration name what the caller trusts, and nothing that it says itself.

    Raises:
        ConfigurationError: If it needs more; the message says how to allow it.
    """
    asked = check_trust(config.get("trust") or [])
    if missing := sorted(set(asked) - set(trust)):
        raise ConfigurationError(
            f"this run names classes or functions of {', '.join(missing)}. If you trust them, and "
            f"whoever made this folder, say so on the command line: 'trust=[{','.join(asked)}]'"
        )
    config.trust = list(trust)


def check_fits(weights: Mapping[str, Tensor], module: nn.Module, path: Path) -> None:
    """Check that a file's tensors are the module's, by name and shape.

    Raises:
        ConfigurationError: Listing what is missing, what is too much and what has another shape.
    """
    saved = {name: tuple(value.shape) for name, value in weights.items()}
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    lines = [f"  {name}: the model has it, the checkpoint not" for name in wanted.keys() - saved]
    lines += [f"  {name}: the checkpoint has it, the model not" for name in saved.keys() - wanted]
    lines += [
        f"  {name}: {saved[name]} in the checkpoint, {wanted[name]} in the model"
        for name in saved.keys() & wanted.keys()
        if saved[name] != wanted[name]
    ]
    if lines:
        shown = "\n".join(sorted(lines)[:12])
        raise ConfigurationError(
            f"{path} belongs to another model:\n{shown}\n"
            "Use the model it was trained with, or start from scratch in another folder (name=...)."
        )
