"""Encoders: shapes, padding, what a step may depend on, and what they refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from numerics import assert_close
from torch import Tensor, nn

from lnrnn.models import RecurrentEncoder, TransformerEncoder
from lnrnn.nn import GRU, LSTM, RNN, CellNorm

BATCH, STEPS, FEATURES, TOKENS, HIDDEN = 3, 7, 4, 11, 6
LENGTHS = torch.tensor([3, 7, 5])
CELLS = ["rnn", "lstm", "gru"]
INPUTS = {"features": {"num_features": FEATURES}, "tokens": {"num_tokens": TOKENS}}

RECURRENT = {
    f"{cell}-{norm}{'-bidirectional' if both else ''}": {
        "cell": cell,
        "norm": norm,
        "bidirectional": both,
        "num_layers": 2,
    }
    for cell in CELLS
    for norm in (None, "output", "cell")
    for both in (False, True)
}
RECURRENT["lstm-variant"] = {"cell": "lstm", "norm": CellNorm(cell="state", kind="rms")}
TRANSFORMER = {
    f"transformer-{norm}-{positions}{'-causal' if causal else ''}": {
        "norm": norm,
        "positions": positions,
        "causal": causal,
        "num_heads": 3,
        "max_length": STEPS + 2 if positions == "learned" else None,
    }
    for norm in ("pre", "post", None)
    for positions in ("rotary", "learned")
    for causal in (False, True)
}
ENCODERS = RECURRENT | TRANSFORMER


def build(name: str, **options) -> RecurrentEncoder | TransformerEncoder:
    """Return an encoder in float64, without gradients, whose gains and shifts are random too."""
    kind = RecurrentEncoder if name in RECURRENT else TransformerEncoder
    encoder = kind(**{"hidden_size": HIDDEN, **ENCODERS[name], **options}).double()
    for parameter in encoder.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.7, std=0.3)
    return encoder.eval().requires_grad_(False)


def draw(kind: str, steps: int = STEPS) -> Tensor:
    if kind == "features":
        return torch.randn(BATCH, steps, FEATURES, dtype=torch.float64)
    return torch.randint(TOKENS, (BATCH, steps))


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", ENCODERS)
def test_a_padded_batch_gives_what_each_sequence_gives_alone(name: str, kind: str) -> None:
    encoder, inputs = build(name, **INPUTS[kind]), draw(kind)
    output, state = encoder(inputs, LENGTHS)
    assert output.shape == (BATCH, STEPS, encoder.output_size)
    for row, length in enumerate(LENGTHS):
        alone, alone_state = encoder(inputs[row : row + 1, :length])
        assert_close(output[row, :length], alone[0])
        assert torch.equal(output[row, length:], torch.zeros_like(output[row, length:]))
        for together, single in zip(state or (), alone_state or (), strict=True):
            assert_close(together[:, row], single[:, 0])


@pytest.mark.parametrize("projection", [None, 5])
@pytest.mark.parametrize("name", ["lstm-cell", "gru-None", "transformer-pre-rotary"])
def test_nan_in_padding_reaches_no_output_and_no_gradient(name: str, projection) -> None:
    options = {"projection": projection} if name in RECURRENT else {}
    encoder, inputs = build(name, num_features=FEATURES, **options), draw("features")
    encoder.requires_grad_()
    for row, length in enumerate(LENGTHS):
        inputs[row, length:] = torch.nan
    output, _ = encoder(inputs, LENGTHS)
    gradients = torch.autograd.grad(output, list(encoder.parameters()), torch.randn_like(output))
    assert output.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", ENCODERS)
def test_looks_ahead_tells_whether_the_past_depends_on_the_future(name: str, kind: str) -> None:
    encoder, inputs = build(name, **INPUTS[kind]), draw(kind)
    changed = inputs.clone()
    changed[:, 4] = inputs[:, 4] + 1 if kind == "features" else (inputs[:, 4] + 1) % TOKENS
    before, after = encoder(inputs)[0], encoder(changed)[0]
    assert not torch.allclose(before[:, 4], after[:, 4])
    assert torch.equal(before[:, :4], after[:, :4]) is not encoder.looks_ahead


@pytest.mark.parametrize("norm", [None, "output", "cell"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_carried_state_joins_windows(cell: str, norm: str | None) -> None:
    encoder, inputs = build(f"{cell}-{norm}", num_tokens=TOKENS), draw("tokens")
    assert encoder.carries_state
    whole, final = encoder(inputs)
    first, state = encoder(inputs[:, :3])
    assert isinstance(state, tuple)
    assert len(state) == (2 if cell == "lstm" else 1)
    assert all(part.shape == (2, BATCH, HIDDEN) for part in state)
    second, last = encoder(inputs[:, 3:], None, state)
    assert_close(torch.cat((first, second), dim=1), whole)
    for joined, once in zip(last, final, strict=True):
        assert_close(joined, once)
    # A batch of unequal lengths is sorted for packing: each state must follow its sequence.
    packed, _ = encoder(inputs[:, 3:], torch.tensor([2, 1, 4]), state)
    assert_close(packed[2], second[2])
    assert_close(packed[1, :1], second[1, :1])


def test_the_state_returned_is_attached() -> None:
    for name in ("rnn-None", "lstm-output", "gru-cell"):
        _, state = build(name, num_tokens=TOKENS).requires_grad_()(draw("tokens"))
        assert all(part.requires_grad for part in state)


@pytest.mark.parametrize(("cell", "layer"), [("rnn", RNN), ("lstm", LSTM), ("gru", GRU)])
def test_features_reach_the_layer_as_they_are(cell: str, layer: Callable) -> None:
    encoder = build(f"{cell}-output", num_features=FEATURES)
    assert isinstance(encoder, RecurrentEncoder)
    plain = layer(FEATURES, HIDDEN, 2, batch_first=True, norm="output").double()
    plain.load_state_dict(encoder.layer.state_dict())
    plain.requires_grad_(False)  # torch takes another path, with other roundings, for gradients
    assert {name.split(".")[0] for name, _ in encoder.named_parameters()} == {"layer"}
    inputs = draw("features")
    assert torch.equal(encoder(inputs)[0], plain(inputs)[0])


@pytest.mark.parametrize(
    ("options", "embedding", "projection", "read"),
    [
        ({"num_features": FEATURES}, None, None, FEATURES),
        ({"num_features": FEATURES, "projection": 9}, None, (9, FEATURES), 9),
        ({"num_tokens": TOKENS}, (TOKENS, HIDDEN), None, HIDDEN),
        ({"num_tokens": TOKENS, "embedding_size": 5}, (TOKENS, 5), None, 5),
        ({"num_tokens": TOKENS, "embedding_size": 5, "projection": 9}, (TOKENS, 5), (9, 5), 9),
    ],
)
def test_what_stands_before_the_recurrence(options, embedding, projection, read: int) -> None:
    encoder = RecurrentEncoder("gru", hidden_size=HIDDEN, norm="cell", **options)
    assert (encoder.embedding and tuple(encoder.embedding.weight.shape)) == embedding
    assert (encoder.projection and tuple(encoder.projection.weight.shape)) == projection
    assert encoder.layer.weight_ih_l0.shape == (3 * HIDDEN, read)
    kind = "tokens" if "num_tokens" in options else "features"
    assert encoder(draw(kind) if kind == "tokens" else draw(kind).float())[0].shape[-1] == HIDDEN


def test_eps_reaches_every_norm() -> None:
    encoder = TransformerEncoder(num_features=FEATURES, eps=0.25, num_layers=3)
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    assert [module.eps for module in norms] == [0.25] * 7  # two a layer, one at the end
    for norm in ("output", "cell"):
        inputs = draw("features")
        options = {"num_features": FEATURES, "norm": norm}
        small, large = (build("gru-None", **options, eps=eps) for eps in (1e-5, 0.25))
        large.load_state_dict(small.state_dict())
        assert not torch.allclose(small(inputs)[0], large(inputs)[0])


@pytest.mark.parametrize(("norm", "count"), [("pre", 5), ("post", 4), (None, 0)])
def test_a_transformer_has_the_norms_it_says(norm: str | None, count: int) -> None:
    encoder = TransformerEncoder(num_features=FEATURES, norm=norm, num_layers=2)  # pyright: ignore[reportArgumentType]
    assert sum(isinstance(module, nn.LayerNorm) for module in encoder.modules()) == count


def test_rotary_transformer_does_not_see_absolute_positions_and_a_learned_one_does() -> None:
    rotary, learned = (
        build(f"transformer-pre-{positions}-causal", num_tokens=TOKENS, num_layers=1)
        for positions in ("rotary", "learned")
    )
    same = torch.full((1, STEPS), 3)
    output = rotary(same)[0]
    assert_close(output, output[:, :1].expand_as(output))  # equal values, whatever is attended
    output = learned(same)[0]
    assert not torch.allclose(output[:, 1], output[:, 0])


@pytest.mark.parametrize("name", ["gru-None", "lstm-cell", "transformer-post-rotary"])
def test_dropout_acts_in_training_only_and_on_a_single_layer_too(name: str) -> None:
    encoder = build(name, num_features=FEATURES, num_layers=1, dropout=0.5)
    inputs = draw("features")
    assert torch.equal(encoder(inputs)[0], encoder(inputs)[0])
    encoder.train()
    assert not torch.equal(encoder(inputs)[0], encoder(inputs)[0])


@pytest.mark.parametrize("name", ["transformer-pre-rotary", "transformer-pre-learned"])
def test_dropout_acts_on_what_the_first_transformer_layer_reads(name: str) -> None:
    encoder, inputs = build(name, num_features=FEATURES, dropout=0.5).train(), draw("features")
    assert isinstance(encoder, TransformerEncoder)
    assert encoder.projection is not None
    torch.manual_seed(1)
    output, _ = encoder(inputs)
    torch.manual_seed(1)
    x = encoder.projection(inputs)
    x = F.dropout(x if encoder.positions is None else x + encoder.positions.weight[:STEPS], 0.5)
    for layer in encoder.layers:
        x = layer(x)
    assert torch.equal(output, encoder.final_norm(x))


def test_attributes() -> None:
    one, both = (build(f"gru-None{name}", num_features=4) for name in ("", "-bidirectional"))
    assert (one.output_size, one.bidirectional, one.carries_state) == (HIDDEN, False, True)
    assert (both.output_size, both.bidirectional, both.carries_state) == (2 * HIDDEN, True, False)
    transformer = build("transformer-pre-rotary", num_features=4)
    assert (transformer.output_size, transformer.bidirectional) == (HIDDEN, False)
    assert not transformer.carries_state


@pytest.mark.parametrize("name", ["gru-None", "transformer-pre-rotary"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "exactly one of num_features .* num_features=None and num_tokens=None"),
        ({"num_features": 3, "num_tokens": 5}, ValueError, "exactly one .*=3 and num_tokens=5"),
        ({"num_features": 0}, ValueError, "num_features must be at least 1, got 0"),
        ({"num_tokens": -2}, ValueError, "num_tokens must be at least 1, got -2"),
        (
            {"num_features": 3, "hidden_size": 0},
            ValueError,
            "hidden_size must be at least 1, got 0",
        ),
        ({"num_features": 3, "hidden_size": 6.5}, TypeError, "hidden_size .* whole .* got 6.5"),
        ({"num_features": 3, "num_layers": 0}, ValueError, "num_layers must be at least 1, got 0"),
        ({"num_features": 3, "dropout": 1.1}, ValueError, r"dropout must be in \[0, 1\], got 1.1"),
        ({"num_features": 3, "dropout": None}, TypeError, "dropout must be a number, got None"),
        ({"num_features": 3, "eps": None}, TypeError, "eps must be a number, got None"),
        ({"num_features": 3, "eps": 0.0}, ValueError, "eps must be positive"),
        ({"num_features": 3, "norm": "batch"}, ValueError, "norm .* 'batch'"),
    ],
)
def test_constructors_refuse(name: str, options: dict, error, message: str) -> None:
    with pytest.raises(error, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "qrnn"}, "rnn, lstm, gru, got 'qrnn'"),
        ({"embedding_size": 8}, "embedding_size=8 is for tokens"),
        ({"projection": 0}, "projection must be at least 1, got 0"),
        ({"num_features": None, "num_tokens": 5, "embedding_size": 0}, "embedding_size must be"),
    ],
)
def test_recurrent_encoder_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder(**{"cell": "gru", "num_features": 3, **options})


def test_switches_are_bools() -> None:
    """A word is what Hydra makes of ``no``, and every word counts as true."""
    no: Any = "no"
    with pytest.raises(TypeError, match="bidirectional must be True or False, got 'no'"):
        RecurrentEncoder("gru", num_features=3, bidirectional=no)
    with pytest.raises(TypeError, match="fused must be None, True or False, got 'no'"):
        RecurrentEncoder("gru", num_features=3, fused=no)
    with pytest.raises(TypeError, match="causal must be True or False, got 'no'"):
        TransformerEncoder(num_features=3, causal=no)


def test_the_recurrent_layer_gets_dropout_and_the_choice_of_kernels() -> None:
    options = {"cell": "gru", "num_features": 3, "dropout": 0.25, "fused": False}
    deep, single = (RecurrentEncoder(**options, num_layers=n) for n in (2, 1))
    assert (deep.layer.dropout, single.layer.dropout) == (0.25, 0.0)  # it acts between layers
    assert deep.dropout.p == single.dropout.p == 0.25
    assert deep.layer.fused is False
    assert RecurrentEncoder("gru", num_features=3).layer.fused is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"num_heads": 5}, "divisible by num_heads, got 12 and 5"),
        ({"num_heads": 4}, "even head size .* 12 / 4 = 3"),
        ({"positions": "sinus"}, "'rotary' or 'learned', got 'sinus'"),
        ({"positions": "learned"}, "needs max_length"),
        ({"positions": "learned", "max_length": 0}, "max_length must be at least 1, got 0"),
        ({"max_length": 9}, "rotary positions take any length, got max_length=9"),
    ],
)
def test_transformer_encoder_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerEncoder(**{"num_features": 3, "hidden_size": 12, "num_heads": 2, **options})


@pytest.mark.parametrize("name", ["gru-None", "transformer-pre-rotary"])
def test_inputs_are_checked(name: str) -> None:
    features, tokens = build(name, num_features=FEATURES), build(name, num_tokens=TOKENS)
    with pytest.raises(ValueError, match=r"shape \(B, T, 4\) .* got \(3, 7, 5\)"):
        features(torch.zeros(3, 7, 5).double())
    with pytest.raises(ValueError, match=r"at least one step, got \(3, 0, 4\)"):
        features(torch.zeros(3, 0, 4).double())
    with pytest.raises(ValueError, match=r"shape \(B, T\) .* got \(3, 7, 1\)"):
        tokens(torch.zeros(3, 7, 1).long())
    with pytest.raises(TypeError, match=r"tokens must be int64 .* got torch\.float64"):
        tokens(torch.zeros(3, 7).double())
    with pytest.raises(ValueError, match="between 1 and the batch's 7 steps, got 0 to 7"):
        tokens(draw("tokens"), torch.tensor([0, 7, 5]))
    empty = torch.zeros(0, 7).long()
    assert tokens(empty)[0].shape == (0, 7, HIDDEN)
    with pytest.raises(ValueError, match=r"at least one sequence, got \(0, 7\)"):
        tokens(empty, torch.zeros(0).long())


@pytest.mark.parametrize("options", [{}, {"projection": 5}, None], ids=str)
def test_features_have_the_dtype_of_the_weights(options: dict | None) -> None:
    name = "transformer-pre-rotary" if options is None else "gru-None"
    encoder = build(name, num_features=FEATURES, **(options or {})).float()
    message = r"\(torch.float64\) does not match weight dtype .* input.to\(torch.float32\), or"
    for lengths in (None, LENGTHS):
        with pytest.raises(ValueError, match=message):
            encoder(draw("features"), lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(draw("features").bfloat16())[0].isfinite().all()
        for x in (draw("features"), draw("features").long()):  # autocast converts neither
            with pytest.raises(
                ValueError, match=rf"\({x.dtype}\) does not match weight dtype .torch.float32"
            ):
                encoder(x)


def test_states_are_checked() -> None:
    state = (torch.zeros(2, BATCH, HIDDEN).double(),)
    tokens = draw("tokens")
    with pytest.raises(ValueError, match="bidirectional encoder takes no state"):
        build("gru-None-bidirectional", num_tokens=TOKENS)(tokens, None, state)
    with pytest.raises(ValueError, match="state is a tuple of 2 tensors, got 1"):
        build("lstm-None", num_tokens=TOKENS)(tokens, None, state)
    with pytest.raises(ValueError, match="transformer has no state"):
        build("transformer-pre-rotary-causal", num_tokens=TOKENS)(tokens, None, state)


def test_learned_positions_end_at_max_length() -> None:
    encoder = build("transformer-pre-learned", num_tokens=TOKENS)
    assert encoder(draw("tokens", STEPS + 2))[0].shape[1] == STEPS + 2
    with pytest.raises(ValueError, match=f"max_length={STEPS + 2} steps, got {STEPS + 3}"):
        encoder(draw("tokens", STEPS + 3))


def test_what_is_random_inside_the_recurrence_reaches_the_layer() -> None:
    options: dict[str, Any] = {"zoneout": 0.1, "zoneout_c": 0.2, "recurrent_dropout": 0.3}
    options |= {"variational_dropout": 0.4, "weight_drop": 0.5}
    starts: dict[str, Any] = {"recurrent_init": "orthogonal", "forget_bias": 0.0}
    encoder = RecurrentEncoder("lstm", num_features=FEATURES, **options, **starts)
    assert encoder.layer.regularizers.given() == options
    assert encoder.layer.starts.given() == starts
    gru = RecurrentEncoder("gru", num_features=FEATURES, update_bias=1.0, zoneout=0.1).layer
    assert gru.starts.update_bias == 1.0
    assert RecurrentEncoder("gru", num_features=FEATURES, chrono=9).layer.starts.chrono == 9
    assert not RecurrentEncoder("rnn", num_features=FEATURES).layer.regularizers.given()
    with pytest.raises(TypeError, match="GRU got an unexpected keyword argument 'zoneout_c'"):
        RecurrentEncoder("gru", num_features=FEATURES, zoneout_c=0.1)
    with pytest.raises(TypeError, match="zoneout must be a number, got False"):
        RecurrentEncoder("gru", num_features=FEATURES, zoneout=False)
