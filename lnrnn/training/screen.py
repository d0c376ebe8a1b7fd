"""What a person sees during a run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.table import Table
from torch import nn

from lnrnn.training.callbacks import with_prefix


class ModelTable(Callback):
    """Prints the model's parts with their parameters, before the first step."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        if not trainer.is_global_zero:
            return
        table = Table("part", "module", "parameters", show_footer=False)
        table.columns[2].justify = "right"
        for name, module in pl_module.named_modules():
            own = list(module.parameters(recurse=False))
            if own:
                table.add_row(name.removeprefix("model."), _describe(module), f"{_count(module):,}")
        table.add_section()
        table.add_row("in all", "", f"{_count(pl_module):,}")
        Console().print(table)


def say(text: str) -> None:
    """Print one line, however long."""
    Console().print(text, soft_wrap=True, markup=False, highlight=False)


def _describe(module: nn.Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Bar(RichProgressBar):
    """A bar for each epoch; :class:`Lines` has the metrics, for which it leaves no room."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return no metrics to be shown beside the bar."""
        return {}


class Lines(Callback):
    """Prints one line after every validation; above the bar, where there is one."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the step and the validation metrics."""
        if not trainer.is_global_zero:
            return
        values = "  ".join(
            f"{name} {float(value):.4f}" for name, value in with_prefix(trainer, "val/").items()
        )
        print(f"epoch {trainer.current_epoch + 1}  step {trainer.global_step}  {values}")
