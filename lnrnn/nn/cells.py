"""One step of an RNN, LSTM or GRU, for input that arrives a step at a time.

A cell takes the names of `torch.nn`'s cells (``weight_ih``, ``gain_ih``: no ``_l0``) and computes
the numbers of the layer, so that a layer's parameters run in a cell once ``_l0`` is cut off.

A layer trained with zoneout, which acts in evaluation too, runs in a cell with the same zoneout.
While a cell is trained, each call draws masks of its own.

Dimensions: B sequences, I input features, H hidden units.
"""

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from lnrnn.nn import direction, inputs, tools
from lnrnn.nn.norm import CellNorm, as_cell_norm, check_cell_widths
from lnrnn.nn.options import (
    GRUCellOptions,
    LSTMCellOptions,
    RNNCellOptions,
    check_regularizers,
    read_options,
)
from lnrnn.nn.presets import FromPreset
from lnrnn.nn.regularizers import Regularizers
from lnrnn.nn.repeated import Repeating
from lnrnn.nn.starts import Starts
from lnrnn.ops.checks import NONLINEARITIES, check_choice, check_eps

State = tuple[Tensor, ...]


class _Cell(FromPreset, Repeating, tools.Recurrent):
    """Everything about the three cells but the step, as `torch.nn.RNNCellBase` is for torch's."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    # Of modules pickled without them too.
    _gains_seen = False
    regularizers = Regularizers()
    starts = Starts()

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | CellNorm | None,
        eps: float,
        fused: bool | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        cell = self._cell
        inputs.check_sizes(input_size=input_size, hidden_size=hidden_size)
        inputs.check_switches(bias=bias)
        inputs.check_fused(fused)
        check_eps(eps)
        self.regularizers, self.starts = read_options(options, cell, bias, step=True)
        if norm == "output":
            raise ValueError(
                'a cell has no norm="output": what it outputs is the state it carries, which that '
                "norm leaves alone; take norm=None and apply torch.nn.LayerNorm to the output "
                'yourself, or take norm="cell"'
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.norm = norm
        self.eps = eps
        self.fused = fused
        self._cell_norm = as_cell_norm(norm, cell)
        if self._cell_norm is not None:
            check_cell_widths(
                self._cell_norm,
                cell,
                input_size=input_size,
                recurrent_size=hidden_size,
                hidden_size=hidden_size,
                bias=bias,
            )
        weights = direction.weight_shapes(cell, input_size, hidden_size, 0, bias)
        affine = direction.affine_shapes(self._cell_norm, cell, hidden_size)
        self._weight_names = direction.add_parameters(self, "", weights, device, dtype)
        self._affine_names = direction.add_parameters(self, "", affine, device, dtype)
        self._gains_seen = norm is None
        if not bias:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases as torch does; set gains and shifts to their start undrawn."""
        direction.draw_weights(self, self._weight_names, self.hidden_size)
        gain_init = 1.0 if self._cell_norm is None else self._cell_norm.gain_init
        direction.set_affine(self, self._affine_names, gain_init)
        self._start_preset()
        self.starts.apply(self, "", self._cell, self._cell_norm, weights=True)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "regularizers":
            check_regularizers(value, self._cell, step=True)
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """Return torch's description, then the norm."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in {"bias": True, "nonlinearity": "tanh"}.items():
            value = getattr(self, name, default)  # only the RNN has a nonlinearity
            if value != default:
                parts.append(f"{name}={value}")
        if self.norm is not None:
            parts += [f"norm={self.norm!r}", f"eps={self.eps}"]
        options = self.regularizers.given() | self.starts.given()
        return ", ".join([*parts, *(f"{name}={value!r}" for name, value in options.items())])

    @property
    def _interrupts(self) -> bool:
        return self.training and self.regularizers.act(training=True)

    @property
    def _runs_in_ops(self) -> bool:
        """Whether `lnrnn.ops` runs the step, rather than torch's own cell."""
        return self._cell_norm is not None or self.regularizers.act(self.training)

    def _settings(self) -> dict[str, Any]:
        """Return what every cell's step in `lnrnn.ops` takes by keyword."""
        settings: dict[str, Any] = {"eps": self.eps, "fused": self.fused}
        if self.regularizers.act(self.training):
            seed = self.regularizers.draw_seed() if self.training else None
            settings["noise"] = self.regularizers.noise(seed, 0, None)
        return settings

    def _run(self, input: Tensor, state: State | None) -> State:
        """Run one step on (B, I) or (I,) and return the states, (B, H) or (H,)."""
        if not self._gains_seen:
            start = 1.0 if self._cell_norm is None else self._cell_norm.gain_init
            self._gains_seen = direction.warn_of_zero_gains(self, self._affine_names, start)
        inputs.check_input(input, {2: "(B, I)", 1: "(I,)"}, self.input_size, self.weight_hh.dtype)
        alone = input.dim() == 1
        x = input.unsqueeze(0) if alone else input
        shape = (*input.shape[:-1], self.hidden_size)
        shapes = {"h_0": shape, "c_0": shape} if self._cell == "lstm" else {"h_0": shape}
        normed = self._cell_norm is not None
        state = inputs.initial_state(state, shapes, x, self.weight_hh.dtype, normed=normed)
        if alone:
            state = tuple(s.unsqueeze(0) for s in state)
        state = self._watch(self._step, x, state) if normed else self._step(x, state)
        return tuple(s.squeeze(0) for s in state) if alone else state

    def _suffixes_of_directions(self) -> list[str]:
        return [""]

    def _step(self, x: Tensor, state: State) -> State:
        """Run one step on (B, I) from states (B, H)."""
        raise NotImplementedError(f"{type(self).__name__} does not say which cell it runs")

    def _torch_weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh


class RNNCell(_Cell, cell="rnn"):
    """Run one step of an Elman RNN; the equations stand at `lnrnn.RNN`.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the hidden state.
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        nonlinearity: "tanh" or "relu".
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None, "cell" or a `CellNorm`.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs the norm: None where there is one, True or an error.
        **options: Zoneout and where parameters start: `lnrnn.nn.options.RNNCellOptions`.

    Raises:
        ValueError: If a size or ``eps`` is out of range, a word is unknown, ``norm`` is "output",
            or there is too little to normalize.
        TypeError: If an argument is of the wrong type.

    Example:
        >>> cell = RNNCell(10, 20, norm="cell")
        >>> cell(torch.randn(3, 10)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[RNNCellOptions],
    ) -> None:
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        super().__init__(input_size, hidden_size, bias, device, dtype, norm, eps, fused, options)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the next hidden state, (B, H) or (H,).

        Args:
            input: One step, (B, I) or (I,).
            hx: Hidden state before it, (B, H) or (H,); zeros if not given.

        Raises:
            ValueError: If a shape or dtype does not fit.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        if (states := self._repeat(input, (hx,))) is not None:
            return states[0]
        if (result := self._run_by_tool(input, hx)) is not None:
            return result
        return self._run(input, inputs.one_state(hx, "an RNN cell"))[0]

    def _step(self, x: Tensor, state: State) -> State:
        if not self._runs_in_ops:
            tanh = self.nonlinearity == "tanh"
            torch_cell = torch._VF.rnn_tanh_cell if tanh else torch._VF.rnn_relu_cell
            return (torch_cell(x, state[0], *self._torch_weights()),)
        return direction.run_rnn(
            direction.Direction.of(self, ""),
            x.unsqueeze(0),
            state[0],
            self._cell_norm,
            nonlinearity=self.nonlinearity,
            **self._settings(),
        )[1:]


class LSTMCell(_Cell, cell="lstm"):
    """Run one step of an LSTM; the equations stand at `lnrnn.LSTM`.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the hidden and the cell state.
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None, "cell" or a `CellNorm`.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs the norm: None where there is one, True or an error.
        **options: Zoneout and where parameters start: `lnrnn.nn.options.LSTMCellOptions`.

    Raises:
        ValueError: If a size or ``eps`` is out of range, a word is unknown, ``norm`` is "output",
            or there is too little to normalize.
        TypeError: If an argument is of the wrong type.

    Example:
        The states go in as they came out.

        >>> cell = LSTMCell(10, 20, norm="cell")
        >>> h, c = cell(torch.randn(3, 10))
        >>> h, c = cell(torch.randn(3, 10), (h, c))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[LSTMCellOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, norm, eps, fused, options)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the next hidden and cell state, both (B, H) or (H,).

        With a norm the cell state has the weights' dtype, or that of a given one that is wider.

        Args:
            input: One step, (B, I) or (I,).
            hx: Hidden and cell state before it, both (B, H) or (H,); zeros if not given.

        Raises:
            ValueError: If a shape or dtype does not fit.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        if type(hx) is tuple and len(hx) == 2 and (states := self._repeat(input, hx)) is not None:
            return states[0], states[1]
        if (result := self._run_by_tool(input, hx)) is not None:
            return result
        h, c = self._run(input, inputs.two_states(hx, "an LSTM cell"))
        if self._runs_in_ops:
            c = c.to(inputs.carried_dtype(None if hx is None else hx[1], self.weight_hh.dtype))
        return h, c

    def _step(self, x: Tensor, state: State) -> State:
        if not self._runs_in_ops:
            return torch._VF.lstm_cell(x, state, *self._torch_weights())
        return direction.run_lstm(
            direction.Direction.of(self, ""),
            x.unsqueeze(0),
            state[0],
            state[1],
            self._cell_norm,
            **self._settings(),
        )[1:]


class GRUCell(_Cell, cell="gru"):
    """Run one step of a GRU; the equations stand at `lnrnn.GRU`.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the hidden state.
        bias: Whether there are torch's two biases; gains and shifts stay either way.
        device: Where the parameters are made.
        dtype: What dtype they have.
        norm: None, "cell" or a `CellNorm`.
        eps: Positive constant that the norm adds to the variance, inside the root.
        fused: Whether a fused kernel runs the norm: None where there is one, True or an error.
        **options: Zoneout and where parameters start: `lnrnn.nn.options.GRUCellOptions`.

    Raises:
        ValueError: If a size or ``eps`` is out of range, a word is unknown, ``norm`` is "output",
            or there is too little to normalize.
        TypeError: If an argument is of the wrong type.

    Example:
        >>> cell = GRUCell(10, 20, norm="cell")
        >>> cell(torch.randn(10), torch.zeros(20)).shape
        torch.Size([20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | CellNorm | None = None,
        eps: float = 1e-5,
        fused: bool | None = None,
        **options: Unpack[GRUCellOptions],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, norm, eps, fused, options)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the next hidden state, (B, H) or (H,).

        Args:
            input: One step, (B, I) or (I,).
            hx: Hidden state before it, (B, H) or (H,); zeros if not given.

        Raises:
            ValueError: If a shape or dtype does not fit.
            TypeError: If an argument is of the wrong type.
            NotImplementedError: If ``fused`` is True and there is no kernel for this call.
        """
        if (states := self._repeat(input, (hx,))) is not None:
            return states[0]
        if (result := self._run_by_tool(input, hx)) is not None:
            return result
        return self._run(input, inputs.one_state(hx, "a GRU cell"))[0]

    def _step(self, x: Tensor, state: State) -> State:
        if not self._runs_in_ops:
            return (torch._VF.gru_cell(x, state[0], *self._torch_weights()),)
        return direction.run_gru(
            direction.Direction.of(self, ""),
            x.unsqueeze(0),
            state[0],
            self._cell_norm,
            **self._settings(),
        )[1:]
