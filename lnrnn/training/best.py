"""The weights of the best validation: kept while a run goes on, and tested at its end if asked."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor

from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.best_files import (
    Best,
    best_files,
    improvements,
    is_better,
    keep_only,
    path_of,
    read_best,
    step_of,
    write_best,
)
from lnrnn.runs.checkpoint_files import checkpoints_in, order_of, problem_of
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.reporting import best_effort
from lnrnn.runs.tensor_files import unwritable
from lnrnn.runs.weights import model_weights
from lnrnn.training.finite import bad_parameter
from lnrnn.training.metrics import higher_is_better
from lnrnn.training.task import SequenceTask


class BestWeights(Callback):
    """Keeps the model's weights after every validation that is better than all before.

    They are kept in memory, and written before the next checkpoint is: what a kill loses, the
    resumed run makes again, bit for bit, and a checkpoint never knows of a validation whose weights
    are not on the disk. So a new best does not wait for the disk.

    Which those are follows from the run's records, which a resumed run has cut to what its
    checkpoint knows: so it keeps what an undisturbed run does. Weights that a checkpoint's records
    still call the best stay as long as the checkpoint does.

    Args:
        folder: The run's folder.
        metric: What is compared, such as ``val/loss``.
        versions: What the manifests note as the versions that wrote them.
        needed: Whether the run is to be tested with them. Otherwise a model that no such file can
            hold does without.
    """

    def __init__(
        self, folder: RunFolder, metric: str, versions: Mapping[str, str], *, needed: bool = False
    ) -> None:
        self.folder = folder
        self.needed = needed
        self.can_write = True
        self.metric = metric
        self.versions = versions
        self.rises = higher_is_better(metric)
        self.history: list[Best] = []  # every improvement, in order
        self._unwritten: dict[str, Tensor] | None = None  # of the last improvement, on the CPU

    @property
    def best(self) -> Best | None:
        """The best validation so far; None before any."""
        return self.history[-1] if self.history else None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the history from the records, which are cut by now.

        Raises:
            ConfigurationError: If the task has no such metric; or if the best weights are to be
                tested, and the model has tensors that a file of weights cannot hold.
        """
        self._check_dtypes(pl_module, trainer.is_global_zero)
        names = sorted(map(str, cast(SequenceTask, pl_module).val_metrics.keys()))
        if self.metric not in names:
            raise ConfigurationError(
                f"monitor_metric={self.metric}: this task has {', '.join(names)}"
            )
        history: list[Best] = []
        if trainer.is_global_zero:
            entries = read_metrics(self.folder.metrics)
            history = improvements(entries, self.metric, higher_is_better=self.rises)
        self.history = trainer.strategy.broadcast(history)

    def _check_dtypes(self, task: LightningModule, first: bool) -> None:
        unknown = unwritable(model_weights(task.state_dict()))
        self.can_write = not unknown
        text = f"safetensors, in which the best weights are kept, cannot hold {', '.join(unknown)}"
        if unknown and self.needed:
            raise ConfigurationError(f"{text}: take the last weights, test=last")
        if unknown and first:
            warnings.warn(f"{text}: they are not kept", stacklevel=2)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if they are better than all before."""
        value = float(trainer.callback_metrics.get(self.metric, math.nan))
        if not self.can_write or not math.isfinite(value) or bad_parameter(pl_module) is not None:
            return
        if self.best is not None and not is_better(value, self.best.value, self.rises):
            return
        state = trainer.strategy.lightning_module_state_dict()  # asks every process
        if trainer.is_global_zero:
            self._unwritten = {
                name: tensor.detach().to("cpu", copy=True)
                for name, tensor in model_weights(state).items()
            }
        self.history.append(Best(trainer.global_step, self.metric, value))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write what the checkpoint is to know of.

        Raises:
            CheckpointError: If it cannot be written.
        """
        self._write()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write what there is: a run that failed may never be resumed."""
        with best_effort("the weights of the best validation are those before the last save"):
            self._write()

    def _write(self) -> None:
        """Write the weights that are in memory alone; the first process has such."""
        if self._unwritten is None or self.best is None:
            return
        write_best(self.best, self._unwritten, self.folder.checkpoints, self.versions)
        self._unwritten = None
        keep_only(self.folder.checkpoints, {self.best.step, *self._known_to_checkpoints()})

    def _known_to_checkpoints(self) -> set[int]:
        """Return the steps of the weights that a run resumed from a checkpoint would call best."""
        steps = set()
        for checkpoint in checkpoints_in(self.folder.checkpoints):
            known = [best.step for best in self.history if is_known(best.step, checkpoint)]
            steps |= set(known[-1:])
        return steps

    def chosen(self, trainer: Trainer, config: DictConfig) -> Best | None:
        """Return the validation whose weights are to be tested; None for the last weights.

        Its file may not be there: a version that kept none may have made that validation.
        """
        if tested_weights(config) == "last":
            return None
        chosen, problem = self.best, "no validation was finite"
        if trainer.is_global_zero and chosen is not None:
            problem = problem_of(path_of(chosen, self.folder.checkpoints))
            chosen = chosen if problem is None else None
        chosen = trainer.strategy.broadcast(chosen)
        if chosen is None and trainer.is_global_zero:
            warnings.warn(
                f"the last weights are tested and not the best, which are not there: {problem}",
                stacklevel=1,
            )
        return chosen

    def load(self, task: SequenceTask, best: Best) -> None:
        """Give a task the weights of a validation."""
        task.model.load_state_dict(read_best(path_of(best, self.folder.checkpoints)))


def is_known(step: int, checkpoint: Path) -> bool:
    """Return whether a checkpoint was saved after the validation that followed so many steps."""
    saved_at, validated = order_of(checkpoint)
    return step <= saved_at if validated else step < saved_at


def remove_void(folder: Path, checkpoint: Path | None) -> None:
    """Remove weights of validations that a run has not made where it continues.

    Args:
        folder: The run's folder of checkpoints.
        checkpoint: Where it continues; None where it starts from scratch.
    """
    steps = {step_of(path) for path in best_files(folder)}
    keep_only(folder, {n for n in steps if checkpoint is not None and is_known(n, checkpoint)})


def tested_weights(config: DictConfig) -> str:
    """Return which weights a configuration wants to be tested: ``best`` or ``last``."""
    chosen = config.get("test")
    if chosen is None:
        return "last" if config.get("early_stopping") is None else "best"
    return chosen
