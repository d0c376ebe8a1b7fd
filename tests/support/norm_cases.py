"""The variants under test, and layers whose numbers hide no mistake.

Sizes are odd and unequal, so that no axis stands in for another; H is at least 5, since a norm over
two values can only give +1 and -1; gains differ from 1 and from one another, biases and shifts from
0, and weights are large enough for the gates to bend.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

import torch
from torch import Tensor, nn

import lnrnn
from lnrnn import CellNorm
from lnrnn.nn.norm import Inputs, Kind, Span

LAYERS: dict[str, Any] = {"rnn": lnrnn.RNN, "lstm": lnrnn.LSTM, "gru": lnrnn.GRU}
CELLS: dict[str, Any] = {
    "rnn": lnrnn.RNNCell,
    "lstm": lnrnn.LSTMCell,
    "gru": lnrnn.GRUCell,
}
TORCH_LAYERS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
TORCH_CELLS: dict[str, Any] = {
    "rnn": nn.RNNCell,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
}

INPUT_SIZE, HIDDEN_SIZE, PROJ_SIZE = 3, 7, 5


@dataclass(frozen=True)
class Case:
    """A cell, its norm, and what else tells its numbers from those of others."""

    cell: str
    norm: CellNorm
    bias: bool = True
    proj_size: int = 0
    nonlinearity: str = "tanh"

    def __str__(self) -> str:
        norm = self.norm
        parts = [self.cell, str(norm.inputs), norm.span, str(norm.cell), norm.kind]
        parts += [] if norm.cell_clip is None else ["clip"]
        parts += [] if self.bias else ["nobias"]
        parts += ["proj"] if self.proj_size else []
        parts += ["relu"] if self.nonlinearity == "relu" else []
        return "-".join(parts)

    def options(self) -> dict[str, Any]:
        """Return the case's keyword arguments for a layer."""
        options: dict[str, Any] = {"norm": self.norm, "bias": self.bias}
        if self.cell == "rnn":
            options["nonlinearity"] = self.nonlinearity
        if self.cell == "lstm":
            options["proj_size"] = self.proj_size
        return options

    def layer(self, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
        """Build the case's layer with numbers in it."""
        options = {"eps": 1e-3, "dtype": dtype, **self.options(), **more}
        return randomized(LAYERS[self.cell](INPUT_SIZE, HIDDEN_SIZE, **options))


def every_case() -> Iterator[Case]:
    """Yield every variant that kernels compute, but for those below."""
    inputs: tuple[Inputs, ...] = ("paper", "separate", "joint")
    spans, kinds = get_args(Span), get_args(Kind)
    for i, s, c, k, bias in product(inputs, spans, ("output", "state", None), kinds, (True, False)):
        norm = CellNorm(inputs=i, span=s, cell=c, kind=k)
        if c != "state":
            yield from (Case("rnn", norm, bias, nonlinearity=n) for n in ("tanh", "relu"))
        yield from (Case("lstm", norm, bias, p) for p in (0, PROJ_SIZE))
        if c != "state" and i != "joint":
            yield Case("gru", norm, bias)


# Norms on the recurrent side alone, which kernels compute as they do separate ones.
RECURRENT = [
    Case("rnn", CellNorm(inputs="recurrent")),
    Case("lstm", CellNorm(inputs="recurrent")),
    Case("lstm", CellNorm(inputs="recurrent", span="gate", kind="rms"), bias=False),
    Case("lstm", CellNorm(inputs="recurrent", cell="state"), proj_size=PROJ_SIZE),
    Case("gru", CellNorm(inputs="recurrent")),
    Case("gru", CellNorm(inputs="recurrent", span="gate", kind="rms"), bias=False),
]

# No norm on the recurrent side, which kernels of the CPU compute.
UNNORMED = [
    Case("rnn", CellNorm(inputs="input")),
    Case("lstm", CellNorm(inputs="input")),
    Case("lstm", CellNorm(inputs="input", span="gate", cell="state", kind="rms"), bias=False),
    Case("gru", CellNorm(inputs="input")),
    Case("gru", CellNorm(inputs="input", span="all", kind="rms"), bias=False),
    Case("lstm", CellNorm(inputs=None)),
    Case("lstm", CellNorm(inputs=None, cell="state", kind="rms"), bias=False),
]

# What kernels do not compute: another use of the cell state ...
REFERENCE_ONLY = [
    Case("lstm", CellNorm(cell="carried"), proj_size=PROJ_SIZE),
    Case("lstm", CellNorm(inputs="joint", span="gate", cell="carried", kind="rms")),
    Case("lstm", CellNorm(inputs="joint", span="gate", cell=None, cell_clip=0.4)),
    Case("lstm", CellNorm(inputs="recurrent", cell_clip=0.4)),
    Case("lstm", CellNorm(cell="carried", cell_clip=0.4)),
]

# ... and norms of the sum in a GRU.
JOINT_GRU = [
    Case("gru", CellNorm(inputs="joint", span=span, kind=kind), bias)
    for span, kind, bias in product(get_args(Span), get_args(Kind), (True, False))
]

# One of each kind of computation, for tests that cost more or need no more.
FEW = [
    Case("rnn", CellNorm()),
    Case("rnn", CellNorm(inputs="separate", kind="rms"), bias=False, nonlinearity="relu"),
    Case("lstm", CellNorm()),
    Case("lstm", CellNorm(inputs="joint", span="gate", cell="state"), proj_size=PROJ_SIZE),
    Case("lstm", CellNorm(span="gate", cell=None, kind="rms"), bias=False),
    Case("gru", CellNorm()),
    Case("gru", CellNorm(span="all", kind="rms"), bias=False),
    Case("gru", CellNorm(span="gate")),
]


def randomized(module: Any) -> Any:
    """Give every parameter values that count: gains in [0.5, 1.5], the rest of order 0.6."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith("gain"):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.6)
    return module


def states(layer: Any, batch: int | None) -> tuple[Tensor, ...]:
    """Return random initial states for ``batch`` sequences, or for one without a batch axis."""
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    middle = () if batch is None else (batch,)
    recurrent = layer.proj_size or layer.hidden_size
    dtype = layer.weight_hh_l0.dtype
    h_0 = torch.randn(rows, *middle, recurrent, dtype=dtype)
    if not layer.__class__.__name__.startswith("LSTM"):
        return (h_0,)
    return h_0, torch.randn(rows, *middle, layer.hidden_size, dtype=dtype)


def run(layer: Any, x: Any, state: tuple[Tensor, ...] | None = None) -> list[Tensor]:
    """Run a layer of any cell and return its output (as it comes) and its final states."""
    hx = state[0] if state is not None and len(state) == 1 else state
    output, final = layer(x, hx)
    return [output, *([final] if isinstance(final, Tensor) else final)]
