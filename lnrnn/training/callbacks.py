"""What happens beside the training steps: dropout seeds, records, timing."""

import hashlib
import json
import math
import os
import time
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lnrnn.config.errors import ConfigurationError
from lnrnn.data import Batch
from lnrnn.runs.files import named, open_own
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.metrics import read_entries
from lnrnn.seeding import derive_seed
from lnrnn.training.ranks import gather
from lnrnn.training.task import SequenceTask


class StepSeed(Callback):
    """Seeds torch before every training step from (run's seed, step, process).

    So dropout needs no saved generator state, validation cannot disturb it, and two variants with
    one seed draw the same stream.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed every generator that a training step draws from."""
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        seed = dropout_seed(self.seed, step, trainer.global_rank)
        if pl_module.device.type == "cpu":
            # torch.manual_seed also notes the seed for GPUs that nobody uses, with stack traces:
            # 90 microseconds and more, where this takes one.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Return what torch's generators start from in one training step of one process."""
    return derive_seed(seed, "dropout", step, rank)


class Records(Callback):
    """Writes ``metrics.jsonl``: one value a line, in full precision, none depending on speed.

    ``train/loss`` is the mean over the optimizer steps since its last record. A checkpoint holds
    the file's length and sha256, so that a resumed run cuts off what came after and writes it
    again, and never continues records that were changed.

    Args:
        folder: The run's folder.
        every_n_steps: Optimizer steps between two records of ``train/loss``.
        continues: Whether the run continues from a checkpoint of this folder, whose records the
            file holds; otherwise the file starts empty.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int, *, continues: bool) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps
        self.continues = continues
        self.losses: Tensor | None = None  # sum of the losses since the last record
        self.count = 0
        self.epoch = 0  # of the last training step; Lightning's count moves on before a test
        self.length = 0  # bytes of metrics.jsonl that belong to this run
        self.digest = hashlib.sha256()  # of those bytes
        self.saved_digest: str | None = None  # what they had when the checkpoint was saved

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put in what a resumed run needs to continue the same records."""
        own = None if self.losses is None else self.losses.cpu()
        checkpoint["records"] = {
            "losses": gather(own, trainer),  # each process has its own sum
            "count": self.count,
            "epoch": self.epoch,
            "length": self.length,
            "sha256": self.digest.hexdigest(),
        }
        if trainer.is_global_zero and self.length:
            with open_own(self.folder.metrics) as file:
                os.fsync(file.fileno())  # a checkpoint must not know of more than the disk has

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up the records where the checkpoint left them."""
        records = checkpoint["records"]
        losses = records["losses"]
        if len(losses) == trainer.world_size:
            self.losses = losses[trainer.global_rank]
        elif losses[0] is not None:  # from another number of processes: what their mean is made of
            self.losses = torch.stack(losses).mean(0)
        self.count, self.epoch = records["count"], records["epoch"]
        if self.continues:
            self.length = records["length"]
            self.saved_digest = records.get("sha256")  # older versions saved none

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cut the file to what the checkpoint knows; a new run starts with an empty file.

        Raises:
            ConfigurationError: If the file does not begin with the lines that the checkpoint knows,
                or is no file of this folder alone.
        """
        if not trainer.is_global_zero:
            return
        try:
            records = open_own(self.folder.metrics, "a+b")
        except OSError as error:
            raise ConfigurationError(f"the run's records cannot be written: {error}") from error
        with records as file:
            file.seek(0)
            known = file.read(self.length)
            self.digest = hashlib.sha256(known)
            changed = self.saved_digest not in (None, self.digest.hexdigest())
            if changed or len(known) < self.length or (known and known[-1:] != b"\n"):
                size = file.seek(0, os.SEEK_END)
                raise ConfigurationError(
                    f"{self.folder.metrics} has {size} bytes, but does not begin with the "
                    f"{self.length} bytes of whole lines that its checkpoint was saved with: it "
                    "was changed or cut. Put it back, or move the run's folder away and start "
                    "from scratch; or continue without these records in a folder of its own, with "
                    "name=... and resume=PATH, the path of the checkpoint."
                )
            if self.saved_digest is None:
                read_entries(known, self.folder.metrics)
            file.truncate(self.length)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note the epoch."""
        self.epoch = trainer.current_epoch

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Add up the loss, and record its mean when it is due."""
        loss = outputs["loss"].detach().float()
        self.losses = loss if self.losses is None else self.losses.to(loss.device) + loss
        self.count += 1
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        due = stepped and trainer.global_step % self.every_n_steps == 0
        ends = 0 < trainer.max_steps <= trainer.global_step  # before the validation of the end
        if due or ends or trainer.is_last_batch:
            self._write_loss(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what is left where something else has ended the epoch early."""
        self._write_loss(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation metrics."""
        self.write(trainer, with_prefix(trainer, "val/"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the test metrics."""
        self.write(trainer, with_prefix(trainer, "test/"))

    def _write_loss(self, trainer: Trainer, task: LightningModule) -> None:
        if self.losses is not None:
            assert isinstance(task, SequenceTask)
            task.settle()  # a step that was not made is not recorded
            mean = trainer.strategy.reduce(self.losses / self.count, reduce_op="mean")
            self.losses, self.count = None, 0
            self.write(trainer, {"train/loss": mean})

    def write(self, trainer: Trainer, values: dict[str, Tensor]) -> None:
        """Write values of now, by name, one a line, and hand them to the loggers."""
        numbers = {name: float(value) for name, value in values.items()}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, trainer.global_step)
        if not trainer.is_global_zero:
            return
        lines = [
            {
                "step": trainer.global_step,
                "epoch": self.epoch,
                "name": name,
                "value": value if math.isfinite(value) else None,  # JSON has no NaN
            }
            for name, value in numbers.items()
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with named(self.folder.metrics), open_own(self.folder.metrics, "ab") as file:
            file.write(text)
        self.length += len(text)
        self.digest.update(text)


def with_prefix(trainer: Trainer, prefix: str) -> dict[str, Tensor]:
    """Return the metrics that Lightning holds under one prefix, such as ``val/``."""
    return {k: v for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}


class StepTimer(Callback):
    """Measures training batches, from their arrival to the end of their step.

    Only the device's queue is timed on a GPU, where steps run on after the call returns; over many
    steps the queue fills and the median is the step's.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    @property
    def median(self) -> float | None:
        """Median seconds a batch, without the first three where there are more; None before any."""
        return median(self.seconds[3:] or self.seconds) if self.seconds else None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._start)
