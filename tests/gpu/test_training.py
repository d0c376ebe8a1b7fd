"""Training on a GPU: mixed precision, memory, several devices."""

import copy
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from norm_cases import LAYERS, randomized, run
from numerics import BFLOAT16, FLOAT32, assert_close, assert_equal
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)
RUN = (
    *("trainer=gpu", "model.hidden_size=32", "trainer.max_epochs=2"),
    *("trainer.log_every_n_steps=1000", "checkpoint_every_n_steps=1000"),
)
every_cell = pytest.mark.parametrize("cell", list(LAYERS))
# How far losses may be apart, by autocast's dtype: at least four times what one rounding of the
# input did to the reference's own, at any of 30 steps at the rate CALM. That was 2e-7 in float32,
# 7e-3 in bfloat16 and 1.4e-3 in float16, the worst of 6 to 12 draws a cell, on a CPU.
APART = {None: FLOAT32, torch.bfloat16: BFLOAT16, torch.float16: BFLOAT16 / 4}
# Adam divides by the gradient's size, so a small gradient's rounding errors take whole steps: at
# ten times this rate the same rounding moved the last loss by up to 20 %.
CALM = 1e-3


def build(cell: str, hidden: int = 37, **options: Any) -> Any:
    settings = {"norm": "cell", "device": "cuda", "fused": True, **options}
    return randomized(LAYERS[cell](3, hidden, **settings))


def losses(layer: Any, steps: int, dtype: torch.dtype | None, rate: float = 1e-2) -> list[float]:
    """Train to reproduce the input's running mean and return the losses."""
    generator = torch.Generator("cuda").manual_seed(1)
    x = torch.randn(40, 16, 3, device="cuda", generator=generator)
    target = x.cumsum(0)[..., :1] / torch.arange(1, 41, device="cuda").view(-1, 1, 1)
    head = nn.Linear(layer.hidden_size, 1, device="cuda")
    nn.init.constant_(head.weight, 0.01)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], rate)
    found = []
    for _ in range(steps):
        with torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = (head(run(layer, x)[0]) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


@every_cell
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_training_goes_as_with_the_reference(cell: str, dtype: torch.dtype | None) -> None:
    """Step by step. Without a gain's or a bias's gradient the losses are 3e-3 or more apart."""
    layer = build(cell)
    other = copy.deepcopy(layer)
    other.fused = False
    ours, theirs = (losses(each, 30, dtype, CALM) for each in (layer, other))
    assert ours[-1] < 0.9 * ours[0]
    assert ours == pytest.approx(theirs, rel=APART[dtype])


@every_cell
def test_training_repeats_bit_for_bit(cell: str) -> None:
    layer = build(cell)
    other = copy.deepcopy(layer)
    assert losses(layer, 10, torch.bfloat16) == losses(other, 10, torch.bfloat16)


@every_cell
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_layers_under_autocast_are_near_the_reference(cell: str, packed: bool) -> None:
    layer = build(cell, num_layers=2, bidirectional=True)
    other = copy.deepcopy(layer)
    other.fused = False
    x: Any = torch.randn(40, 4, 3, device="cuda")
    if packed:
        x = pack_padded_sequence(x, torch.tensor([7, 40, 1, 12]), enforce_sorted=False)
    results = []
    for each in (layer, other):
        with torch.autocast("cuda", torch.bfloat16):
            output, *final = run(each, x)
        output = output.data if isinstance(output, PackedSequence) else output
        assert output.dtype == torch.bfloat16
        results.append([output, *final])
    for value, truth in zip(*results, strict=True):
        assert value.dtype == truth.dtype
        # Forty steps, and four layers' worth of rounding.
        assert_close(value, truth, 4 * BFLOAT16)


def peak(layer: Any, x: Tensor) -> int:
    """Return the bytes that a training step takes on top of what is there."""
    for _ in range(2):
        run(layer, x)[0].square().mean().backward()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(layer, x)[0].square().mean().backward()
    return torch.cuda.max_memory_allocated() - before


# Of the reference's peak. In tensors of (T, B, H), an LSTM's backward holds 24 at once: the
# projected input before and after its norm, `W h`, and the gradients of both (4 each); cell states,
# output, its gradient, and the hidden states before each step. The reference's peak is 20. An RNN's
# is 7 by either, all in the loss's backward.
MOST = {"rnn": 1.0, "lstm": 1.25, "gru": 1.0}


@every_cell
def test_a_training_step_takes_no_more_memory_than_counted(cell: str) -> None:
    layer, x = build(cell, 256), torch.randn(128, 64, 3, device="cuda")
    other = copy.deepcopy(layer)
    other.fused = False
    assert peak(layer, x) <= MOST[cell] * peak(other, x)


def test_memory_does_not_grow() -> None:
    layer, x = build("lstm", 128), torch.randn(64, 16, 3, device="cuda")
    levels = []
    for _ in range(3):
        for _ in range(10):
            run(layer, x)[0].square().mean().backward()
            layer.zero_grad()
        gc.collect()
        levels.append(torch.cuda.memory_allocated())
    assert levels[1] == levels[2]


@every_cell
def test_two_devices(cell: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    first, x = build(cell), torch.randn(40, 4, 3, device="cuda:0")
    second = copy.deepcopy(first).to("cuda:1")
    for _ in range(2):  # the current device stays the first
        truth = run(first, x)
        for value, expected in zip(run(second, x.to("cuda:1")), truth, strict=True):
            assert value.device == torch.device("cuda:1")
            assert_equal(value.to("cuda:0"), expected)
    run(second, x.to("cuda:1"))[0].square().mean().backward()
    assert all(p.grad.device == torch.device("cuda:1") for p in second.parameters())


def test_tensors_of_two_devices_have_no_kernel() -> None:
    layer = build("rnn")
    with pytest.raises(NotImplementedError, match=r"one cpu or cuda device, .* cpu, cuda:0"):
        layer(torch.randn(4, 2, 3, device="cuda"), torch.randn(1, 2, 37))


@pytest.mark.parametrize("place", ["activation", "gradient", "norm"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_step_that_went_wrong_changes_nothing(optimizer: str, place: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from spoiled_runs import stopped

    found = stopped(tmp_path, *RUN, f"optimizer={optimizer}", place=place, at=5, ahead=None)
    assert "at step 5 (epoch 0)" in found.message
    found.assert_untouched()


@pytest.mark.parametrize("data", [("data=adding", "data.length=20"), ("data=copying",)])
def test_a_training_step_waits_for_nothing(
    data: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps compile and record graphs, and the last one writes the loss."""
    pytest.importorskip("lightning")
    from experiments import compose
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    from lnrnn.runs.metrics import read_metrics
    from lnrnn.training import train

    advance, done, last = _TrainingEpochLoop.advance, [], 20

    def strict(loop: Any, fetcher: Any) -> None:
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error" if 3 <= loop.global_step < last - 1 else "default")
        try:
            advance(loop, fetcher)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        done.append(loop.global_step)

    monkeypatch.setattr(_TrainingEpochLoop, "advance", strict)
    experiment = compose(*RUN, *data, "model=lstm_lncell", f"trainer.max_steps={last}")
    folder, _ = train(experiment, tmp_path)
    assert done == list(range(1, last + 1))
    written = [entry for entry in read_metrics(folder.metrics) if entry.name == "train/loss"]
    assert [entry.step for entry in written] == [last]
