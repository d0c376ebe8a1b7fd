"""Layer-normalized recurrent networks for PyTorch, and the framework that trains them."""

from importlib.metadata import PackageNotFoundError, version

# Before torch: it loses whatever goes wrong as it imports numpy, Ctrl-C too, and does without it.
import numpy as _numpy  # noqa: F401

from lnrnn import convert
from lnrnn.nn import GRU, LSTM, RNN, CellNorm, GRUCell, LSTMCell, Preset, RNNCell, is_recurrent
from lnrnn.nn.presets import presets

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "GRUCell",
    "LSTMCell",
    "Preset",
    "RNNCell",
    "__version__",
    "convert",
    "is_recurrent",
    "presets",
]

try:
    __version__ = version("lnrnn")
except PackageNotFoundError:  # a copy of the folder, which nobody installed
    __version__ = "0+unknown"
