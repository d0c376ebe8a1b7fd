"""Layer-normalized recurrences: what may be asked for, and its checks.

Each function checks its arguments and chooses an implementation by device and dtype:
`lnrnn.ops.reference`, which also defines the numbers, or a fused kernel (`lnrnn.ops.fused`) where
there is one. Dimensions are those of `lnrnn.ops.reference`: T, B, N, I, H, R, G.

``fused`` means the same everywhere: None takes a fused kernel where there is one and the reference
elsewhere, True insists on a kernel, False insists on the reference.
"""

from functools import partial

from torch import Tensor

from lnrnn.ops import checks, reference
from lnrnn.ops import fused as kernels
from lnrnn.ops.choice import projected, run_kernel, takes_kernel
from lnrnn.ops.noise import Noise, draw
from lnrnn.ops.recording import is_for_onnx
from lnrnn.ops.resets import begin


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
    gain: Tensor | None,
    bias_hh: Tensor | None = None,
    *,
    weight_ih: Tensor | None = None,
    bias_ih: Tensor | None = None,
    gain_ih: Tensor | None = None,
    shift_ih: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_h: Tensor | None = None,
    reverse: bool = False,
    joint: bool = True,
    nonlinearity: str = "tanh",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one direction of an Elman RNN with a norm inside the step.

    The equations stand at `lnrnn.ops.reference.ln_rnn`.

    Args:
        x: Input, (T, B, I), or packed, (N, I). Without ``weight_ih`` it has been projected,
            (..., H), and, if not ``joint``, normalized: see `project_input`.
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (H, H).
        gain: Scale after the norm, (H,); without it the recurrent side has none.
        bias_hh: Added after the norm, (H,).
        weight_ih: Input-to-hidden weight, (H, I), where ``x`` is to be projected here.
        bias_ih: Added to the projection, before its norm, (H,).
        gain_ih: Scale after the norm of the projection, (H,), if it has one of its own.
        shift_ih: Added after that norm, (H,).
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        resets: Where the state before a step is replaced, bool, (T, B) or (N,).
        reset_h: What it is replaced by, as ``h_0``; zeros if not given.
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        nonlinearity: "tanh" or "relu".
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.
        noise: What is random inside the steps.

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
    checks.check_recurrence(h_0, weight_hh, gain, bias_hh, gates=kernels.RNN.gates, joint=joint)
    checks.check_noise(noise, ("zoneout_c", "recurrent_dropout"), h_0.shape[0])
    inputs = (weight_ih, bias_ih, gain_ih, shift_ih)
    checks.check_inputs(x, weight_hh, *inputs, gates=kernels.RNN.gates, joint=joint)
    checks.check_resets(x, resets, {"h_0": h_0}, {"reset_h": reset_h})
    cuts, (h_0,) = begin(resets, (h_0,), (reset_h,), sizes, reverse)
    drawn = draw(noise, x, sizes, h_0.shape[-1], h_0.shape[-1])
    recurrence = partial(
        reference.ln_rnn,
        batch_sizes=sizes,
        cuts=cuts,
        reverse=reverse,
        joint=joint,
        nonlinearity=nonlinearity,
        kind=kind,
        eps=eps,
        drawn=drawn,
    )
    project = partial(projected, op=kernels.RNN, span="paper", kind=kind, eps=eps)
    tensors = (x, h_0, weight_hh, gain, bias_hh, *inputs, reset_h)
    if not takes_kernel(kernels.RNN, fused, tensors, _lacking(gain, x)):
        return recurrence(*project(*tensors))
    options = (reverse, joint, nonlinearity == "relu", kind == "layer", eps)
    random = kernels.Random.of(kernels.RNN, drawn)
    return run_kernel(kernels.RNN, tensors, batch_sizes, cuts, random, options, project, recurrence)


def ln_lstm(
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None = None,
    gain_c: Tensor | None = None,
    shift_c: Tensor | None = None,
    weight_hr: Tensor | None = None,
    *,
    weight_ih: Tensor | None = None,
    bias_ih: Tensor | None = None,
    gain_ih: Tensor | None = None,
    shift_ih: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_h: Tensor | None = None,
    reset_c: Tensor | None = None,
    reverse: bool = False,
    joint: bool = False,
    span: str = "paper",
    cell: str | None = "output",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
    cell_clip: float | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one direction of an LSTM with norms inside the step.

    The equations stand at `lnrnn.ops.reference.ln_lstm`; gates are in torch's order i, f, g, o.

    Args:
        x: Input, (T, B, I), or packed, (N, I). Without ``weight_ih`` it has been projected,
            (..., 4H), and, if not ``joint``, normalized: see `project_input`.
        h_0: Hidden state before the first step, (B, R).
        c_0: Cell state before the first step, (B, H), in ``h_0``'s dtype or float32.
        weight_hh: Hidden-to-hidden weight, (4H, R).
        gain: Scale after the recurrent (or joint) norm, (4H,); without it there is none.
        bias_hh: Added after the recurrent (or joint) norm, (4H,).
        gain_c: Scale after the cell's norm, (H,); needed unless ``cell`` is None.
        shift_c: Added after the cell's norm, (H,).
        weight_hr: Projection of the hidden state, (R, H); without it R is H.
        weight_ih: Input-to-hidden weight, (4H, I), where ``x`` is to be projected here.
        bias_ih: Added to the projection, before its norm, (4H,).
        gain_ih: Scale after the norm of the projection, (4H,), if it has one of its own.
        shift_ih: Added after that norm, (4H,).
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        resets: Where the state before a step is replaced, bool, (T, B) or (N,).
        reset_h: What it is replaced by, as ``h_0``; zeros if not given.
        reset_c: What the cell state is replaced by, as ``c_0``; zeros if not given.
        reverse: Whether to run from each sequence's last step to its first.
        joint: Whether one norm covers the sum of both sides, rather than the recurrent side alone.
        span: What one norm covers: "paper" or "all" for the four gates, "gate" for one.
        cell: "output" normalizes the cell state on its way to the hidden state, "state" also
            carries it normalized, "carried" does so and shows the hidden state what it was before
            its norm, None leaves it alone.
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.
        cell_clip: What the new cell state is clipped to, on both sides of 0; None for nothing.
        noise: What is random inside the steps.

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
    if cell_clip is not None:
        checks.check_positive("cell_clip", cell_clip)
    sizes = checks.check_sequence(x, h_0, batch_sizes)
    checks.check_recurrence(h_0, weight_hh, gain, bias_hh, gates=kernels.LSTM.gates, joint=joint)
    checks.check_noise(noise, (), h_0.shape[0])
    inputs = (weight_ih, bias_ih, gain_ih, shift_ih)
    checks.check_inputs(x, weight_hh, *inputs, gates=kernels.LSTM.gates, joint=joint)
    checks.check_cell_state(h_0, c_0, weight_hh, weight_hr, gain_c, shift_c, cell)
    reset_states = {"reset_h": reset_h, "reset_c": reset_c}
    checks.check_resets(x, resets, {"h_0": h_0, "c_0": c_0}, reset_states)
    cuts, (h_0, c_0) = begin(resets, (h_0, c_0), (reset_h, reset_c), sizes, reverse)
    drawn = draw(noise, x, sizes, h_0.shape[-1], c_0.shape[-1])
    recurrence = partial(
        reference.ln_lstm,
        batch_sizes=sizes,
        cuts=cuts,
        reverse=reverse,
        joint=joint,
        span=span,
        cell=cell,
        kind=kind,
        eps=eps,
        cell_clip=cell_clip,
        drawn=drawn,
    )
    project = partial(projected, op=kernels.LSTM, span=span, kind=kind, eps=eps)
    tensors = (x, h_0, c_0, weight_hh, gain, bias_hh, gain_c, shift_c, weight_hr)
    tensors = (*tensors, *inputs, reset_h, reset_c)
    lacking = _lacking(gain, x, cell=cell, clip=cell_clip)
    if not takes_kernel(kernels.LSTM, fused, tensors, lacking):
        return recurrence(*project(*tensors))
    spans = reference.norm_widths(span, kernels.LSTM.gates, 1)  # in gates
    options = (reverse, joint, spans, cell, kind == "layer", eps)
    random = kernels.Random.of(kernels.LSTM, drawn)
    return run_kernel(
        kernels.LSTM, tensors, batch_sizes, cuts, random, options, project, recurrence
    )


def ln_gru(
    x: Tensor,
    h_0: Tensor,
    weight_hh: Tensor,
    gain: Tensor | None,
    bias_hh: Tensor | None = None,
    *,
    weight_ih: Tensor | None = None,
    bias_ih: Tensor | None = None,
    gain_ih: Tensor | None = None,
    shift_ih: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reset_h: Tensor | None = None,
    reverse: bool = False,
    span: str = "paper",
    kind: str = "layer",
    eps: float = 1e-5,
    fused: bool | None = None,
    joint: bool = False,
    shift: Tensor | None = None,
    noise: Noise | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one direction of a GRU with norms inside the step.

    The equations stand at `lnrnn.ops.reference.ln_gru`; gates are in torch's order r, z, n.

    Args:
        x: Input, (T, B, I), or packed, (N, I). Without ``weight_ih`` it has been projected and,
            if not ``joint``, normalized, (..., 3H): see `project_input`.
        h_0: Hidden state before the first step, (B, H).
        weight_hh: Hidden-to-hidden weight, (3H, H).
        gain: Scale after the recurrent (or joint) norm, (3H,); without it there is none.
        bias_hh: Added after the recurrent norm, or to the product if ``joint``, (3H,).
        weight_ih: Input-to-hidden weight, (3H, I), where ``x`` is to be projected here.
        bias_ih: Added to the projection, before its norm, (3H,).
        gain_ih: Scale after the norm of the projection, (3H,), if it has one of its own.
        shift_ih: Added after that norm, (3H,).
        batch_sizes: Live sequences at each step of a packed ``x``, (T,), int64 on the CPU.
        resets: Where the state before a step is replaced, bool, (T, B) or (N,).
        reset_h: What it is replaced by, as ``h_0``; zeros if not given.
        reverse: Whether to run from each sequence's last step to its first.
        span: What one norm covers: "paper" for r and z together and n apart, "all", or "gate".
        kind: "layer" or "rms".
        eps: Positive constant inside the root, in squared pre-activation units.
        fused: None, True or False; see the module.
        joint: Whether norms cover the sum of both sides; there are no kernels for that.
        shift: Added after a joint norm, (3H,).
        noise: What is random inside the steps.

    Returns:
        The hidden states, laid out as ``x``, and the final one, (B, H).

    Raises:
        ValueError: If a shape does not fit, there is no time step, ``eps`` is not positive or a
            choice is unknown.
        NotImplementedError: If ``fused`` is True and no kernel covers the call.
    """
    checks.check_norm(kind, eps, span)
    sizes = checks.check_sequence(x, h_0, batch_sizes)
    checks.check_recurrence(h_0, weight_hh, gain, bias_hh, gates=kernels.GRU.gates, joint=joint)
    checks.check_noise(noise, ("zoneout_c",), h_0.shape[0])
    inputs = (weight_ih, bias_ih, gain_ih, shift_ih)
    checks.check_inputs(x, weight_hh, *inputs, gates=kernels.GRU.gates, joint=joint)
    checks.check_vector("shift", shift, weight_hh.shape[0])
    if shift is not None and not joint:
        raise ValueError("shift follows a joint norm of the GRU, and joint is False")
    checks.check_resets(x, resets, {"h_0": h_0}, {"reset_h": reset_h})
    cuts, (h_0,) = begin(resets, (h_0,), (reset_h,), sizes, reverse)
    drawn = draw(noise, x, sizes, h_0.shape[-1], h_0.shape[-1])
    recurrence = partial(
        reference.ln_gru,
        batch_sizes=sizes,
        cuts=cuts,
        reverse=reverse,
        span=span,
        kind=kind,
        eps=eps,
        joint=joint,
        shift=shift,
        drawn=drawn,
    )
    project = partial(projected, op=kernels.GRU, span=span, kind=kind, eps=eps)
    tensors = (x, h_0, weight_hh, gain, bias_hh, *inputs, reset_h)
    if not takes_kernel(kernels.GRU, fused, tensors, _lacking(gain, x, joint_gru=joint)):
        return recurrence(*project(*tensors))
    spans = reference.norm_widths(span, kernels.GRU.gates, 1)  # in gates
    options = (reverse, spans, kind == "layer", eps)
    random = kernels.Random.of(kernels.GRU, drawn)
    return run_kernel(kernels.GRU, tensors, batch_sizes, cuts, random, options, project, recurrence)


def _lacking(
    gain: Tensor | None,
    x: Tensor,
    *,
    joint_gru: bool = False,
    cell: str | None = None,
    clip: float | None = None,
) -> str | None:
    """Return what of a call no kernel computes, if anything."""
    found = {
        "a recurrence without a norm on its recurrent side": gain is None
        and (x.device.type != "cpu" or is_for_onnx()),
        "a norm of the sum in a GRU": joint_gru,
        "a cell state that is carried normalized and seen as it was": cell == "carried",
        "a cell state that is clipped": clip is not None,
    }
    missing = [what for what, asked in found.items() if asked]
    return f"{missing[0]} is computed by the reference alone" if missing else None
