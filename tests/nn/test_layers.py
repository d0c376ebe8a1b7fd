"""What every layer promises with every norm: forms of input, dtypes, copies, compilation."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from norm_cases import LAYERS, randomized, run, states
from numerics import BFLOAT16, EXACT, FLOAT32, assert_close, assert_equal, cotangents
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lnrnn import CellNorm

NORMS = {"none": None, "output": "output", "cell": "cell", "rms": CellNorm(span="gate", kind="rms")}
LENGTHS = [3, 6, 1, 4]

every_cell = pytest.mark.parametrize("cell", list(LAYERS))
every_norm = pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
inner_norm = pytest.mark.parametrize("norm", list(NORMS.values())[2:], ids=list(NORMS)[2:])


def build(cell: str, norm: Any, **options: Any) -> Any:
    """Build a layer of three inputs and seven hidden units, in float64 unless said otherwise."""
    options = {"dtype": torch.float64, "num_layers": 2, "bidirectional": True, **options}
    return randomized(LAYERS[cell](3, 7, norm=norm, eps=1e-3, **options))


def batch(**options: Any) -> Tensor:
    """Return (T, B, I)."""
    return torch.randn(6, 4, 3, **{"dtype": torch.float64, **options})


@every_cell
@every_norm
def test_packed_sequences_equal_each_alone(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    state = states(layer, len(LENGTHS))
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    output, *final = run(layer, packed, state)
    padded, lengths = pad_packed_sequence(output)  # pyright: ignore[reportArgumentType]
    assert lengths.tolist() == LENGTHS
    for i, length in enumerate(LENGTHS):
        alone, *last = run(layer, x[:length, i], tuple(s[:, i] for s in state))
        assert_close(padded[:length, i], alone)
        for value, truth in zip(final, last, strict=True):
            assert_close(value[:, i], truth)


@every_cell
@every_norm
def test_what_lies_in_the_padding_changes_nothing(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    garbage = x.clone()
    for i, length in enumerate(LENGTHS):
        garbage[length:, i] = torch.nan
    results = []
    for padded in (x, garbage):
        padded.requires_grad_()
        packed = pack_padded_sequence(padded, torch.tensor(LENGTHS), enforce_sorted=False)
        output, *final = run(layer, packed)
        values = [output.data, *final]
        grads = torch.autograd.grad(values, [*layer.parameters(), padded], cotangents(values))
        results.append([*values, *grads])
    for value, truth in zip(*results, strict=True):
        assert_equal(value, truth)


@every_cell
@every_norm
def test_batch_first_is_a_transposition(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    output, *final = run(layer, x)
    layer.batch_first = True
    other, *last = run(layer, x.transpose(0, 1))
    assert_equal(other.transpose(0, 1), output)
    for value, truth in zip(last, final, strict=True):
        assert_equal(value, truth)


@every_cell
@every_norm
def test_a_missing_state_is_zeros(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    zeros = tuple(torch.zeros_like(s) for s in states(layer, 4))
    for value, truth in zip(run(layer, x), run(layer, x, zeros), strict=True):
        assert_equal(value, truth)


@every_cell
@every_norm
def test_a_state_carries_a_sequence_on(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, bidirectional=False), batch()
    whole, *final = run(layer, x)
    first, *state = run(layer, x[:2])
    second, *last = run(layer, x[2:], tuple(state))
    assert_close(torch.cat([first, second]), whole)
    for value, truth in zip(last, final, strict=True):
        assert_close(value, truth)


@every_cell
@inner_norm
def test_final_states_are_outputs(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    output, h_n, *_ = run(layer, x)
    assert_equal(h_n[2], output[-1, :, :7])
    assert_equal(h_n[3], output[0, :, 7:])


@every_cell
def test_output_norm_leaves_the_state_raw(cell: str) -> None:
    layer, x = build(cell, "output", num_layers=1), batch()
    plain = build(cell, None, num_layers=1)
    plain.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if "_out_" not in name}
    )
    for value, truth in zip(run(layer, x)[1:], run(plain, x)[1:], strict=True):
        assert_equal(value, truth)


@every_cell
@every_norm
def test_dropout_acts_between_layers_and_in_training_only(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, dropout=0.5), batch()
    plain = build(cell, norm)
    plain.load_state_dict(layer.state_dict())
    assert_equal(run(layer.eval(), x)[0], run(plain, x)[0])
    layer.train()
    torch.manual_seed(1)
    first = run(layer, x)
    torch.manual_seed(1)
    assert_equal(run(layer, x)[0], first[0])
    assert not torch.equal(run(layer, x)[0], first[0])
    assert_equal(first[1][:2], run(plain, x)[1][:2], "the first layer's state")


@every_cell
@inner_norm
def test_dropout_of_everything_leaves_a_layer_without_input(cell: str, norm: Any) -> None:
    """The second layer then sees zeros: its output is the same whatever comes in."""
    layer = build(cell, norm, dropout=1.0)
    assert_equal(run(layer, batch())[0], run(layer, batch())[0])


@every_cell
@every_norm
def test_copies_and_pickles_compute_the_same(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    pickled = pickle.loads(pickle.dumps(layer))
    for other in (copy.deepcopy(layer), pickled, torch.load(stream, weights_only=False)):
        for value, truth in zip(run(other, x), run(layer, x), strict=True):
            assert_equal(value, truth)
        assert other.norm == layer.norm
        assert repr(other) == repr(layer)
        next(other.parameters()).data.zero_()
        assert not torch.equal(run(other, x)[0], run(layer, x)[0])


@every_cell
@inner_norm
def test_autocast_keeps_the_norm_in_float32(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, dtype=torch.float32), batch(dtype=torch.float32)
    truth = run(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        values = run(layer, x)
        again = run(
            layer, values[0][..., :3], tuple(values[1:])
        )  # bfloat16 in, states as they came
    assert [v.dtype for v in values] == [torch.bfloat16] * 2 + [torch.float32] * (cell == "lstm")
    assert [v.dtype for v in again] == [v.dtype for v in values]
    for value, expected in zip(values, truth, strict=True):
        assert_close(value, expected, BFLOAT16)
    grads = torch.autograd.grad(values, list(layer.parameters()), cotangents(values))
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


@every_cell
def test_autocast_norms_small_values_in_float32(cell: str) -> None:
    """Pre-activations around 1e-4: their variance, 1e-8, needs the eps of 1e-10 exactly."""
    layer = LAYERS[cell](3, 7, norm="cell", eps=1e-10)
    with torch.no_grad():
        layer.weight_ih_l0.mul_(1e-4)
        layer.weight_hh_l0.mul_(1e-4)
        layer.bias_ih_l0.mul_(1e-4)
    x = torch.randn(4, 2, 3)
    truth = run(layer, x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(run(layer, x)[0], truth, BFLOAT16)


@every_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("norm", [None, "output"])
def test_autocast_without_an_inner_norm_is_torch(cell: str, norm: Any, dtype: torch.dtype) -> None:
    """On CPUs too for which oneDNN has no LSTM in autocast's dtype, where torch's own fails."""
    layer, x = build(cell, norm, dtype=torch.float32), batch(dtype=torch.float32)
    truth = run(layer, x)
    with torch.autocast("cpu", dtype):
        values = run(layer, x)
        again = run(layer, values[0][..., :3], tuple(values[1:]))  # as they came
        narrow = run(copy.deepcopy(layer).to(dtype), x.to(dtype))
    for value, expected in zip(values, truth, strict=True):
        assert_close(value, expected, BFLOAT16)
    for value, expected in zip(narrow, truth, strict=True):
        assert_close(value, expected, 2 * BFLOAT16)
    assert [v.dtype for v in again] == [v.dtype for v in values]
    if cell == "lstm" and norm is None:
        assert {v.dtype for v in values} == {dtype}
    grads = torch.autograd.grad(values, list(layer.parameters()), cotangents(values))
    assert all(grad.isfinite().all() for grad in grads)


@every_cell
@every_norm
def test_smaller_dtypes(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    truth = run(layer, x)
    for dtype, tolerance in ((torch.float32, FLOAT32), (torch.bfloat16, 2 * BFLOAT16)):
        values = run(copy.deepcopy(layer).to(dtype), x.to(dtype))
        assert values[0].dtype == values[1].dtype == dtype
        for value, expected in zip(values, truth, strict=True):
            assert_close(value, expected, tolerance)


@every_cell
@inner_norm
def test_bfloat16_carries_its_cell_state_in_float32(cell: str, norm: Any) -> None:
    """Within a call, and between two where the first is given one in float32."""
    layer = build(cell, norm, dtype=torch.bfloat16, bidirectional=False)
    x = torch.randn(8, 4, 3, dtype=torch.bfloat16)
    zeros = [torch.zeros_like(s) for s in states(layer, 4)]
    begin = (*zeros[:1], *(s.float() for s in zeros[1:]))
    whole = run(layer, x, begin)
    first, *state = run(layer, x[:4], begin)
    second, *last = run(layer, x[4:], tuple(state))
    assert [s.dtype for s in last] == [torch.bfloat16] + [torch.float32] * (cell == "lstm")
    assert_equal(torch.cat([first, second]), whole[0])
    for value, truth in zip(last, whole[1:], strict=True):
        assert_equal(value, truth)
    output, *narrow = run(layer, x)
    assert_equal(output, whole[0])
    assert {s.dtype for s in narrow} == {torch.bfloat16}


@every_cell
@every_norm
def test_frozen_weights_and_input_without_gradient(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    output = run(layer, x)[0]
    (cotangent,) = cotangents([output])
    truth = torch.autograd.grad(output, [x, *layer.parameters()], cotangent)
    expected = dict(zip(["x", *names], truth, strict=True))

    layer.requires_grad_(False)
    (grad,) = torch.autograd.grad(run(layer, x)[0], x, cotangent)
    assert_close(grad, expected["x"])
    x.requires_grad_(False)
    assert not run(layer, x)[0].requires_grad
    for name in names:
        layer.get_parameter(name).requires_grad_(True)
        (grad,) = torch.autograd.grad(run(layer, x)[0], layer.get_parameter(name), cotangent)
        assert_close(grad, expected[name], name=name)
        layer.get_parameter(name).requires_grad_(False)


@every_cell
@every_norm
def test_one_step_one_sequence_and_no_sequence(cell: str, norm: Any) -> None:
    layer = build(cell, norm)
    assert run(layer, batch()[:1, :1])[0].shape == (1, 1, 14)
    assert run(layer, batch()[:, :0])[0].shape == (6, 0, 14)


@every_cell
@every_norm
def test_functional_call_uses_the_parameters_it_is_given(cell: str, norm: Any) -> None:
    layer, other, x = build(cell, norm), build(cell, norm), batch()
    output, _ = torch.func.functional_call(layer, dict(other.named_parameters()), x)
    assert_equal(output, run(other, x)[0])


@every_cell
@every_norm
def test_double_backward(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, num_layers=1, bidirectional=False), batch().requires_grad_()
    output = run(layer, x)[0]
    (grad,) = torch.autograd.grad(output, x, cotangents([output])[0], create_graph=True)
    second = torch.autograd.grad(grad, layer.weight_hh_l0, cotangents([grad])[0])[0]
    assert second.isfinite().all()
    assert second.abs().max() > 0


@every_cell
@pytest.mark.parametrize("norm", [None, "output", "cell"])
def test_compiles_without_a_break(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()[:2]
    state = states(layer, 4)
    hx = state[0] if len(state) == 1 else state
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(x, hx)[0], run(layer, x, state)[0])


@every_cell
@every_norm
def test_reset_parameters_draws_again_from_the_seed(cell: str, norm: Any) -> None:
    torch.manual_seed(5)
    truth = LAYERS[cell](3, 7, 2, norm=norm)
    layer = randomized(LAYERS[cell](3, 7, 2, norm=norm))
    torch.manual_seed(5)
    layer.reset_parameters()
    for name, parameter in truth.named_parameters():
        assert_equal(layer.get_parameter(name), parameter, name)


@every_cell
def test_gain_init_and_no_draw_for_it(cell: str) -> None:
    torch.manual_seed(5)
    plain = LAYERS[cell](3, 7, norm=None)
    torch.manual_seed(5)
    layer = LAYERS[cell](3, 7, norm=CellNorm(gain_init=0.1))
    for name, parameter in layer.named_parameters():
        if name.startswith("gain"):
            assert_equal(parameter, torch.full_like(parameter, 0.1))
        elif not name.startswith("shift"):
            assert_equal(parameter, plain.get_parameter(name))


@every_cell
@every_norm
def test_device_and_dtype_of_every_parameter(cell: str, norm: Any) -> None:
    layer = LAYERS[cell](3, 7, norm=norm, device="meta", dtype=torch.float16)
    assert all(p.is_meta and p.dtype == torch.float16 for p in layer.parameters())
    assert {p.dtype for p in layer.to(torch.float64).parameters()} == {torch.float64}


@every_cell
def test_the_fused_argument(cell: str) -> None:
    x = batch()
    for norm in (None, "output"):
        run(build(cell, norm, fused=True), x)  # torch's own recurrence: nothing to choose
    run(build(cell, "cell", fused=True), x)
    with pytest.raises(NotImplementedError, match="fused=None or fused=False"):
        run(build(cell, "cell", fused=True).to("meta"), x.to("meta"))
    layer = build(cell, "cell", fused=False)
    truth = run(layer, x)[0]
    layer.fused = None
    assert_close(run(layer, x)[0], truth, EXACT)


def test_repr_shows_the_norm() -> None:
    assert repr(LAYERS["lstm"](3, 7, 2, proj_size=5, norm="cell", eps=1e-4)) == (
        "LSTM(3, 7, proj_size=5, num_layers=2, norm='cell', eps=0.0001)"
    )
    assert repr(LAYERS["rnn"](3, 7, bias=False, nonlinearity="relu")) == (
        "RNN(3, 7, bias=False, nonlinearity=relu)"
    )
    assert "norm=CellNorm(inputs='paper', span='gate'" in repr(
        LAYERS["gru"](3, 7, norm=CellNorm(span="gate"))
    )


@every_cell
def test_torch_positional_arguments_mean_the_same(cell: str) -> None:
    layer = LAYERS[cell](3, 7, 2, *(["relu"] if cell == "rnn" else []), False, True, 0.1, True)
    assert (layer.num_layers, layer.bias, layer.batch_first) == (2, False, True)
    assert (layer.dropout, layer.bidirectional) == (0.1, True)


@pytest.mark.parametrize("norm", [None, "output"])
@pytest.mark.parametrize("option", ["zoneout", "recurrent_dropout"])
def test_under_autocast_states_have_the_plain_layers_dtypes(norm: Any, option: str) -> None:
    single = {"dtype": torch.float32, "bidirectional": False}
    layer, plain = build("lstm", norm, **{option: 0.5}, **single), build("lstm", norm, **single)
    x = torch.randn(4, 2, 3)
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            _, found = layer.train(training)(x)
            _, usual = plain.train(training)(x)
        assert [s.dtype for s in found] == [s.dtype for s in usual]
