"""Modules that own parameters: recurrent layers and cells with a choice of norm; a transformer."""

from lnrnn.nn.cells import GRUCell, LSTMCell, RNNCell
from lnrnn.nn.norm import CellNorm
from lnrnn.nn.preset import Preset
from lnrnn.nn.recurrent import GRU, LSTM, RNN
from lnrnn.nn.transformer import TransformerLayer
from lnrnn.nn.weights import is_recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellNorm",
    "GRUCell",
    "LSTMCell",
    "Preset",
    "RNNCell",
    "TransformerLayer",
    "is_recurrent",
]
