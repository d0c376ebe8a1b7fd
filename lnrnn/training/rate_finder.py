"""The learning rate range test: train while the rate rises, and see where the loss falls."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from lnrnn.checks import is_whole
from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import replacing
from lnrnn.training.accelerator import check_gpu
from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.callbacks import StepSeed
from lnrnn.training.finite import NonFiniteError
from lnrnn.training.freezing import freeze
from lnrnn.training.loader_failures import explained_loaders
from lnrnn.training.loops import use_own_loops
from lnrnn.training.warm_start import read_initial, start_from

FEWEST_STEPS = 20
DIVERGED = 4.0  # times the lowest smoothed loss, as Lightning's finder has it
KEPT = 0.9  # of the running mean that divergence is seen in, at every step
SHARE = 0.05  # of the steps, to either side, that a loss is averaged over before its slope is taken


@dataclass(frozen=True)
class RateCurve:
    """What a range test has seen.

    Args:
        rates: The learning rate of each step, rising.
        losses: The training loss before each step.
        diverged: Whether it ended because the loss had become large, NaN or infinite.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    diverged: bool

    @property
    def smoothed(self) -> np.ndarray:
        """Mean loss over the steps around each; over fewer at both ends."""
        losses = np.array(self.losses)
        reach = max(2, round(SHARE * len(losses)))
        windows = [losses[max(0, n - reach) : n + reach + 1] for n in range(len(losses))]
        return np.array([window.mean() for window in windows])

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return self.rates[int(self.smoothed.argmin())]

    def suggestion(self) -> float | None:
        """Return the rate at which the smoothed loss falls fastest over the rate's logarithm.

        Only rates up to that of the lowest loss are looked at. None where the loss never falls.
        """
        if len(self.losses) < FEWEST_STEPS // 2:
            return None
        losses = self.smoothed
        slopes = np.gradient(losses, np.log(self.rates))[: int(losses.argmin()) + 1]
        steepest = int(slopes.argmin())
        return self.rates[steepest] if slopes[steepest] < 0 else None


class RisingRate(Callback):
    """Sets the learning rate of every step, and notes the loss.

    Args:
        rates: One for each optimizer step.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = list(rates)
        self.losses: list[float] = []
        self.diverged = False
        self._batches: list[float] = []  # losses of the batches of this step
        self._running, self._best = 0.0, math.inf

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the rate of the step that this batch belongs to."""
        for group in trainer.optimizers[0].param_groups:
            if "lr" not in group:
                raise ConfigurationError(
                    f"{type(trainer.optimizers[0]).__name__} has no learning rate to be found"
                )
            group["lr"] = self.rates[min(len(self.losses), len(self.rates) - 1)]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note the loss, and stop where it has become large."""
        self._batches.append(float(outputs["loss"]))
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        loss = sum(self._batches) / len(self._batches)
        self._batches = []
        self.losses.append(loss)
        self._running = KEPT * self._running + (1 - KEPT) * loss
        mean = self._running / (1 - KEPT ** len(self.losses))
        self._best = min(self._best, mean)
        if mean > DIVERGED * self._best and len(self.losses) >= FEWEST_STEPS // 2:
            self.diverged = trainer.should_stop = True


def find_rate(config: DictConfig, *, lowest: float, highest: float, steps: int) -> RateCurve:
    """Train a model that is thrown away, at a learning rate that rises from step to step.

    Model, data, their order and dropout are those of the run that the configuration describes; so
    are its initial weights and what it freezes. Nothing is written, and the run that follows is the
    same to the bit.

    Args:
        config: A checked configuration. Its learning rate, schedule, warm-up, budget and
            ``unfreeze_at`` do not matter.
        lowest: The first step's rate.
        highest: The last step's.
        steps: How many are made, unless the loss diverges.

    Raises:
        ConfigurationError: If the numbers do not fit, the optimizer has no learning rate, or
            several processes are asked for.

    Reference:
        Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, 3.3.
    """
    _check_range(lowest, highest, steps)
    if str(config.trainer.get("strategy")).startswith("ddp"):
        raise ConfigurationError("find-lr is done by one process: leave out trainer=ddp")
    check_gpu(config.trainer)
    constant = {"schedule": None, "warmup_steps": 0, "unfreeze_at": None}
    config = cast(DictConfig, OmegaConf.merge(config, constant))
    ratio = highest / lowest
    rising = RisingRate([lowest * ratio ** (step / (steps - 1)) for step in range(steps)])
    with (
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        tempfile.TemporaryDirectory() as folder,
        quiet_lightning(),
    ):
        data = build_data(config)
        task = build_task(config, data)
        trainer = instantiate(
            config.trainer,
            max_steps=steps,
            max_epochs=-1,
            limit_val_batches=0,
            callbacks=[StepSeed(config.seed), rising],
            logger=False,
            profiler=None,  # one may write files
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        if trainer.world_size > 1:
            raise ConfigurationError(
                f"find-lr is done by one process, and trainer.devices={trainer.num_devices} on "
                f"trainer.num_nodes={trainer.num_nodes} is more: set both to 1"
            )
        use_own_loops(trainer)
        data.trainer = trainer
        task = trainer.precision_plugin.convert_module(task)
        if (initial := read_initial(config)) is not None:
            start_from(initial, task.model, config)
        trainer.callbacks += freeze(config, task.model, trainer, data.batches_per_epoch(), 0)
        try:
            with explained_loaders(data.num_workers):
                trainer.fit(task, datamodule=data, weights_only=True)
        except NonFiniteError:  # the last rates were too large
            rising.diverged = True
    count = len(rising.losses)
    return RateCurve(tuple(rising.rates[:count]), tuple(rising.losses), rising.diverged)


def plot_rates(curve: RateCurve, picture: Path) -> None:
    """Draw loss against learning rate, with the rate that is suggested.

    Args:
        curve: What to draw.
        picture: Where the PNG goes.
    """
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.plot(curve.rates, curve.losses, color="#B8B8B8", linewidth=0.8, label="each step")
    panel.plot(curve.rates, curve.smoothed, color="#0072B2", label="smoothed")
    if (rate := curve.suggestion()) is not None:
        panel.axvline(rate, color="#D55E00", linestyle="--", label=f"suggested: {rate:.2g}")
    top = float(np.max(curve.smoothed[: max(2, len(curve.losses) * 2 // 3)]))
    panel.set_ylim(0.95 * float(curve.smoothed.min()), 1.2 * top)
    panel.set_xscale("log")
    panel.set_xlabel("learning rate")
    panel.set_ylabel("training loss")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False)
    with replacing(picture) as file:
        figure.savefig(file, format="png", dpi=120)


def _check_range(lowest: Any, highest: Any, steps: Any) -> None:
    numbers = [n for n in (lowest, highest) if isinstance(n, int | float) and math.isfinite(n)]
    if len(numbers) < 2 or not 0 < lowest < highest:
        raise ConfigurationError(
            "lowest and highest must be learning rates above 0, the second larger; got "
            f"{lowest!r} and {highest!r}"
        )
    if not is_whole(steps, least=FEWEST_STEPS):
        raise ConfigurationError(
            f"steps must be a whole number from {FEWEST_STEPS} up, got {steps!r}"
        )
