"""What is measured of each class: macro F1, calibration, which class is taken for which.

All of them add up counts and sums of a fixed size, so processes only add theirs, and nothing grows
with the data.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lnrnn.data.batch import IGNORED

BINS = 15  # of confidences, of equal width, as in Guo et al.
MOST_CLASSES = 200  # of which a table of each against each is kept


class MacroF1(Metric):
    """Mean F1 over the classes that occur among the targets or the predictions.

    F1 of a class is 2 TP / (2 TP + FP + FN). Every class counts alike, however rare it is.

    Args:
        num_classes: C.
    """

    full_state_update = False
    higher_is_better = True
    right: Tensor
    occurred: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        zeros = torch.zeros(num_classes, dtype=torch.int64)
        self.add_state("right", zeros, dist_reduce_fx="sum")  # TP
        self.add_state("occurred", zeros.clone(), dist_reduce_fx="sum")  # 2 TP + FP + FN

    def update(self, predicted: Tensor, targets: Tensor) -> None:
        """Add classes, (N,) each; where the target is ``IGNORED``, neither counts."""
        known, classes = targets != IGNORED, torch.arange(len(self.right), device=targets.device)
        are = (targets[:, None] == classes) & known[:, None]  # (N, C)
        said = (predicted[:, None] == classes) & known[:, None]
        self.right += (are & said).sum(0)
        self.occurred += are.sum(0) + said.sum(0)

    def compute(self) -> Tensor:
        """Return the mean."""
        scores = 2 * self.right / self.occurred.clamp_min(1)
        return scores.sum() / (self.occurred > 0).sum().clamp_min(1)


class CalibrationError(Metric):
    """Expected calibration error: the mean distance of confidence from the share of right answers.

    Confidence is the probability of the class that is predicted. Its range is cut into ``BINS``
    bins, and the distance of mean confidence and accuracy in each weighs as many answers as it has.

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, equation 3.
    """

    full_state_update = False
    higher_is_better = False
    confidence: Tensor
    right: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("confidence", "right", "count"):
            self.add_state(name, torch.zeros(BINS), dist_reduce_fx="sum")

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Add scores before a softmax, (N, C), of classes (N,), ``IGNORED`` left out."""
        confidence, predicted = scores.float().softmax(-1).max(-1)
        bins = (confidence * BINS).long().clamp_max(BINS - 1)  # (N,)
        places = torch.arange(BINS, device=bins.device)
        inside = ((bins[:, None] == places) & (targets != IGNORED)[:, None]).float()  # (N, BINS)
        self.confidence += (inside * confidence[:, None]).sum(0)
        self.right += (inside * (predicted == targets)[:, None]).sum(0)
        self.count += inside.sum(0)

    def compute(self) -> Tensor:
        """Return the mean distance, from 0 (calibrated) to 1."""
        return (self.confidence - self.right).abs().sum() / self.count.sum().clamp_min(1)


class Confusion(Metric):
    """Which class is taken for which: how many examples of class i are predicted to be j.

    Args:
        num_classes: C.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add scores, (..., C), of classes (...), ``IGNORED`` left out."""
        size = len(self.counts)
        predicted, targets = predictions.flatten(0, -2).argmax(-1), targets.flatten()
        known = targets != IGNORED
        pairs = targets[known] * size + predicted[known]
        self.counts += torch.bincount(pairs, minlength=size * size).view(size, size)

    def compute(self) -> Tensor:
        """Return the counts, (C, C): targets in rows, predictions in columns."""
        return self.counts


def build_confusion(kind: str, num_classes: int | None) -> Any:
    """Return what counts confusions; None where there are no classes, or too many for a table."""
    if kind not in ("classification", "tagging") or (num_classes or 0) > MOST_CLASSES:
        return None
    assert num_classes is not None
    return Confusion(num_classes)
