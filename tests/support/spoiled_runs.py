"""Runs in which a number goes wrong at a chosen step, and what was there before and after it.

Started as a program by torchrun, it is one process of such a run and notes what it saw.
"""

import copy
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments import compose, only
from lightning.fabric.utilities import move_data_to_device
from same_runs import assert_equal

from lnrnn.training import NonFiniteError, RunFolder, SequenceTask, train

SPOILED = ("parameter", "batch", "activation", "loss", "gradient", "norm")


@dataclass(frozen=True)
class Pass:
    """Under what a forward pass was made."""

    seed: int
    autocast: bool
    training: bool


@dataclass
class Stopped:
    """What is left of a run that was stopped."""

    message: str
    folder: RunFolder
    before: dict[str, Any]  # the step that failed: weights and optimizer
    after: dict[str, Any]
    passes: list[Pass]  # the forward passes that went wrong

    def assert_untouched(self, *, optimizer: bool = True) -> None:
        """Check that the step has left everything as it was, bit for bit."""
        assert_equal(self.after["weights"], self.before["weights"])
        if optimizer:
            assert self.before["optimizer"]["state"]
            assert_equal(self.after["optimizer"], self.before["optimizer"])


def stopped(
    root: Path,
    *overrides: str,
    place: str,
    at: int,
    batch: int = 0,
    ahead: bool | None = True,
    rank: int | None = None,
) -> Stopped:
    """Train until it fails.

    Args:
        root: Where the run's folder is made.
        overrides: Of the configuration.
        place: What goes wrong, one of ``SPOILED``.
        at: The optimizer step, from 1.
        batch: Of the accumulated ones, from 0.
        ahead: Whether the host runs ahead; None: as the device has it.
        rank: The process in which it happens; None: in all.
    """
    seen: dict[str, Any] = {}
    passes: list[Pass] = []
    original = SequenceTask.training_step

    def step(self: SequenceTask, data: Any, batch_idx: int) -> Any:
        seen["task"], seen["optimizer"] = self, self.trainer.optimizers[0]
        if self.global_step == at - 1:
            if "before" not in seen:
                seen["before"] = _everything(self, seen["optimizer"])
            number = batch_idx % self.trainer.accumulate_grad_batches
            if number == batch and rank in (None, self.global_rank) and "spoiled" not in seen:
                seen["spoiled"] = True
                spoil(self, data, place, passes)
        return original(self, data, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SequenceTask, "training_step", step)
        patch.setattr(SequenceTask, "_ahead", ahead)
        with pytest.raises(NonFiniteError) as caught:
            train(compose(*overrides), root)
    after = _everything(seen["task"], seen["optimizer"])
    folder = RunFolder(only(root.glob("*/*/seed0")))
    return Stopped(str(caught.value), folder, seen["before"], after, passes)


def _everything(task: SequenceTask, optimizer: Any) -> dict[str, Any]:
    """Return copies on the CPU, where Lightning puts the model when training ends."""
    state = {"weights": task.model.state_dict(), "optimizer": optimizer.state_dict()}
    return move_data_to_device(copy.deepcopy(state), "cpu")


def spoil(task: Any, data: Any, place: str, passes: list[Pass]) -> None:
    """Let something go wrong in this batch, and in no later one."""
    head, seed = task.model.head, torch.initial_seed()

    def ruin(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        if torch.initial_seed() != seed:
            return None
        passes.append(Pass(seed, torch.is_autocast_enabled(output.device.type), module.training))
        if place == "activation":
            return output / 0
        ruined = output.clone()
        ruined[:, 1:] = -math.inf  # an infinite loss with a finite gradient
        return ruined

    def once(change: Any) -> None:
        def hook(grad: torch.Tensor) -> torch.Tensor:
            handle.remove()
            return change(grad)

        handle = head.linear.weight.register_hook(hook)

    if place == "parameter":
        with torch.no_grad():
            task.model.encoder.layer.weight_hh_l0[0, 0] = math.nan
    elif place == "batch":
        data.inputs[0, 0, 0] = math.nan
    elif place in ("activation", "loss"):
        head.register_forward_hook(ruin)
    elif place == "gradient":
        once(lambda grad: grad * math.nan)
    elif place == "norm":  # every number of it is finite
        once(lambda grad: torch.full_like(grad, torch.finfo(grad.dtype).max))


def main() -> None:
    """Be one process of every run there is; the second one is given the bad number."""
    root, *overrides = sys.argv[1:]
    notes: dict[str, list[Any]] = {}
    for place in ("batch", "activation", "loss", "gradient"):
        for ahead in (True, False):
            runs = Path(root) / f"{place}-{ahead}"
            found = stopped(runs, *overrides, place=place, at=5, ahead=ahead, rank=1)
            found.assert_untouched()
            notes.setdefault(place, []).append([found.message, _digest(found.after["weights"])])
    (Path(root) / f"seen{os.environ['RANK']}").write_text(json.dumps(notes))


def _digest(weights: dict[str, torch.Tensor]) -> list[float]:
    return [float(value.double().sum()) for value in weights.values()]


if __name__ == "__main__":
    main()
