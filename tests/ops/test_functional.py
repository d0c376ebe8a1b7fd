"""What the ops accept, what they promise whatever the variant, and how they choose who computes."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from numerics import INVARIANT, assert_close, assert_equal

from lnrnn.ops import ln_gru, ln_lstm, ln_rnn, project_input
from lnrnn.ops.gates import GATES

HIDDEN = 5
VECTORS = ("bias_ih", "gain_ih", "shift_ih")
OPS = {"rnn": ln_rnn, "lstm": ln_lstm, "gru": ln_gru}
LENGTHS = [6, 4, 4, 1]
BATCH_SIZES = torch.tensor([4, 3, 3, 3, 1, 1])


def tensors(cell: str, steps: int = 6, batch: int = 4) -> dict[str, Any]:
    """Return the arguments of an op by name, in float64."""
    width = len(GATES[cell]) * HIDDEN
    shapes = {"x": (steps, batch, width), "h_0": (batch, HIDDEN)}
    shapes |= {"c_0": (batch, HIDDEN)} if cell == "lstm" else {}
    shapes |= {"weight_hh": (width, HIDDEN), "gain": (width,), "bias_hh": (width,)}
    shapes |= {"gain_c": (HIDDEN,), "shift_c": (HIDDEN,)} if cell == "lstm" else {}
    return {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}


def rows(args: dict[str, Any], index: Any) -> dict[str, Any]:
    """Return the arguments with some of the sequences, in the order of ``index``."""
    states = {name: args[name][index] for name in ("h_0", "c_0") if name in args}
    return {**args, "x": args["x"][:, index], **states}


every_cell = pytest.mark.parametrize("cell", list(OPS))
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@every_cell
@both_ways
def test_packed_sequences_equal_each_alone(cell: str, reverse: bool) -> None:
    args = tensors(cell)
    packed = torch.cat([x_t[:n] for x_t, n in zip(args["x"], BATCH_SIZES.tolist(), strict=True)])
    output, *final = OPS[cell](**{**args, "x": packed}, batch_sizes=BATCH_SIZES, reverse=reverse)
    steps = output.split(BATCH_SIZES.tolist())
    for i, length in enumerate(LENGTHS):
        one = rows(args, [i])
        alone, *last = OPS[cell](**{**one, "x": one["x"][:length]}, reverse=reverse)
        assert_close(torch.stack([step[i] for step in steps[:length]]), alone[:, 0])
        for value, truth in zip(final, last, strict=True):
            assert_close(value[i], truth[0])


@every_cell
def test_full_length_packed_equals_padded(cell: str) -> None:
    args = tensors(cell)
    truth = OPS[cell](**args)
    sizes = torch.tensor([4] * 6)
    value = OPS[cell](**{**args, "x": args["x"].flatten(0, 1)}, batch_sizes=sizes)
    assert_equal(value[0], truth[0].flatten(0, 1))
    assert_equal(value[1], truth[1])


@every_cell
def test_reverse_is_forward_over_the_sequence_from_its_end(cell: str) -> None:
    args = tensors(cell)
    value = OPS[cell](**args, reverse=True)
    truth = OPS[cell](**{**args, "x": args["x"].flip(0)})
    assert_equal(value[0], truth[0].flip(0))
    assert_equal(value[1], truth[1])


@every_cell
@both_ways
def test_no_output_sees_its_future(cell: str, reverse: bool) -> None:
    args = tensors(cell)
    output = OPS[cell](**args, reverse=reverse)[0]
    changed = args["x"].clone()
    changed[3] = torch.randn_like(changed[3])  # a joint norm would not see a constant
    other = OPS[cell](**{**args, "x": changed}, reverse=reverse)[0]
    past, future = (slice(4, None), slice(0, 4)) if reverse else (slice(0, 3), slice(3, None))
    assert_equal(other[past], output[past])
    assert (other[future] != output[future]).any(dim=-1).all()


@every_cell
def test_sequences_do_not_see_one_another(cell: str) -> None:
    args = tensors(cell)
    order = [2, 0, 3, 1]
    for value, truth in zip(OPS[cell](**rows(args, order)), OPS[cell](**args), strict=True):
        assert_close(value, truth[..., order, :])


@every_cell
@pytest.mark.parametrize("middle", [4, 2])
def test_two_parts_equal_the_whole(cell: str, middle: int) -> None:
    """Bit for bit, but for parts of few steps, where a product may add up in another order."""
    args = tensors(cell, steps=8)
    whole, *final = OPS[cell](**args)
    first, *state = OPS[cell](**{**args, "x": args["x"][:middle]})
    states = dict(zip(("h_0", "c_0"), state, strict=False))
    second, *last = OPS[cell](**{**args, **states, "x": args["x"][middle:]})
    check = assert_equal if middle == 4 else assert_close
    check(torch.cat([first, second]), whole)
    for value, truth in zip(last, final, strict=True):
        check(value, truth)


@pytest.mark.parametrize("op", [ln_rnn, ln_lstm])
def test_joint_norm_divides_scales_and_subtracts_means_out(op: Callable[..., Any]) -> None:
    args = tensors("rnn" if op is ln_rnn else "lstm")
    truth = op(**args, joint=True, eps=1e-20)
    scaled = {**args, "x": 10 * args["x"] + 3, "weight_hh": 10 * args["weight_hh"] + 2}
    for value, expected in zip(op(**scaled, joint=True, eps=1e-20), truth, strict=True):
        assert_close(value, expected, INVARIANT)


def test_separate_norm_divides_the_recurrent_scale_out() -> None:
    args = tensors("gru")
    truth, _ = ln_gru(**args, eps=1e-20)
    value, _ = ln_gru(**{**args, "weight_hh": 10 * args["weight_hh"] + 2}, eps=1e-20)
    assert_close(value, truth, INVARIANT)


def test_rms_divides_scales_out_and_keeps_means() -> None:
    args = tensors("rnn")
    truth, _ = ln_rnn(**args, kind="rms", eps=1e-20)
    scaled = {**args, "x": 10 * args["x"], "weight_hh": 10 * args["weight_hh"]}
    assert_close(ln_rnn(**scaled, kind="rms", eps=1e-20)[0], truth, INVARIANT)
    assert not torch.allclose(ln_rnn(**{**args, "x": args["x"] + 3}, kind="rms")[0], truth)


def test_a_row_of_zeros_has_the_gradient_that_eps_gives_it() -> None:
    """Where the variance is 0, N(v) = v / sqrt(eps), less the mean: finite, and no smaller."""
    v = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    eye, ones = torch.eye(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    value = project_input(v, eye, None, ones, gates=1, eps=1e-4)
    (grad,) = torch.autograd.grad(value[0, 0], v)
    assert_close(grad, 100 * torch.tensor([[0.75, -0.25, -0.25, -0.25]], dtype=torch.float64))


def test_the_input_side_without_a_gain_is_a_projection() -> None:
    x, weight, bias = torch.randn(4, 2, 3), torch.randn(5, 3), torch.randn(5)
    projected = torch.nn.functional.linear(x, weight, bias)
    assert_equal(project_input(x, weight, bias, gates=1), projected)


@every_cell
def test_fused_none_takes_the_kernel_and_false_the_reference(cell: str) -> None:
    args = tensors(cell)
    values = OPS[cell](**args)
    for value, kernel in zip(values, OPS[cell](**args, fused=True), strict=True):
        assert_equal(value, kernel)
    for value, truth in zip(values, OPS[cell](**args, fused=False), strict=True):
        assert_close(value, truth)


@every_cell
def test_fused_true_raises_where_there_is_no_kernel(cell: str) -> None:
    args = tensors(cell)
    mixed = {**args, "gain": args["gain"].float()}
    narrow = {name: value.float() for name, value in args.items()} | {"x": args["x"].bfloat16()}
    meta = {name: value.to("meta") for name, value in args.items()}
    for wrong, why in [
        (mixed, "in torch.float32, torch.float64"),
        (narrow, "of one dtype outside of autocast"),
        (meta, "tensors are on meta"),
    ]:
        with pytest.raises(NotImplementedError, match=f"ln_{cell} has none: .*{why}.*fused=None"):
            OPS[cell](**wrong, fused=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert OPS[cell](**narrow, fused=True)[0].dtype == torch.bfloat16


def bad_arguments(cell: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Return changes of an op's arguments that it must refuse, and what the error says."""
    g = len(GATES[cell]) * HIDDEN
    bad: dict[str, tuple[dict[str, Any], str]] = {
        "no time step": ({"x": torch.randn(0, 4, g)}, f"one time step, got (0, 4, {g})"),
        "two dimensions": ({"x": torch.randn(4, g)}, "x must be (T, B, G), or (N, G) together"),
        "gates": ({"x": torch.randn(6, 4, g + 1)}, f"weight_hh's {g} gate entries"),
        "batch": ({"h_0": torch.randn(3, 5)}, "one row for each of 4 sequences, got (3, 5)"),
        "hidden": ({"h_0": torch.randn(4, 6)}, "h_0 needs weight_hh's 5 features"),
        "weight": ({"weight_hh": torch.randn(g + 1, 5)}, f"* H, H), got ({g + 1}, 5)"),
        "gain": ({"gain": torch.ones(1)}, f"gain must be ({g},), got (1,)"),
        "bias": ({"bias_hh": torch.ones(1)}, f"bias_hh must be ({g},), got (1,)"),
        "zero eps": ({"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        "endless eps": ({"eps": float("inf")}, "eps must be positive and finite, got inf"),
        "kind": ({"kind": "batch"}, "kind must be one of ('layer', 'rms'), got 'batch'"),
    }
    if cell == "rnn":
        bad["nonlinearity"] = {"nonlinearity": "gelu"}, "nonlinearity must be one of ('tanh', 're"
    else:
        bad["span"] = {"span": "row"}, "span must be one of ('paper', 'all', 'gate'), got 'row'"
    return bad


BAD_LSTM: dict[str, tuple[dict[str, Any], str]] = {
    "cell state": ({"c_0": torch.randn(4, 6)}, "c_0 must be (4, 5), got (4, 6)"),
    "cell gain": ({"gain_c": torch.ones(20)}, "gain_c must be (5,), got (20,)"),
    "cell shift": ({"shift_c": torch.ones(20)}, "shift_c must be (5,), got (20,)"),
    "no cell gain": ({"gain_c": None}, "got cell='output' and no gain_c"),
    "idle cell gain": ({"cell": None}, "got cell=None and a gain_c"),
    "projection": ({"weight_hr": torch.ones(5, 4)}, "weight_hr must be (5, 5)"),
    "cell": ({"cell": "input"}, "one of ('output', 'state', 'carried', None), got 'input'"),
}
BAD = {
    f"{cell}-{name}": (cell, change, message)
    for cell in OPS
    for name, (change, message) in {
        **bad_arguments(cell),
        **(BAD_LSTM if cell == "lstm" else {}),
    }.items()
}


@pytest.mark.parametrize(("cell", "change", "message"), list(BAD.values()), ids=list(BAD))
def test_bad_arguments(cell: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        OPS[cell](**{**tensors(cell), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_ih": None}, "bias_ih, gain_ih, shift_ih belongs to a projection of x"),
        (
            {"weight_ih": torch.randn(6, 3), **{n: torch.randn(6) for n in VECTORS}},
            "weight_ih needs weight_hh's 5 rows, got (6, 3)",
        ),
        ({"weight_ih": torch.randn(5, 2)}, "weight_ih's 2 features on its last axis"),
        ({"gain_ih": None}, "shift_ih follows the norm of the input side"),
        ({"joint": True}, "a joint norm covers the input side"),
    ],
)
def test_bad_input_of_a_recurrence(change: dict[str, Any], message: str) -> None:
    inputs = {"x": torch.randn(6, 4, 3), "weight_ih": torch.randn(5, 3)}
    vectors = {name: torch.randn(5) for name in VECTORS}
    args: dict[str, Any] = {**tensors("rnn"), **inputs, **vectors, "joint": False, **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        ln_rnn(**args)


@every_cell
def test_eps_is_a_number(cell: str) -> None:
    for eps in ("1e-5", None, True):
        with pytest.raises(TypeError, match=f"eps must be a number, got {eps!r}"):
            OPS[cell](**tensors(cell), eps=eps)


def test_bad_projected_weight() -> None:
    args = {**tensors("lstm"), "weight_hh": torch.randn(20, 3), "h_0": torch.randn(4, 3)}
    with pytest.raises(ValueError, match="unless weight_hr projects"):
        ln_lstm(**args)


@every_cell
@pytest.mark.parametrize(
    ("sizes", "message"),
    [([4, 3], "the sum of batch_sizes"), ([1, 9, 14], "never grow"), ([12, 12, 0], "positive")],
)
def test_bad_batch_sizes(cell: str, sizes: list[int], message: str) -> None:
    args = tensors(cell)
    packed = {**args, "x": args["x"].flatten(0, 1)}
    with pytest.raises(ValueError, match=message):
        OPS[cell](**packed, batch_sizes=torch.tensor(sizes))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (4, 2)}, "weight_ih's 3 features on its last axis, got (4, 2)"),
        ({"weight_ih": (16, 3)}, "a multiple of 3 rows, got (16, 3)"),
        ({"bias_ih": (5,)}, "bias_ih must be (15,), got (5,)"),
        ({"shift_ih": (5,)}, "shift_ih must be (15,), got (5,)"),
    ],
)
def test_bad_input_side(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    good = {"x": (4, 3), "weight_ih": (15, 3), "bias_ih": (15,), "gain_ih": (15,)}
    args: dict[str, Any] = {name: torch.randn(s) for name, s in {**good, **shapes}.items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        project_input(**args, gates=3)
