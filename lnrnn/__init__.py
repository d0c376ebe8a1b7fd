"""Layer-normalized recurrent networks for PyTorch, and the framework that trains them."""

from importlib.metadata import PackageNotFoundError, version

from lnrnn.nn import GRU, LSTM, RNN, CellNorm, GRUCell, LSTMCell, RNNCell, is_recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "__version__",
    "is_recurrent",
]

try:
    __version__ = version("lnrnn")
except PackageNotFoundError:  # a copy of the folder, which nobody installed
    __version__ = "0+unknown"
