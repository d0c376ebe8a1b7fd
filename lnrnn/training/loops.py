"""Lightning's training loops, but for when a run validates, and that it ends with a validation.

Lightning (2.6) counts batches, of which several may make one optimizer step; a budget in steps that
ends within an epoch leaves its last weights without a validation; and a run that is stopped in the
validation after its last step takes that for done when it is resumed.
"""

import math
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop


class EpochLoop(_TrainingEpochLoop):
    """Runs an epoch's batches, and the validations among them."""

    @property
    def done(self) -> bool:
        """Whether the epoch, or training, is over; not while a validation is owed."""
        return super().done and not self.owes_validation

    @property
    def owes_validation(self) -> bool:
        """Whether the run was stopped in a validation, which comes before anything else."""
        progress = cast(_ProcessedTracker, self.val_loop.batch_progress.total)
        stopped = self.val_loop.restarting and progress.processed < progress.started
        return stopped and self.trainer.enable_validation

    @property
    def ends_training(self) -> bool:
        """Whether the batch that was just made is the last of the run."""
        fit, steps, ends_epoch = (
            self.trainer.fit_loop,
            self.max_steps,
            self._num_ready_batches_reached(),
        )
        if 0 < steps <= self.global_step:
            return True
        # Its count of processed epochs lags behind this batch.
        epochs = cast(_ProcessedTracker, fit.epoch_progress.current)
        made = epochs.ready if ends_epoch else epochs.processed
        enough = made >= (fit.min_epochs or 0) and self.global_step >= (self.min_steps or 0)
        if self.trainer.should_stop and enough:
            return True
        return ends_epoch and 0 < (fit.max_epochs or 0) <= epochs.ready

    @property
    def validates(self) -> bool:
        """Whether a validation follows the batch that was just made."""
        trainer, interval = self.trainer, self.trainer.val_check_interval
        if not trainer.enable_validation:
            return False
        if self.ends_training:
            return True
        if isinstance(interval, int):
            return not self._should_accumulate() and self.global_step % interval == 0
        return super()._should_check_val_fx(cast(_DataFetcher, trainer.fit_loop._data_fetcher))

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        return self.validates


class FitLoop(_FitLoop):
    """Runs epochs until training is over."""

    @property
    def done(self) -> bool:
        """Whether training is over; not while a validation is owed."""
        return super().done and not cast(EpochLoop, self.epoch_loop).owes_validation


def use_own_loops(trainer: Trainer) -> None:
    """Give a trainer, which has not run yet, these loops in place of Lightning's."""
    fit, epoch = trainer.fit_loop, trainer.fit_loop.epoch_loop
    trainer.fit_loop = FitLoop(trainer, min_epochs=fit.min_epochs, max_epochs=fit.max_epochs)
    trainer.fit_loop.epoch_loop = EpochLoop(trainer, epoch.min_steps, epoch.max_steps)


def steps_per_epoch(accumulated: int, batches: int) -> int:
    """Return how many optimizer steps so many batches make; the last may be of fewer batches.

    Args:
        accumulated: Batches of a step.
        batches: Those of an epoch.
    """
    return math.ceil(batches / accumulated)


def last_step(max_steps: int, max_epochs: int | None, per_epoch: int) -> int:
    """Return the optimizer step at which training ends, by the first of its limits.

    Args:
        max_steps: Not above 0 for no limit.
        max_epochs: None, or not above 0, for no limit. One of the two is a limit.
        per_epoch: Optimizer steps of an epoch.
    """
    limits = [max_steps] if max_steps > 0 else []
    if max_epochs is not None and max_epochs > 0:
        limits.append(max_epochs * per_epoch)
    return min(limits)


def first_limit(trainer: Trainer, batches: int) -> str | None:
    """Say which of two limits ends training; None where there is only one.

    Args:
        trainer: With the limits.
        batches: Training batches of an epoch.
    """
    epochs, steps = trainer.max_epochs or 0, trainer.max_steps
    if epochs <= 0 or steps <= 0:
        return None
    per_epoch = steps_per_epoch(trainer.accumulate_grad_batches, batches)
    of_epochs = epochs * per_epoch
    first = "max_steps" if steps <= of_epochs else "max_epochs"
    return (
        f"trainer.max_epochs={epochs} is {of_epochs} steps and trainer.max_steps={steps}: training "
        f"ends after {last_step(steps, epochs, per_epoch)}, by {first}"
    )
