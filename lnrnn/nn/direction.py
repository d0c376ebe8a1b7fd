"""One direction of one layer: its parameters, by torch's names, and its run over a sequence.

Layers and one-step cells are built of this, so that both compute the same numbers. In a layer each
name ends in ``_l0``, ``_l0_reverse``, ``_l1`` and so on; in a cell it stands alone.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lnrnn import ops
from lnrnn.nn.norm import CellNorm
from lnrnn.ops.gates import GATES
from lnrnn.ops.noise import Noise


class Direction(NamedTuple):
    """The parameters of one direction; None for those it does not have. G gate entries, H hidden.

    Attributes:
        weight_ih: Input-to-hidden weight, (G, I).
        weight_hh: Hidden-to-hidden weight, (G, R).
        bias_ih: Added to the input's projection, inside its norm, (G,).
        bias_hh: Added after the norm, (G,).
        weight_hr: Projection of the hidden state, (R, H).
        gain_ih: Scale after the input's norm, (G,), if it has one of its own.
        shift_ih: Added after the input's norm, (G,).
        gain_hh: Scale after the recurrent norm, (G,), if the two are apart.
        gain: Scale after the norm of the sum, (G,), if they are not.
        gain_c: Scale after the norm of the cell state, (H,).
        shift_c: Added after the norm of the cell state, (H,).
        shift: Added after a GRU's norm of the sum, (G,); its bias_hh is inside.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    gain_ih: Tensor | None
    shift_ih: Tensor | None
    gain_hh: Tensor | None
    gain: Tensor | None
    gain_c: Tensor | None
    shift_c: Tensor | None
    shift: Tensor | None

    @classmethod
    def of(cls, module: nn.Module, suffix: str) -> "Direction":
        """Read the parameters of ``module`` whose names end in ``suffix``."""
        parameters: list[Any] = [getattr(module, name + suffix, None) for name in cls._fields]
        return cls(*parameters)


def recurrent_gain(direction: Direction) -> Tensor | None:
    """Return the scale after the norm of the recurrent side, whichever name it goes by, if any.

    It is not a property, since torch.compile reads those of a named tuple from torch 2.11 on.
    """
    return direction.gain if direction.gain_hh is None else direction.gain_hh


def weight_shapes(
    cell: str, input_size: int, hidden_size: int, proj_size: int, bias: bool
) -> dict[str, tuple[int, ...]]:
    """Return the parameters that torch's layer has too, in torch's order, with their shapes."""
    gates = len(GATES[cell]) * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (gates, input_size),
        "weight_hh": (gates, proj_size or hidden_size),
    }
    if bias:
        shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
    if proj_size:
        shapes |= {"weight_hr": (proj_size, hidden_size)}
    return shapes


def affine_shapes(norm: CellNorm | None, cell: str, hidden_size: int) -> dict[str, tuple[int, ...]]:
    """Return the gains and shifts of the norms inside the step, with their shapes."""
    if norm is None:
        return {}
    gates = (len(GATES[cell]) * hidden_size,)
    if norm.is_joint(cell):
        shapes = {"gain": gates, "shift": gates} if cell == "gru" else {"gain": gates}
    else:
        of_sides = {"input": ("gain_ih", "shift_ih"), "recurrent": ("gain_hh",)}
        shapes = {name: gates for side in norm.sides(cell) for name in of_sides[side]}
    if cell == "lstm" and norm.cell is not None:
        shapes |= {"gain_c": (hidden_size,), "shift_c": (hidden_size,)}
    return shapes


def bias_behind(norm: CellNorm | None, cell: str) -> str:
    """Return the name of the bias behind all norms of the gates."""
    return "shift" if cell == "gru" and norm is not None and norm.is_joint("gru") else "bias_hh"


def add_parameters(
    module: nn.Module,
    suffix: str,
    shapes: dict[str, tuple[int, ...]],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> list[str]:
    """Register unset parameters on ``module`` and return their names."""
    for name, shape in shapes.items():
        parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        module.register_parameter(name + suffix, parameter)
    return [name + suffix for name in shapes]


def draw_weights(module: nn.Module, names: Iterable[str], hidden_size: int) -> None:
    """Draw torch's parameters as torch does: from U(-1/sqrt(H), 1/sqrt(H)), in the given order."""
    bound = 1 / math.sqrt(hidden_size)
    for name in names:
        nn.init.uniform_(module.get_parameter(name), -bound, bound)


def set_affine(module: nn.Module, names: Iterable[str], gain_init: float) -> None:
    """Set gains to ``gain_init`` and shifts to zero, without drawing."""
    for name in names:
        value = gain_init if name.startswith("gain") else 0.0
        nn.init.constant_(module.get_parameter(name), value)


def warn_of_zero_gains(module: nn.Module, names: Iterable[str], gain_init: float) -> bool:
    """Warn, at a module's first call, of a norm that puts out nothing but its shift.

    Initializations that draw matrices and set all else to zero do that in silence.

    Args:
        module: A layer or cell.
        names: Its gains and shifts.
        gain_init: What the gains started at; where that is 0, it is meant.

    Returns:
        Whether the parameters have been looked at: not where others stand in for them, while a call
        is compiled, transformed or without data.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return False
    gains = {name: getattr(module, name) for name in names if name.startswith("gain")}
    if not all(type(gain) is nn.Parameter and not gain.is_meta for gain in gains.values()):
        return False
    zero = [name for name, gain in gains.items() if gain_init and not gain.detach().any()]
    if zero:
        warnings.warn(
            f"every value of {', '.join(zero)} is 0, and what it scales is lost. An initialization "
            "that sets every one-dimensional parameter to 0 does that: leave out gains, or call "
            "reset_parameters()",
            stacklevel=6,  # past forward and the two calls by torch around it
        )
    return True


def run_rnn(
    direction: Direction,
    x: Tensor,
    h_0: Tensor,
    norm: CellNorm | None,
    *,
    nonlinearity: str,
    eps: float,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_state: Sequence[Tensor | None] = (None,),
    reverse: bool = False,
    fused: bool | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, ...]:
    """Run an RNN over ``x``, (T, B, I) or packed (N, I); return its output and final state.

    A norm that is None is none inside the step.
    """
    return ops.ln_rnn(
        x,
        h_0,
        direction.weight_hh,
        recurrent_gain(direction),
        direction.bias_hh,
        weight_ih=direction.weight_ih,
        bias_ih=direction.bias_ih,
        gain_ih=direction.gain_ih,
        shift_ih=direction.shift_ih,
        batch_sizes=batch_sizes,
        resets=resets,
        reset_h=reset_state[0],
        reverse=reverse,
        joint=norm is not None and norm.is_joint("rnn"),
        nonlinearity=nonlinearity,
        eps=eps,
        fused=fused,
        noise=noise,
        **({} if norm is None else {"kind": norm.kind}),
    )


def run_lstm(
    direction: Direction,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    norm: CellNorm | None,
    *,
    eps: float,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_state: Sequence[Tensor | None] = (None, None),
    reverse: bool = False,
    fused: bool | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, ...]:
    """Run an LSTM over ``x``, (T, B, I) or packed (N, I); return its output and final states."""
    return ops.ln_lstm(
        x,
        h_0,
        c_0,
        direction.weight_hh,
        recurrent_gain(direction),
        direction.bias_hh,
        direction.gain_c,
        direction.shift_c,
        direction.weight_hr,
        weight_ih=direction.weight_ih,
        bias_ih=direction.bias_ih,
        gain_ih=direction.gain_ih,
        shift_ih=direction.shift_ih,
        batch_sizes=batch_sizes,
        resets=resets,
        reset_h=reset_state[0],
        reset_c=reset_state[1],
        reverse=reverse,
        joint=norm is not None and norm.is_joint("lstm"),
        cell=None if norm is None else norm.cell,
        eps=eps,
        fused=fused,
        cell_clip=None if norm is None else norm.cell_clip,
        noise=noise,
        **({} if norm is None else {"span": norm.span, "kind": norm.kind}),
    )


def run_gru(
    direction: Direction,
    x: Tensor,
    h_0: Tensor,
    norm: CellNorm | None,
    *,
    eps: float,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_state: Sequence[Tensor | None] = (None,),
    reverse: bool = False,
    fused: bool | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, ...]:
    """Run a GRU over ``x``, (T, B, I) or packed (N, I); return its output and final state."""
    return ops.ln_gru(
        x,
        h_0,
        direction.weight_hh,
        recurrent_gain(direction),
        direction.bias_hh,
        weight_ih=direction.weight_ih,
        bias_ih=direction.bias_ih,
        gain_ih=direction.gain_ih,
        shift_ih=direction.shift_ih,
        batch_sizes=batch_sizes,
        resets=resets,
        reset_h=reset_state[0],
        reverse=reverse,
        eps=eps,
        fused=fused,
        joint=norm is not None and norm.is_joint("gru"),
        shift=direction.shift,
        noise=noise,
        **({} if norm is None else {"span": norm.span, "kind": norm.kind}),
    )
