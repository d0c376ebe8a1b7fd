"""When a run is saved, and that it stops between two steps if a signal asked for it."""

import time
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lnrnn.data import Batch
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.interruption import Interrupted
from lnrnn.training.finite import NonFiniteError, bad_parameter
from lnrnn.training.loops import EpochLoop
from lnrnn.training.signals import Signals
from lnrnn.training.task import SequenceTask

# The counters of a validation. Lightning 2.6 resumes one if one batch more was started than
# processed in total, and begins at the batch that the current counters have reached: with these it
# is done from its first batch, or not at all. Lightning's own differ after an interruption, and are
# in no checkpoint.
_NONE = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
_BEGUN = {**_NONE, "ready": 1, "started": 1}


class Checkpoints(Checkpoint):
    """Saves every n optimizer steps, at the end, and where a signal stops the run.

    A save that is due is not placed between a step and the validation that belongs to it: it waits
    for the next step, or the epoch's end. Only a signal in the validation saves there, and the
    resumed run begins with that validation.

    Lightning runs this last among the callbacks, and after early stopping has decided, because it
    is a ``Checkpoint``: so records are written before the checkpoint notes their length. It is not
    a ``ModelCheckpoint``, which would save after a step and before the validation that follows.

    Args:
        folder: The run's folder.
        every_n_steps: Optimizer steps between two checkpoints.
        contract: What must be the same where the run is resumed, by name; kept in every checkpoint.
        world: What may change, with a warning: versions and commit; kept likewise.
        signals: Knows which signal has come.
    """

    def __init__(
        self,
        folder: RunFolder,
        every_n_steps: int,
        *,
        contract: dict[str, Any],
        world: dict[str, Any],
        signals: Signals,
    ) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.contract = contract
        self.world = world
        self.signals = signals
        self.seconds: list[float] = []  # that each save of this session took
        self._saved_at = 0

    @property
    def state_key(self) -> str:
        """Name of this callback's entry in a checkpoint; Lightning's would be the class's path."""
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
        """Put in what the run was trained with, and whether a validation is to be done first."""
        checkpoint["contract"] = self.contract
        checkpoint["world"] = {"processes": trainer.world_size, **self.world}
        checkpoint["stopped_early"] = trainer.should_stop
        # As saved by Lightning, a validation would be taken for done, or be continued in the
        # middle: its metrics are in no checkpoint, so the batches before would be missing.
        checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = {
            "total": _BEGUN if trainer.validating else _NONE,
            "current": _NONE,
            "is_last_batch": False,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Train no further where early stopping had ended it; Lightning forgets that it did."""
        trainer.should_stop = checkpoint["stopped_early"]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Save if it is due and neither a validation nor the end follows this step."""
        # After the last batch of an epoch or of training comes `on_train_epoch_end`, which saves.
        loop = cast(EpochLoop, trainer.fit_loop.epoch_loop)
        ends = trainer.is_last_batch or loop.ends_training
        if ends or loop.validates or not _is_between_steps(trainer):
            return
        received = self.signals.agreed(trainer)
        if received or self._is_due(trainer):
            self._save(trainer)
        if received:
            raise Interrupted(received, trainer.global_step)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save and stop if a signal has come: a validation may be long."""
        if _is_between_steps(trainer) and (received := self.signals.agreed(trainer)):
            self._save(trainer, "-validation")
            raise Interrupted(received, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is due, or training ends here."""
        # "ready" counts the epoch that ends here; "completed" is raised after this hook only.
        epochs = trainer.fit_loop.epoch_progress.current.ready
        ends = (
            trainer.should_stop
            or 0 < trainer.max_steps <= trainer.global_step
            or 0 < (trainer.max_epochs or -1) <= epochs
        )
        received = self.signals.agreed(trainer)
        if received or ends or self._is_due(trainer):
            self._save(trainer)
        if received:
            raise Interrupted(received, trainer.global_step)

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if a signal has come; training is saved, and only the test is repeated."""
        if received := self.signals.agreed(trainer):
            raise Interrupted(received, trainer.global_step)

    def _is_due(self, trainer: Trainer) -> bool:
        return trainer.global_step - self._saved_at >= self.every_n_steps

    def _save(self, trainer: Trainer, suffix: str = "") -> None:
        """Save, unless the last step has ruined the weights or was not made.

        Raises:
            NonFiniteError: Naming the first parameter that is not finite.
        """
        task = cast(SequenceTask, trainer.lightning_module)
        task.settle()  # first, since it knows where a bad number came from
        if (origin := bad_parameter(task)) is not None:
            raise NonFiniteError(
                f"step {trainer.global_step} made {origin} NaN or infinite, so it is not "
                "saved. A run of its own with a smaller optimizer.lr often helps. Checkpoints "
                "from before are kept."
            )
        self._saved_at = trainer.global_step
        name = f"step-{trainer.global_step:08d}{suffix}.ckpt"
        begun = time.perf_counter()
        trainer.save_checkpoint(self.folder.checkpoints / name)
        self.seconds.append(time.perf_counter() - begun)


def _is_between_steps(trainer: Trainer) -> bool:
    """Return whether no gradient of a step that is not made yet has been accumulated."""
    # "ready" counts the batch that this hook belongs to; "completed" is raised after the hook only.
    # The last batch of an epoch makes a step whatever has been accumulated.
    done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return trainer.is_last_batch or done % trainer.accumulate_grad_batches == 0
