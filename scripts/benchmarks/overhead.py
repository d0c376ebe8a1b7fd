"""What a training run costs beside its steps: the framework, Lightning alone, and a bare loop.

All three train the same model on the same batches in the same order, clip the gradient, and
validate after every epoch, which a bare loop has to do too. The clock runs from the first step to
the end of training; start and test are left out.
"""

import contextlib
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lnrnn.data import Batch, DataModule
from lnrnn.data.sampler import GlobalBatches
from lnrnn.study.turns import interleave
from lnrnn.training import compose_experiment, folder_of
from lnrnn.training.build import build_data, build_task, build_trainer, contract_of, quiet_lightning
from lnrnn.training.loggers import Identity
from lnrnn.training.run import fresh_memory_as_it_is
from lnrnn.training.task import SequenceTask

WHOLE, LIGHTNING, BARE = "whole framework", "Lightning", "bare loop"
CASES = {"lstm": ("mnist1d", "lstm_lncell"), "rnn": ("japanese_vowels", "rnn_ln")}  # by cell


class _Clock(Callback):
    """Notes when training starts and ends."""

    seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock again."""
        self.seconds = time.perf_counter() - self._start


def time_runs(
    cell: str, repeats: int, steps: int
) -> tuple[dict[str, list[float | None]], tuple[int, ...]]:
    """Time short runs in turns.

    Args:
        cell: "lstm" or "rnn", which stand for a model and its data.
        repeats: Rounds that count, after one that does not.
        steps: Optimizer steps of one run, at least; it ends with an epoch.

    Returns:
        Milliseconds an optimizer step, everything included, of each candidate, one a round; and
        steps, batch, features and hidden units.
    """
    data, model = CASES[cell]
    overrides = [f"data={data}", f"model={model}", "trainer.accelerator=cpu"]
    experiment = compose_experiment([*overrides, "trainer.max_epochs=1"])
    config = experiment.config
    deterministic = torch.are_deterministic_algorithms_enabled()
    with tempfile.TemporaryDirectory() as root, quiet_lightning():
        datamodule = build_data(config)
        epochs = -(-steps // datamodule.batches_per_epoch())
        steps = epochs * datamodule.batches_per_epoch()
        config.trainer.max_epochs = epochs
        tasks = [build_task(config, datamodule) for _ in range(3)]
        folders = (folder_of(experiment, Path(root) / str(n)) for n in itertools.count())

        def whole() -> float:
            folder, clock = next(folders), _Clock()
            folder.checkpoints.mkdir(parents=True)
            contract = contract_of(config, datamodule)
            trainer = build_trainer(config, folder, contract, Identity("", folder.path)).trainer
            trainer.callbacks.append(clock)  # pyright: ignore[reportAttributeAccessIssue]
            with fresh_memory_as_it_is():
                trainer.fit(tasks[0], datamodule=datamodule, weights_only=True)
            return clock.seconds

        def lightning() -> float:
            return _train_by_lightning(tasks[1], datamodule, epochs, config.trainer)

        def bare() -> float:
            with fresh_memory_as_it_is():
                return _train_bare(tasks[2], datamodule, epochs, config.trainer.gradient_clip_val)

        def per_step(run: Callable[[], float]) -> Callable[[], float]:
            def measure() -> float:
                with contextlib.redirect_stdout(io.StringIO()):
                    return 1e3 * run() / steps

            return measure

        runs = {WHOLE: whole, LIGHTNING: lightning, BARE: bare}
        try:
            times = interleave({name: per_step(run) for name, run in runs.items()}, repeats)
        finally:
            # Lightning switches this on for the whole process.
            torch.use_deterministic_algorithms(deterministic)
    shape = (config.data.length or 0, config.data.batch_size, config.data.num_features)
    return times, (*shape, config.model.hidden_size)


def _batches(datamodule: DataModule, split: str, epoch: int = 0) -> Iterator[Batch]:
    examples: Any = datamodule.splits[split]
    seed = datamodule.seed if split == "train" else None
    order = GlobalBatches(len(examples), datamodule.batch_size, shuffle_seed=seed, epoch=epoch)
    return (examples[indices] for indices in order)


def _loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    predictions = model(batch.inputs, batch.lengths)[0]
    return nn.functional.cross_entropy(predictions, batch.targets), predictions


def _train_bare(task: SequenceTask, data: DataModule, epochs: int, limit: float) -> float:
    """Train as a script of fifteen lines would, and return the seconds."""
    model, optimizer = task.model, task.make_optimizer()
    start = time.perf_counter()
    for epoch in range(epochs):
        model.train()
        for batch in _batches(data, "train", epoch):
            loss, _ = _loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
        model.eval()
        total, right, count = 0.0, 0, 0
        with torch.no_grad():
            for batch in _batches(data, "validation"):
                loss, predictions = _loss(model, batch)
                total += loss.item() * len(batch.targets)
                right += int((predictions.argmax(-1) == batch.targets).sum())
                count += len(batch.targets)
    return time.perf_counter() - start


class _Plain(LightningModule):
    """The same as Lightning's documentation would write it."""

    def __init__(self, task: SequenceTask, num_classes: int) -> None:
        super().__init__()
        self.model, self.make_optimizer = task.model, task.make_optimizer
        self.accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        return _loss(self.model, batch)[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and accuracy."""
        loss, predictions = _loss(self.model, batch)
        self.accuracy(predictions, batch.targets)
        self.log("loss", loss, batch_size=len(batch.targets))
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return self.make_optimizer()


def _train_by_lightning(task: SequenceTask, data: DataModule, epochs: int, settings: Any) -> float:
    """Train by Lightning alone: no bar, no logger, no checkpoints; return the seconds."""
    clock = _Clock()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        gradient_clip_val=settings.gradient_clip_val,
        deterministic=settings.deterministic,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    with fresh_memory_as_it_is():
        assert data.num_classes is not None
        plain = _Plain(task, data.num_classes)
        trainer.fit(plain, datamodule=data, weights_only=True)
    return clock.seconds
