"""Training as `scripts/train.py` does it: the time of an optimizer step, everything included."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.workloads import OURS, REFERENCE, TORCH
from lnrnn.training import Experiment, compose_experiment, folder_of
from lnrnn.training.build import build_data, build_task, build_trainer, contract_of, quiet_lightning
from lnrnn.training.loggers import Identity
from lnrnn.training.run import fresh_memory_as_it_is

WARM_UP = 6  # steps of each call that do not count


class _Clock(Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the clock."""
        self.ends.append(time.perf_counter())

    def step(self) -> float:
        """Return the seconds from one step's end to the next one's, after the warm-up."""
        ends = self.ends[WARM_UP - 1 :]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def trained_shape(cell: str) -> tuple[int, ...]:
    """Return steps, batch, features and hidden units of what is trained."""
    config = _compose(f"{cell}_lncell").config
    data, model = config.data, config.model
    return data.length, data.batch_size, data.num_features, model.hidden_size


def time_training(cell: str, repeats: int, steps: int) -> dict[str, list[float | None]]:
    """Time the training of three models on MNIST-1D, in turns.

    Args:
        cell: "lstm", "gru" or "rnn".
        repeats: Rounds that count, after one that does not.
        steps: Optimizer steps of one measurement, the warm-up not counted.

    Returns:
        Milliseconds a step of each model, one a round.
    """
    limit = f"trainer.max_steps={WARM_UP + steps}"
    experiments = {
        OURS: _compose(f"{cell}_lncell", limit, "model.fused=true"),
        TORCH: _compose(cell, limit),
        REFERENCE: _compose(f"{cell}_lncell", limit, "model.fused=false"),
    }
    deterministic = torch.are_deterministic_algorithms_enabled()
    times: dict[str, list[float | None]] = {name: [] for name in experiments}
    with tempfile.TemporaryDirectory() as root, quiet_lightning():
        try:
            runs = {name: _run(experiment, Path(root)) for name, experiment in experiments.items()}
            for round_ in range(-1, repeats):
                for name in list(runs)[:: -1 if round_ % 2 else 1]:
                    times[name].append(1e3 * runs[name]())
        finally:
            # Lightning switches this on for the whole process.
            torch.use_deterministic_algorithms(deterministic)
    return {name: values[1:] for name, values in times.items()}


def _compose(model: str, *overrides: str) -> Experiment:
    quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
    steps_only = ["trainer.limit_val_batches=0", "trainer.accelerator=cpu"]
    return compose_experiment(["data=mnist1d", f"model={model}", *quiet, *steps_only, *overrides])


def _run(experiment: Experiment, root: Path) -> Callable[[], float]:
    """Return what trains an experiment's model a little further and returns the seconds a step."""
    config, folder = experiment.config, folder_of(experiment, root)
    folder.checkpoints.mkdir(parents=True)
    datamodule = build_data(config)
    task, contract = build_task(config, datamodule), contract_of(config, datamodule)

    def train() -> float:
        trainer = build_trainer(config, folder, contract, Identity("", root)).trainer
        clock = _Clock()
        trainer.callbacks.append(clock)  # pyright: ignore[reportAttributeAccessIssue]
        with fresh_memory_as_it_is():
            trainer.fit(task, datamodule=datamodule, weights_only=True)
        return clock.step()

    return train
