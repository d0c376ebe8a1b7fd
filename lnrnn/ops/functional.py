"""Layer-normalized recurrences: what may be asked for, and who computes it.

Each function checks its arguments and chooses an implementation by device and dtype:
`lnrnn.ops.reference`, which also defines the numbers, or a fused kernel (`lnrnn.ops.fused`) where
there is one. Dimensions are those of `lnrnn.ops.reference`: T, B, N, I, H, R, G.

``fused`` means the same everywhere: None takes a fused kernel where there is one and the reference
elsewhere, True insists on a kernel, False insists on the reference.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lnrnn.ops import checks, cpu, cuda, reference
from lnrnn.ops import fused as kernels

TRITON = {"cuda"}  # devices whose kernels are in Triton; what Triton's interpreter adds, tests say


def project_input(
    x: Tensor,
    weight_ih: Tensor,
    bias_ih: Tensor | None = None,
    gain_ih: Tensor | None = None,
    shift_ih: Tensor | None = None,
    *,
    gates: int,
    span: str = "paper",
    kind: str = "layer",
    eps: float = 1e-5,
) -> Tensor:
    """Project the input of all steps at once and, if ``gain_ih`` is given, normalize it.

    Args:
        x: Input, (..., I): padded, packed or a single step.
        weight_ih: Input-to-hidden weight, (G, I).
        bias_ih: Added before the norm, (G,).
        gain_ih: Scale after the norm, (G,). Without it there is no norm on the input side.
        shift_ih: Added after the norm, (G,).
        gates: Gates of the cell the input is for: 1 for the RNN, 4 for the LSTM, 3 for the GRU.
        span: What one norm covers: "paper", "all" or "gate".
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared units of the projected input.

    Returns:
        What `ln_rnn`, `ln_lstm` and `ln_gru` take as ``x``, (..., G).

    Raises:
        ValueError: If a shape does not fit, ``eps`` is not positive or a choice is unknown.
    """
    checks.check_norm(kind, eps, span)
    vectors = {"bias_ih": bias_ih, "gain_ih": gain_ih, "shift_ih": shift_ih}
    checks.check_projection(x, weight_ih, gates, vectors)
    widths = reference.norm_widths(span, gates, weight_ih.shape[0] // gates)
    return reference.project_input(
        x, weight_ih, bias_ih, gain_ih, shift_ih, widths=widths, kind=kind, eps=eps
    )


def ln_rnn(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None = None,
    *,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    joint: bool = True,
    nonlinearity: str = "tanh",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one direction of an Elman RNN with a norm inside the step.

    The equations stand at `lnrnn.ops.reference.ln_rnn`.

    Args:
        x: Projected input, (T, B, H), or packed, (N, H). If not ``joint``, already normalized.
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (H, H).
        gain: Scale after the norm, (H,).
        bias_hh: Added after the norm, (H,).
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        nonlinearity: "tanh" or "relu".
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.

    Returns:
        The hidden states, laid out as ``x``, and the final one, (B, H).

    Raises:
        ValueError: If a shape does not fit, there is no time step, ``eps`` is not positive or a
            choice is unknown.
        NotImplementedError: If ``fused`` is True and no kernel covers the call.
    """
    checks.check_norm(kind, eps, "paper")
    checks.check_choice("nonlinearity", nonlinearity, checks.NONLINEARITIES)
    sizes = checks.check_sequence(x, h_0, batch_sizes)
    checks.check_recurrence(x, h_0, weight_hh, gain, bias_hh, gates=1)
    again = partial(
        reference.ln_rnn,
        batch_sizes=sizes,
        reverse=reverse,
        joint=joint,
        nonlinearity=nonlinearity,
        kind=kind,
        eps=eps,
    )
    tensors = (x, h_0, weight_hh, gain, bias_hh)
    if not _takes_kernel("ln_rnn", fused, tensors):
        return again(*tensors)
    options = (reverse, joint, nonlinearity == "relu", kind == "layer", eps)
    return kernels.run(kernels.RNN, tensors, batch_sizes, options, again)


def ln_lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None = None,
    gain_c: Tensor | None = None,
    shift_c: Tensor | None = None,
    weight_hr: Tensor | None = None,
    *,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    joint: bool = False,
    span: str = "paper",
    cell: str | None = "output",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction of an LSTM with norms inside the step.

    The equations stand at `lnrnn.ops.reference.ln_lstm`; gates are in torch's order i, f, g, o.

    Args:
        x: Projected input, (T, B, 4H), or packed, (N, 4H). If not ``joint``, already normalized.
        h_0: Hidden state before the first step, (B, R).
        c_0: Cell state before the first step, (B, H), in ``h_0``'s dtype or float32.
        weight_hh: Hidden-to-hidden weight, (4H, R).
        gain: Scale after the recurrent (or joint) norm, (4H,).
        bias_hh: Added after the recurrent (or joint) norm, (4H,).
        gain_c: Scale after the cell's norm, (H,); needed unless ``cell`` is None.
        shift_c: Added after the cell's norm, (H,).
        weight_hr: Projection of the hidden state, (R, H); without it R is H.
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        span: What one norm covers: "paper" or "all" for the four gates, "gate" for one.
        cell: "output" normalizes the cell state on its way to the hidden state, "state" also
            carries it normalized, None leaves it alone.
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.

    Returns:
        The hidden states, laid out as ``x``; the final hidden state, (B, R); the final cell state,
        (B, H), in float32 or better.

    Raises:
        ValueError: If a shape does not fit, there is no time step, ``eps`` is not positive or a
            choice is unknown.
        NotImplementedError: If ``fused`` is True and no kernel covers the call.
    """
    checks.check_norm(kind, eps, span)
    checks.check_choice("cell", cell, checks.CELL_NORMS)
    sizes = checks.check_sequence(x, h_0, batch_sizes)
    checks.check_recurrence(x, h_0, weight_hh, gain, bias_hh, gates=4)
    checks.check_cell_state(h_0, c_0, weight_hh, weight_hr, gain_c, shift_c, cell)
    again = partial(
        reference.ln_lstm,
        batch_sizes=sizes,
        reverse=reverse,
        joint=joint,
        span=span,
        cell=cell,
        kind=kind,
        eps=eps,
    )
    tensors = (x, h_0, c_0, weight_hh, gain, bias_hh, gain_c, shift_c, weight_hr)
    if not _takes_kernel("ln_lstm", fused, tensors):
        return again(*tensors)
    spans = reference.norm_widths(span, 4, 1)  # in gates
    options = (reverse, joint, spans, cell, kind == "layer", eps)
    return kernels.run(kernels.LSTM, tensors, batch_sizes, options, again)


def ln_gru(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor,
    bias_hh: Tensor | None = None,
    *,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
    span: str = "paper",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one direction of a GRU with norms inside the step.

    The equations stand at `lnrnn.ops.reference.ln_gru`; gates are in torch's order r, z, n.

    Args:
        x: Projected and normalized input, (T, B, 3H), or packed, (N, 3H).
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (3H, H).
        gain: Scale after the recurrent norm, (3H,).
        bias_hh: Added after the recurrent norm, (3H,).
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        reverse: Whether to run from each sequence's last step to its first.
        span: What one norm covers: "paper" for r and z together and n apart, "all", or "gate".
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.

    Returns:
        The hidden states, laid out as ``x``, and the final one, (B, H).

    Raises:
        ValueError: If a shape does not fit, there is no time step, ``eps`` is not positive or a
            choice is unknown.
        NotImplementedError: If ``fused`` is True and no kernel covers the call.
    """
    checks.check_norm(kind, eps, span)
    sizes = checks.check_sequence(x, h_0, batch_sizes)
    checks.check_recurrence(x, h_0, weight_hh, gain, bias_hh, gates=3)
    again = partial(
        reference.ln_gru,
        batch_sizes=sizes,
        reverse=reverse,
        span=span,
        kind=kind,
        eps=eps,
    )
    tensors = (x, h_0, weight_hh, gain, bias_hh)
    if not _takes_kernel("ln_gru", fused, tensors):
        return again(*tensors)
    spans = reference.norm_widths(span, 3, 1)  # in gates
    options = (reverse, spans, kind == "layer", eps)
    return kernels.run(kernels.GRU, tensors, batch_sizes, options, again)


def _takes_kernel(op: str, fused: bool | None, tensors: Sequence[Tensor | None]) -> bool:
    """Return whether a fused kernel runs the call; raise if one is insisted on and cannot."""
    if fused is False:
        return False
    given = [t for t in tensors if t is not None]
    why = _uncovered(given) or _unavailable(given[0].device.type)
    if why is not None and fused:
        raise NotImplementedError(
            f"fused=True insists on a fused kernel, and this call of {op} has none: {why}; "
            "fused=None or fused=False runs the reference, which gives the same numbers"
        )
    return why is None


def _uncovered(tensors: Sequence[Tensor]) -> str | None:
    """Return what about the tensors no kernel covers, if anything."""
    devices = sorted({str(t.device) for t in tensors})
    device = tensors[0].device.type
    if len(devices) > 1 or device not in {"cpu", *TRITON}:
        return f"kernels are for one cpu or cuda device, and tensors are on {', '.join(devices)}"
    if device in TRITON:
        return cuda.uncovered(tensors)
    if torch.is_autocast_enabled("cpu"):
        return "kernels do not run under autocast"
    dtypes = {t.dtype for t in tensors}
    if dtypes not in ({torch.float32}, {torch.float64}):
        names = ", ".join(sorted(map(str, dtypes)))
        return f"kernels take torch.float32 or torch.float64 throughout, and tensors are in {names}"
    return None


def _unavailable(device: str) -> str | None:
    """Return why this machine has no kernels for a device, if so; the first call builds them."""
    return cuda.missing() if device in TRITON else cpu.missing()


# What torch.compiler.assume_constant_result does, which would import all of torch.compile for it.
_unavailable._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
