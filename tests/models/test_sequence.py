"""SequenceModel: joining, tying, and a published model's size."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from numerics import assert_close
from torch import nn

from lnrnn.models import (
    ClassificationHead,
    RecurrentEncoder,
    RegressionHead,
    SequenceModel,
    TokenHead,
    TransformerEncoder,
)
from lnrnn.nn import GRU
from lnrnn.seeding import initialize

TOKENS, HIDDEN = 11, 6


def tied_model(cell: str = "lstm", **options) -> SequenceModel:
    encoder = RecurrentEncoder(cell, num_tokens=TOKENS, hidden_size=HIDDEN, **options)  # pyright: ignore[reportArgumentType]
    return SequenceModel(encoder, partial(TokenHead, TOKENS, tied=True))


def test_the_published_mnist1d_gru_has_5134_parameters() -> None:
    encoder = RecurrentEncoder("gru", num_features=1, hidden_size=6, bidirectional=True)
    head = partial(ClassificationHead, 10, pooling="flatten", length=40)
    model = SequenceModel(encoder, head)
    assert isinstance(encoder.layer, GRU)
    assert sum(parameter.numel() for parameter in model.parameters()) == 5134
    assert model(torch.randn(4, 40, 1))[0].shape == (4, 10)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_forward_is_encoder_then_head(bidirectional: bool) -> None:
    encoder = RecurrentEncoder(
        "lstm", num_features=3, hidden_size=HIDDEN, norm="cell", bidirectional=bidirectional
    )
    model = SequenceModel(encoder, partial(ClassificationHead, 4))
    inputs, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    predictions, state = model(inputs, lengths)
    output, expected = encoder(inputs, lengths)
    assert torch.equal(predictions, model.head(output, lengths))
    assert state is not None
    assert all(torch.equal(a, b) for a, b in zip(state, expected, strict=True))


def test_state_is_handed_through() -> None:
    model = tied_model().double().requires_grad_(False)
    inputs = torch.randint(TOKENS, (2, 8))
    whole, _ = model(inputs)
    first, state = model(inputs[:, :5])
    second, _ = model(inputs[:, 5:], None, state)
    assert_close(torch.cat((first, second), dim=1), whole)


def test_a_built_head_is_taken_as_it_is() -> None:
    encoder = TransformerEncoder(num_features=3, hidden_size=8, num_heads=2)
    head = RegressionHead(input_size=8, pooling="mean")
    model = SequenceModel(encoder, head)
    assert model.head is head
    predictions, state = model(torch.randn(4, 5, 3), torch.tensor([5, 1, 2, 3]))
    assert predictions.shape == (4,)
    assert state is None


def test_tied_weights_are_one_parameter_trained_from_both_ends() -> None:
    model = tied_model().double()
    assert isinstance(model.encoder.embedding, nn.Embedding)
    shared = model.encoder.embedding.weight
    assert shared is model.head.linear.weight
    assert sum(parameter is shared for parameter in model.parameters()) == 1
    untied = SequenceModel(copy.deepcopy(model.encoder), partial(TokenHead, TOKENS)).double()
    untied.head.load_state_dict(model.head.state_dict())
    inputs = torch.randint(TOKENS, (2, 8))
    scores, expected = model(inputs)[0], untied(inputs)[0]
    assert_close(scores.detach(), expected.detach())
    cotangent = torch.randn_like(scores)
    (gradient,) = torch.autograd.grad(scores, shared, cotangent)
    assert isinstance(untied.encoder.embedding, nn.Embedding)
    ends = (untied.encoder.embedding.weight, untied.head.linear.weight)
    parts = torch.autograd.grad(expected, ends, cotangent)
    assert_close(gradient, parts[0] + parts[1])


def test_the_tie_survives_copy_state_dict_and_new_initial_values() -> None:
    model = tied_model(embedding_size=HIDDEN, projection=4)
    other = copy.deepcopy(model)
    initialize(other, seed=3)
    for clone in (other, tied_model(embedding_size=HIDDEN, projection=4)):
        assert isinstance(clone.encoder.embedding, nn.Embedding)
        clone.load_state_dict(other.state_dict())
        assert clone.encoder.embedding.weight is clone.head.linear.weight
        assert torch.equal(clone.head.linear.weight, other.head.linear.weight)
    assert not torch.equal(other.head.linear.weight, model.head.linear.weight)


@pytest.mark.parametrize("drawn_by_a_run", [False, True])
def test_a_tied_model_starts_near_chance(drawn_by_a_run: bool) -> None:
    model = tied_model(norm="output")
    if drawn_by_a_run:
        initialize(model, seed=0)
    inputs = torch.randint(TOKENS, (64, 12))
    scores, _ = model(inputs)
    # Scores of an embedding's own initial values (variance 1) would have a deviation of sqrt(6).
    assert scores.std() < 1


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_variants_share_the_initial_values_of_what_they_share(
    cell: str, bidirectional: bool
) -> None:
    models = [
        SequenceModel(
            RecurrentEncoder(
                cell,  # pyright: ignore[reportArgumentType]
                num_tokens=TOKENS,
                hidden_size=HIDDEN,
                norm=norm,  # pyright: ignore[reportArgumentType]
                bidirectional=bidirectional,
                projection=4,
            ),
            partial(ClassificationHead, 3),
        )
        for norm in (None, "output", "cell")
    ]
    for model in models:
        initialize(model, seed=5)
    plain, *normed = (dict(model.named_parameters()) for model in models)
    for parameters in normed:
        assert set(plain) < set(parameters)
        assert all(torch.equal(plain[name], parameters[name]) for name in plain)


def test_transformers_share_the_initial_values_of_what_they_share() -> None:
    models = [
        SequenceModel(
            TransformerEncoder(num_features=3, hidden_size=8, num_heads=2, norm=norm),  # pyright: ignore[reportArgumentType]
            partial(ClassificationHead, 3),
        )
        for norm in (None, "post", "pre")
    ]
    for model in models:
        initialize(model, seed=5)
    plain, *normed = (dict(model.named_parameters()) for model in models)
    for parameters in normed:
        assert set(plain) < set(parameters)
        assert all(torch.equal(plain[name], parameters[name]) for name in plain)


@pytest.mark.parametrize(
    ("encoder", "classes", "message"),
    [
        ({"num_features": 3}, 11, "reads features and has no embedding"),
        ({"num_tokens": 11}, 10, "num_classes=10 and num_tokens=11"),
        ({"num_tokens": 11, "embedding_size": 5}, 11, "embedding size 5 and output size 6"),
        ({"num_tokens": 11, "bidirectional": True}, 11, "embedding size 6 and output size 12"),
    ],
)
def test_tying_refuses_what_does_not_fit(encoder: dict, classes: int, message: str) -> None:
    built = RecurrentEncoder("gru", hidden_size=HIDDEN, **encoder)
    with pytest.raises(ValueError, match=message):
        SequenceModel(built, partial(TokenHead, classes, tied=True))


def test_heads_that_do_not_fit_are_refused() -> None:
    encoder = RecurrentEncoder("gru", num_features=3, hidden_size=HIDDEN)
    with pytest.raises(ValueError, match="head reads 5 features a step, the encoder gives 6"):
        SequenceModel(encoder, RegressionHead(input_size=5))
    wrong: Any
    for wrong in ("classification", dict, nn.Linear(HIDDEN, 2)):
        with pytest.raises(TypeError, match="head must be a ClassificationHead, RegressionHead or"):
            SequenceModel(encoder, wrong)


def test_a_model_pickled_before_heads_and_checks_had_settings_still_runs() -> None:
    encoder = RecurrentEncoder("gru", num_features=3, hidden_size=HIDDEN)
    model = SequenceModel(encoder, RegressionHead)
    del model.__dict__["_checks"], model.head.__dict__["num_outputs"]
    assert model(torch.randn(2, 4, 3))[0].shape == (2,)
