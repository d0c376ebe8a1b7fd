"""Windows of long series: the steps of one, and what is to be predicted from them.

Dimensions: N steps of all series together, F features, n windows, B of them in a batch, W steps in
each, H to be predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lnrnn.data.batch import Batch
from lnrnn.preparation import Scaling


@dataclass(frozen=True)
class Cut:
    """How series are cut into windows.

    Attributes:
        window: W.
        horizon: H, numbers that follow a window and are predicted; 0 if none are.
        stride: Steps from the begin of a window to that of the next.
    """

    window: int
    horizon: int
    stride: int

    def starts(self, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return where windows begin that, with their horizon, lie within one series, (n,) int64.

        Args:
            begins: Where each series begins, (s,).
            lengths: Its steps, (s,).
        """
        whole = self.window + self.horizon
        pieces = [
            np.arange(begin, begin + length - whole + 1, self.stride)
            for begin, length in zip(begins, lengths, strict=True)
            if length >= whole
        ]
        return np.concatenate(pieces or [np.empty(0)]).astype(np.int64)


class Windows(Dataset[Batch]):
    """Windows of one split; indexing with a list of positions gives their batch.

    The series are kept once, however much windows overlap.

    Args:
        values: All series end to end, (N, F) float32 or (N,) of a whole type.
        targets: What each step has, (N,) float32 or int64.
        starts: Where the windows begin, (n,) int64.
        cut: How they were cut.
        per_step: Whether a window's target is what all of its steps have; else, without a horizon,
            it is what its last step has.
        scale: Mean and standard deviation by which number targets were centered and scaled.
    """

    labels: tuple[str, ...] | None = None  # the classes' names, in their order
    scaling: Scaling | None = None  # what values were centered and scaled by
    masked = False  # whether values have a second half that says what was missing

    def __init__(
        self,
        values: Tensor,
        targets: Tensor,
        starts: Tensor,
        cut: Cut,
        *,
        per_step: bool,
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.values, self.targets, self.starts = values, targets, starts
        self.cut, self.per_step, self.scale = cut, per_step, scale
        self.steps = torch.arange(cut.window)
        if cut.horizon:
            self.predicted = torch.arange(cut.window, cut.window + cut.horizon)
        else:
            self.predicted = self.steps if per_step else self.steps[-1:]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, indices: list[int]) -> Batch:
        """Return the windows at ``indices``: (B, W, F) or (B, W), and their targets."""
        starts = self.starts[indices].unsqueeze(1)  # (B, 1)
        inputs = self.values[starts + self.steps]
        targets = self.targets[starts + self.predicted]  # (B, H), (B, W) or (B, 1)
        if not (self.cut.horizon or self.per_step):
            targets = targets.squeeze(1)
        return Batch(inputs if inputs.is_floating_point() else inputs.long(), targets, None)

    def content(self) -> list[Tensor]:
        """Return the tensors that make this split what it is."""
        return [self.values, self.targets, self.starts]
