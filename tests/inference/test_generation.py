"""Texts that a language model continues: by its state or by a window, the same for a seed."""

import pytest
import torch

import lnrnn
from lnrnn.inference.generation import continued


def greedy(model, prompt: bytes, length: int, window: int | None) -> bytes:
    """Continue by reading everything again at every byte."""
    text = prompt
    for _ in range(length):
        seen = text if window is None else text[-window:]
        with torch.no_grad():
            scores = model.module(torch.tensor([list(seen)]))[0][0, -1, :256]
        text += bytes([int(scores.argmax())])
    return text


@pytest.mark.parametrize("cell", ["rnn_ln", "lstm_lncell", "gru"])
def test_the_state_is_carried(made, text, cell):
    model = lnrnn.load(made(*text, f"model={cell}").path)
    expected = greedy(model, b"the qu", 25, None)
    assert model.generate_bytes(b"the qu", length=25, temperature=0) == expected


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_transformer_reads_its_window(made, text, positions):
    longest = "null" if positions == "rotary" else 20
    own = ("model=transformer", "model.causal=true", f"model.positions={positions}")
    model = lnrnn.load(made(*text, *own, f"model.max_length={longest}", "model.num_heads=2").path)
    expected = greedy(model, b"the quick brown fox jumps", 25, 16)
    assert model.generate_bytes(b"the quick brown fox jumps", length=25, temperature=0) == expected


def test_a_seed_decides(made, text):
    model = lnrnn.load(made(*text, "model=gru").path)
    one, again, other = (model.generate_bytes(length=60, seed=seed) for seed in (0, 0, 1))
    assert one == again != other
    assert len(one) == 60
    assert model.generate_bytes(length=60, temperature=1e-4) == model.generate_bytes(
        length=60, temperature=0
    )


def test_chances_are_those_of_the_scores(made, text):
    model = lnrnn.load(made(*text, "model=gru").path)
    with torch.no_grad():
        scores = model.module(torch.tensor([[ord("t")]]))[0][0, -1, :256].double()
    chances = (scores / 1.5).softmax(0)
    counts = torch.zeros(256)
    for seed in range(600):
        counts[model.generate_bytes(b"t", length=1, temperature=1.5, seed=seed)[1]] += 1
    likely = chances.topk(3).indices
    # Five standard deviations of a share of 600 draws.
    bound = 5 * (chances * (1 - chances) / 600).sqrt()
    assert bool(((counts / 600 - chances).abs() <= bound)[likely].all())


def test_padding_is_never_drawn_and_any_bytes_are_shown(made, text):
    model = lnrnn.load(made(*text, "model=gru", "name=spoiled").path)
    with torch.no_grad():
        model.module.head.linear.bias[256] = 1e4  # pyright: ignore[reportIndexIssue]
        model.module.head.linear.bias[0xFF] = 100.0  # pyright: ignore[reportIndexIssue]
    assert model.generate_bytes(b"a", length=3) == b"a\xff\xff\xff"
    assert model.generate("ä", length=3) == "ä\ufffd\ufffd\ufffd"
    with torch.no_grad():
        model.module.head.linear.bias[0xE4] = 1000.0  # pyright: ignore[reportIndexIssue]
    assert model.generate("a", length=1) == "a"  # a letter that has only begun


def test_the_prompt_may_be_anything(made, text):
    model = lnrnn.load(made(*text, "model=gru").path)
    assert model.generate("naïve ☃", length=0) == "naïve ☃"
    assert len(model.generate_bytes(b"", length=5)) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": -1}, "length must be a whole number from 0 up, got -1"),
        ({"length": 2.5}, "length must be"),
        ({"temperature": -1.0}, "temperature must be a number from 0 up"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": float("inf")}, "temperature must be"),
    ],
)
def test_what_makes_no_sense_is_refused(made, text, settings, words):
    with pytest.raises(ValueError, match=words):
        lnrnn.load(made(*text, "model=gru").path).generate("a", **settings)


def test_only_language_models_generate_and_they_predict_nothing(made, text, reviews):
    with pytest.raises(ValueError, match="only a language model of bytes generates"):
        lnrnn.load(made(*reviews).path).generate("a")
    with pytest.raises(ValueError, match=r"lnrnn generate"):
        lnrnn.load(made(*text, "model=gru").path).predict("a")


def test_without_a_window_the_usual_one_is_read(made, text):
    own = ("model=transformer", "model.causal=true", "model.num_heads=2")
    model = lnrnn.load(made(*text, *own).path)
    settings = {"length": 3, "temperature": 0.0, "seed": 0, "device": model.device}
    found = continued(model.module, b"abc" * 60, window=None, **settings)
    assert found == greedy(model, b"abc" * 60, 3, 128)[-3:]
