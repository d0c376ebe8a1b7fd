import math
from functools import partial

import pytest
import torch
from torch import nn

from lnrnn.data import Batch
from lnrnn.models import (
    ClassificationHead,
    RecurrentEncoder,
    SequenceModel,
    TokenHead,
    TransformerEncoder,
)
from lnrnn.training import SequenceTask
from lnrnn.training.metrics import build_metrics, sum_loss, update_metrics
from lnrnn.training.task import parameter_groups


def classifier(**settings) -> SequenceModel:
    encoder = RecurrentEncoder("lstm", num_features=3, hidden_size=6, **settings)
    return SequenceModel(encoder, partial(ClassificationHead, 4))


def language_model(**settings) -> SequenceModel:
    encoder = RecurrentEncoder("gru", num_tokens=11, hidden_size=6, **settings)
    return SequenceModel(encoder, partial(TokenHead, 11))


def test_weight_decay_acts_on_matrices_only():
    model = language_model(norm="cell")
    decayed, kept = parameter_groups(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {
        "encoder.layer.weight_ih_l0",
        "encoder.layer.weight_hh_l0",
        "head.linear.weight",
    }
    assert "encoder.embedding.weight" in {names[id(p)] for p in kept["params"]}
    assert len(decayed["params"]) + len(kept["params"]) == len(names)
    assert kept["weight_decay"] == 0.0


def test_decay_leaves_gains_where_they_are():
    model = classifier(norm="cell")
    weight = model.get_parameter("encoder.layer.weight_hh_l0")
    gain = model.get_parameter("encoder.layer.gain_hh_l0")
    before = weight.detach().clone()
    task = SequenceTask(
        model,
        kind="classification",
        num_classes=4,
        optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.5),
    )
    optimizer = task.configure_optimizers()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(gain, torch.ones(24))
    torch.testing.assert_close(weight, before * (1 - 0.1 * 0.5))


def test_loss_sums_over_what_has_a_target():
    logits, targets = torch.randn(2, 5, 7), torch.randint(0, 7, (2, 5))
    targets[1, 3:] = -100
    total, count = sum_loss(logits, targets)
    by_hand = -logits.log_softmax(-1).gather(-1, targets.clamp_min(0)[..., None])[..., 0]
    assert count == 8
    torch.testing.assert_close(total, by_hand[targets != -100].sum())


def test_regression_takes_the_squared_error():
    total, count = sum_loss(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    assert (total, count) == (5.0, 2.0)


def test_numbers_that_are_missing_are_not_predicted():
    targets = torch.tensor([[1.0, math.nan, 3.0], [math.nan, math.nan, -1.0]])
    predictions = torch.tensor([[2.0, 9.0, 3.5], [math.inf, 8.0, 1.0]], requires_grad=True)
    total, count = sum_loss(predictions, targets)
    assert (float(total.detach()), int(count)) == (1.0 + 0.25 + 4.0, 3)
    total.backward()
    assert predictions.grad is not None
    assert predictions.grad.tolist() == [[2, 0, 1], [0, 0, 4]]


def test_the_error_of_scaled_numbers_is_in_their_own_units():
    original = torch.tensor([[10.0, 14.0], [30.0, 22.0]])
    predicted = torch.tensor([[12.0, 13.0], [25.0, 20.0]])
    mean, std = original.mean(), 7.5
    targets, predictions = (original - mean) / std, (predicted - mean) / std
    targets[1, 1] = math.nan
    metrics = build_metrics("regression", None, "test", std)
    for row in range(2):
        one = slice(row, row + 1)
        total, count = sum_loss(predictions[one], targets[one])
        update_metrics(metrics, total, count, predictions[one], targets[one])
    assert float(metrics.compute()["test/mse"]) == pytest.approx((4 + 1 + 25) / 3)
    assert float(metrics.compute()["test/loss"]) == pytest.approx((4 + 1 + 25) / 3 / std**2)


def test_metrics_of_a_language_model_are_one_number_in_three_units():
    metrics = build_metrics("language_modeling", 257, "test")
    logits, targets = torch.randn(2, 30, 257), torch.randint(0, 257, (2, 30))
    targets[0, :9] = -100
    for rows in (slice(0, 1), slice(1, 2)):  # batches of unequal weight
        total, count = sum_loss(logits[rows], targets[rows])
        update_metrics(metrics, total, count, logits[rows], targets[rows])
    nats = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values["test/loss"] == pytest.approx(nats, rel=1e-6)
    assert values["test/bits_per_character"] == pytest.approx(nats / math.log(2), rel=1e-6)
    assert values["test/perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)


def test_accuracy_counts_targets_and_not_batches():
    metrics = build_metrics("tagging", 3, "val")
    targets = torch.tensor([[0, 1, 2, -100], [2, -100, -100, -100]])
    logits = nn.functional.one_hot(torch.tensor([[0, 1, 0, 0], [2, 1, 1, 1]]), 3).float()
    for row in (0, 1):
        batch = logits[row : row + 1], targets[row : row + 1]
        update_metrics(metrics, *sum_loss(*batch), *batch)
    assert metrics.compute()["val/accuracy"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("schedule", "warmup", "factors"),
    [
        (None, 4, [0.25, 0.5, 0.75, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.9, 0.8]),
        ("cosine", 0, [1.0, 0.5 * (1 + math.cos(0.1 * math.pi))]),
    ],
)
def test_schedules(schedule, warmup, factors, monkeypatch):
    task = SequenceTask(
        classifier(),
        kind="classification",
        num_classes=4,
        schedule=schedule,
        warmup_steps=warmup,
    )

    monkeypatch.setattr(SequenceTask, "_last_step", lambda self: 10)
    found = [task._learning_rate_factor(step) for step in range(len(factors))]
    assert found == pytest.approx(factors)
    if schedule is not None:
        assert task._learning_rate_factor(10) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": "step"}, "schedule must be null, cosine or linear"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative"),
        ({"kind": "translation"}, "kind must be one of"),
    ],
)
def test_constructor_errors(settings, words):
    settings = {"kind": "classification", **settings}
    with pytest.raises(ValueError, match=words):
        SequenceTask(classifier(), num_classes=4, **settings)


@pytest.mark.parametrize(
    "encoder",
    [
        RecurrentEncoder("gru", num_tokens=11, hidden_size=6, bidirectional=True),
        TransformerEncoder(num_tokens=11, hidden_size=8, num_heads=2),
    ],
)
def test_a_language_model_must_not_look_ahead(encoder):
    model = SequenceModel(encoder, partial(TokenHead, 11))
    with pytest.raises(ValueError, match="must not see the characters it predicts"):
        SequenceTask(model, kind="language_modeling", num_classes=11)


def test_the_state_is_carried_from_window_to_window_and_starts_at_zero():
    task = SequenceTask(language_model(), kind="language_modeling", num_classes=11).eval()
    tokens = torch.randint(0, 11, (3, 10))
    whole, _ = task.model(tokens)
    parts, state = [], None
    for window in tokens.split(4, dim=1):
        batch = Batch(window, window, None)
        predictions, state = task._predict(batch, state)
        assert state is not None
        assert not any(part.requires_grad for part in state)
        parts.append(predictions)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_the_count_of_targets_is_a_float_so_that_processes_can_average_it():
    targets = torch.tensor([[1.0, float("nan")], [2.0, 3.0]])
    _, count = sum_loss(torch.zeros(2, 2), targets)
    assert count == 3
    assert count.is_floating_point()
