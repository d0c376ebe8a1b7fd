"""The LightningModule: loss, metrics, optimizer and the language model's carried state."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lnrnn.data import Batch, DataModule
from lnrnn.models import ClassificationHead, RegressionHead, SequenceModel, TokenHead
from lnrnn.training.finite import NonFiniteError, bad_activation, bad_gradient
from lnrnn.training.metrics import build_metrics, sum_loss, update_metrics
from lnrnn.training.ranks import gather, joined_state, share_of_state

State = tuple[Tensor, ...] | None

HEADS = {
    "classification": ClassificationHead,
    "tagging": TokenHead,
    "language_modeling": TokenHead,
    "regression": RegressionHead,
}


class SequenceTask(LightningModule):
    """Trains and evaluates a sequence model.

    Args:
        model: Maps inputs (B, T, F) or (B, T), lengths and state to predictions and state.
        kind: ``classification``, ``tagging``, ``language_modeling`` or ``regression``.
        num_classes: How many classes the predictions have; None for regression.
        optimizer: Takes parameter groups and returns an optimizer; None if only evaluated.
        schedule: Learning rate after warm-up: None (constant), ``cosine`` or ``linear``, both to
            zero at the last step.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.

    Raises:
        ValueError: If ``kind`` or ``schedule`` is unknown, ``warmup_steps`` is negative, the head
            is of another kind, or a language model could see the characters it is to predict.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        kind: str,
        num_classes: int | None,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer] | None = None,
        schedule: str | None = None,
        warmup_steps: int = 0,
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
                "model.bidirectional=false for a recurrent network."
            )
        self.model = model
        self.kind = kind
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.val_metrics = build_metrics(kind, num_classes, "val")
        self.test_metrics = build_metrics(kind, num_classes, "test")
        self.carries_state = kind == "language_modeling" and model.encoder.carries_state
        self.train_state: State = None  # (layers, B, H) each: where the last training window ended
        self.eval_state: State = None
        self.gradient_norm = torch.tensor(math.nan)  # of the last step, before it was clipped

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, a mean over its targets, scalar."""
        state = self.train_state if batch_idx > 0 else None
        predictions, self.train_state = self._predict(batch, state)
        total, count = sum_loss(predictions, batch.targets)
        bad = ~torch.isfinite(total)
        if self.trainer.world_size > 1:
            # Ranks hold slices of one batch, of unequal size; averaged over ranks, each slice's
            # sum over the mean count gives the mean over the whole batch.
            pair = torch.stack([count, bad.to(count)])
            shared = self.trainer.strategy.reduce(pair, reduce_op="mean")
            count, bad = shared[0], shared[1] > 0
        if bad:  # in all processes alike: none waits for another that has stopped
            self._stop_at_loss(total / count.clamp_min(1), batch, state)
        return total / count.clamp_min(1)

    def _stop_at_loss(self, loss: Tensor, batch: Batch, state: State) -> None:
        finite = bool(torch.isfinite(loss))
        origins = gather(None if finite else bad_activation(self.model, batch, state), self.trainer)
        raise NonFiniteError(self._explain("loss is not finite", next(filter(None, origins))))

    def _explain(self, what: str, origin: str) -> str:
        return (
            f"the {what} at step {self.global_step + 1} (epoch {self.current_epoch}). First to go "
            f"wrong: {origin}. A run of its own with a smaller optimizer.lr or "
            "trainer.gradient_clip_val often helps. Checkpoints from before are kept."
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the validation metrics."""
        self._evaluate(batch, batch_idx, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the test metrics."""
        self._evaluate(batch, batch_idx, self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        """Report the validation metrics."""
        self.log_dict(self.val_metrics.compute(), prog_bar=True, logger=False)
        self.val_metrics.reset()

    def on_test_epoch_end(self) -> None:
        """Report the test metrics."""
        self.log_dict(self.test_metrics.compute(), logger=False)
        self.test_metrics.reset()

    def _evaluate(self, batch: Batch, batch_idx: int, metrics: Any) -> None:
        state = self.eval_state if batch_idx > 0 else None
        predictions, self.eval_state = self._predict(batch, state)
        total, count = sum_loss(predictions, batch.targets)
        update_metrics(metrics, total, count, predictions, batch.targets)

    def _predict(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Return predictions and the detached state for the next window, where one is carried."""
        if not self.carries_state:
            return self.model(batch.inputs, batch.lengths)[0], None
        predictions, after = self.model(batch.inputs, batch.lengths, state)
        return predictions, tuple(part.detach() for part in after)

    def configure_optimizers(self) -> Any:
        """Return the optimizer, with weight decay on matrices only, and its schedule."""
        if self.optimizer is None:
            raise ValueError("training needs an optimizer, but the task was built without one")
        optimizer = self.optimizer(parameter_groups(self.model))
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
        """Return the optimizer step at which training ends, by epochs or steps."""
        data, trainer = cast(DataModule, self.trainer.datamodule), self.trainer  # pyright: ignore[reportAttributeAccessIssue]
        per_epoch = math.ceil(data.batches_per_epoch() / trainer.accumulate_grad_batches)
        limits = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(trainer.max_epochs * per_epoch)
        return min(limits)

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
        parameters = [part for part in self.parameters() if part.grad is not None]
        norm = nn.utils.get_total_norm([part.grad for part in parameters])  # pyright: ignore[reportArgumentType]
        if not torch.isfinite(norm):
            raise NonFiniteError(
                self._explain("gradient's norm is not finite", bad_gradient(self.model))
            )
        self.gradient_norm = norm
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state that the next training window starts from, of all streams."""
        checkpoint["carried_state"] = joined_state(self.train_state, self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the carried state of this process's streams where it was left."""
        state = share_of_state(checkpoint["carried_state"], self.trainer)
        self.train_state = state and tuple(part.to(self.device) for part in state)


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
