"""Further arguments of layers and cells: what may be random in a recurrence, and where it starts.

All are off by default. `lnrnn.nn.regularizers.Regularizers` and `lnrnn.nn.starts.Starts` explain
the values, docs/formulas.md has the equations.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from lnrnn.nn.regularizers import Regularizers
from lnrnn.nn.starts import Starts


class RNNCellOptions(TypedDict, total=False):
    """What a one-step RNN takes by keyword besides its signature.

    Attributes:
        zoneout: Probability of keeping a unit of h as it was; in evaluation, the mean of both.
        recurrent_init: "orthogonal" for a W_hh that starts orthogonal, each gate by itself.
    """

    zoneout: float
    recurrent_init: str | None


class GRUCellOptions(RNNCellOptions, total=False):
    """What a one-step GRU takes by keyword: what an RNN does, and three more.

    Attributes:
        recurrent_dropout: Probability of zeroing a unit of the candidate n, anew at every step.
        update_bias: What z starts with, the share of the old state that is kept.
        chrono: T_max, as in `chrono_init`.
    """

    recurrent_dropout: float
    update_bias: float | None
    chrono: int | None


class LSTMCellOptions(RNNCellOptions, total=False):
    """What a one-step LSTM takes by keyword: what an RNN does, and four more.

    Attributes:
        zoneout_c: Probability of keeping a unit of the cell state as it was.
        recurrent_dropout: Probability of zeroing a unit of tanh(g), anew at every step.
        forget_bias: What the forget gate starts with.
        chrono: T_max, as in `chrono_init`.
    """

    zoneout_c: float
    recurrent_dropout: float
    forget_bias: float | None
    chrono: int | None


class _OfSequences(TypedDict, total=False):
    """What a layer takes besides, whose masks hold for all steps of a sequence.

    Attributes:
        variational_dropout: Probability of zeroing a unit of what W_hh reads, once for all steps.
        weight_drop: Probability of zeroing an entry of W_hh, once for a call.
    """

    variational_dropout: float
    weight_drop: float


class RNNOptions(RNNCellOptions, _OfSequences, total=False):
    """What an RNN takes by keyword besides its signature."""


class GRUOptions(GRUCellOptions, _OfSequences, total=False):
    """What a GRU takes by keyword besides its signature."""


class LSTMOptions(LSTMCellOptions, _OfSequences, total=False):
    """What an LSTM takes by keyword besides its signature."""


OPTIONS: dict[str, tuple[str, ...]] = {
    "rnn": tuple(RNNOptions.__annotations__),
    "gru": tuple(GRUOptions.__annotations__),
    "lstm": tuple(LSTMOptions.__annotations__),
}


OF_SEQUENCES = tuple(_OfSequences.__annotations__)


def read_options(
    options: Mapping[str, Any], cell: str, bias: bool, *, step: bool = False
) -> tuple[Regularizers, Starts]:
    """Return a layer's further arguments, checked.

    Args:
        options: By name, as they were given.
        cell: "rnn", "lstm" or "gru".
        bias: Whether there are biases.
        step: Whether they are for a cell that runs one step.

    Raises:
        TypeError: If the cell takes none of that name, or a number is not one.
        ValueError: If a value is out of range, biases are to start and there are none, or a mask is
            to hold for more steps than there are.
    """
    known = [name for name in OPTIONS[cell] if not (step and name in OF_SEQUENCES)]
    unknown = [name for name in options if name not in OPTIONS[cell]]
    name = f"{cell.upper()}Cell" if step else cell.upper()
    if unknown:
        close = _close(unknown[0], [*signature(cell, step=step), *known])
        raise TypeError(
            f"{name} got an unexpected keyword argument {unknown[0]!r}; {close}"
            f"besides its signature it takes {', '.join(known)}"
        )
    for found in set(options) - set(known):
        raise ValueError(
            f"{name} takes no {found}, whose mask holds for all steps of a sequence, and a cell "
            f"knows one step; train a lnrnn.{cell.upper()} with it: in evaluation it does nothing, "
            "and the cell runs what was trained"
        )
    names = Starts.__dataclass_fields__
    starts = Starts(**{name: value for name, value in options.items() if name in names})
    if starts.of_biases and not bias:
        raise ValueError(f"{starts.of_biases[0]} says where a bias starts and needs bias=True")
    rest = {name: value for name, value in options.items() if name not in names}
    return Regularizers(**rest), starts


def signature(cell: str, *, step: bool) -> list[str]:
    """Return the names of the arguments that a layer or one-step cell takes beside its options."""
    names = ["input_size", "hidden_size", "bias", "device", "dtype", "norm", "eps", "fused"]
    names += ["nonlinearity"] if cell == "rnn" else []
    if step:
        return names
    names += ["proj_size"] if cell == "lstm" else []
    return [*names, "num_layers", "batch_first", "dropout", "bidirectional"]


def _close(name: str, known: Sequence[str]) -> str:
    """Return a question about the closest argument: nothing for one that another cell has."""
    others = name in {*OPTIONS["lstm"], *OPTIONS["gru"], "nonlinearity", "proj_size"}
    close = [] if others else difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f"did you mean {close[0]!r}? " if close else ""


def check_regularizers(value: Any, cell: str, *, step: bool = False) -> None:
    """Check what is assigned to a layer's or cell's ``regularizers``.

    Raises:
        TypeError: If it is something else, or the cell does not have one of them.
        ValueError: If a mask is to hold for more steps than there are.
    """
    if not isinstance(value, Regularizers):
        raise TypeError(
            "regularizers must be a lnrnn.nn.regularizers.Regularizers, got "
            f"{value!r}; dataclasses.replace(layer.regularizers, zoneout=0.1) makes one"
        )
    read_options(value.given(), cell, bias=True, step=step)
