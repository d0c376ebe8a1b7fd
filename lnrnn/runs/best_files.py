"""The weights of the best validation, kept beside the checkpoints that a run is resumed from.

In a run's ``checkpoints/``: ``best-00000100.safetensors``, the model's weights after step 100, and
its manifest ``best-00000100.json``, written after it, without which it does not count. Each is
better than the one before, so the newest is the best.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

from torch import Tensor

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.checkpoint_files import (
    CheckpointError,
    Digesting,
    manifest_of,
    problem_of,
    remove_checkpoint,
)
from lnrnn.runs.files import replacing, sync_folder
from lnrnn.runs.metrics import Entry
from lnrnn.runs.tensor_files import read_tensors, write_tensors

NAME = re.compile(r"best-(\d{8,})\.safetensors")


@dataclass(frozen=True)
class Best:
    """The best validation so far.

    Args:
        step: Optimizer steps made before it.
        metric: What was compared, such as ``val/loss``.
        value: What it was.
    """

    step: int
    metric: str
    value: float


def improvements(entries: Sequence[Entry], metric: str, *, higher_is_better: bool) -> list[Best]:
    """Return the validations that were better than all before them, in order.

    Args:
        entries: A run's metrics.
        metric: What is compared; NaN and infinity are never better.
        higher_is_better: Its direction.
    """
    found: list[Best] = []
    for entry in entries:
        known = entry.name == metric and math.isfinite(entry.value)
        if known and (not found or is_better(entry.value, found[-1].value, higher_is_better)):
            found.append(Best(entry.step, metric, entry.value))
    return found


def is_better(value: float, than: float, higher_is_better: bool) -> bool:
    """Return whether a value beats another; an equal one does not."""
    return value > than if higher_is_better else value < than


def path_of(best: Best, folder: Path) -> Path:
    """Return where a validation's weights are, in a run's folder of checkpoints."""
    return folder / f"best-{best.step:08d}.safetensors"


def write_best(
    best: Best, weights: Mapping[str, Tensor], folder: Path, versions: Mapping[str, str]
) -> None:
    """Write a validation's weights, then their manifest.

    Args:
        best: The validation.
        weights: Parameters and buffers of the model by name.
        folder: The run's folder of checkpoints.
        versions: What the manifest notes as the versions that wrote it.

    Raises:
        CheckpointError: If the disk is full, the folder may not be written, or the like; what was
            there before is intact.
    """
    path = path_of(best, folder)
    digest = hashlib.sha256()
    try:
        manifest_of(path).unlink(missing_ok=True)
        with replacing(path) as target:
            file = Digesting(target, digest)
            write_tensors(cast(BinaryIO, file), weights, {"format": "pt"})
        content = {"file": path.name, "sha256": digest.hexdigest(), "bytes": file.size}
        content |= {**asdict(best), "versions": dict(versions)}
        with replacing(manifest_of(path)) as target:
            target.write(json.dumps(content, indent=2).encode() + b"\n")
        sync_folder(folder)
    except OSError as error:
        raise CheckpointError(
            f"could not save {path}: {error}. The checkpoints before it are intact; make room or "
            "allow writing there, and start the same command again."
        ) from error


def best_files(folder: Path) -> list[Path]:
    """Return the files of weights in a folder of checkpoints, the newest, so the best, first."""
    found = (path for path in folder.glob("best-*.safetensors") if NAME.fullmatch(path.name))
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Return after how many optimizer steps a file's weights were validated."""
    match = NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def keep_only(folder: Path, steps: set[int]) -> None:
    """Remove the weights of all validations but those after so many steps, and stray manifests."""
    for path in best_files(folder):
        if step_of(path) not in steps:
            remove_checkpoint(path)
    for manifest in folder.glob("best-*.json"):
        if not manifest.with_suffix(".safetensors").exists():
            manifest.unlink()


def newest_best(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return the best weights that are whole, and what is wrong with each that is newer."""
    skipped: dict[Path, str] = {}
    for path in best_files(folder):
        problem = problem_of(path)
        if problem is None:
            return path, skipped
        skipped[path] = problem
    return None, skipped


def read_best(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, which must be what its manifest says where that is beside it.

    Raises:
        ConfigurationError: If it is not.
    """
    problem = problem_of(path) if manifest_of(path).exists() else None
    if problem is not None:
        raise ConfigurationError(f"{path}: {problem}. weights=last takes the last checkpoint")
    return read_tensors(path)[0]
