"""What is measured for each kind of task, and which of the numbers decides a comparison."""

import math

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MeanSquaredError, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lnrnn.data.batch import IGNORED
from lnrnn.training.class_metrics import CalibrationError, MacroF1

# The number that decides, by kind of task, and whether more of it is better.
PRIMARY_METRIC = {
    "classification": ("accuracy", True),
    "tagging": ("accuracy", True),
    "language_modeling": ("bits_per_character", False),
    "regression": ("mse", False),
}


def higher_is_better(metric: str) -> bool:
    """Return whether more of a metric is better, such as ``val/accuracy``; of a loss, less is."""
    name = metric.rpartition("/")[2]
    return name == "macro_f1" or any(
        name == primary and rises for primary, rises in PRIMARY_METRIC.values()
    )


class BitsPerCharacter(MeanMetric):
    """Mean cross entropy over characters, in bits."""

    def compute(self) -> Tensor:
        """Return the mean in bits; it is fed in nats."""
        return super().compute() / math.log(2)


class Perplexity(MeanMetric):
    """Exponential of the mean cross entropy over characters."""

    def compute(self) -> Tensor:
        """Return the exponential of the mean; it is fed in nats."""
        return super().compute().exp()


class OriginalError(MeanSquaredError):
    """Mean squared error in the units of the data, of numbers that were centered and scaled.

    Args:
        scale: The standard deviation by which they were divided.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def compute(self) -> Tensor:
        """Return the mean in the units of the data."""
        return super().compute() * self.scale**2


def build_metrics(
    kind: str, num_classes: int | None, prefix: str, scale: float = 1.0
) -> MetricCollection:
    """Return the metrics of a kind of task, named ``<prefix>/<name>``.

    Args:
        kind: One of the keys of ``PRIMARY_METRIC``.
        num_classes: How many classes the predictions have; None for regression.
        prefix: ``val`` or ``test``.
        scale: Standard deviation by which numbers to predict were divided; their metrics are in
            the units of the data. The loss is not.

    Raises:
        ValueError: If ``kind`` is unknown.
    """
    if kind not in PRIMARY_METRIC:
        raise ValueError(f"kind must be one of {', '.join(PRIMARY_METRIC)}, got {kind!r}")
    metrics: dict[str, Metric | MetricCollection] = {"loss": MeanMetric()}
    if kind == "language_modeling":
        metrics |= {"bits_per_character": BitsPerCharacter(), "perplexity": Perplexity()}
    elif kind == "regression":
        metrics["mse"] = MeanSquaredError() if scale == 1 else OriginalError(scale)
    else:
        metrics["accuracy"] = MulticlassAccuracy(
            num_classes, average="micro", ignore_index=IGNORED, validate_args=False
        )
        assert num_classes is not None
        metrics["macro_f1"] = MacroF1(num_classes)
        if prefix == "test":
            metrics["calibration_error"] = CalibrationError()
    return MetricCollection(metrics, prefix=f"{prefix}/", compute_groups=False)


def update_metrics(
    metrics: MetricCollection, total: Tensor, count: Tensor, predictions: Tensor, targets: Tensor
) -> None:
    """Add one batch.

    Args:
        metrics: From :func:`build_metrics`.
        total: Summed loss of the batch, scalar.
        count: How many targets it sums over, scalar.
        predictions: (B, C), (B, T, C), (B,), (B, H) or (B, T).
        targets: (B,), (B, T), (B,), (B, H) or (B, T).
    """
    for metric in metrics.values():
        if isinstance(metric, CalibrationError):
            metric.update(predictions.flatten(0, -2), targets.flatten())
        elif isinstance(metric, MeanMetric):
            metric.update(total / count.clamp_min(1), count)
        elif isinstance(metric, MeanSquaredError):
            known = ~targets.isnan() if targets.ndim > 1 else ...
            metric.update(predictions.float()[known], targets[known])
        else:
            metric.update(predictions.flatten(0, -2).argmax(-1), targets.flatten())


def sum_loss(
    predictions: Tensor, targets: Tensor, class_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a batch's summed loss, scalar, and over how many targets it runs, scalar.

    With weights both are weighted sums, whose ratio is that of ``torch.nn.CrossEntropyLoss``.

    Whole numbers are class indices and take cross entropy, in nats, skipping ``IGNORED``; other
    targets take the squared error, where there are several a sequence skipping ``NOTHING`` (NaN).

    Args:
        predictions: (B, C), (B, T, C), (B,), (B, H) or (B, T).
        targets: (B,), (B, T), (B,), (B, H) or (B, T).
        class_weights: What each class weighs, (C,); None for all alike.
    """
    if targets.is_floating_point():
        if targets.ndim > 1:  # of steps, not all of which have a number to predict (NaN)
            known = ~targets.isnan()
            errors = torch.where(known, predictions.float() - targets.nan_to_num(), 0.0)
            return errors.square().sum(), known.sum().float()
        total = torch.nn.functional.mse_loss(predictions.float(), targets, reduction="sum")
        # Filled in place: a GPU would be waited for before a copy of it.
        return total, torch.full((), float(targets.numel()), device=targets.device)
    total = torch.nn.functional.cross_entropy(
        predictions.flatten(0, -2).float(),
        targets.flatten(),
        weight=class_weights,
        ignore_index=IGNORED,
        reduction="sum",
    )
    known = targets != IGNORED
    if class_weights is None:
        return total, known.sum().float()
    return total, (class_weights[targets.clamp_min(0)] * known).sum()
