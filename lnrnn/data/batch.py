"""What a datamodule hands to a task.

Dimensions: B sequences of the batch, T time steps, F input features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The target of a step at which nothing is predicted: torch's ``ignore_index`` default."""

NOTHING = float("nan")
"""The same where numbers are predicted."""


class Batch(NamedTuple):
    """Sequences, what is to be predicted from them, and how long each one is.

    Attributes:
        inputs: Features, (B, T, F) float32, or symbols, (B, T) int64. Padded at the end.
        targets: Classes, (B,) int64; a class per step, (B, T) int64 with ``IGNORED`` where there is
            nothing to predict; numbers, (B,) float32; or the next H numbers, (B, H), or a number
            per step, (B, T), float32 with ``NOTHING`` (NaN) where there is nothing to predict.
        lengths: Valid steps of each sequence, (B,) int64, or None when every sequence of the data
            is full length. Always on the CPU, where ``pack_padded_sequence`` wants it.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch with inputs and targets on ``device``; the lengths stay on the CPU.

        Lightning moves batches through this method. A copy to a GPU is never waited for.
        """
        inputs, targets = self.inputs, self.targets
        if torch.device(device).type == "cuda" and inputs.device.type == "cpu":
            # Only a copy from pinned memory lets the host continue; Lightning doesn't ask for one.
            inputs, targets, non_blocking = inputs.pin_memory(), targets.pin_memory(), True
        inputs = inputs.to(device, non_blocking=non_blocking)
        targets = targets.to(device, non_blocking=non_blocking)
        return Batch(inputs, targets, self.lengths)
