"""Layer-normalized recurrent networks for PyTorch, and the framework that trains them."""

from importlib.metadata import version

from lnrnn.nn import GRU, LSTM, RNN, CellNorm, GRUCell, LSTMCell, RNNCell

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "__version__",
]

__version__ = version("lnrnn")
