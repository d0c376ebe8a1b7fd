"""The health monitor: now and then a look into the model, written among the run's records."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lnrnn.data import Batch
from lnrnn.models import RecurrentEncoder, SequenceModel, TransformerEncoder
from lnrnn.runs.monitor_names import MonitorName, Quantity
from lnrnn.training.callbacks import Records
from lnrnn.training.monitor.health import RecurrentHealth, TransformerHealth
from lnrnn.training.task import SequenceTask

EVERY = 50  # optimizer steps between two samples


class Monitor(Callback):
    """Writes ``monitor/...`` into the run's records every so many optimizer steps.

    A sample is taken with the weights as they are after 0, EVERY, 2 EVERY, ... steps. It changes
    nothing: a run ends in the same weights with it and without. Several processes share a batch,
    and the first looks at its part alone; the gradient of the recurrent weights and the share of
    clipped steps are those of all of them.

    Args:
        records: The run's records; they come before this callback.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self.steps = 0  # optimizer steps since the last sample
        self.clipped: int | Tensor = 0  # of them; counted on the device, which is not waited for
        self._health: RecurrentHealth | TransformerHealth | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare to look into the kind of model that it is."""
        model = pl_module.model
        if isinstance(model, SequenceModel) and trainer.is_global_zero:
            encoder = model.encoder
            if isinstance(encoder, RecurrentEncoder):
                self._health = RecurrentHealth(model)
            elif isinstance(encoder, TransformerEncoder):
                self._health = TransformerHealth(model)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Look into the model, at the first batch of a step that is sampled."""
        if batch_idx % trainer.accumulate_grad_batches or trainer.global_step % EVERY:
            return
        assert isinstance(pl_module, SequenceTask)
        pl_module.settle()
        values: dict[MonitorName, Any] = {}
        if self._health is not None:
            carried = pl_module.train_state if batch_idx > 0 else None
            with trainer.precision_plugin.train_step_context():
                values |= self._health.look(batch, carried)
        if self.steps and trainer.gradient_clip_val:
            values[MonitorName(Quantity.CLIPPED)] = int(self.clipped) / self.steps
        self.steps, self.clipped = 0, 0
        self._write(trainer, values)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Note the gradient that a sampled step is made with, before it is clipped."""
        if trainer.global_step % EVERY:
            return
        assert isinstance(pl_module, SequenceTask)
        pl_module.settle()  # in all processes, of which the first one writes
        if self._health is not None:
            self._write(trainer, self._health.recurrent_gradients())

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the step, if it was one, and whether its gradient was clipped."""
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            assert isinstance(pl_module, SequenceTask)
            self.steps += 1
            if trainer.gradient_clip_val:
                self.clipped = self.clipped + (pl_module.gradient_norm > trainer.gradient_clip_val)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the counts."""
        checkpoint["monitor"] = {"steps": self.steps, "clipped": int(self.clipped)}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the counts; a run without the monitor left none."""
        counts = checkpoint.get("monitor", {"steps": 0, "clipped": 0})
        self.steps, self.clipped = counts["steps"], counts["clipped"]

    def _write(self, trainer: Trainer, values: Mapping[MonitorName, Any]) -> None:
        named = {str(name): torch.as_tensor(value) for name, value in values.items()}
        self.records.write(trainer, named)
