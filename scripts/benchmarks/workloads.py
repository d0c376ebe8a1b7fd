"""What is timed: for each mode the candidates, each a function of nothing.

Every candidate gets the same input and the same gradient of its output. The first is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import lnrnn
from benchmarks.autocast import torch_lstm_dtype
from benchmarks.loops import LOOPS, scripted

LAYERS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTM, lnrnn.LSTM),
    "gru": (nn.GRU, lnrnn.GRU),
    "rnn": (nn.RNN, lnrnn.RNN),
}
CELLS: dict[str, tuple[Any, Any]] = {
    "lstm": (nn.LSTMCell, lnrnn.LSTMCell),
    "gru": (nn.GRUCell, lnrnn.GRUCell),
    "rnn": (nn.RNNCell, lnrnn.RNNCell),
}
OURS, TORCH, TORCH_NORM = "cell norm", "torch", "torch + norm"
REFERENCE, SCRIPT, PYTHON = "reference", "TorchScript", "Python loop"
PACKED, PADDED, TORCH_PACKED = "cell norm, packed", "cell norm, padded", "torch, packed"
OURS_FLOAT32 = "cell norm, float32"
# Calls during which TorchScript watches shapes and compiles for them.
SCRIPT_WARM_UP = {"training": 4, "inference": 2, "forward": 2}
STREAM = 100  # steps of one measurement of a single step

Run = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """Candidates for one row.

    Args:
        runs: What is timed, by name, ours first.
        rare: Names of those that take long and run in one round of three.
        note: What a reader must know, if anything.
    """

    runs: dict[str, Run]
    rare: frozenset[str] = field(default_factory=frozenset)
    note: str = ""


class _TorchNorm(nn.Module):
    """What torch offers for a norm: a layer, and a layer norm over what it puts out."""

    def __init__(self, layer: nn.Module, hidden_size: int) -> None:
        super().__init__()
        self.layer, self.norm = layer, nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        output, state = self.layer(x)
        return self.norm(output), state


def whole_sequences(cell: str, shape: tuple[int, ...], mode: str, *, loops: bool) -> Workload:
    """Return the candidates for "forward", "training" and "inference" over padded sequences."""
    steps, batch, features, hidden = shape
    theirs, ours = LAYERS[cell]
    fused = ours(features, hidden, norm="cell", fused=True)
    layers: dict[str, Any] = {
        OURS: fused,
        TORCH: theirs(features, hidden),
        TORCH_NORM: _TorchNorm(theirs(features, hidden), hidden),
    }
    if loops:
        layers[REFERENCE] = ours(features, hidden, norm="cell", fused=False)
        layers[SCRIPT] = scripted(LOOPS[cell](fused))
        layers[PYTHON] = LOOPS[cell](fused)
    x = torch.randn(steps, batch, features, requires_grad=True)
    cotangent = torch.randn(steps, batch, hidden)
    if loops:
        warm_up = _timed(layers[SCRIPT], x, cotangent, mode)
        for _ in range(SCRIPT_WARM_UP[mode]):
            warm_up()
    runs = {name: _timed(layer, x, cotangent, mode) for name, layer in layers.items()}
    return Workload(runs, frozenset({REFERENCE, SCRIPT, PYTHON}))


def bfloat16_training(cell: str, shape: tuple[int, ...]) -> Workload:
    """Return the candidates for training under autocast in bfloat16, and ours without it."""
    steps, batch, features, hidden = shape
    theirs, ours = LAYERS[cell]
    layer, notes = ours(features, hidden, norm="cell", fused=True), []
    if cell == "lstm" and torch_lstm_dtype() is None:
        theirs = lnrnn.LSTM
        notes.append("torch has no LSTM in bfloat16 on this CPU: its float32 ran")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.zeros(1, 1, features))
    except NotImplementedError:
        layer.fused = None
        notes.append("no kernel: the reference ran")
    plain = theirs(features, hidden)
    x = torch.randn(steps, batch, features, requires_grad=True)
    cotangent = torch.randn(steps, batch, hidden)

    def cast(layer: nn.Module) -> Run:
        def train() -> None:
            _forget_gradients(layer, x)
            with torch.autocast("cpu", torch.bfloat16):
                output = layer(x)[0]
            output.backward(cotangent.to(output.dtype))

        return train

    normed = _TorchNorm(theirs(features, hidden), hidden)
    runs = {
        OURS: cast(layer),
        TORCH: cast(plain),
        TORCH_NORM: cast(normed),
        OURS_FLOAT32: _timed(
            ours(features, hidden, norm="cell", fused=True), x, cotangent, "training"
        ),
    }
    return Workload(runs, note="; ".join(notes))


def packed_training(cell: str, shape: tuple[int, ...]) -> Workload:
    """Return the candidates for sequences of lengths uniform in [T/10, T], packed or padded."""
    steps, batch, features, hidden = shape
    theirs, ours = LAYERS[cell]
    layer, plain = ours(features, hidden, norm="cell", fused=True), theirs(features, hidden)
    lengths = torch.randint(max(1, steps // 10), steps + 1, (batch,))
    x = torch.randn(steps, batch, features, requires_grad=True)
    cotangent = torch.randn(steps, batch, hidden)
    pack = pack_padded_sequence(x.detach(), lengths, enforce_sorted=False)
    data = pack.data.requires_grad_()
    packed = PackedSequence(data, *pack[1:])
    rows = torch.randn(data.shape[0], hidden)

    def train(layer: nn.Module) -> Run:
        def run() -> None:
            _forget_gradients(layer, data)
            layer(packed)[0].data.backward(rows)

        return run

    runs = {
        PACKED: train(layer),
        PADDED: _timed(layer, x, cotangent, "training"),
        TORCH_PACKED: train(plain),
    }
    live = f"{data.shape[0] / (steps * batch):.0%} of the padded steps are live"
    return Workload(runs, frozenset({TORCH_PACKED}), live)


def single_steps(cell: str, shape: tuple[int, ...], *, loops: bool) -> Workload:
    """Return the candidates for a stream: a hundred calls of a cell, each on one step."""
    _, batch, features, hidden = shape
    theirs, ours = CELLS[cell]
    cells = {
        OURS: ours(features, hidden, norm="cell", fused=True),
        TORCH: theirs(features, hidden),
    }
    if loops:
        cells[REFERENCE] = ours(features, hidden, norm="cell", fused=False)
    x = torch.randn(batch, features)

    def stream(cell: nn.Module) -> Run:
        def run() -> None:
            with torch.no_grad():
                state = cell(x)
                for _ in range(STREAM - 1):
                    state = cell(x, state)

        return run

    return Workload({name: stream(cell) for name, cell in cells.items()})


def training_step(cell: str, name: str, shape: tuple[int, ...]) -> tuple[Run, Run]:
    """Return one candidate's training step, and the same on two steps of two sequences."""
    steps, batch, features, hidden = shape
    theirs, ours = LAYERS[cell]
    layer = theirs(features, hidden)
    if name == OURS:
        layer = ours(features, hidden, norm="cell", fused=True)

    def step(steps: int, batch: int) -> Run:
        x = torch.randn(steps, batch, features, requires_grad=True)
        return _timed(layer, x, torch.randn(steps, batch, hidden), "training")

    return step(steps, batch), step(2, 2)


def _timed(layer: Any, x: Tensor, cotangent: Tensor, mode: str) -> Run:
    """Return what runs ``layer`` once."""

    def train() -> None:
        _forget_gradients(layer, x)
        layer(x)[0].backward(cotangent)

    def infer() -> None:
        with torch.no_grad():
            layer(x)

    return {"training": train, "inference": infer, "forward": lambda: layer(x)}[mode]


def _forget_gradients(layer: nn.Module, x: Tensor) -> None:
    """Do what an optimizer's zero_grad does, so that a step makes its gradients as users' do."""
    layer.zero_grad()
    x.grad = None
