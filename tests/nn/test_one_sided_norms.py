"""Norms on one side or on the cell state alone, carried unseen, and clipping: the equations."""

import dataclasses
from typing import Any

import pytest
import torch
from norm_cases import (
    CELLS,
    HIDDEN_SIZE,
    INPUT_SIZE,
    RECURRENT,
    REFERENCE_ONLY,
    UNNORMED,
    Case,
    run,
    states,
)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from twin_layers import assert_equals_twin

import lnrnn
from lnrnn import CellNorm, ops

CASES = [*RECURRENT, *UNNORMED, *REFERENCE_ONLY]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
lacking = pytest.mark.parametrize("case", REFERENCE_ONLY, ids=str)


def inputs(steps: int = 5, batch: int = 2) -> torch.Tensor:
    return torch.randn(steps, batch, INPUT_SIZE, dtype=torch.float64)


@every_case
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "both-ways"])
def test_layers_equal_the_twin(case: Case, bidirectional: bool) -> None:
    layer = case.layer(num_layers=2, bidirectional=bidirectional)
    assert_equals_twin(case, layer, inputs(), states(layer, 2))


@every_case
def test_it_is_another_function_than_the_defaults(case: Case) -> None:
    """Of the same parameters, gates that have a norm or not, and cell states, come out apart."""
    layer, x = case.layer(), inputs()
    usual = Case(case.cell, CellNorm(), case.bias, case.proj_size).layer()
    usual.load_state_dict(layer.state_dict(), strict=False)
    for name in set(usual.state_dict()) - set(layer.state_dict()):
        torch.nn.init.constant_(usual.get_parameter(name), float("gain" in name))
    assert (layer(x)[0] - usual(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("case", [*UNNORMED, *REFERENCE_ONLY], ids=str)
def test_gradients_and_their_gradients(case: Case) -> None:
    layer = case.layer(eps=1e-2)
    names = [name for name, _ in layer.named_parameters()]
    x = inputs(2).requires_grad_()
    state = tuple(s.requires_grad_() for s in states(layer, 2))

    def call(*tensors: torch.Tensor) -> Any:
        x, rest = tensors[0], tensors[1:]
        hx = rest[: len(state)]
        parameters = dict(zip(names, rest[len(state) :], strict=True))
        args = (x, hx[0] if len(hx) == 1 else hx)
        output, final = torch.func.functional_call(layer, parameters, args)
        return output, *(final if isinstance(final, tuple) else (final,))

    tensors = (x, *state, *layer.parameters())
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@every_case
def test_packed_sequences_equal_each_alone(case: Case) -> None:
    layer = case.layer(bidirectional=True)
    x, lengths = inputs(5, 3), [2, 5, 3]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, _ = pad_packed_sequence(layer(packed)[0])
    for row, length in enumerate(lengths):
        alone, *_ = run(layer, x[:length, row])
        torch.testing.assert_close(output[:length, row], alone, rtol=0, atol=1e-14)


@every_case
def test_resets_equal_the_pieces_apart(case: Case) -> None:
    layer, x = case.layer(), inputs(6, 1)
    mask = torch.zeros(6, 1, dtype=torch.bool)
    mask[2] = True
    pieces = torch.cat([layer(x[:2])[0], layer(x[2:])[0]])
    torch.testing.assert_close(layer(x, resets=mask)[0], pieces, rtol=0, atol=1e-12)


@every_case
def test_a_cell_computes_what_a_layer_does(case: Case) -> None:
    case = dataclasses.replace(case, proj_size=0)
    layer = case.layer()
    cell = CELLS[case.cell](
        INPUT_SIZE, HIDDEN_SIZE, dtype=torch.float64, eps=layer.eps, **_of_cell(case)
    )
    cell.load_state_dict({n.removesuffix("_l0"): v for n, v in layer.state_dict().items()})
    x = inputs(1)
    after = cell(x[0])
    after = after[0] if isinstance(after, tuple) else after
    torch.testing.assert_close(after, layer(x)[0][0], rtol=0, atol=1e-15)


def _of_cell(case: Case) -> dict[str, Any]:
    return {key: value for key, value in case.options().items() if key != "proj_size"}


@lacking
def test_a_kernel_that_is_insisted_on_is_refused(
    case: Case, recwarn: pytest.WarningsRecorder
) -> None:
    x = torch.randn(4, 2, INPUT_SIZE)
    for fused in (None, False):
        case.layer(torch.float32, fused=fused)(x)
    assert not recwarn.list
    layer = case.layer(torch.float32, fused=True)
    with pytest.raises(NotImplementedError, match="is computed by the reference alone") as error:
        layer(x)
    assert "fused=None or fused=False runs the reference" in str(error.value)


@pytest.mark.parametrize("case", [*RECURRENT, *UNNORMED], ids=str)
def test_kernels_compute_norms_of_one_side(case: Case) -> None:
    x = torch.randn(4, 2, INPUT_SIZE)
    layer = case.layer(torch.float32, fused=True)
    slow = case.layer(torch.float32, fused=False)
    slow.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x)[0], slow(x)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [UNNORMED[1], UNNORMED[5], REFERENCE_ONLY[2]], ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_tools_that_record_a_call(case: Case) -> None:
    """What torch.compile may interrupt runs as it is; a trace and an export write the steps out."""
    layer, x = case.layer().eval().requires_grad_(False), inputs(4)
    truth = layer(x)[0]
    compiled = torch.compile(layer, backend="eager")
    torch.testing.assert_close(compiled(x)[0], truth, rtol=0, atol=1e-14)
    traced: Any = torch.jit.trace(layer, (x,))
    torch.testing.assert_close(traced(x)[0], truth, rtol=0, atol=1e-14)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x)[0], truth, rtol=0, atol=1e-14)


def test_parameters_of_each_side() -> None:
    def of(layer: Any) -> list[str]:
        return [n.removesuffix("_l0") for n, _ in layer.named_parameters()][4:]

    for cls in (lnrnn.RNN, lnrnn.LSTM, lnrnn.GRU):
        of_cell = ["gain_c", "shift_c"] if cls is lnrnn.LSTM else []
        input_side, state_side = CellNorm(inputs="input"), CellNorm(inputs="recurrent")
        assert of(cls(3, 7, norm=input_side)) == ["gain_ih", "shift_ih", *of_cell]
        assert of(cls(3, 7, norm=state_side)) == ["gain_hh", *of_cell]
    assert of(lnrnn.LSTM(3, 7, norm=CellNorm(inputs=None))) == ["gain_c", "shift_c"]
    assert of(lnrnn.LSTM(3, 7, norm=CellNorm("joint", cell="carried"))) == [
        *("gain", "gain_c", "shift_c")
    ]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="normalizes nothing; for a layer without a norm take"):
        CellNorm(inputs=None, cell=None)
    for clip in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"cell_clip must be positive and finite, got {clip}"):
            CellNorm(cell_clip=clip)
    with pytest.raises(TypeError, match="cell_clip must be a number"):
        CellNorm(cell_clip="10")  # pyright: ignore[reportArgumentType]
    for cls in (lnrnn.RNN, lnrnn.GRU, lnrnn.GRUCell):
        for norm, message in (
            (CellNorm(cell="carried"), 'leave out cell="carried"'),
            (CellNorm(cell_clip=1.0), "a cell state to clip"),
            (CellNorm(inputs=None), r"which CellNorm\(inputs=None\) normalizes alone"),
        ):
            with pytest.raises(ValueError, match=message):
                cls(3, 7, norm=norm)


def test_too_little_to_normalize_is_asked_of_the_side_that_has_a_norm() -> None:
    with pytest.raises(ValueError, match="a one-feature input's projection"):
        lnrnn.GRU(1, 7, bias=False, norm=CellNorm(inputs="input"))
    lnrnn.GRU(1, 7, bias=False, norm=CellNorm(inputs="recurrent"))
    recurrent = CellNorm(inputs="recurrent", cell=None)
    with pytest.raises(ValueError, match="a one-feature hidden state's projection"):
        lnrnn.LSTM(3, 7, proj_size=1, norm=recurrent)
    lnrnn.LSTM(3, 7, proj_size=1, norm=CellNorm(inputs="input", cell=None))
    with pytest.raises(ValueError, match="hidden_size=1 gives"):
        lnrnn.LSTM(3, 1, norm=CellNorm(inputs=None))


def test_the_op_wants_what_its_norms_need() -> None:
    x, h_0, weight = torch.randn(4, 2, 28), torch.zeros(2, 7), torch.randn(28, 7)
    with pytest.raises(ValueError, match="a joint norm needs its gain, and gain is None"):
        ops.ln_lstm(x, h_0, h_0, weight, None, joint=True, cell=None)
    with pytest.raises(ValueError, match="cell_clip must be positive and finite, got 0"):
        ops.ln_lstm(x, h_0, h_0, weight, None, cell=None, cell_clip=0)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_ops_without_any_norm_compute_what_torch_does(cell: str) -> None:
    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    layer = layer(3, 7, dtype=torch.float64)
    x, zero = inputs(), torch.zeros(2, 7, dtype=torch.float64)
    w_ih, w_hh, b_ih, b_hh = (p.detach() for p in layer.parameters())
    state = (zero, zero) if cell == "lstm" else (zero,)
    options: dict[str, Any] = {"lstm": {"cell": None}, "rnn": {"joint": False}}.get(cell, {})
    op: Any = getattr(ops, f"ln_{cell}")
    output = op(x, *state, w_hh, None, b_hh, weight_ih=w_ih, bias_ih=b_ih, **options)[0]
    torch.testing.assert_close(output, layer(x)[0], rtol=0, atol=1e-14)
