"""A layer's further arguments: what may be random inside its recurrence, and where it starts.

All are off by default. `lnrnn.nn.regularizers.Regularizers` and `lnrnn.nn.starts.Starts` explain
the values, docs/formulas.md has the equations.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

from lnrnn.nn.regularizers import Regularizers
from lnrnn.nn.starts import Starts


class RNNOptions(TypedDict, total=False):
    """What an RNN takes by keyword besides its signature.

    Attributes:
        zoneout: Probability of keeping a unit of h as it was; in evaluation, the mean of both.
        variational_dropout: Probability of zeroing a unit of what W_hh reads, once for all steps.
        weight_drop: Probability of zeroing an entry of W_hh, once for a call.
        recurrent_init: "orthogonal" for a W_hh that starts orthogonal, each gate by itself.
    """

    zoneout: float
    variational_dropout: float
    weight_drop: float
    recurrent_init: str | None


class GRUOptions(RNNOptions, total=False):
    """What a GRU takes by keyword besides its signature: what an RNN does, and three more.

    Attributes:
        recurrent_dropout: Probability of zeroing a unit of the candidate n, anew at every step.
        update_bias: What z starts with, the share of the old state that is kept.
        chrono: T_max, as in `chrono_init`.
    """

    recurrent_dropout: float
    update_bias: float | None
    chrono: int | None


class LSTMOptions(RNNOptions, total=False):
    """What an LSTM takes by keyword besides its signature: what an RNN does, and four more.

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


OPTIONS: dict[str, tuple[str, ...]] = {
    "rnn": tuple(RNNOptions.__annotations__),
    "gru": tuple(GRUOptions.__annotations__),
    "lstm": tuple(LSTMOptions.__annotations__),
}


def read_options(options: Mapping[str, Any], cell: str, bias: bool) -> tuple[Regularizers, Starts]:
    """Return a layer's further arguments, checked.

    Args:
        options: By name, as they were given.
        cell: "rnn", "lstm" or "gru".
        bias: Whether the layer has biases.

    Raises:
        TypeError: If the cell takes none of that name, or a number is not one.
        ValueError: If a value is out of range, or biases are to start and there are none.
    """
    unknown = [name for name in options if name not in OPTIONS[cell]]
    if unknown:
        raise TypeError(
            f"{cell.upper()} got an unexpected keyword argument {unknown[0]!r}; besides its "
            f"signature it takes {', '.join(OPTIONS[cell])}"
        )
    names = Starts.__dataclass_fields__
    starts = Starts(**{name: value for name, value in options.items() if name in names})
    if starts.of_biases and not bias:
        raise ValueError(f"{starts.of_biases[0]} says where a bias starts and needs bias=True")
    rest = {name: value for name, value in options.items() if name not in names}
    return Regularizers(**rest), starts
