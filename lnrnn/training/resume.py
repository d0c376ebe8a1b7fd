"""Resuming a run: from which checkpoint, whether it fits, and what has changed around it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.added_keys import added_keys
from lnrnn.runs.checkpoint_files import (
    POINTER,
    checkpoints_in,
    manifest_of,
    newest_good,
    order_of,
    problem_of,
)
from lnrnn.runs.files import remove_leftovers, replace_text
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.lock import LOCK
from lnrnn.runs.record import RunRecord
from lnrnn.training.best import remove_void


@dataclass(frozen=True)
class Start:
    """Where a run begins or continues.

    Args:
        checkpoint: The checkpoint it continues from; None where it starts from scratch.
        continues: Whether that checkpoint is one of the run's own folder.
        skipped: Newer checkpoints that are not whole, and what is wrong with each.
    """

    checkpoint: Path | None = None
    continues: bool = False
    skipped: Mapping[Path, str] = field(default_factory=dict)


def choose_start(folder: RunFolder, resume: str) -> Start:
    """Return where a run continues.

    Args:
        folder: The run's folder.
        resume: ``auto`` takes the newest checkpoint of the folder that is whole; ``never`` insists
            on a new folder; or a checkpoint's path. Where a run began from another folder's
            checkpoint, the same command continues from its own.

    Raises:
        ConfigurationError: If ``never`` meets a folder that is not empty, the path is not a
            file, or no checkpoint of the folder can be used.
    """
    if resume == "never":
        if folder.path.exists() and any(path.name != LOCK for path in folder.path.iterdir()):
            raise ConfigurationError(
                f"resume=never needs a new folder, but {folder.path} is not empty. Give the run a "
                "name of its own (name=...), move the folder away, or leave resume=auto."
            )
        return Start()
    newest, skipped = newest_good(folder.checkpoints)
    if resume != "auto":
        given = Path(resume)
        if not given.is_file():
            raise ConfigurationError(
                f"resume={resume}: there is no such file. Give auto, never, or a checkpoint's path "
                "such as runs/DATA/MODEL/seed0/checkpoints/step-00000180.ckpt."
            )
        if given.parent.resolve() == folder.checkpoints.resolve():
            return Start(given, continues=True)
        if newest is None:
            return Start(given)
        if folder.read_record().began_from != str(given.resolve()):
            raise ConfigurationError(
                f"resume={resume} starts a run from a checkpoint of another folder, but "
                f"{folder.path} has checkpoints of its own. Leave resume=auto to continue from "
                "those, or give the run a name of its own (name=...)."
            )
    damaged = {path: why for path, why in skipped.items() if manifest_of(path).exists()}
    if newest is None and damaged:
        lines = "\n".join(f"  {path}: {why}" for path, why in damaged.items())
        raise ConfigurationError(
            f"no checkpoint in {folder.checkpoints} can be used:\n{lines}\n"
            "Move that folder away to start from scratch."
        )
    return Start(newest, newest is not None, skipped)


def tidy(folder: RunFolder, start: Start) -> None:
    """Remove what killed processes left, and what the run does not continue from.

    Checkpoints newer than the one it continues from are void: the next start would take one of
    those, and the records in between would be missing. What is damaged is set aside, not removed.
    """
    remove_leftovers(folder.path)
    remove_leftovers(folder.checkpoints)
    for path in checkpoints_in(folder.checkpoints):
        if not start.continues or order_of(path) > order_of(start.checkpoint or path):
            if manifest_of(path).exists() and problem_of(path) is not None:
                path.replace(path.with_suffix(".damaged"))
            manifest_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    remove_void(folder.checkpoints, start.checkpoint if start.continues else None)
    for manifest in folder.checkpoints.glob("step-*.json"):
        if not manifest.with_suffix(".ckpt").exists():
            manifest.unlink()
    if start.continues and start.checkpoint is not None:
        replace_text(folder.checkpoints / POINTER, start.checkpoint.name + "\n")


def check_contract(checkpoint: dict[str, Any], contract: dict[str, Any], path: Path) -> None:
    """Check that a run is resumed with what it was trained with.

    Raises:
        ConfigurationError: Listing what differs.
    """
    added = added_keys(contract.get("data._target_"))
    before = {key: str(value) for key, value in added.items() if key in contract}
    before |= checkpoint.get("contract", {})
    lines = [
        f"  {key}: {before.get(key)} in the checkpoint, {contract.get(key)} now"
        for key in sorted(before.keys() | contract.keys())
        if before.get(key) != contract.get(key)
    ]
    if lines:
        shown = "\n".join(lines[:12])
        raise ConfigurationError(
            f"{path} was trained with something else:\n{shown}\n"
            "A run is resumed with the same model, data, optimizer and seed. Give the changed "
            "run a name of its own (name=...), so that it starts from scratch."
        )


def differences(checkpoint: dict[str, Any], world: Mapping[str, Any]) -> list[str]:
    """Return what has changed around a run since its checkpoint, with both values.

    Args:
        checkpoint: Where the run continues.
        world: The number of processes, the commit and the versions of now.
    """
    before = checkpoint.get("world", {})
    return [
        f"{key}: {before.get(key)} in the checkpoint, {now} now"
        for key, now in world.items()
        if before.get(key) != now
    ]


def history(before: RunRecord, start: Start, changed: list[str]) -> dict[str, Any]:
    """Return where a run began and every place where it was resumed."""
    began, resumed = before.began_from, before.resumed
    if start.checkpoint is None:
        return {"began_from": None, "resumed": []}
    if not start.continues:
        began, resumed = str(start.checkpoint.resolve()), []
    skipped = {path.name: why for path, why in start.skipped.items()}
    entry = {"checkpoint": start.checkpoint.name, "changed": changed, "skipped": skipped}
    return {"began_from": began, "resumed": [*resumed, entry]}
