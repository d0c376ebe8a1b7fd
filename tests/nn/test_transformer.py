"""TransformerLayer against torch's own layer, and what its options promise."""

import pytest
import torch
from numerics import BFLOAT16, assert_close
from torch import nn

from lnrnn.nn.transformer import TransformerLayer, rotary

HIDDEN, HEADS, FEEDFORWARD = 12, 3, 17
NORMS = ["pre", "post", None]
KINDS = ["weight", "bias"]


def random_layer(**options) -> TransformerLayer:
    """Return a layer in float64 whose every parameter, gains included, is random."""
    layer = TransformerLayer(HIDDEN, HEADS, FEEDFORWARD, **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.4)
    return layer.eval().requires_grad_(False)


def torch_twin(
    layer: TransformerLayer, eps: float, dropout: float = 0.0
) -> nn.TransformerEncoderLayer:
    """Return torch's layer with the same weights."""
    twin = nn.TransformerEncoderLayer(
        HIDDEN,
        HEADS,
        FEEDFORWARD,
        dropout=dropout,
        activation="gelu",
        layer_norm_eps=eps,
        batch_first=True,
        norm_first=layer.norm == "pre",
        dtype=torch.float64,
    )
    ours = layer.state_dict()
    names = {
        "self_attn.in_proj_": "attention_in.",
        "self_attn.out_proj.": "attention_out.",
        "linear1.": "feedforward_in.",
        "linear2.": "feedforward_out.",
        "norm1.": "attention_norm.",
        "norm2.": "feedforward_norm.",
    }
    twin.load_state_dict(
        {theirs + kind: ours[name + kind] for theirs, name in names.items() for kind in KINDS}
    )
    return twin.train()  # its fast path in eval mode refuses some masks


def padding() -> torch.Tensor:
    return torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_equals_torch_with_gradients(norm: str, padded: bool, causal: bool) -> None:
    layer = random_layer(norm=norm, eps=1e-2, causal=causal).requires_grad_()
    twin = torch_twin(layer, eps=1e-2)
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64, requires_grad=True)
    valid = padding() if padded else None
    future = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    ours = layer(x, valid)
    theirs = twin(x, src_mask=future, src_key_padding_mask=None if valid is None else ~valid)
    kept = padding() if padded else torch.ones(2, 7, dtype=torch.bool)
    assert_close(ours[kept].detach(), theirs[kept].detach())
    cotangent = torch.randn_like(ours[kept])
    gradients = torch.autograd.grad(ours[kept], [x, layer.attention_in.weight], cotangent)
    expected = torch.autograd.grad(theirs[kept], [x, twin.self_attn.in_proj_weight], cotangent)
    for gradient, value in zip(gradients, expected, strict=True):
        assert_close(gradient, value)


def test_without_norm_is_two_plain_residual_branches() -> None:
    layer = random_layer(norm=None)
    pre = random_layer(norm="pre")
    pre.load_state_dict(layer.state_dict(), strict=False)  # only the norms are missing
    pre.attention_norm = pre.feedforward_norm = nn.Identity()
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    assert_close(layer(x), pre(x))
    assert {name for name, _ in layer.named_parameters()} == {
        name for name, _ in random_layer(norm="pre").named_parameters() if "norm" not in name
    }


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_eps_reaches_both_norms_and_changes_the_output(norm: str) -> None:
    layer = TransformerLayer(HIDDEN, HEADS, norm=norm, eps=0.3)  # pyright: ignore[reportArgumentType]
    norms = [module for module in layer.modules() if isinstance(module, nn.LayerNorm)]
    assert [module.eps for module in norms] == [0.3, 0.3]


def test_norm_placements_differ() -> None:
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    layers = [random_layer(norm=norm) for norm in NORMS]
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict(), strict=False)
    pre, post, plain = (layer(x) for layer in layers)
    assert not torch.allclose(pre, post)
    assert not torch.allclose(pre, plain)
    assert not torch.allclose(post, plain)


def test_rotated_products_depend_on_the_distance_only() -> None:
    query, key = torch.randn(2, 8, dtype=torch.float64)
    queries, keys = rotary(query.expand(9, 8)), rotary(key.expand(9, 8))
    scores = queries @ keys.T  # (9, 9)
    assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert not torch.allclose(scores[0, 1:], scores[0, :1])
    assert_close(queries.norm(dim=-1), query.norm().expand(9))


def test_rotary_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    slow = torch.tensor(1 / 100.0, dtype=torch.float64)  # 10000 ** (-2 / 4)
    fast = torch.tensor(1.0, dtype=torch.float64)
    expected = torch.stack(
        [
            fast.cos() - 3 * fast.sin(),
            2 * slow.cos() - 4 * slow.sin(),
            fast.sin() + 3 * fast.cos(),
            2 * slow.sin() + 4 * slow.cos(),
        ]
    )
    assert_close(rotary(x)[1], expected)


def test_rotary_angles_stay_exact_in_bfloat16() -> None:
    x = torch.randn(1, 1000, 8)
    exact, rounded = rotary(x), rotary(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    # Angles counted in bfloat16 would be off by whole turns at step 999.
    assert_close(rounded[0, 999], exact[0, 999], BFLOAT16)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_layer_with_rotary_is_shift_equivariant(norm: str | None, causal: bool) -> None:
    layer = random_layer(norm=norm, causal=causal, rotate=True)
    x = torch.randn(2, 6, HIDDEN, dtype=torch.float64)
    junk = torch.randn(2, 4, HIDDEN, dtype=torch.float64)
    valid = torch.cat((torch.zeros(2, 4), torch.ones(2, 6)), dim=1).bool()
    later = layer(torch.cat((junk, x), dim=1), valid)[:, 4:]
    assert_close(later, layer(x))
    shuffled = x[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(layer(shuffled)[:, 5], layer(x)[:, 5])  # order is seen


def test_dropout_acts_in_training_only() -> None:
    layer = random_layer(dropout=0.5)
    x = torch.randn(2, 7, HIDDEN, dtype=torch.float64)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_acts_where_torch_has_it(norm: str) -> None:
    """One seed gives equal outputs only if equal tensors are dropped in the same order."""
    layer = random_layer(norm=norm, eps=1e-2, dropout=0.5).train()
    twin = torch_twin(layer, eps=1e-2, dropout=0.5)
    x = torch.randn(1, 7, HIDDEN, dtype=torch.float64)  # of more, torch's are laid out T before B
    outputs = []
    for module in (layer, twin):
        torch.manual_seed(1)
        outputs.append(module(x))
    assert_close(outputs[0], outputs[1].detach())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 1), {}, "hidden_size must be at least 1, got 0"),
        ((8, -2), {}, "num_heads must be at least 1, got -2"),
        ((8, 2, 0), {}, "feedforward_size must be at least 1, got 0"),
        ((8, 3), {}, "divisible by num_heads, got 8 and 3"),
        ((6, 2), {"rotate": True}, "even head size .* 6 / 2 = 3"),
        ((1, 1), {}, "norm over a single value is always 0, got hidden_size=1"),
        ((8, 2), {"norm": "output"}, "'pre', 'post' or None, got 'output'"),
        ((8, 2), {"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        ((8, 2), {"eps": float("nan")}, "eps must be positive and finite, got nan"),
        ((8, 2), {"dropout": 1.1}, r"dropout must be in \[0, 1\], got 1.1"),
    ],
)
def test_refuses(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerLayer(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, 1), {}, "hidden_size must be a whole number, got None"),
        ((8, 2, 2.5), {}, "feedforward_size must be a whole number, got 2.5"),
        ((8, 2), {"dropout": None}, "dropout must be a number, got None"),
        ((8, 2), {"causal": "no"}, "causal must be True or False, got 'no'"),
        ((8, 2), {"rotate": 1}, "rotate must be True or False, got 1"),
    ],
)
def test_refuses_types(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TransformerLayer(*arguments, **options)


def test_rotary_refuses_an_odd_size() -> None:
    with pytest.raises(ValueError, match="D must be even, got 5"):
        rotary(torch.zeros(2, 5))
