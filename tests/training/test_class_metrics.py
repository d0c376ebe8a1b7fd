"""Macro F1, calibration error and confusions, against torchmetrics' own and by hand."""

import pytest
import torch
from torchmetrics.classification import (
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from lnrnn.data.batch import IGNORED
from lnrnn.training.class_metrics import (
    MOST_CLASSES,
    CalibrationError,
    Confusion,
    MacroF1,
    build_confusion,
)
from lnrnn.training.metrics import build_metrics, higher_is_better, sum_loss, update_metrics


def examples(num_classes: int, *, seed: int = 0, count: int = 400, ignored: float = 0.1):
    """Scores that lean to the right class, of classes of unequal size, some to be ignored."""
    torch.manual_seed(seed)
    shares = torch.arange(1, num_classes + 1) ** 2.0
    targets = torch.multinomial(shares, count, replacement=True)
    scores = 2 * torch.randn(count, num_classes)
    scores[torch.arange(count), targets] += 1.5
    targets[torch.rand(count) < ignored] = IGNORED
    return scores, targets


@pytest.mark.parametrize("num_classes", [2, 5, 11])
@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_torchmetrics(num_classes, seed):
    scores, targets = examples(num_classes, seed=seed)
    chosen = {"num_classes": num_classes, "ignore_index": IGNORED}
    pairs = [
        (MacroF1(num_classes), MulticlassF1Score(average="macro", **chosen), scores.argmax(-1)),
        (CalibrationError(), MulticlassCalibrationError(n_bins=15, norm="l1", **chosen), scores),
        (Confusion(num_classes), MulticlassConfusionMatrix(**chosen), scores),
    ]
    for ours, theirs, predictions in pairs:
        for part in (slice(0, 150), slice(150, 151), slice(151, None)):
            ours.update(predictions[part], targets[part])
            theirs.update(predictions[part], targets[part])
        torch.testing.assert_close(ours.compute(), theirs.compute(), rtol=1e-5, atol=1e-6)


def test_macro_f1_by_hand():
    """Class 2 never occurs and does not count; class 1 is never said and has 0."""
    metric = MacroF1(4)
    metric.update(torch.tensor([0, 0, 3, 0, 1]), torch.tensor([0, 1, 3, 3, IGNORED]))
    assert float(metric.compute()) == pytest.approx((2 / (2 + 2) + 0 + 2 / (2 + 1)) / 3)


def test_calibration_error_by_hand():
    """Two answers of 0.95, one of them right, and one of 1.0 that is right, in the last bin."""
    metric = CalibrationError()
    scores = torch.tensor([[0.95, 0.05], [0.05, 0.95], [1.0, 1e-30]]).log()
    metric.update(scores, torch.tensor([0, 0, 0]))
    assert float(metric.compute()) == pytest.approx(abs(2 - (0.95 + 0.95 + 1.0)) / 3, rel=1e-5)


def test_the_metrics_of_a_task_have_them():
    scores, targets = examples(5)
    for prefix, names in {
        "val": {"accuracy", "loss", "macro_f1"},
        "test": {"calibration_error"},
    }.items():
        metrics = build_metrics("classification", 5, prefix)
        update_metrics(metrics, *sum_loss(scores, targets), scores, targets)
        found = metrics.compute()
        assert {f"{prefix}/{name}" for name in names} <= found.keys()
        assert (f"{prefix}/calibration_error" in found) == (prefix == "test")
    assert higher_is_better("val/macro_f1")


def test_confusions_are_counted_where_there_are_classes_and_a_table_has_room():
    assert build_confusion("regression", None) is None
    assert build_confusion("language_modeling", 257) is None
    assert build_confusion("classification", MOST_CLASSES + 1) is None
    counts = build_confusion("tagging", 3)
    steps = torch.eye(3)[torch.tensor([[0, 1, 1], [2, 2, 0]])]
    counts.update(steps, torch.tensor([[0, 1, 2], [2, IGNORED, IGNORED]]))
    assert counts.compute().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
