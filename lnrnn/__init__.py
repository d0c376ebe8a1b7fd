"""Layer-normalized recurrent networks for PyTorch, and the framework that trains them."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

# Before torch: it loses whatever goes wrong as it imports numpy, Ctrl-C too, and does without it.
import numpy as _numpy  # noqa: F401

from lnrnn import convert
from lnrnn.nn import GRU, LSTM, RNN, CellNorm, GRUCell, LSTMCell, Preset, RNNCell, is_recurrent
from lnrnn.nn.presets import presets

if TYPE_CHECKING:
    from lnrnn.inference import load

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
    "load",
    "presets",
]

try:
    __version__ = version("lnrnn")
except PackageNotFoundError:  # a copy of the folder, which nobody installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import what reads runs when it is first asked for: the layers need nothing of it."""
    if name == "load":
        from lnrnn.inference import load

        return load
    raise AttributeError(f"module 'lnrnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name for completion what is imported late, too."""
    return sorted({*globals(), *__all__})
