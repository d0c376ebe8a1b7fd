"""Heads: which steps they read, by hand, and what they refuse."""

import pytest
import torch
from numerics import assert_close
from torch import Tensor, nn

from lnrnn.models import ClassificationHead, RegressionHead, TokenHead
from lnrnn.models.heads import Pooling, last_step, mean_step

STEPS, FEATURES, CLASSES = 5, 6, 3
LENGTHS = torch.tensor([2, 5, 4])


def features() -> Tensor:
    return torch.randn(3, STEPS, FEATURES, dtype=torch.float64)


def poisoned(output: Tensor) -> Tensor:
    """Put NaN into the padding: a head that reads it cannot hide it."""
    output = output.clone()
    for row, length in enumerate(LENGTHS):
        output[row, length:] = torch.nan
    return output


def test_last_step_by_hand() -> None:
    output = features()
    expected = torch.stack([output[0, 1], output[1, 4], output[2, 3]])
    assert torch.equal(last_step(poisoned(output), LENGTHS, bidirectional=False), expected)
    assert torch.equal(last_step(output, None, bidirectional=False), output[:, 4])


def test_last_step_of_a_bidirectional_layer_is_its_final_states() -> None:
    layer = nn.GRU(4, 3, bidirectional=True, batch_first=True, dtype=torch.float64)
    layer.requires_grad_(False)
    x = torch.randn(3, STEPS, 4, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    packed_output, h_n = layer(packed)
    output, _ = nn.utils.rnn.pad_packed_sequence(packed_output, batch_first=True)
    final = torch.cat((h_n[0], h_n[1]), dim=-1)  # forward beside backward, (B, F)
    assert_close(last_step(poisoned(output), LENGTHS, bidirectional=True), final)
    output, h_n = layer(x)
    assert_close(last_step(output, None, bidirectional=True), torch.cat((h_n[0], h_n[1]), dim=-1))


def test_mean_by_hand() -> None:
    output = features()
    expected = torch.stack(
        [
            (output[0, 0] + output[0, 1]) / 2,
            output[1].mean(dim=0),
            (output[2, 0] + output[2, 1] + output[2, 2] + output[2, 3]) / 4,
        ]
    )
    assert_close(mean_step(poisoned(output), LENGTHS), expected)
    assert_close(mean_step(output, None), output.mean(dim=1))


def test_flatten_by_hand() -> None:
    output = features()
    pooling = Pooling("flatten", input_size=FEATURES, length=STEPS)
    expected = torch.stack([torch.cat(tuple(sequence)) for sequence in output])
    assert torch.equal(pooling(output), expected)
    assert torch.equal(pooling(output, torch.tensor([STEPS] * 3)), expected)
    assert pooling.output_size == STEPS * FEATURES


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_padded_batch_gives_what_each_sequence_gives_alone(
    pooling: str, bidirectional: bool
) -> None:
    heads = [
        ClassificationHead(
            CLASSES,
            input_size=FEATURES,
            bidirectional=bidirectional,
            pooling=pooling,  # pyright: ignore[reportArgumentType]
        ).double(),
        RegressionHead(
            input_size=FEATURES,
            bidirectional=bidirectional,
            pooling=pooling,  # pyright: ignore[reportArgumentType]
        ).double(),
    ]
    output = features()
    for head in heads:
        head.requires_grad_(False)
        together = head(poisoned(output), LENGTHS)
        for row, length in enumerate(LENGTHS):
            assert_close(together[row], head(output[row : row + 1, :length])[0])


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_gets_no_gradient(pooling: str) -> None:
    head = ClassificationHead(CLASSES, input_size=FEATURES, pooling=pooling).double()  # pyright: ignore[reportArgumentType]
    output = poisoned(features()).requires_grad_()
    scores = head(output, LENGTHS)
    (gradient,) = torch.autograd.grad(scores, output, torch.randn_like(scores))
    for row, length in enumerate(LENGTHS):
        assert torch.equal(gradient[row, length:], torch.zeros_like(gradient[row, length:]))
        assert gradient[row, length - 1].abs().min() > 0


def test_shapes() -> None:
    output = features().float()
    assert ClassificationHead(CLASSES, input_size=FEATURES)(output, LENGTHS).shape == (3, CLASSES)
    assert RegressionHead(input_size=FEATURES)(output, LENGTHS).shape == (3,)
    assert RegressionHead(input_size=FEATURES)(output[:1]).shape == (1,)
    assert TokenHead(CLASSES, input_size=FEATURES)(output, LENGTHS).shape == (3, STEPS, CLASSES)
    flat = RegressionHead(input_size=FEATURES, pooling="flatten", length=STEPS)
    assert flat(output).shape == (3,)


def test_every_head_is_one_linear_layer() -> None:
    for head in (
        ClassificationHead(CLASSES, input_size=FEATURES),
        RegressionHead(input_size=FEATURES),
        TokenHead(CLASSES, input_size=FEATURES),
    ):
        assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]


@pytest.mark.parametrize(
    ("head", "options", "error", "message"),
    [
        (ClassificationHead, {"num_classes": None}, TypeError, "num_classes .* got None"),
        (
            ClassificationHead,
            {"num_classes": 0},
            ValueError,
            "num_classes must be at least 1, got 0",
        ),
        (ClassificationHead, {"num_classes": 2.5}, TypeError, "num_classes .* got 2.5"),
        (ClassificationHead, {"num_classes": True}, TypeError, "num_classes .* got True"),
        (TokenHead, {"num_classes": -1}, ValueError, "num_classes must be at least 1, got -1"),
        (
            TokenHead,
            {"num_classes": 3, "input_size": 0},
            ValueError,
            "input_size must be at least 1",
        ),
        (RegressionHead, {"input_size": -6}, ValueError, "input_size must be at least 1, got -6"),
        (RegressionHead, {"pooling": "max"}, ValueError, "'last', 'mean' or 'flatten', got 'max'"),
        (RegressionHead, {"pooling": "flatten"}, ValueError, "one fixed length, got length=None"),
        (RegressionHead, {"length": 0}, ValueError, "length must be at least 1, got 0"),
        (
            RegressionHead,
            {"bidirectional": True, "input_size": 5},
            ValueError,
            "input_size must be even, got 5",
        ),
        (RegressionHead, {"bidirectional": "no"}, TypeError, "bidirectional .* got 'no'"),
        (TokenHead, {"num_classes": 3, "bidirectional": "no"}, TypeError, "bidirectional .* 'no'"),
        (TokenHead, {"num_classes": 3, "tied": "no"}, TypeError, "tied must be True or False"),
    ],
)
def test_constructors_refuse(head, options: dict, error, message: str) -> None:
    with pytest.raises(error, match=message):
        head(**{"input_size": FEATURES, **options})


@pytest.mark.parametrize(
    ("shape", "lengths"),
    [((3, 4, FEATURES), None), ((3, STEPS, FEATURES), LENGTHS), ((3, 6, FEATURES), None)],
)
def test_flatten_refuses_other_lengths(shape: tuple[int, ...], lengths: Tensor | None) -> None:
    head = ClassificationHead(CLASSES, input_size=FEATURES, pooling="flatten", length=STEPS)
    with pytest.raises(ValueError, match="built for sequences of 5 steps, got"):
        head(torch.zeros(shape), lengths)


@pytest.mark.parametrize("pooling", ["last", "mean", "flatten"])
@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (torch.tensor([0, 5, 4]), ValueError, "between 1 and the batch's 5 steps, got 0 to 5"),
        (torch.tensor([2, 6, 4]), ValueError, "between 1 and the batch's 5 steps, got 2 to 6"),
        (torch.tensor([2, 5]), ValueError, r"each of the 3 sequences, got shape \(2,\)"),
        (torch.tensor([2.0, 5.0, 4.0]), TypeError, "int64 on the CPU"),
    ],
)
def test_lengths_are_checked(pooling: str, lengths: Tensor, error, message: str) -> None:
    pool = Pooling(pooling, input_size=FEATURES, length=STEPS)  # pyright: ignore[reportArgumentType]
    with pytest.raises(error, match=message):
        pool(features(), lengths)


@pytest.mark.parametrize("pooling", ["last", "mean", "flatten"])
def test_a_batch_without_sequences_has_no_lengths(pooling: str) -> None:
    pool = Pooling(pooling, input_size=FEATURES, length=STEPS)  # pyright: ignore[reportArgumentType]
    assert pool(features()[:0]).shape == (0, pool.output_size)
    with pytest.raises(ValueError, match="an empty batch goes with lengths=None"):
        pool(features()[:0], LENGTHS[:0])


def test_several_numbers_a_sequence_and_one_a_step() -> None:
    output = features()
    several = RegressionHead(4, input_size=FEATURES).double()
    expected = several.linear(output[torch.arange(3), LENGTHS - 1])
    assert torch.equal(several(poisoned(output), LENGTHS), expected)
    steps = RegressionHead(input_size=FEATURES, pooling="none").double()
    assert steps(output, LENGTHS).shape == (3, STEPS)
    assert torch.equal(steps(output, LENGTHS), steps.linear(output)[..., 0])
    with pytest.raises(ValueError, match="num_outputs must be None, got 4"):
        RegressionHead(4, input_size=FEATURES, pooling="none")
    with pytest.raises(ValueError, match="num_outputs"):
        RegressionHead(0, input_size=FEATURES)
