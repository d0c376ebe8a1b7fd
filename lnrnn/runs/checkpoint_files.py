"""Checkpoint files: written whole or not at all, and read only if they are what was written.

In a run's ``checkpoints/`` are ``step-00000100.ckpt``; its manifest ``step-00000100.json``, written
after it, without which a checkpoint does not count; and ``last``, which names the newest.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from lnrnn.config.allowed_targets import check_data_only, entries_of
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import open_own, replacing, sync_folder
from lnrnn.runs.record import parse_json

POINTER = "last"
RECORDS = {"losses": [], "count": 0, "epoch": 0, "length": 0}  # what a checkpoint says of records
# Saved at a step's end; with the second part, where the validation after that step is still to do.
NAME = re.compile(r"step-\d{8,}(-validation)?\.ckpt")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the message says why, and what is still there."""


def write_checkpoint(
    checkpoint: dict[str, Any], path: Path, *, versions: Mapping[str, str], keep: int
) -> None:
    """Write a checkpoint, then its manifest, then the pointer; then remove the oldest.

    Args:
        checkpoint: Tensors and plain values.
        path: The file, named as ``NAME`` says.
        versions: What the manifest notes as the versions that wrote it.
        keep: How many good checkpoints stay.

    Raises:
        CheckpointError: If the disk is full, the folder may not be written, or the like; what was
            there before is intact.
    """
    manifest = manifest_of(path)
    digest, file = hashlib.sha256(), None
    try:
        manifest.unlink(missing_ok=True)  # it would not fit a checkpoint saved once more
        with replacing(path) as target:
            file = Digesting(target, digest)
            torch.save(checkpoint, cast(BinaryIO, file))
        content = {
            "file": path.name,
            "sha256": digest.hexdigest(),
            "bytes": file.size,
            "step": checkpoint["global_step"],
            "versions": dict(versions),
        }
        with replacing(manifest) as target:
            target.write(json.dumps(content, indent=2).encode() + b"\n")
        with replacing(path.parent / POINTER, flushed=False) as target:
            target.write(path.name.encode() + b"\n")
        sync_folder(path.parent)  # before older ones go
        # What a kill in between left of others goes too.
        for older in checkpoints_in(path.parent)[keep:]:
            remove_checkpoint(older)
    except (OSError, RuntimeError) as error:
        # torch wraps what a file raises into words about its own internals.
        cause = file.error if file is not None and file.error is not None else error
        if not isinstance(cause, Exception):
            raise cause from None
        raise CheckpointError(
            f"could not save {path}: {cause}. The checkpoints before it are intact; make room "
            "or allow writing there, and start the same command again."
        ) from error


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; its manifest goes first, so that half of it is never taken."""
    manifest_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


class Digesting:
    """A file to write to that keeps the digest of what was written, and the error that stopped it.

    Args:
        file: Where the bytes go.
        digest: Takes up the bytes.
    """

    def __init__(self, file: BinaryIO, digest: Any) -> None:
        self.file = file
        self.digest = digest
        self.size = 0
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write all of ``data``, and return its length."""
        try:
            self.file.write(data)
        except BaseException as error:
            self.error = error
            raise
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed once, at its end."""


def manifest_of(path: Path) -> Path:
    """Return where the manifest of a checkpoint is."""
    return path.with_suffix(".json")


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the files in ``folder`` that are named like checkpoints, the newest first."""
    found = (path for path in folder.glob("step-*.ckpt") if NAME.fullmatch(path.name))
    return sorted(found, key=order_of, reverse=True)


def order_of(path: Path) -> tuple[int, bool]:
    """Return what sorts checkpoints by age: the step, and whether its validation is done."""
    step = re.search(r"\d+", path.name)
    return int(step[0]) if step else 0, "-validation" not in path.name


def problem_of(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if it is what its manifest says."""
    try:
        with open_own(manifest_of(path)) as file:
            manifest = parse_json(file.read(), manifest_of(path).name)
        with open_own(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        return f"it was not finished: {Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    if not isinstance(manifest, dict) or manifest.get("file") != path.name:
        return f"{manifest_of(path).name} is not its manifest"
    if manifest.get("sha256") != digest:
        return f"it is damaged: its sha256 is not the one in {manifest_of(path).name}"
    return None


def newest_good(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return the newest checkpoint that is whole, and what is wrong with each newer one."""
    skipped: dict[Path, str] = {}
    for path in checkpoints_in(folder):
        problem = problem_of(path)
        if problem is None:
            return path, skipped
        skipped[path] = problem
    return None, skipped


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, never code.

    Where its manifest is beside it, the content must be what the manifest says.

    Raises:
        ConfigurationError: If there is no such file or it is not a checkpoint, if it names code, or
            if it would take more memory than its size on the disk.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such checkpoint")
    problem = problem_of(path) if manifest_of(path).exists() else None
    if problem is not None:
        raise ConfigurationError(f"{path}: {problem}. Take another one of its folder.")
    check_size(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ConfigurationError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}: {error}). Take "
            "another of its folder, or move it away: resume=auto then takes the one before."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ConfigurationError(f"{path} is not a checkpoint of lnrnn: it holds no state_dict")
    check_data_only(str(path), checkpoint)
    check_content(path, checkpoint)
    return checkpoint


def check_size(path: Path) -> None:
    """Check that a file does not grow when it is read.

    Torch stores records as they are. One that is compressed, or several that share their bytes,
    could fill any memory from a small file.

    Raises:
        ConfigurationError: If it does, or is no archive as torch writes them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(record.file_size for record in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ConfigurationError(
            f"{path} is damaged or not a checkpoint ({error}). Take another of its folder, or "
            "move it away: resume=auto then takes the one before."
        ) from error
    if size > path.stat().st_size:
        raise ConfigurationError(
            f"{path} is not a checkpoint of lnrnn: its {path.stat().st_size} bytes would become "
            f"{size} in memory, and lnrnn compresses nothing"
        )


def check_content(path: Path, checkpoint: dict[str, Any]) -> None:
    """Check that a checkpoint's parts are of the kinds that a run writes, and no tensor a sham.

    Raises:
        ConfigurationError: Naming what is not.
    """
    weights, records = checkpoint["state_dict"], checkpoint.get("records", RECORDS)
    problem = None
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        problem = "its state_dict holds something else than tensors"
    elif not all(isinstance(checkpoint.get(key, {}), dict) for key in ("contract", "world")):
        problem = "what it says of its run is no table"
    elif not isinstance(records, dict) or any(
        type(records.get(key)) is not type(value) for key, value in RECORDS.items()
    ):
        problem = "what it says of the run's records cannot be read"
    elif any(isinstance(v, Tensor) and _claims_more(v) for _, v in entries_of(checkpoint)):
        problem = "it has a tensor that claims more numbers than it holds"
    if problem is not None:
        raise ConfigurationError(f"{path} is not a checkpoint of lnrnn: {problem}")


def _claims_more(tensor: Tensor) -> bool:
    """Return whether a tensor is larger than its storage: a copy of it could fill any memory."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return True
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
