"""The LightningModule: loss, metrics, optimizer and the language model's carried state."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lnrnn.data import Batch, DataModule
from lnrnn.models import ClassificationHead, RegressionHead, SequenceModel, TokenHead
from lnrnn.training.ahead import Flag, keep_kernel, use_fused
from lnrnn.training.class_metrics import build_confusion
from lnrnn.training.finite import NonFiniteError, bad_activation, bad_gradient
from lnrnn.training.loops import last_step, steps_per_epoch
from lnrnn.training.metrics import build_metrics, sum_loss, update_metrics
from lnrnn.training.ranks import average, gather, joined_state, share_of_state

State = tuple[Tensor, ...] | None

HEADS = {
    "classification": ClassificationHead,
    "tagging": TokenHead,
    "language_modeling": TokenHead,
    "regression": RegressionHead,
}


class Moment(NamedTuple):
    """A training batch's place in the run, for a message that may be written a step later."""

    steps: int  # optimizer steps before it
    epoch: int
    seed: int  # of its dropout


class SequenceTask(LightningModule):
    """Trains and evaluates a sequence model.

    A loss or gradient that is not finite never reaches the weights. On a CPU, and wherever the
    optimizer cannot skip a step by itself, every check is waited for. On a GPU it is read when the
    next batch's forward pass has been launched, and by :meth:`settle` before anything is recorded
    or saved; until then, the optimizer's kernel leaves weights and state as they are.

    Args:
        model: Maps inputs (B, T, F) or (B, T), lengths and state to predictions and state.
        kind: ``classification``, ``tagging``, ``language_modeling`` or ``regression``.
        num_classes: How many classes the predictions have; None for regression.
        optimizer: Takes parameter groups and returns an optimizer; None if only evaluated.
        schedule: Learning rate after warm-up: None (constant), ``cosine`` or ``linear``, both to
            zero at the last step.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        target_std: Standard deviation by which numbers to predict were divided; metrics are in the
            units from before.
        class_weights: What each class weighs in the loss that is minimized, (C,) float32, positive;
            None for all alike. The losses of validation and test are never weighted.

    Raises:
        ValueError: If ``kind`` or ``schedule`` is unknown, ``warmup_steps`` is negative, the head
            is of another kind, or a language model could see the characters it is to predict.
    """

    _ahead: bool | None = None  # whether the host runs ahead of the device; None: of a GPU

    def __init__(
        self,
        model: SequenceModel,
        *,
        kind: str,
        num_classes: int | None,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
        schedule: str | None = None,
        warmup_steps: int = 0,
        target_std: float = 1.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        if schedule not in (None, "cosine", "linear"):
            raise ValueError(f"schedule must be null, cosine or linear, got {schedule!r}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
        if kind in HEADS and not isinstance(model.head, HEADS[kind]):
            raise ValueError(
                f"{kind} needs a {HEADS[kind].__name__}, got a {type(model.head).__name__}; each "
                "data set brings the right one: leave out head=classification, head=tokens, ..."
            )
        if kind == "language_modeling" and model.encoder.looks_ahead:
            raise ValueError(
                "a language model must not see the characters it predicts, but this encoder looks "
                "ahead. Use a causal one: model.causal=true for a transformer, "
                "model.bidirectional=false for a recurrent network; one of your own says "
                "looks_ahead = False."
            )
        self.model = model
        self.kind = kind
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.val_metrics = build_metrics(kind, num_classes, "val", target_std)
        self.test_metrics = build_metrics(kind, num_classes, "test", target_std)
        self.class_weights = class_weights  # no buffer: 16 bits would round it
        self.test_confusion = build_confusion(kind, num_classes)
        self.confusion: Tensor | None = None  # (C, C) of the last test, on the CPU
        self.carries_state = kind == "language_modeling" and model.encoder.carries_state
        self.train_state: State = None  # (layers, B, H) each: where the last training window ended
        self.eval_state: State = None
        self.test_correct: list[Tensor] = []  # (B,) bool of every batch, in a classification
        self.gradient_norm = torch.tensor(math.nan)  # of the last step, before it was clipped
        self._skips = False  # whether the optimizer can be told on the device to skip a step
        self._loss_is_bad = torch.tensor(False)  # of the last batch
        self._unread: list[tuple[Flag, Callable[[], NoReturn]]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, a mean over its targets, scalar."""
        state = self.train_state if batch_idx > 0 else None
        predictions, self.train_state = self._predict(batch, state)
        total, count = sum_loss(predictions, batch.targets, self.class_weights)
        bad = ~torch.isfinite(total)
        if self.trainer.world_size > 1:
            # Ranks hold slices of one batch, of unequal size; averaged over ranks, each slice's
            # sum over the mean count gives the mean over the whole batch.
            shared = average(torch.stack([count, bad.to(count)]), self.trainer)
            count, bad = shared[0], shared[1] > 0
        loss = total / (count.clamp_min(1) if self.class_weights is None else _or_one(count))
        self.settle()  # while the last step's gradients are still there to be looked at
        self._loss_is_bad = bad  # in all processes alike: none waits for another that has stopped
        self._check(bad, partial(self._stop_at_loss, loss.detach(), batch, state, self._moment()))
        return loss

    def on_fit_start(self) -> None:
        """Move the weights of classes to the model's device."""
        if self.class_weights is not None:
            self.class_weights = self.class_weights.to(self.device)

    def settle(self) -> None:
        """Wait for what is still unread about losses and gradients; with several processes, all do.

        Raises:
            NonFiniteError: If one of them was not finite; as it would have been at its own step.
        """
        unread, self._unread = self._unread, []
        for flag, stop in unread:
            if flag.read():
                stop()

    def _check(self, bad: Tensor, stop: Callable[[], NoReturn]) -> None:
        """Stop if ``bad``: at once, or where the optimizer skips the step by itself, soon."""
        if self._runs_ahead():
            self._unread.append((Flag(bad), stop))
        elif bad:
            stop()

    def _runs_ahead(self) -> bool:
        """Return whether checks are read later: not where something else waits at every step."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return self._skips and scaler is None and not torch.is_anomaly_enabled()

    def _moment(self) -> Moment:
        return Moment(self.global_step, self.current_epoch, torch.initial_seed())

    def _stop_at_loss(self, loss: Tensor, batch: Batch, state: State, moment: Moment) -> NoReturn:
        origin = None
        if not bool(torch.isfinite(loss)):
            with self.trainer.precision_plugin.train_step_context():
                origin = bad_activation(self.model, batch, state, moment.seed)
        origins = gather(origin, self.trainer)
        raise _error("loss is not finite", next(filter(None, origins)), moment)

    def _stop_at_gradient(self, moment: Moment) -> NoReturn:
        raise _error("gradient's norm is not finite", bad_gradient(self.model), moment)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        self._evaluate(batch, batch_idx, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the test metrics."""
        predictions = self._evaluate(batch, batch_idx, self.test_metrics)
        if self.kind == "classification":
            self.test_correct.append(predictions.argmax(-1) == batch.targets)
        if self.test_confusion is not None:
            self.test_confusion.update(predictions, batch.targets)

    def on_test_epoch_start(self) -> None:
        """Forget an earlier test."""
        self.test_correct = []

    def on_validation_model_zero_grad(self) -> None:
        """Settle before a validation that frees the gradients."""
        self.settle()
        super().on_validation_model_zero_grad()

    def on_validation_model_eval(self) -> None:
        """Settle before a validation in the middle of an accumulated step, in training mode."""
        self.settle()
        super().on_validation_model_eval()

    def on_train_epoch_end(self) -> None:
        """Settle before anything that comes after training."""
        self.settle()

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics."""
        self.log_dict(self.val_metrics.compute(), prog_bar=True, logger=False)
        self.val_metrics.reset()

    def on_test_epoch_end(self) -> None:
        """Report the test metrics."""
        self.log_dict(self.test_metrics.compute(), logger=False)
        self.test_metrics.reset()
        if self.test_confusion is not None:
            self.confusion = self.test_confusion.compute().cpu()
            self.test_confusion.reset()

    def _evaluate(self, batch: Batch, batch_idx: int, metrics: Any) -> Tensor:
        state = self.eval_state if batch_idx > 0 else None
        predictions, self.eval_state = self._predict(batch, state)
        total, count = sum_loss(predictions, batch.targets)
        update_metrics(metrics, total, count, predictions, batch.targets)
        return predictions

    def _predict(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Return predictions and the detached state for the next window, where one is carried."""
        if not self.carries_state:
            return self.model(batch.inputs, batch.lengths)[0], None
        predictions, after = self.model(batch.inputs, batch.lengths, state)
        return predictions, tuple(part.detach() for part in after)

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer, with weight decay on matrices only; on a GPU, fused if it can be.

        Raises:
            ValueError: If the task has none.
        """
        if self.optimizer is None:
            raise ValueError("training needs an optimizer, but the task was built without one")
        optimizer = self.optimizer(parameter_groups(self.model))
        on_gpu = next(self.model.parameters()).is_cuda
        self._skips = (on_gpu if self._ahead is None else self._ahead) and use_fused(optimizer)
        keep_kernel(optimizer)
        # Else a scaler would leave the gradients scaled until they are clipped, and beyond.
        optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
        return optimizer

    def configure_optimizers(self) -> Any:
        """Return the optimizer and its schedule."""
        optimizer = self.make_optimizer()
        if self.schedule is None and self.warmup_steps == 0:
            return optimizer
        scheduler = LambdaLR(optimizer, self._learning_rate_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _learning_rate_factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule is None:
            return 1.0
        last = self._last_step()
        progress = (step - self.warmup_steps) / max(1, last - self.warmup_steps)
        left = 1.0 - min(1.0, progress)
        return left if self.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))

    def _last_step(self) -> int:
        """Return the optimizer step at which training ends."""
        data = cast(DataModule, self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        trainer = self.trainer
        per_epoch = steps_per_epoch(trainer.accumulate_grad_batches, data.batches_per_epoch())
        return last_step(trainer.max_steps, trainer.max_epochs, per_epoch)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's global norm; stop before a non-finite one reaches the weights.

        Raises:
            NonFiniteError: If the gradient's norm is not finite.
        """
        limit = gradient_clip_val or math.inf  # Lightning's None and 0 both mean no clipping
        parameters = [part for part in self.model.parameters() if part.grad is not None]
        norm = nn.utils.get_total_norm([part.grad for part in parameters])  # pyright: ignore[reportArgumentType]
        bad = ~torch.isfinite(norm)
        self._check(bad, partial(self._stop_at_gradient, self._moment()))
        self.gradient_norm = norm
        if self._runs_ahead():
            optimizer.found_inf = (bad | self._loss_is_bad).float()  # pyright: ignore[reportAttributeAccessIssue]
            norm = norm.masked_fill(bad, 0.0)  # such gradients are kept as they are, to be named
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state that the next training window starts from, of all streams."""
        self.settle()
        checkpoint["carried_state"] = joined_state(self.train_state, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the carried state of this process's streams where it was left."""
        state = share_of_state(checkpoint["carried_state"], self.trainer)
        device = self.trainer.strategy.root_device  # the model is moved there later
        self.train_state = state and tuple(part.to(device) for part in state)


def _or_one(count: Tensor) -> Tensor:
    """Return a sum of positive weights, which may be below 1; 1 where there was nothing to sum."""
    return torch.where(count > 0, count, 1.0)


def _error(what: str, origin: str, moment: Moment) -> NonFiniteError:
    return NonFiniteError(
        f"the {what} at step {moment.steps + 1} (epoch {moment.epoch}). First to go "
        f"wrong: {origin}. A run of its own with a smaller optimizer.lr or "
        "trainer.gradient_clip_val often helps. Checkpoints from before are kept.",
        moment.steps,
    )


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split parameters so that weight decay acts on matrices only.

    Gains, shifts, biases and embeddings go without: pulling a gain to zero would undo the norm.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    decayed, kept = [], []
    for parameter in model.parameters():
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix else kept).append(parameter)
    return [{"params": decayed}, {"params": kept, "weight_decay": 0.0}]
