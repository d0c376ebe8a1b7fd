"""RNN, LSTM and GRU with `torch.nn`'s signature and a choice of norm.

Without a norm torch computes them; with ``norm="output"`` a layer norm follows torch's recurrence,
layer by layer; with ``norm="cell"`` or a `CellNorm` it is inside the step, run by `lnrnn.ops`.

Dimensions: T time steps, B sequences, I input features, H hidden units, R recurrent features
(``proj_size`` if set, else H), L layers, D directions.
"""

from typing import Any, Unpack, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lnrnn.nn.direction import Direction, run_gru, run_lstm, run_rnn
from lnrnn.nn.inputs import carried_dtype, one_state, two_states
from lnrnn.nn.norm import CellNorm
from lnrnn.nn.options import GRUOptions, LSTMOptions, RNNOptions
from lnrnn.nn.resets import Options
from lnrnn.nn.stack import Stack, State
from lnrnn.ops.checks import NONLINEARITIES, check_choice


class RNN(Stack, cell="rnn"):
    r"""Apply a multi-layer Elman RNN, with or without a norm.

    With ``norm="cell"`` one norm covers the sum of both projections, at every step:

    .. math:: h' = \tanh(g \odot N(W_{ih} x + b_{ih} + W_{hh} h) + b_{hh})

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the hidden state.
        num_layers: L, layers on top of one another.
        nonlinearity: "tanh" or "relu".
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        batch_first: Whether batched input and output are (B, T, ...) rather than (T, B, ...).
        dropout: Probability of dropping a value between layers.
        bidirectional: Whether a second direction reads each sequence from its end.
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None; "output" for a layer norm on each layer's output; "cell" for a norm inside the
            step; or a `CellNorm` for a variant of that.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs a norm inside the step: None where there is one, True or
            an error, False never.
        **options: What may be random in the steps, and other starts: see `RNNOptions`.

    Raises:
        ValueError: If a size, ``dropout`` or ``eps`` is out of range, a word is unknown, or there
            is too little to normalize.
        TypeError: If an argument is of the wrong type, or unknown.

    Example:
        >>> rnn = RNN(10, 20, batch_first=True, norm="output")
        >>> output, h_n = rnn(torch.randn(32, 20, 10))
        >>> output.shape, h_n.shape, torch.allclose(output.mean(-1), torch.zeros(32, 20), atol=1e-6)
        (torch.Size([32, 20, 20]), torch.Size([1, 32, 20]), True)

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, equation 4.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[RNNOptions],
    ) -> None:
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            norm=norm,
            eps=eps,
            fused=fused,
            options=options,
        )
        self.nonlinearity = nonlinearity

    @overload
    def forward(
        self, input: Tensor, hx: Tensor | None = None, **more: Unpack[Options]
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self, input: PackedSequence, hx: Tensor | None = None, **more: Unpack[Options]
    ) -> tuple[PackedSequence, Tensor]: ...

    def forward(self, input, hx=None, *, resets=None, reset_state=None, lengths=None):
        """Run the layers over whole sequences.

        Args:
            input: (T, B, I), or (B, T, I) if ``batch_first``, (T, I), or a `PackedSequence`.
            hx: Initial state, (L * D, B, H), or (L * D, H) for (T, I); zeros if not given.
            resets: Where the state before a step is replaced, bool, shaped as the input without its
                features; of a packed input, as it was before packing.
            reset_state: What it is replaced by, shaped as ``hx``; zeros if not given.
            lengths: Valid steps of each sequence, (B,): what follows them is not read, and put out
                as zeros.

        Returns:
            The last layer's output, laid out as the input with D * H features; and the final state,
            shaped as ``hx``, as it is before a norm on the output.

        Raises:
            ValueError: If a shape or dtype does not fit, or there is no time step.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        more = {"resets": resets, "reset_state": reset_state, "lengths": lengths}
        if (result := self._run_by_tool(input, hx, **more)) is not None:
            return result
        state, after = one_state(hx, "an RNN"), one_state(reset_state, "an RNN")
        output, state = self._run(input, state, resets, after, lengths)
        return output, state[0]

    def _run_direction(
        self, parameters: Direction, x: Tensor, state: State, **sequence: Any
    ) -> State:
        sequence["nonlinearity"] = self.nonlinearity
        return run_rnn(parameters, x, state[0], self._cell_norm, **sequence)


class LSTM(Stack, cell="lstm"):
    r"""Apply a multi-layer LSTM, with or without a norm.

    With ``norm="cell"`` both projections and the cell state are normalized, at every step:

    .. math::
        z &= g_{ih} \odot N(W_{ih} x + b_{ih}) + s_{ih} + g_{hh} \odot N(W_{hh} h) + b_{hh} \\
        c' &= \sigma(z_f) c + \sigma(z_i) \tanh(z_g), \qquad
        h' = \sigma(z_o) \tanh(g_c \odot N(c') + s_c)

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the cell state.
        num_layers: L, layers on top of one another.
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        batch_first: Whether batched input and output are (B, T, ...) rather than (T, B, ...).
        dropout: Probability of dropping a value between layers.
        bidirectional: Whether a second direction reads each sequence from its end.
        proj_size: R, features that the hidden state is projected to, less than H; 0 for none.
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None; "output" for a layer norm on each layer's output; "cell" for norms inside the
            step; or a `CellNorm` for a variant of that.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs a norm inside the step: None where there is one, True or
            an error, False never.
        **options: What may be random in the steps, and other starts: see `LSTMOptions`.

    Raises:
        ValueError: If a size, ``dropout`` or ``eps`` is out of range, a word is unknown, or there
            is too little to normalize.
        TypeError: If an argument is of the wrong type, or unknown.

    Example:
        A state dict of torch's layer fits; only gains and shifts are missing.

        >>> lstm = LSTM(10, 20, norm="cell")
        >>> lstm.load_state_dict(torch.nn.LSTM(10, 20).state_dict(), strict=False).missing_keys
        ['gain_ih_l0', 'shift_ih_l0', 'gain_hh_l0', 'gain_c_l0', 'shift_c_l0']

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, supplement, LSTM.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[LSTMOptions],
    ) -> None:
        super().__init__(
            "LSTM",
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            device=device,
            dtype=dtype,
            norm=norm,
            eps=eps,
            fused=fused,
            options=options,
        )

    @overload
    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, **more: Unpack[Options]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...

    @overload
    def forward(
        self,
        input: PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        **more: Unpack[Options],
    ) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...

    def forward(self, input, hx=None, *, resets=None, reset_state=None, lengths=None):
        """Run the layers over whole sequences.

        Args:
            input: (T, B, I), or (B, T, I) if ``batch_first``, (T, I), or a `PackedSequence`.
            hx: Initial states (h_0, c_0), (L * D, B, R) and (L * D, B, H), without B for (T, I);
                zeros if not given.
            resets: Where the state before a step is replaced, bool, shaped as the input without its
                features; of a packed input, as it was before packing.
            reset_state: What it is replaced by, shaped as ``hx``; zeros if not given.
            lengths: Valid steps of each sequence, (B,): what follows them is not read, and put out
                as zeros.

        Returns:
            The last layer's output, laid out as the input with D * R features; and the final states
            (h_n, c_n), shaped as ``hx``, as they are before a norm on the output. With a norm
            inside the step c_n has the weights' dtype, or that of a c_0 that is wider.

        Raises:
            ValueError: If a shape or dtype does not fit, or there is no time step.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        more = {"resets": resets, "reset_state": reset_state, "lengths": lengths}
        if (result := self._run_by_tool(input, hx, **more)) is not None:
            return result
        state, after = two_states(hx, "an LSTM"), two_states(reset_state, "an LSTM")
        output, (h_n, c_n) = self._run(input, state, resets, after, lengths)
        if self._cell_norm is not None:
            c_n = c_n.to(carried_dtype(None if hx is None else hx[1], self.weight_hh_l0.dtype))
        elif self._runs_in_ops:
            c_n = c_n.to(h_n.dtype)  # as torch's recurrence does
        return output, (h_n, c_n)

    def _run_direction(
        self, parameters: Direction, x: Tensor, state: State, **sequence: Any
    ) -> State:
        return run_lstm(parameters, x, state[0], state[1], self._cell_norm, **sequence)


class GRU(Stack, cell="gru"):
    r"""Apply a multi-layer GRU, with or without a norm.

    With ``norm="cell"`` both projections are normalized, at every step, with one norm over r and z
    and one over n:

    .. math::
        a &= g_{ih} \odot N(W_{ih} x + b_{ih}) + s_{ih}, \qquad
        u = g_{hh} \odot N(W_{hh} h) + b_{hh} \\
        r, z &= \sigma(a_{r,z} + u_{r,z}), \qquad n = \tanh(a_n + r \odot u_n) \\
        h' &= (1 - z) \odot n + z \odot h

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the hidden state.
        num_layers: L, layers on top of one another.
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        batch_first: Whether batched input and output are (B, T, ...) rather than (T, B, ...).
        dropout: Probability of dropping a value between layers.
        bidirectional: Whether a second direction reads each sequence from its end.
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None; "output" for a layer norm on each layer's output; "cell" for norms inside the
            step; or a `CellNorm` for a variant of that.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs a norm inside the step: None where there is one, True or
            an error, False never.
        **options: What may be random in the steps, and other starts: see `GRUOptions`.

    Raises:
        ValueError: If a size, ``dropout`` or ``eps`` is out of range, a word is unknown, or there
            is too little to normalize.
        TypeError: If an argument is of the wrong type, or unknown.

    Example:
        >>> gru = GRU(10, 20, bidirectional=True, norm="cell")
        >>> output, h_n = gru(torch.randn(7, 3, 10))
        >>> output.shape, h_n.shape, torch.equal(output[-1, :, :20], h_n[0])
        (torch.Size([7, 3, 40]), torch.Size([2, 3, 20]), True)

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, supplement, GRU.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[GRUOptions],
    ) -> None:
        super().__init__(
            "GRU",
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            device=device,
            dtype=dtype,
            norm=norm,
            eps=eps,
            fused=fused,
            options=options,
        )

    @overload
    def forward(
        self, input: Tensor, hx: Tensor | None = None, **more: Unpack[Options]
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self, input: PackedSequence, hx: Tensor | None = None, **more: Unpack[Options]
    ) -> tuple[PackedSequence, Tensor]: ...

    def forward(self, input, hx=None, *, resets=None, reset_state=None, lengths=None):
        """Run the layers over whole sequences.

        Args:
            input: (T, B, I), or (B, T, I) if ``batch_first``, (T, I), or a `PackedSequence`.
            hx: Initial state, (L * D, B, H), or (L * D, H) for (T, I); zeros if not given.
            resets: Where the state before a step is replaced, bool, shaped as the input without its
                features; of a packed input, as it was before packing.
            reset_state: What it is replaced by, shaped as ``hx``; zeros if not given.
            lengths: Valid steps of each sequence, (B,): what follows them is not read, and put out
                as zeros.

        Returns:
            The last layer's output, laid out as the input with D * H features; and the final state,
            shaped as ``hx``, as it is before a norm on the output.

        Raises:
            ValueError: If a shape or dtype does not fit, or there is no time step.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        more = {"resets": resets, "reset_state": reset_state, "lengths": lengths}
        if (result := self._run_by_tool(input, hx, **more)) is not None:
            return result
        state, after = one_state(hx, "a GRU"), one_state(reset_state, "a GRU")
        output, state = self._run(input, state, resets, after, lengths)
        return output, state[0]

    def _run_direction(
        self, parameters: Direction, x: Tensor, state: State, **sequence: Any
    ) -> State:
        return run_gru(parameters, x, state[0], self._cell_norm, **sequence)
