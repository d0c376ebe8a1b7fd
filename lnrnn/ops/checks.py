"""What the arguments of the ops must be; each error says the rule and what came instead."""

import math
import sys

import torch
from torch import Tensor

from lnrnn.checks import is_whole
from lnrnn.ops.noise import Noise

KINDS = ("layer", "rms")
SPANS = ("paper", "all", "gate")
CELL_NORMS = ("output", "state", "carried", None)
NONLINEARITIES = ("tanh", "relu")
LARGEST = sys.float_info.max


def check_norm(kind: str, eps: float, span: str) -> None:
    """Check what every op says about its norms."""
    check_choice("kind", kind, KINDS)
    check_choice("span", span, SPANS)
    check_eps(eps)


def check_eps(eps: float) -> None:
    """Check the constant that a norm adds to the variance."""
    check_number("eps", eps)
    if not 0 < eps < math.inf:  # torch.compile cannot ask math.isfinite of an open number
        raise ValueError(f"eps must be positive and finite, got {eps}; torch's default is 1e-5")


def check_positive(name: str, value: float) -> None:
    """Check that something is a positive, finite number."""
    check_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_number(name: str, value: object) -> None:
    """Check that something is a real number, which a bool is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_finite(name: str, value: object) -> None:
    """Check that something is a number that a tensor can hold."""
    check_number(name, value)
    assert isinstance(value, int | float)
    if not -LARGEST <= value <= LARGEST:
        shown = repr(value) if isinstance(value, float) else "a whole number beyond all floats"
        raise ValueError(f"{name} must be finite, got {shown}")


def check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Check a word against the words there are."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def check_projection(
    x: Tensor, weight_ih: Tensor, gates: int, vectors: dict[str, Tensor | None]
) -> None:
    """Check the shapes of the input side against its weight, (G, I)."""
    width, features = weight_ih.shape
    if width % gates:
        raise ValueError(f"weight_ih needs a multiple of {gates} rows, got {shape(weight_ih)}")
    if x.shape[-1] != features:
        raise ValueError(
            f"x needs weight_ih's {features} features on its last axis, got {shape(x)}"
        )
    for name, vector in vectors.items():
        check_vector(name, vector, width)


def check_sequence(x: Tensor, h_0: Tensor, batch_sizes: Tensor | None) -> list[int] | None:
    """Check the layout of ``x`` and return the batch sizes as numbers, if it is packed."""
    if batch_sizes is None:
        if x.dim() != 3:
            raise ValueError(
                f"x must be (T, B, G), or (N, G) together with batch_sizes, got {shape(x)}"
            )
        if x.shape[0] == 0:
            raise ValueError(f"x needs at least one time step, got {shape(x)}")
        rows, sizes = x.shape[1], None
    else:
        sizes = batch_sizes.tolist()
        if x.dim() != 2 or x.shape[0] != sum(sizes):
            raise ValueError(
                f"a packed x must be (N, G) with N = {sum(sizes)}, the sum of batch_sizes, "
                f"got {shape(x)}"
            )
        if not sizes or min(sizes) < 1 or sizes != sorted(sizes, reverse=True):
            raise ValueError(
                f"batch_sizes must be positive and never grow, got {sizes}; "
                "torch.nn.utils.rnn.pack_padded_sequence makes them"
            )
        rows = sizes[0]
    if h_0.dim() != 2 or h_0.shape[0] != rows:
        raise ValueError(f"h_0 needs one row for each of {rows} sequences, got {shape(h_0)}")
    return sizes


def check_recurrence(
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None,
    *,
    gates: int,
    joint: bool,
) -> None:
    """Check the shapes of a recurrence against its weight, (G, R), and that a norm has its gain."""
    width, features = weight_hh.shape
    if width % gates or (gates != 4 and width != gates * features):
        raise ValueError(f"weight_hh must be ({gates} * H, H), got {shape(weight_hh)}")
    if h_0.shape[1] != features:
        raise ValueError(
            f"h_0 needs weight_hh's {features} features on its last axis, got {shape(h_0)}"
        )
    if joint and gain is None:
        raise ValueError("a joint norm needs its gain, and gain is None")
    check_vector("gain", gain, width)
    check_vector("bias_hh", bias_hh, width)


def check_inputs(
    x: Tensor,
    weight_hh: Tensor,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    gain_ih: Tensor | None,
    shift_ih: Tensor | None,
    *,
    gates: int,
    joint: bool,
) -> None:
    """Check the input side of a recurrence, projected before or to be projected."""
    width = weight_hh.shape[0]
    vectors = {"bias_ih": bias_ih, "gain_ih": gain_ih, "shift_ih": shift_ih}
    if weight_ih is None:
        given = [name for name, vector in vectors.items() if vector is not None]
        if given:
            raise ValueError(f"{', '.join(given)} belongs to a projection of x by weight_ih")
        if x.shape[-1] != width:
            raise ValueError(
                f"x is the projected input and needs weight_hh's {width} gate entries on its last "
                f"axis, got {shape(x)}; project_input makes it, or give weight_ih"
            )
        return
    check_projection(x, weight_ih, gates, vectors)
    if weight_ih.shape[0] != width:
        raise ValueError(f"weight_ih needs weight_hh's {width} rows, got {shape(weight_ih)}")
    if gain_ih is None and shift_ih is not None:
        raise ValueError("shift_ih follows the norm of the input side and needs its gain_ih")
    if gain_ih is not None and joint:
        raise ValueError("a joint norm covers the input side: gain_ih cannot be given with it")


def check_cell_state(
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    gain_c: Tensor | None,
    shift_c: Tensor | None,
    cell: str | None,
) -> None:
    """Check what only the LSTM has: cell state, its norm, and the projection."""
    hidden_size, features = weight_hh.shape[0] // 4, weight_hh.shape[1]
    if c_0.shape != (h_0.shape[0], hidden_size):
        raise ValueError(f"c_0 must be {(h_0.shape[0], hidden_size)}, got {shape(c_0)}")
    if weight_hr is None and features != hidden_size:
        raise ValueError(
            f"weight_hh must be (4 * H, H) unless weight_hr projects the hidden state, "
            f"got {shape(weight_hh)}"
        )
    if weight_hr is not None and weight_hr.shape != (features, hidden_size):
        raise ValueError(
            f"weight_hr must be {(features, hidden_size)}, from cell to hidden state, "
            f"got {shape(weight_hr)}"
        )
    if (gain_c is None) != (cell is None):
        raise ValueError(
            f"gain_c goes with a norm of the cell state and with it alone, got cell={cell!r} and "
            f"{'no gain_c' if gain_c is None else 'a gain_c'}"
        )
    check_vector("gain_c", gain_c, hidden_size)
    check_vector("shift_c", shift_c, hidden_size)


def check_noise(noise: Noise | None, absent: tuple[str, ...], batch: int) -> None:
    """Check what is random inside the steps; a cell without what it acts on lacks some of it."""
    if noise is None:
        return
    for name in noise._fields[:4]:
        value = getattr(noise, name)
        check_number(name, value)
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
        if value and name in absent:
            raise ValueError(f"{name} acts on what this cell does not have, got {value}")
    if noise.seed is not None:
        if not is_whole(noise.seed):
            raise TypeError(f"seed must be a whole number, or None, got {noise.seed!r}")
        if not 0 <= noise.seed < 2**63:
            raise ValueError(f"seed must be in [0, 2**63), got {noise.seed}")
    order = noise.order
    if order is not None and (order.dtype != torch.int64 or order.shape != (batch,)):
        raise ValueError(
            f"order must be ({batch},) of torch.int64, the sequence of each row, got "
            f"{shape(order)} of {order.dtype}"
        )


def check_vector(name: str, vector: Tensor | None, width: int) -> None:
    """Check a gain, shift or bias, where there is one."""
    if vector is not None and vector.shape != (width,):
        raise ValueError(f"{name} must be ({width},), got {shape(vector)}")


def shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape as it reads best in a message."""
    return tuple(tensor.shape)


def check_resets(
    x: Tensor,
    resets: Tensor | None,
    states: dict[str, Tensor],
    reset_states: dict[str, Tensor | None],
) -> None:
    """Check the mask of resets and the states after them, whose names begin with "reset"."""
    given = [name for name, state in reset_states.items() if state is not None]
    if resets is None:
        if given:
            raise ValueError(f"{', '.join(given)} is what resets lead to, and needs resets")
        return
    if resets.dtype != torch.bool:
        raise ValueError(f"resets must be torch.bool, got {resets.dtype}")
    if resets.shape != x.shape[:-1]:
        raise ValueError(
            f"resets must be {shape(x)[:-1]}, a value for each step of x, got {shape(resets)}"
        )
    for (name, state), (reset_name, reset) in zip(
        states.items(), reset_states.items(), strict=True
    ):
        if reset is not None and reset.shape != state.shape:
            raise ValueError(f"{reset_name} must be {shape(state)} as {name}, got {shape(reset)}")
