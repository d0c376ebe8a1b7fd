"""When a run is saved, what is kept, and what is read back."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lnrnn.data import Batch
from lnrnn.training.checks import ConfigurationError
from lnrnn.training.run import RunFolder
from lnrnn.training.targets import check_data_only


class Checkpoints(Callback):
    """Saves every n optimizer steps and at the end of every epoch, and keeps the newest two.

    A save is never placed between a step and the validation that belongs to it: Lightning would
    not run that validation after a resume. It waits for the next step, or the epoch's end.

    Args:
        folder: The run's folder.
        every_n_steps: Optimizer steps between two checkpoints inside an epoch.
        contract: What must be the same where a run goes on, by name; kept in every checkpoint.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int, contract: dict[str, Any]) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.contract = contract
        self._saved_at = 0

    @property
    def state_key(self) -> str:
        """Name of this callback's entry in a checkpoint."""
        return "checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """Return the step of this save, from which a resumed run counts to its next."""
        return {"saved_at": self._saved_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from the checkpoint."""
        self._saved_at = state_dict["saved_at"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in what the run was trained with."""
        checkpoint["contract"] = self.contract

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Save if it is due and no validation follows this step."""
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        validates = trainer.is_last_batch or _validates_after(trainer, batch_idx + 1)
        due = trainer.global_step - self._saved_at >= self.every_n_steps
        if due and between_steps and not validates:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._saved_at = trainer.global_step
        path = self.folder.checkpoints / f"step-{trainer.global_step:08d}.ckpt"
        temporary = path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            os.replace(temporary, path)
            for old in sorted(self.folder.checkpoints.glob("step-*.ckpt"))[:-2]:
                old.unlink(missing_ok=True)


def _validates_after(trainer: Trainer, done: int) -> bool:
    if trainer.check_val_every_n_epoch is None:  # the interval runs over epochs
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
    interval = trainer.val_check_batch
    return isinstance(interval, int) and done % interval == 0


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, never code.

    Raises:
        ConfigurationError: If there is no such file or it is not a checkpoint, or if it names code.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigurationError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}: {error}). Take "
            "another of its folder, or move it away: resume=auto then takes the one before."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ConfigurationError(f"{path} is not a checkpoint of lnrnn: it holds no state_dict")
    check_data_only(str(path), checkpoint)
    return checkpoint


def check_contract(checkpoint: dict[str, Any], contract: dict[str, Any], path: Path) -> None:
    """Check that a run goes on with what it was trained with.

    Raises:
        ConfigurationError: Listing what differs.
    """
    before = checkpoint.get("contract", {})
    lines = [
        f"  {key}: {before.get(key)} in the checkpoint, {contract.get(key)} now"
        for key in sorted(before.keys() | contract.keys())
        if before.get(key) != contract.get(key)
    ]
    if lines:
        shown = "\n".join(lines[:12])
        raise ConfigurationError(
            f"{path} was trained with something else:\n{shown}\n"
            "A run goes on with the same model, data, optimizer and seed. Give the changed run a "
            "name of its own (name=...), so that it starts anew."
        )


def check_fits(checkpoint: dict[str, Any], module: nn.Module, path: Path) -> None:
    """Check that a checkpoint's tensors are the module's, by name and shape.

    Raises:
        ConfigurationError: Listing what is missing, what is too much and what has another shape.
    """
    saved = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
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
            "Use the model it was trained with, or start anew in another folder (name=...)."
        )
