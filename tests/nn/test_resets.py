"""Resets and lengths of whole layers, with every norm and every form of input."""

import copy
from typing import Any

import pytest
import torch
from norm_cases import LAYERS, randomized, run, states
from numerics import BFLOAT16, assert_close, assert_equal, cotangents
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lnrnn import CellNorm

NORMS = {"none": None, "output": "output", "cell": "cell", "rms": CellNorm(span="gate", kind="rms")}
STEPS, BATCH = 6, 4
LENGTHS = [3, 6, 1, 4]

every_cell = pytest.mark.parametrize("cell", list(LAYERS))
every_norm = pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
inner_norm = pytest.mark.parametrize("norm", list(NORMS.values())[2:], ids=list(NORMS)[2:])


def build(cell: str, norm: Any, **options: Any) -> Any:
    options = {"dtype": torch.float64, "num_layers": 2, "bidirectional": True, **options}
    return randomized(LAYERS[cell](3, 7, norm=norm, eps=1e-3, **options))


def batch(**options: Any) -> Tensor:
    return torch.randn(STEPS, BATCH, 3, **{"dtype": torch.float64, **options})


def mask() -> Tensor:
    """Return (T, B): none, at the first step, twice in a row, and at the last step."""
    resets = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    resets[0, 1] = resets[3, 1] = resets[2, 2] = resets[3, 2] = resets[5, 3] = resets[1, 3] = True
    return resets


def by_pieces(
    layer: Any, x: Tensor, resets: Tensor, state: Any, after: Any, lengths: list[int]
) -> list[Tensor]:
    """Run each piece of each sequence alone; return output, zeros beyond lengths, and states."""
    ways = 2 if layer.bidirectional else 1
    columns, finals = [], []
    for b, length in enumerate(lengths):
        starts = [t for t in range(length) if t == 0 or resets[t, b]]
        bounds = list(zip(starts, [*starts[1:], length], strict=True))
        outputs, final = [], [s[:, b].clone() for s in state]
        for low, high in bounds:
            begin = [r[:, b].clone() for r in after]
            for s, whole in zip(begin, state, strict=True):
                if low == 0 and not resets[0, b]:
                    s[::ways] = whole[::ways, b]
                if high == length and ways == 2:
                    s[1::2] = whole[1::2, b]
            output, *last = run(layer, x[low:high, b], tuple(begin))
            outputs.append(output)
            for s, found in zip(last, final, strict=True):
                if high == length:
                    found[::ways] = s[::ways]
                if low == 0 and ways == 2:
                    found[1::2] = s[1::2]
        padding = outputs[0].new_zeros(len(x) - length, outputs[0].shape[-1])
        columns.append(torch.cat([*outputs, padding]))
        finals.append(final)
    return [torch.stack(columns, 1), *(torch.stack(s, 1) for s in zip(*finals, strict=True))]


def called(layer: Any, x: Any, state: Any, after: Any = None, **more: Any) -> list[Tensor]:
    """Run a layer with resets; return the output, padded, and the final states."""
    hx = state[0] if len(state) == 1 else state
    if after is not None:
        more["reset_state"] = after[0] if len(after) == 1 else after
    output, final = layer(x, hx, **more)
    if not isinstance(output, Tensor):
        output = pad_packed_sequence(output, layer.batch_first)[0]
    return [output, *([final] if isinstance(final, Tensor) else final)]


def results(layer: Any, values: list[Tensor], leaves: Any) -> list[Tensor]:
    wanted = [*layer.parameters(), *leaves]
    return [*values, *torch.autograd.grad(values, wanted, cotangents(values))]


@every_cell
@every_norm
@pytest.mark.parametrize("form", ["padded", "lengths", "packed"])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "given"])
def test_resets_equal_pieces_apart(cell: str, norm: Any, form: str, given: bool) -> None:
    """Outputs, final states and every gradient, over two layers and both directions."""
    layer, x, resets = build(cell, norm), batch().requires_grad_(), mask()
    state = tuple(s.requires_grad_() for s in states(layer, BATCH))
    zeros = tuple(torch.zeros_like(s) for s in state)
    after = tuple(s.requires_grad_() for s in states(layer, BATCH)) if given else zeros
    leaves = [x, *state, *(after if given else ())]
    lengths = [STEPS] * BATCH if form == "padded" else LENGTHS
    truth = results(layer, by_pieces(layer, x, resets, state, after, lengths), leaves)
    more: dict[str, Any] = {"lengths": torch.tensor(LENGTHS)} if form == "lengths" else {}
    fed: Any = x
    if form == "packed":
        fed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    values = called(layer, fed, state, after if given else None, resets=resets, **more)
    for value, expected in zip(results(layer, values, leaves), truth, strict=True):
        assert_close(value, expected)


@every_norm
def test_resets_with_a_projection_and_one_direction(norm: Any) -> None:
    layer, x, resets = build("lstm", norm, proj_size=5, bidirectional=False), batch(), mask()
    state, after = states(layer, BATCH), states(layer, BATCH)
    truth = by_pieces(layer, x, resets, state, after, [STEPS] * BATCH)
    values = called(layer, x, state, after, resets=resets)
    for value, expected in zip(values, truth, strict=True):
        assert_close(value, expected)


@every_cell
@every_norm
def test_batch_first_and_one_sequence(cell: str, norm: Any) -> None:
    layer, x, resets = build(cell, norm), batch(), mask()
    state, after = states(layer, BATCH), states(layer, BATCH)
    truth, *final = called(layer, x, state, after, resets=resets)
    alone = called(
        layer, x[:, 2], [s[:, 2] for s in state], [s[:, 2] for s in after], resets=resets[:, 2]
    )
    assert_close(alone[0], truth[:, 2])
    for value, expected in zip(alone[1:], final, strict=True):
        assert_close(value, expected[:, 2])
    short, *ends = called(layer, x, state, resets=resets, lengths=LENGTHS)
    layer.batch_first = True
    x, resets = x.transpose(0, 1), resets.t()
    assert_equal(called(layer, x, state, after, resets=resets)[0].transpose(0, 1), truth)
    values = called(layer, x, state, resets=resets, lengths=LENGTHS)
    assert_equal(values[0].transpose(0, 1), short)
    for value, expected in zip(values[1:], ends, strict=True):
        assert_equal(value, expected)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), True, enforce_sorted=False)
    assert_equal(called(layer, packed, state, resets=resets)[0].transpose(0, 1), short)


@every_cell
@every_norm
def test_a_mask_without_resets_changes_nothing(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm), batch()
    state = states(layer, BATCH)
    values = called(layer, x, state, resets=torch.zeros(STEPS, BATCH, dtype=torch.bool))
    for value, truth in zip(values, run(layer, x, state), strict=True):
        assert_equal(value, truth)


@every_cell
@every_norm
def test_lengths_equal_packing_by_hand(cell: str, norm: Any) -> None:
    """Outputs beyond are zero, final states the last valid ones, and padding is not read."""
    layer, x = build(cell, norm), batch()
    state = states(layer, BATCH)
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    truth = called(layer, packed, state)
    garbage = x.clone()
    for b, length in enumerate(LENGTHS):
        garbage[length:, b] = torch.nan
    for lengths in (LENGTHS, torch.tensor(LENGTHS), torch.tensor(LENGTHS, dtype=torch.int32)):
        for value, expected in zip(
            called(layer, garbage, state, lengths=lengths), truth, strict=True
        ):
            assert_equal(value, expected)
    shorter = called(layer, x, state, lengths=[2, 1, 1, 2])[0]
    assert shorter.shape[0] == STEPS
    assert (shorter[2:] == 0).all()
    full = called(layer, x, state, lengths=[STEPS] * BATCH)
    for value, expected in zip(full, run(layer, x, state), strict=True):
        assert_equal(value, expected)


@every_cell
@inner_norm
def test_the_reference_and_the_kernels_agree(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, fused=True), batch()
    other = copy.deepcopy(layer)
    other.fused = False
    state, after = states(layer, BATCH), states(layer, BATCH)
    for value, truth in zip(
        *(called(f, x, state, after, resets=mask()) for f in (layer, other)), strict=True
    ):
        assert_close(value, truth)


@every_cell
@every_norm
def test_autocast_and_bfloat16(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, dtype=torch.float32), batch(dtype=torch.float32)
    state, after = states(layer, BATCH), states(layer, BATCH)
    truth = called(layer, x, state, after, resets=mask())
    with torch.autocast("cpu", torch.bfloat16):
        values = called(layer, x, state, after, resets=mask())
    narrow = copy.deepcopy(layer).bfloat16()
    small = [tuple(s.bfloat16() for s in group) for group in (state, after)]
    for found in (values, called(narrow, x.bfloat16(), *small, resets=mask())):
        for value, expected in zip(found, truth, strict=True):
            assert_close(value, expected, 2 * BFLOAT16)
    grads = torch.autograd.grad(values, list(layer.parameters()), cotangents(values))
    assert all(grad.isfinite().all() for grad in grads)


def test_a_wide_cell_state_after_a_reset_takes_the_kernel() -> None:
    layer = build("lstm", "cell", dtype=torch.bfloat16, fused=True)
    h, c = states(layer, BATCH)
    x = batch(dtype=torch.bfloat16)
    values = called(layer, x, (h, c.float()), (h, c.float()), resets=mask())
    truth = called(layer, x, (h, c), (h, c), resets=mask())
    assert_equal(values[0], truth[0])
    assert values[2].dtype == torch.float32


@every_cell
@inner_norm
def test_double_backward(cell: str, norm: Any) -> None:
    layer, x = build(cell, norm, num_layers=1), batch()[:3, :2].requires_grad_()
    resets = mask()[1:4, 1:3]

    def output(x: Tensor) -> Tensor:
        return layer(x, resets=resets)[0]

    assert torch.autograd.gradgradcheck(output, (x,))


@every_cell
def test_compiles_without_a_break(cell: str) -> None:
    layer, x = build(cell, "cell"), batch()
    state, after = states(layer, BATCH), states(layer, BATCH)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    truth = called(layer, x, state, after, resets=mask())
    for value, expected in zip(
        called(compiled, x, state, after, resets=mask()), truth, strict=True
    ):
        assert_close(value, expected)


@every_cell
def test_an_exported_layer_takes_another_mask(cell: str) -> None:
    layer, x = build(cell, "cell", fused=True).eval(), batch()
    program = torch.export.export(layer, (x,), {"resets": mask()}).module()
    other = mask().roll(1, 0)
    assert_equal(program(x, resets=other)[0], layer(x, resets=other)[0])


@every_cell
@pytest.mark.parametrize("norm", [None, "cell"])
def test_what_does_not_fit_is_refused(cell: str, norm: Any) -> None:
    layer, x, resets = build(cell, norm), batch(), mask()
    packed = pack_padded_sequence(x, torch.tensor(LENGTHS), enforce_sorted=False)
    after = states(layer, 3)
    wrong = after[0] if len(after) == 1 else after
    for fed, options, rule in [
        (x, {"resets": resets.long()}, r"resets must be torch.bool, got torch.int64"),
        (x, {"resets": resets.t()}, r"resets must be \(T, B\), \(6, 4\) for this input"),
        (x[:, 0], {"resets": resets}, r"resets must be \(T,\), \(6,\) for this input"),
        (packed, {"resets": resets[:5]}, r"resets must be \(T, B\), \(6, 4\)"),
        (x, {"reset_state": wrong}, "reset_state is the state after a reset, and needs resets"),
        (x, {"resets": resets, "reset_state": wrong}, r"reset_h must be \(4, 4, 7\)"),
        (x, {"lengths": [1, 2, 3]}, r"lengths must be \(4,\), one for each sequence"),
        (x, {"lengths": [1, 2, 3, 7]}, "lengths must be between 1 and 6, the steps of the input"),
        (x, {"lengths": [0, 2, 3, 6]}, "lengths must be between 1 and 6"),
        (packed, {"lengths": LENGTHS}, r"lengths belong to a padded input, \(T, B, I\)"),
        (x[:, 0], {"lengths": [6]}, r"the input must be \(T, B, I\)"),
    ]:
        with pytest.raises(ValueError, match=rule):
            layer(fed, **options)
    for options, rule in [
        ({"resets": resets.tolist()}, "resets must be a tensor, got list"),
        ({"lengths": [1.0, 2.0, 3.0, 6.0]}, "lengths must be whole numbers, got torch.float32"),
    ]:
        with pytest.raises(TypeError, match=rule):
            layer(x, **options)
