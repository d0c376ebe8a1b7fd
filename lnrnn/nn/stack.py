"""What RNN, LSTM and GRU share: layers and directions stacked, and every form of input.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, I input
features, H hidden units, R recurrent features (``proj_size`` if set, else H), L layers, D
directions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lnrnn.nn import direction, inputs, tools
from lnrnn.nn.layers import Layers, State
from lnrnn.nn.norm import CellNorm, as_cell_norm, check_cell_widths, check_output_width
from lnrnn.nn.options import check_regularizers, read_options
from lnrnn.nn.presets import FromPreset
from lnrnn.nn.resets import Resets, packed_rows
from lnrnn.nn.starts import Starts
from lnrnn.ops.checks import check_eps


class Stack(Layers, FromPreset, tools.Recurrent):
    """Everything about the three layers but the cell, as `torch.nn.RNNBase` is for torch's.

    It is a module of its own with torch's parameter names, since `torch.compile` refuses
    `torch.nn.RNNBase` and its subclasses. A subclass runs one direction of one layer
    (`Layers._run_direction`).

    Attributes:
        regularizers: What may be random inside the recurrence; another one may be assigned, such as
            ``dataclasses.replace(layer.regularizers, zoneout=0.05)`` while zoneout is annealed.
        starts: Where parameters start that do not start as torch's.
    """

    starts = Starts()  # of modules pickled without them too

    def __init__(
        self,
        mode: str,
        *,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int = 0,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        norm: str | CellNorm | None,
        eps: float,
        fused: bool | None,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        inputs.check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        inputs.check_switches(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        inputs.check_fused(fused)
        inputs.check_projection(proj_size, hidden_size)
        inputs.check_dropout_between(dropout, num_layers)
        check_eps(eps)
        self.regularizers, self.starts = read_options(options, self._cell, bias)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.norm = norm
        self.eps = eps
        self.fused = fused
        self._cell_norm = as_cell_norm(norm, self._cell)
        self._weight_names: list[list[str]] = []  # the parameters torch has too, layer by layer
        self._affine_names: list[str] = []
        self._gains_seen = norm is None
        for layer in range(num_layers):
            self._add_layer(layer, device, dtype)
        self.flatten_parameters()
        self.reset_parameters()

    @property
    def _interrupts(self) -> bool:
        return self._runs_in_python or self._regularized

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "regularizers":
            check_regularizers(value, self._cell)
        super().__setattr__(name, value)

    def _add_layer(
        self, layer: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        hidden_size, recurrent_size = self.hidden_size, self.proj_size or self.hidden_size
        output_size = recurrent_size * self._directions
        input_size = output_size if layer else self.input_size
        if self._cell_norm is not None:
            check_cell_widths(
                self._cell_norm,
                self._cell,
                input_size=input_size,
                recurrent_size=recurrent_size,
                hidden_size=hidden_size,
                bias=self.bias,
            )
        weights = direction.weight_shapes(
            self._cell, input_size, hidden_size, self.proj_size, self.bias
        )
        affine = direction.affine_shapes(self._cell_norm, self._cell, hidden_size)
        names: list[str] = []
        for suffix in self._suffixes(layer):
            names += direction.add_parameters(self, suffix, weights, device, dtype)
            self._affine_names += direction.add_parameters(self, suffix, affine, device, dtype)
        self._weight_names.append(names)
        if self.norm == "output":
            check_output_width(output_size)
            affine = {"gain_out": (output_size,), "shift_out": (output_size,)}
            self._affine_names += direction.add_parameters(
                self, f"_l{layer}", affine, device, dtype
            )

    def reset_parameters(self) -> None:
        """Draw weights and biases as torch does; set gains and shifts to their start undrawn."""
        names = [name for layer in self._weight_names for name in layer]
        direction.draw_weights(self, names, self.hidden_size)
        gain_init = 1.0 if self._cell_norm is None else self._cell_norm.gain_init
        direction.set_affine(self, self._affine_names, gain_init)
        self._start_preset()
        self._start(self.starts)

    def chrono_init(self, t_max: int) -> None:
        """Start gates so that a state is kept for 1 to ``t_max`` steps, now and at every reset.

        Args:
            t_max: The longest dependency that is expected, in steps, at least 3.

        Raises:
            ValueError: If the layer is an RNN, which has no gates; has no biases; or is made from
                a preset, which says where they start.
            TypeError: If ``t_max`` is not a whole number.

        Example:
            >>> import lnrnn
            >>> lstm = lnrnn.LSTM(3, 5, norm="cell")
            >>> lstm.chrono_init(100)
            >>> bool((lstm.bias_hh_l0[5:10] >= 0).all())
            True

        Reference:
            Tallec and Ollivier, "Can recurrent neural networks warp time?", arXiv:1804.11188.
        """
        if self._cell == "rnn":
            raise ValueError("chrono_init starts the biases of gates, and an RNN has none")
        if self._preset is not None:
            raise ValueError(
                f"chrono_init would start what the preset {self._preset.name!r} says the start of; "
                "build the layer without the preset"
            )
        options = {"chrono": t_max, "recurrent_init": self.starts.recurrent_init}
        _, starts = read_options(options, self._cell, self.bias)
        self._start(starts, weights=False)
        self.starts = starts

    def _start(self, starts: Starts, *, weights: bool = True) -> None:
        """Start what `Starts` says, behind everything that is drawn as without it."""
        for suffix in self._suffixes_of_directions():
            starts.apply(self, suffix, self._cell, self._cell_norm, weights=weights)

    def extra_repr(self) -> str:
        """Return torch's description, then the norm."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False}
        defaults |= {"dropout": 0.0, "bidirectional": False, "nonlinearity": "tanh"}
        for name, default in defaults.items():
            value = getattr(self, name, default)  # only the RNN has a nonlinearity
            if value != default:
                parts.append(f"{name}={value}")
        if self.norm is not None:
            parts += [f"norm={self.norm!r}", f"eps={self.eps}"]
        options = self.regularizers.given() | self.starts.given()
        return ", ".join([*parts, *(f"{name}={value!r}" for name, value in options.items())])

    def _run(
        self,
        input: Tensor | PackedSequence,
        state: State | None,
        resets: Tensor | None,
        reset_state: State | None,
        lengths: Tensor | list[int] | None,
    ) -> tuple[Tensor | PackedSequence, State]:
        """Bring any form of input to (T, B, I) or packed (N, I), run that, and form the output."""
        if not self._gains_seen:
            start = 1.0 if self._cell_norm is None else self._cell_norm.gain_init
            self._gains_seen = direction.warn_of_zero_gains(self, self._affine_names, start)
        if resets is None and reset_state is not None:
            raise ValueError("reset_state is the state after a reset, and needs resets")
        if lengths is not None:
            return self._run_lengths(input, state, resets, reset_state, lengths)
        if isinstance(input, PackedSequence):
            return self._run_packed(input, state, resets, reset_state)
        self._check_input(input, {3: "(B, T, I)" if self.batch_first else "(T, B, I)", 2: "(T, I)"})
        alone = input.dim() == 2
        transposed = self.batch_first and not alone
        x = input.unsqueeze(1) if alone else input.transpose(0, 1) if transposed else input
        if x.shape[0] == 0:
            raise inputs.ShapeError(
                "Expected sequence length to be larger than 0 in RNN: a sequence needs at least "
                f"one time step, got none in {tuple(input.shape)}"
            )
        batch = None if alone else x.shape[1]
        state = self._initial_state(state, x, batch)
        if alone:
            state = tuple(s.unsqueeze(1) for s in state)
        found = None
        if resets is not None:
            layout = "(T,)" if alone else "(B, T)" if transposed else "(T, B)"
            where = inputs.check_resets(resets, input.shape[:-1], layout).to(x.device)
            where = where.unsqueeze(1) if alone else where.t() if transposed else where
            after = self._reset_state(reset_state, x, batch)
            found = Resets(where, after and tuple(s.unsqueeze(1) if alone else s for s in after))
        output, state = self._run_layers(x, state, None, None, found)
        if alone:
            return output.squeeze(1), tuple(s.squeeze(1) for s in state)
        return output.transpose(0, 1) if transposed else output, state

    def _run_packed(
        self,
        input: PackedSequence,
        state: State | None,
        resets: Tensor | None,
        reset_state: State | None,
    ) -> tuple[PackedSequence, State]:
        """Run packed sequences, whose states come and go in the order they had before packing."""
        x, batch_sizes, order, restore = input
        self._check_input(x, {2: "packed (N, I)"})
        batch = int(batch_sizes[0])
        state = self._initial_state(state, x, batch)
        found = None
        if resets is not None:
            steps = len(batch_sizes)
            shape, layout = (
                ((batch, steps), "(B, T)") if self.batch_first else ((steps, batch), "(T, B)")
            )
            where = inputs.check_resets(resets, shape, layout).to(x.device)
            where = packed_rows(where.t() if self.batch_first else where, batch_sizes, order)
            found = Resets(where, self._reset_state(reset_state, x, batch))
        output, state = self._run_layers(x, state, batch_sizes, order, found)
        if restore is not None:
            state = tuple(s.index_select(1, restore) for s in state)
        return PackedSequence(output, batch_sizes, order, restore), state

    def _run_lengths(
        self,
        input: Tensor | PackedSequence,
        state: State | None,
        resets: Tensor | None,
        reset_state: State | None,
        lengths: Tensor | list[int],
    ) -> tuple[Tensor, State]:
        """Pack a padded batch, run it, and pad what comes out with zeros."""
        layout = "(B, T, I)" if self.batch_first else "(T, B, I)"
        if isinstance(input, PackedSequence):
            raise ValueError(f"lengths belong to a padded input, {layout}; this one is packed")
        self._check_input(input, {3: layout})
        batch, steps = input.shape[:2] if self.batch_first else input.shape[1::-1]
        why = (
            "their values say how many steps are read; give the padded batch, and mask what follows"
        )
        tools.check_recordable("lengths", why, traced=True)
        found = inputs.check_lengths(lengths, batch, steps)
        # A shortcut, which a trace would take for all lengths.
        if not torch.jit.is_tracing() and bool((found == steps).all()):  # pyright: ignore[reportPrivateImportUsage]
            output, state = self._run(input, state, resets, reset_state, None)
            assert isinstance(output, Tensor)
            return output, state
        if resets is not None:
            layout = layout.replace(", I", "")
            resets = inputs.check_resets(resets, input.shape[:-1], layout)
            resets = resets.narrow(int(self.batch_first), 0, int(found.max()))
        packed = pack_padded_sequence(input, found, self.batch_first, enforce_sorted=False)
        output, state = self._run_packed(packed, state, resets, reset_state)
        return pad_packed_sequence(output, self.batch_first, total_length=steps)[0], state

    def _check_input(self, x: Tensor, layouts: dict[int, str]) -> None:
        inputs.check_input(x, layouts, self.input_size, self.weight_hh_l0.dtype)

    def _initial_state(self, state: State | None, x: Tensor, batch: int | None) -> State:
        """Return the given state, checked, or zeros; each (L * D, B, R or H), without B if None."""
        return self._check_state(state, ("h_0", "c_0"), x, batch)

    def _reset_state(self, state: State | None, x: Tensor, batch: int | None) -> State | None:
        """Return the given state after a reset, checked, shaped as the initial one."""
        names = ("reset_h", "reset_c")
        return None if state is None else self._check_state(state, names, x, batch)

    def _check_state(
        self, state: State | None, names: tuple[str, str], x: Tensor, batch: int | None
    ) -> State:
        rows = self.num_layers * self._directions
        middle = () if batch is None else (batch,)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size]
        sizes = sizes if self._cell == "lstm" else sizes[:1]
        shapes = {name: (rows, *middle, size) for name, size in zip(names, sizes, strict=False)}
        normed = self._cell_norm is not None
        return inputs.initial_state(state, shapes, x, self.weight_hh_l0.dtype, normed=normed)
