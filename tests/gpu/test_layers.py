"""Whole layers on a GPU against the same ones on a CPU, with all that a call may be given."""

import copy
from typing import Any

import pytest
import torch
from norm_cases import LAYERS, PROJ_SIZE, randomized
from numerics import assert_close, assert_equal, cotangents
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import lnrnn
from lnrnn import CellNorm, presets
from lnrnn.nn.options import OPTIONS
from lnrnn.ops.noise import keep_mask

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
# Float64 on both sides, summed in another order: a rounding of inputs and parameters moved none of
# these results, over 40 steps, by more than 4e-13.
LIMIT = 1e-9
STEPS, BATCH, LENGTHS = 40, 4, torch.tensor([7, 40, 1, 12])
RANDOM = {"zoneout": 0.3, "zoneout_c": 0.1, "recurrent_dropout": 0.2, "variational_dropout": 0.25}
every_cell = pytest.mark.parametrize("cell", list(LAYERS))
NORMS = {"none": None, "output": "output", "cell": "cell", "rms": CellNorm(span="gate", kind="rms")}
every_norm = pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))


def build(cell: str, norm: Any, **options: Any) -> Any:
    """Return a layer of two layers and directions, on the CPU, by the reference."""
    settings = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64, "eps": 1e-3}
    return randomized(LAYERS[cell](3, 7, norm=norm, **settings, **options))


def inside(norm: Any) -> bool:
    return norm not in (None, "output")


def flat(result: Any) -> list[Tensor]:
    """Return a layer's output and its final states."""
    output, state = result
    output = output.data if isinstance(output, PackedSequence) else output
    return [output, *([state] if isinstance(state, Tensor) else state)]


def both(layer: Any, x: Any, *, fused: bool | None = None, **more: Any) -> None:
    """Compare a layer's results and gradients with those of its copy on the GPU."""
    layer.fused = False if inside(layer.norm) else None
    other = copy.deepcopy(layer).cuda()
    other.fused = fused
    results = []
    for each, device in ((layer, "cpu"), (other, "cuda")):
        torch.manual_seed(7)
        moved = {name: value.to(device) for name, value in more.items()}
        values = flat(each(x.to(device), **moved))
        weights = [c.to(device) for c in cotangents([v.cpu() for v in values])]
        trained = [p for p in each.parameters() if p.requires_grad]
        grads = torch.autograd.grad(values, trained, weights)
        results.append([*values, *grads])
    for truth, value in zip(*results, strict=True):
        assert value.is_cuda
        assert_close(value.cpu(), truth, LIMIT)


def inputs() -> Tensor:
    return torch.randn(STEPS, BATCH, 3, dtype=torch.float64)


@every_norm
@every_cell
def test_padded_and_packed(cell: str, norm: Any) -> None:
    layer = build(cell, norm)
    fused = True if inside(norm) else None
    both(layer, inputs(), fused=fused)
    both(layer, pack_padded_sequence(inputs(), LENGTHS, enforce_sorted=False), fused=fused)


@every_norm
@every_cell
def test_resets_and_lengths(cell: str, norm: Any) -> None:
    layer = build(cell, norm)
    both(layer, inputs(), resets=torch.rand(STEPS, BATCH) < 0.2)
    both(layer, inputs(), lengths=LENGTHS)


@every_norm
@every_cell
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_masks_are_those_of_a_cpu(cell: str, norm: Any, training: bool) -> None:
    options = {name: value for name, value in RANDOM.items() if name in OPTIONS[cell]}
    layer = build(cell, norm, **options).train(training)
    fused = True if inside(norm) else None
    both(layer, inputs(), fused=fused)
    both(layer, pack_padded_sequence(inputs(), LENGTHS, enforce_sorted=False), fused=fused)
    both(layer, inputs(), resets=torch.rand(STEPS, BATCH) < 0.2, fused=fused)


@every_cell
def test_dropped_weights_run_in_kernels(cell: str) -> None:
    layer = build(cell, "cell", weight_drop=0.5)
    both(layer, inputs(), fused=True)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**40 + 5, 2**63 - 1])
@pytest.mark.parametrize("units", [1, 37, 1024])
def test_a_mask_is_the_same_on_every_device(seed: int, units: int) -> None:
    """By its definition on both devices, and by the kernel of each."""
    from lnrnn.ops import triton_noise

    step, row = torch.arange(50).unsqueeze(1), torch.arange(7)
    truth = keep_mask(0.3, seed, 2, step, row, units)
    there = (0.3, seed, 2, step.cuda(), row.cuda(), units)
    for draw in (keep_mask, triton_noise.keep_mask, torch.ops.lnrnn.keep_mask):
        assert_equal(draw(*there).cpu(), truth)
    assert_equal(torch.ops.lnrnn.keep_mask(0.3, seed, 2, step, row, units), truth)


def test_a_projection_with_masks() -> None:
    layer = build("lstm", "cell", proj_size=PROJ_SIZE, **RANDOM)
    both(layer, inputs(), fused=True)
    both(layer.eval(), inputs(), fused=True)


def test_a_projection() -> None:
    both(build("lstm", "cell", proj_size=PROJ_SIZE), inputs(), fused=True)


@pytest.mark.parametrize("name", list(presets))
def test_presets(name: str) -> None:
    layer = randomized(LAYERS[presets[name].cell].from_preset(name, 3, 7, dtype=torch.float64))
    both(layer, inputs())


@pytest.mark.parametrize("cell", ["RNNCell", "LSTMCell", "GRUCell"])
def test_one_step_cells(cell: str) -> None:
    step = randomized(getattr(lnrnn, cell)(3, 7, norm="cell", dtype=torch.float64))
    x = torch.randn(5, 3, dtype=torch.float64)
    truth, found = step(x), copy.deepcopy(step).cuda()(x.cuda())
    for value, expected in zip(tuple(found), tuple(truth), strict=True):
        assert_close(value.cpu(), expected, LIMIT)


@every_cell
def test_an_exported_program_runs(cell: str) -> None:
    layer = build(cell, "cell").cuda()
    layer.fused = True
    x = inputs().cuda()
    exported: nn.Module = torch.export.export(layer.eval(), (x,)).module()
    for value, truth in zip(flat(exported(x)), flat(layer(x)), strict=True):
        assert_close(value, truth, LIMIT)
