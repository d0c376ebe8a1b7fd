"""Parts of a model that are not trained, or not until a step."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from lnrnn.config.errors import ConfigurationError
from lnrnn.config.transfer import EPOCHS, names_of
from lnrnn.training.loops import last_step, steps_per_epoch
from lnrnn.training.parts import select
from lnrnn.training.screen import say


class Freezing(Callback):
    """Keeps parameters as they are, up to an optimizer step where there is one.

    Which those are follows from the step alone, so a resumed run needs nothing else. The optimizer
    knows all parameters from the start and skips those without a gradient: no weight decay acts on
    them, and their moments begin where they are trained.

    Args:
        parameters: The frozen ones.
        names: What they are called, for a person.
        until: Optimizer steps after which they are trained; None: never.
        processes: How many train. Several are told once, at the start, which gradients they share,
            so that what is trained later has gradients from the start, which are thrown away.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], names: str, until: int | None, processes: int
    ) -> None:
        self.parameters = list(parameters)
        self.names = names
        self.until = until
        self.drops = until is not None and processes > 1
        self._are_frozen = True
        if not self.drops:
            self._let_train(False)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to train them where it is time."""
        if self._are_frozen and self.until is not None and trainer.global_step >= self.until:
            self._are_frozen = False
            self._let_train(True)
            if trainer.global_step == self.until and trainer.is_global_zero:
                say(f"step {self.until}: {self.names} is trained from here on")

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Throw away the gradients of frozen parameters, before their norm is taken."""
        if self.drops and self._are_frozen:
            for parameter in self.parameters:
                parameter.grad = None

    def _let_train(self, trains: bool) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(trains)


def freeze(
    config: DictConfig, model: nn.Module, trainer: Trainer, batches: int, step: int
) -> list[Callback]:
    """Freeze what a configuration says; return what keeps it so, nothing if it says nothing.

    Args:
        config: With the keys ``freeze`` and ``unfreeze_at``.
        model: The model.
        trainer: Knows when training ends.
        batches: Training batches of an epoch.
        step: Optimizer steps that were done before.

    Raises:
        ConfigurationError: If a part does not exist, nothing is left to be trained, or training
            ends before a part is to be trained.
    """
    patterns = names_of("freeze", config.get("freeze"))
    if not patterns:
        return []
    frozen = frozen_parameters(config, model)
    until = unfreezing_step(config, batches)
    count = sum(parameter.numel() for parameter in {*frozen.values()})
    if trainer.is_global_zero:
        when = "frozen" if until is None else f"frozen up to step {until}"
        if until is not None and step >= until:
            when = f"trained since step {until}"
        say(f"{when}: {', '.join(frozen)} ({count:,} parameters)")
    return [Freezing([*frozen.values()], ", ".join(patterns), until, trainer.world_size)]


def frozen_parameters(config: DictConfig, model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what a configuration freezes, by name; one that is tied has two names.

    Args:
        config: With the key ``freeze``, where it is not from an older version.
        model: The model.

    Raises:
        ConfigurationError: If a part does not exist, or nothing is left to be trained.
    """
    patterns = names_of("freeze", config.get("freeze"))
    known = dict(model.named_parameters(remove_duplicate=False))
    chosen = {known[name] for name in select(known, patterns, "freeze")}
    if chosen and len(chosen) == sum(1 for _ in model.parameters()):
        raise ConfigurationError(
            f"freeze={', '.join(patterns)} leaves nothing to be trained: it is the whole model"
        )
    return {name: parameter for name, parameter in known.items() if parameter in chosen}


def unfreezing_step(config: DictConfig, batches: int) -> int | None:
    """Return after how many optimizer steps ``unfreeze_at`` is; None for never.

    Args:
        config: With the keys ``unfreeze_at`` and ``trainer``.
        batches: Training batches of an epoch.

    Raises:
        ConfigurationError: If training ends before.
    """
    when, trainer = config.get("unfreeze_at"), config.trainer
    if when is None:
        return None
    per_epoch = steps_per_epoch(trainer.get("accumulate_grad_batches") or 1, batches)
    epochs = EPOCHS.fullmatch(str(when))
    step = int(epochs[1]) * per_epoch if epochs else int(when)
    limited = trainer.max_steps > 0 or (trainer.max_epochs or 0) > 0
    if limited and step >= (last := last_step(trainer.max_steps, trainer.max_epochs, per_epoch)):
        raise ConfigurationError(
            f"unfreeze_at={when} is after step {step}, but training ends after step {last}: leave "
            "unfreeze_at out, or train for longer"
        )
    return step
