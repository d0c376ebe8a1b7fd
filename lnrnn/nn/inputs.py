"""What layers and cells are given, checked: sizes, switches, dropout, input and state.

Dimensions: I input features.
"""

import warnings

import torch
from torch import Tensor

from lnrnn.checks import is_whole
from lnrnn.ops.checks import check_number


class ShapeError(ValueError, RuntimeError):
    """A shape does not fit: a ValueError, and a RuntimeError for code that catches torch's."""


def check_sizes(**sizes: int | None) -> None:
    """Check that every size is a positive whole number.

    Raises:
        ValueError: If one is below 1.
        TypeError: If one is not a whole number.
    """
    for name, size in sizes.items():
        if not is_whole(size):
            raise TypeError(f"{name} must be a whole number, got {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_switches(**switches: bool) -> None:
    """Check that every switch is a bool.

    Raises:
        TypeError: If one is something else.
    """
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, got {value!r}")


def check_fused(fused: bool | None) -> None:
    """Check what is said about fused kernels.

    Raises:
        TypeError: If it is neither None nor a bool.
    """
    if fused is not None and not isinstance(fused, bool):
        raise TypeError(f"fused must be None, True or False, got {fused!r}")


def check_projection(proj_size: int, hidden_size: int) -> None:
    """Check that a projection, if there is one, makes the hidden state smaller.

    Raises:
        ValueError: If ``proj_size`` is negative or not below ``hidden_size``.
        TypeError: If it is not a whole number.
    """
    if not is_whole(proj_size):
        raise TypeError(f"proj_size must be a whole number, got {proj_size!r}")
    if not 0 <= proj_size < hidden_size:
        raise ValueError(
            f"proj_size must be 0 (no projection) or between 0 and hidden_size, got "
            f"proj_size={proj_size} and hidden_size={hidden_size}"
        )


def check_dropout(dropout: float) -> None:
    """Check a probability of zeroing.

    Raises:
        ValueError: If it is not in [0, 1].
        TypeError: If it is not a number.
    """
    check_number("dropout", dropout)
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout must be in [0, 1], got {dropout}")


def check_dropout_between(dropout: float, num_layers: int) -> None:
    """Check the dropout between layers, and warn as torch does where there is no such place.

    The warning points at the line that builds the layer, three calls up.

    Raises:
        ValueError: If it is not in [0, 1].
        TypeError: If it is not a number.
    """
    check_dropout(dropout)
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            f"dropout acts between layers, so dropout={dropout} does nothing with num_layers=1; "
            "take more layers, or torch.nn.Dropout on the output",
            stacklevel=4,
        )


def check_input(x: object, layouts: dict[int, str], features: int, dtype: torch.dtype) -> None:
    """Check the input of a layer or cell.

    Args:
        x: The input.
        layouts: What each possible number of dimensions means.
        features: I, the features on the last axis.
        dtype: The weights' dtype, which the input must share unless autocast converts both.

    Raises:
        ShapeError: If dimensions or features do not fit.
        ValueError: If the dtype does not.
        TypeError: If it is not a tensor.
    """
    expected = " or ".join(layouts.values())
    if not isinstance(x, Tensor):
        raise TypeError(f"the input must be a tensor, {expected}, got {type(x).__name__}")
    if x.dim() not in layouts:
        dims = " or ".join(f"{d}D" for d in sorted(layouts))
        raise ShapeError(
            f"Expected input to be {dims}, got {x.dim()}D tensor instead: the input must be "
            f"{expected}, got shape {tuple(x.shape)}"
        )
    if x.shape[-1] != features:
        raise ShapeError(
            f"input.size(-1) must be equal to input_size. Expected {features}, got {x.shape[-1]}: "
            f"the input needs input_size={features} features on its last axis, "
            f"got shape {tuple(x.shape)}"
        )
    check_dtype(x, dtype)


def check_dtype(x: Tensor, dtype: torch.dtype) -> None:
    """Check that an input has the weights' dtype, unless autocast converts both.

    Raises:
        ValueError: If it has another.
    """
    if x.dtype != dtype and not _autocast_converts(x, dtype):
        other = f", or convert model: model.to({x.dtype})" if x.is_floating_point() else ""
        raise ValueError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({dtype}). "
            f"Convert input: input.to({dtype}){other}"
        )


def initial_state(
    state: tuple[Tensor, ...] | None,
    shapes: dict[str, tuple[int, ...]],
    x: Tensor,
    dtype: torch.dtype,
    *,
    normed: bool,
) -> tuple[Tensor, ...]:
    """Return the initial state of a layer or cell, checked, or zeros where none is given.

    Args:
        state: The tensors, or None.
        shapes: What each must be, by its name: "h_0" and "c_0", or "reset_h" and "reset_c".
        x: The input, whose dtype and device the zeros get.
        dtype: The weights' dtype, which a state must share unless autocast converts it.
        normed: Whether there is a norm inside the step.

    Raises:
        ShapeError: If a shape does not fit.
        ValueError: If a dtype does not.
    """
    if state is None:
        return tuple(x.new_zeros(shape) for shape in shapes.values())
    for i, (s, (name, shape)) in enumerate(zip(state, shapes.items(), strict=True)):
        if s.shape != shape:
            hidden = "hidden" if len(shapes) == 1 else f"hidden[{i}]"
            raise ShapeError(
                f"Expected {hidden} size {shape}, got {list(s.shape)}: {name} must be {shape} for "
                f"this input, got {tuple(s.shape)}"
            )
        dtypes = {dtype}
        if name in ("c_0", "reset_c") and normed:
            # The cell state comes out in float32 or better.
            dtypes.add(torch.promote_types(dtype, torch.float32))
        if s.dtype not in dtypes and not _autocast_converts(s, dtype):
            expected = " or ".join(sorted(map(str, dtypes)))
            raise ValueError(f"{name} must be {expected}, got {s.dtype}")
    return state


def check_resets(resets: object, shape: tuple[int, ...], layout: str) -> Tensor:
    """Return the mask of resets, checked.

    Args:
        resets: The mask.
        shape: What its shape must be.
        layout: What that means.

    Raises:
        ValueError: If shape or dtype does not fit.
        TypeError: If it is not a tensor.
    """
    if not isinstance(resets, Tensor):
        raise TypeError(f"resets must be a tensor, got {type(resets).__name__}")
    if resets.dtype != torch.bool:
        raise ValueError(f"resets must be torch.bool, got {resets.dtype}; convert with .bool()")
    if resets.shape != shape:
        raise ValueError(
            f"resets must be {layout}, {tuple(shape)} for this input, got {tuple(resets.shape)}"
        )
    return resets


def check_lengths(lengths: object, batch: int, steps: int) -> Tensor:
    """Return the lengths of padded sequences on the CPU, checked.

    Args:
        lengths: A tensor or a list of numbers.
        batch: B, the sequences.
        steps: T, the steps of the padded input.

    Raises:
        ValueError: If there is not one for each sequence, or one is not between 1 and T.
        TypeError: If they are not whole numbers.
    """
    found = torch.as_tensor(lengths).cpu()
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise TypeError(f"lengths must be whole numbers, got {found.dtype}")
    if found.shape != (batch,):
        raise ValueError(
            f"lengths must be ({batch},), one for each sequence, got {tuple(found.shape)}"
        )
    if batch and not 1 <= int(found.min()) <= int(found.max()) <= steps:
        raise ValueError(
            f"lengths must be between 1 and {steps}, the steps of the input, got {found.tolist()}"
        )
    return found.long()


def carried_dtype(c_0: Tensor | None, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a cell state with a norm inside the step comes out.

    Inside it is float32 or better. Out of it comes the weights' dtype, as from torch's layers; or,
    so that nothing is lost between two calls, that of a ``c_0`` that is wider.
    """
    return dtype if c_0 is None else torch.promote_types(dtype, c_0.dtype)


def _autocast_converts(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Return whether autocast brings a tensor and weights to one dtype; it leaves float64 alone."""
    return torch.is_autocast_enabled(tensor.device.type) and all(
        d.is_floating_point and d != torch.float64 for d in (tensor.dtype, dtype)
    )


def one_state(hx: object, cell: str) -> tuple[Tensor] | None:
    """Return the initial state of an RNN or GRU as a tuple.

    Raises:
        TypeError: If it is not a tensor.
    """
    if hx is None:
        return None
    if not isinstance(hx, Tensor):
        raise TypeError(f"the state of {cell} is one tensor h_0, got {type(hx).__name__}")
    return (hx,)


def two_states(hx: object, cell: str) -> tuple[Tensor, Tensor] | None:
    """Return the initial states of an LSTM as a tuple.

    Raises:
        TypeError: If they are not two tensors.
    """
    if hx is None:
        return None
    if isinstance(hx, tuple | list) and len(hx) == 2:
        h_0, c_0 = hx
        if isinstance(h_0, Tensor) and isinstance(c_0, Tensor):
            return h_0, c_0
    got = type(hx).__name__
    if isinstance(hx, tuple | list):
        parts = ", ".join(type(part).__name__ for part in hx)
        got = f"{got} of {parts}" if parts else f"an empty {got}"
    raise TypeError(f"the state of {cell} is a pair of tensors (h_0, c_0), got {got}")
