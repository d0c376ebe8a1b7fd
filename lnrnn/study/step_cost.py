"""What a training step of several arms costs: time, memory, parameters, side by side.

The arms take turns in one process, so that a busy machine is busy for all of them, and a ratio is
always of times of the same round.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lnrnn.config.compose import Experiment
from lnrnn.data import Batch, DataModule
from lnrnn.runs.machine import describe_machine
from lnrnn.seeding import derive_seed
from lnrnn.study.turns import interleave
from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.freezing import frozen_parameters
from lnrnn.training.fresh_memory import fresh_memory_as_it_is

WARM_UP = 3  # rounds dropped: kernels are built, the optimizer makes its state
ROUNDS = 40
LEAST_ROUNDS = 5  # however slow a step is
SECONDS = 20.0  # after which no further round begins
BATCHES = 32  # of an epoch's start, held in memory and cycled


class TrainingStep:
    """One optimizer step at a time, as training makes it, outside of Lightning's loops.

    That is: forward and backward of as many batches as the gradient is accumulated over, in the
    trainer's precision, the check for numbers that are not finite, clipping, and the optimizer. The
    learning rate's schedule and callbacks are left out. Parts that are frozen for good have no
    gradient; those with ``unfreeze_at`` are trained.

    Args:
        config: The arm's configuration; of several devices it uses one.
        datamodule: Its data.
    """

    def __init__(self, config: DictConfig, datamodule: DataModule) -> None:
        self.config = config
        self.task = build_task(config, datamodule)
        self.accumulated = int(config.trainer.accumulate_grad_batches)
        self.unit = "characters" if datamodule.kind == "language_modeling" else "sequences"
        # It makes no step by itself, but knows device and precision.
        trainer = _trainer(config)
        self.strategy = trainer.strategy
        self.strategy.connect(self.task)
        self.task.trainer = trainer
        self.strategy.setup_environment()
        self.strategy.setup(trainer)
        self.task.on_fit_start()  # what the loss needs goes to the device
        if config.get("unfreeze_at") is None:
            for parameter in frozen_parameters(config, self.task.model).values():
                parameter.requires_grad_(False)
        self.optimizer = self.task.make_optimizer()
        self.device = self.strategy.root_device
        loader = datamodule.train_dataloader()
        self.batches = [batch.to(self.device) for batch in islice(loader, BATCHES)]
        self.number = 0  # batches so far

    def hold_weights(self) -> None:
        """Let steps leave the weights where they are, so that no arm can diverge while measured."""
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0

    def next_batches(self) -> list[Batch]:
        """Return what the next step learns from."""
        numbers = range(self.number, self.number + self.accumulated)
        return [self.batches[number % len(self.batches)] for number in numbers]

    def run(self, batches: Sequence[Batch]) -> None:
        """Make one optimizer step."""
        self.optimizer.zero_grad()
        for batch in batches[:-1]:
            self._learn(batch)
        self.strategy.optimizer_step(self.optimizer, partial(self._learn, batches[-1]))

    def _learn(self, batch: Batch) -> Tensor:
        """Add a batch's share to the gradient; return its loss."""
        torch.manual_seed(derive_seed(self.config.seed, "dropout", self.number, 0))
        precision = self.strategy.precision_plugin
        with precision.train_step_context():
            loss = self.task.training_step(precision.convert_input(batch), self.number)
        self.number += 1
        return self.strategy.backward(loss / self.accumulated, self.optimizer)

    def items(self, batches: Sequence[Batch]) -> int:
        """Return how many characters or sequences batches hold."""
        if self.unit == "sequences":
            return sum(len(batch.inputs) for batch in batches)
        return sum(batch.inputs.numel() for batch in batches)

    def wait(self) -> None:
        """Wait until the device has done what it was given, and look at its checks."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.task.settle()


def _trainer(config: DictConfig) -> Trainer:
    """Return a trainer with a configuration's device and precision, and nothing that acts."""
    trainer = config.trainer
    return Trainer(
        accelerator=trainer.accelerator,
        devices=1,
        precision=trainer.precision,
        gradient_clip_val=trainer.gradient_clip_val,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def measure_cost(arms: Mapping[str, Experiment]) -> dict[str, Any]:
    """Measure what a training step of each arm costs, the arms interleaved in this process.

    A step is `TrainingStep`'s, on batches of the arm's own training data that are already in
    memory: what Lightning's loops, callbacks and the loader add is not part of it, since it would
    blur what the arms differ in. (``seconds_per_step`` in a run's ``run.json`` has the loops in
    it.) Weights are held at their initial values. Nothing is written, and torch's random state is
    left as it was. It takes seconds: at most ROUNDS rounds, none begun after SECONDS.

    Args:
        arms: Experiments by name, the baseline first.

    Returns:
        ``machine``, ``rounds``, ``threads`` and ``arms``, a list in the order given, each with
        ``name``, ``parameters``, ``seconds_per_step`` (median; of an optimizer step),
        ``quartiles``, ``ratio`` (median over the first arm's median) and ``ratio_quartiles`` (of
        the time over the first arm's in the same round, widened to hold the ratio; None for the
        first), ``peak_memory`` (see `_peak_memory`), ``items_per_second``
        (median over steps) and ``unit``.

    Raises:
        ValueError: If there are no arms.
        ConfigurationError: If data or model of an arm cannot be built.
        NonFiniteError: If an arm's loss or gradient is not finite at its initial weights.
    """
    if not arms:
        raise ValueError("measure_cost needs at least one arm, got none")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), quiet_lightning():
        steps = _prepare(arms)
        seconds, rates = _measure(steps)
        peaks = [_peak_memory(step) for step in steps.values()]
    first = next(iter(steps.values()))
    machine = describe_machine(first.device.type)
    entries = []
    for index, (name, step) in enumerate(steps.items()):
        ratios = [own / base for own, base in zip(seconds[index], seconds[0], strict=True)]
        q1, middle, q3 = _quartiles(seconds[index])
        # One estimator everywhere: the ratio of the medians that are shown. Ratios within a round
        # tell how sure it is; a disturbed clock can put their middle half beside it.
        ratio = middle / _quartiles(seconds[0])[1]
        r1, _, r3 = _quartiles(ratios)
        r1, r3 = min(r1, ratio), max(r3, ratio)
        entries.append(
            {
                "name": name,
                "parameters": sum(parameter.numel() for parameter in step.task.parameters()),
                "seconds_per_step": middle,
                "quartiles": [q1, q3],
                "ratio": ratio if index else None,
                "ratio_quartiles": [r1, r3] if index else None,
                "peak_memory": peaks[index],
                "items_per_second": _quartiles(rates[index])[1],
                "unit": step.unit,
            }
        )
    rounds = len(seconds[0])
    return {"machine": machine, "rounds": rounds, "threads": machine["threads"], "arms": entries}


def _prepare(arms: Mapping[str, Experiment]) -> dict[str, TrainingStep]:
    """Build every arm; arms with the same data share them."""
    datamodules: dict[str, DataModule] = {}
    steps = {}
    for name, experiment in arms.items():
        config = experiment.config
        key = OmegaConf.to_yaml(config.data)
        if key not in datamodules:
            datamodules[key] = build_data(config)
            datamodules[key].num_workers = 0  # a few batches need no processes
        steps[name] = TrainingStep(config, datamodules[key])
        steps[name].hold_weights()
    return steps


def _measure(steps: Mapping[str, TrainingStep]) -> tuple[list[list[float]], list[list[float]]]:
    """Return each arm's seconds a step and items a second, round by round."""
    begin: list[float] = []

    def over(done: int) -> bool:
        now = time.perf_counter()
        begin[:] = begin or [now]
        return done >= LEAST_ROUNDS and now - begin[0] > SECONDS

    def measure(step: TrainingStep) -> tuple[float, float]:
        batches = step.next_batches()
        took = _timed(step, batches)
        return took, step.items(batches) / took

    measures = {name: partial(measure, step) for name, step in steps.items()}
    found = interleave(measures, ROUNDS, warm_up=WARM_UP, over=over)
    pairs = [[pair for pair in values if pair is not None] for values in found.values()]
    return [[pair[0] for pair in arm] for arm in pairs], [
        [pair[1] for pair in arm] for arm in pairs
    ]


def _timed(step: TrainingStep, batches: Sequence[Batch]) -> float:
    """Return the seconds of one step, until the device is done with it."""
    with _as_in_training(step):
        step.wait()
        start = time.perf_counter()
        step.run(batches)
        step.wait()
        return time.perf_counter() - start


def _quartiles(values: Sequence[float]) -> list[float]:
    at = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return torch.tensor(values, dtype=torch.float64).quantile(at).tolist()


def _peak_memory(step: TrainingStep) -> int | None:
    """Return the bytes that a training step adds at its highest, or None on other devices.

    That is above weights, optimizer state and batch: what is kept for the backward pass, gradients
    and everything in between. It counts tensors, by the allocator's own report of each of them
    (on CUDA, by its high-water mark): so it repeats exactly, and buffers that a library takes past
    the allocator are not in it.
    """
    device, batches = step.device, step.next_batches()
    step.optimizer.zero_grad()
    # Kept, for torch warns of freeing what it did not see made.
    before = step.task.train_state, step.task.gradient_norm
    with _as_in_training(step):
        peak = MEASURES.get(device.type)
        bytes_added = None if peak is None else peak(partial(step.run, batches))
    del before
    return bytes_added


def _peak_on_cuda(work: Callable[[], None]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _peak_on_cpu(work: Callable[[], None]) -> int:
    """Return by how many bytes the tensors in memory grow while ``work`` runs, at the highest."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler says when it starts and stops
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    results: Any = record.profiler and record.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


MEASURES = {"cpu": _peak_on_cpu, "cuda": _peak_on_cuda}


@contextmanager
def _as_in_training(step: TrainingStep) -> Iterator[None]:
    """Set what the trainer sets for the whole process while it trains, and set it back."""
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    wanted = step.config.trainer.get("deterministic")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the trainer's: cuBLAS insists
    torch.use_deterministic_algorithms(bool(wanted), warn_only=wanted == "warn")
    try:
        with fresh_memory_as_it_is() if wanted else nullcontext():
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
