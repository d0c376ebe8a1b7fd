"""Lightning's way to the checkpoint files of a run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import CheckpointIO

from lnrnn.runs.checkpoint_files import read_checkpoint, remove_checkpoint, write_checkpoint


class CheckpointFiles(CheckpointIO):
    """Writes and reads checkpoints for Lightning.

    Args:
        versions: What the manifests note as the versions that wrote them.
        keep: How many good checkpoints stay.
    """

    def __init__(self, versions: Mapping[str, str], keep: int = 2) -> None:
        self.versions = dict(versions)
        self.keep = keep

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint, as :func:`write_checkpoint` does.

        Raises:
            CheckpointError: If it cannot be written; what was there before is intact.
        """
        write_checkpoint(checkpoint, Path(path), versions=self.versions, keep=self.keep)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint, as :func:`read_checkpoint` does, whatever else is asked for."""
        return read_checkpoint(Path(path), map_location)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a checkpoint and its manifest."""
        remove_checkpoint(Path(path))
