"""Encoders of one's own: what they need, what has a default, and what is said where it lacks."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lnrnn
from lnrnn.models import ClassificationHead, Encoder, RecurrentEncoder, SequenceModel, TokenHead
from lnrnn.models.protocol import DEFAULTS
from lnrnn.training import SequenceTask

HEAD = partial(ClassificationHead, 3)


class Least(nn.Module):
    """No more than is needed."""

    output_size = 4

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 4)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, inputs, lengths=None, state=None):
        return self.layer(inputs), None


def test_output_size_and_forward_are_enough():
    encoder = Least()
    model = SequenceModel(encoder, HEAD)
    scores, state = model(torch.randn(5, 7, 2), torch.tensor([1, 2, 3, 7, 7]))
    assert scores.shape == (5, 3)
    assert state is None
    assert {name: getattr(encoder, name) for name in DEFAULTS} == {
        "bidirectional": False,
        "carries_state": False,
        "looks_ahead": True,
        "embedding": None,
    }


def test_no_protocol_is_asked_for_at_run_time():
    """Its answer is another one from Python 3.12 on, and a wrong one for a module with modules."""
    with pytest.raises(TypeError, match="runtime_checkable"):
        isinstance(Least(), Encoder)  # pyright: ignore[reportArgumentType]
    package = Path(lnrnn.__file__).parent
    texts = {path: path.read_text() for path in package.rglob("*.py")}
    assert any("(Protocol)" in text for text in texts.values())
    assert not [path for path, text in texts.items() if "runtime_checkable" in text]


def test_an_encoder_may_have_an_embedding():
    encoder = RecurrentEncoder("gru", num_tokens=5, hidden_size=4)
    model = SequenceModel(encoder, partial(TokenHead, 5, tied=True))
    assert model.encoder.embedding is encoder.embedding is not None
    assert not any(name in vars(encoder) for name in ("embedding", "layer"))


def test_what_an_encoder_says_is_kept():
    encoder = Least(bidirectional=True, looks_ahead=False)
    model = SequenceModel(encoder, HEAD)
    assert model.encoder.looks_ahead is False
    assert isinstance(model.head, ClassificationHead)
    assert model.head.pooling.bidirectional is True


def test_an_encoder_that_does_not_say_that_it_is_causal_trains_no_language_model():
    settings = {"kind": "language_modeling", "num_classes": 4}
    with pytest.raises(ValueError, match=r"looks ahead.*looks_ahead = False"):
        SequenceTask(SequenceModel(Least(), partial(TokenHead, 4)), **settings)
    SequenceTask(SequenceModel(Least(looks_ahead=False), partial(TokenHead, 4)), **settings)


class WithoutState(nn.Module):
    output_size = 4

    def forward(self, inputs):
        return inputs, None


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (lambda x: x, "must be a torch.nn.Module"),
        (nn.Linear(2, 4), r"Linear needs self\.output_size.*got None"),
        (Least(output_size=0), r"output_size.*got 0"),
        (Least(output_size=4.0), r"output_size.*got 4\.0"),
        (WithoutState(), r"WithoutState\.forward must take inputs, lengths and state"),
    ],
)
def test_what_is_missing_is_named(encoder, words):
    with pytest.raises(TypeError, match=words):
        SequenceModel(encoder, HEAD)


class Returning(Least):
    made: Any

    def forward(self, inputs, lengths=None, state=None):
        return self.made(self.layer(inputs))


@pytest.mark.parametrize(
    ("made", "kind", "words"),
    [
        (lambda x: x, TypeError, "must return a pair.*got Tensor"),
        (lambda x: (x, None, None), TypeError, "must return a pair"),
        (lambda x: (x[:, -1], None), ValueError, r"of the shape \(5, 7, 4\).*got \(5, 4\)"),
        (lambda x: (x.mT, None), ValueError, r"got \(5, 4, 7\)"),
    ],
)
def test_what_comes_out_is_checked(made, kind, words):
    model = SequenceModel(Returning(made=made), HEAD)
    with pytest.raises(kind, match=words):
        model(torch.randn(5, 7, 2))
