"""Encoders: features or tokens in, one feature vector for every step out.

What every encoder shows besides ``forward`` is in ``protocol.py``.

Dimensions: B batch, T time steps, I input features, H hidden units, F output size.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lnrnn.models.checks import check_lengths, valid_steps
from lnrnn.nn import GRU, LSTM, RNN, CellNorm, TransformerLayer
from lnrnn.nn.inputs import check_dropout, check_dtype, check_sizes, check_switches

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class RecurrentEncoder(nn.Module):
    """Run an RNN, LSTM or GRU over the features as they are, or over embedded tokens.

    Args:
        cell: "rnn", "lstm" or "gru".
        num_features: I, where the input is features.
        num_tokens: Number of different tokens, where the input is tokens.
        embedding_size: Width of a token's vector; ``hidden_size`` where it is None.
        projection: Width of a linear layer between the input and the recurrence, or None for none.
        hidden_size: H; the output size is H, or 2 H if bidirectional.
        num_layers: Recurrent layers, one reading the other.
        norm: None, "output" (after each layer), "cell" (inside the step) or a ``CellNorm``.
        eps: Positive constant added to the variance in every norm.
        dropout: Probability of zeroing an output of any layer, the last one included, in [0, 1].
        bidirectional: Whether a second recurrence reads the sequence backward.
        fused: None takes a fused kernel where there is one, True demands it, False refuses it.
        zoneout: Probability of keeping a unit of the hidden state as it was before a step.
        zoneout_c: The same for the LSTM's cell state.
        recurrent_dropout: Probability of zeroing a unit of an LSTM's or GRU's candidate.
        variational_dropout: Probability of zeroing a unit of what W_hh reads, for a whole sequence.
        weight_drop: Probability of zeroing an entry of W_hh.
        recurrent_init: "orthogonal" for a W_hh that starts orthogonal.
        forget_bias: What an LSTM's forget gate starts with.
        update_bias: What a GRU's z starts with, the share of the old state that is kept.
        chrono: The longest dependency that is expected, in steps: gates start accordingly.

    Raises:
        TypeError: If a size is not a whole number, a switch not a bool, or ``eps`` or ``dropout``
            not a number, or this cell has no such thing.
        ValueError: If ``cell`` is unknown, not exactly one of ``num_features`` and ``num_tokens``
            is given, ``embedding_size`` is given for features, a size is not positive, or the layer
            refuses its arguments.

    Example:
        A sequence in a padded batch gives what it gives alone.

        >>> encoder = RecurrentEncoder("gru", num_features=3, hidden_size=5, norm="output")
        >>> x = torch.randn(2, 7, 3)
        >>> padded, _ = encoder(x, torch.tensor([4, 7]))
        >>> alone, _ = encoder(x[:1, :4])
        >>> torch.allclose(padded[0, :4], alone[0], atol=1e-6)
        True
    """

    def __init__(
        self,
        cell: Literal["rnn", "lstm", "gru"],
        *,
        num_features: int | None = None,
        num_tokens: int | None = None,
        embedding_size: int | None = None,
        projection: int | None = None,
        hidden_size: int = 64,
        num_layers: int = 1,
        norm: Literal["output", "cell"] | CellNorm | None = None,
        eps: float = 1e-5,
        dropout: float = 0.0,
        bidirectional: bool = False,
        fused: bool | None = None,
        zoneout: float = 0.0,
        zoneout_c: float = 0.0,
        recurrent_dropout: float = 0.0,
        variational_dropout: float = 0.0,
        weight_drop: float = 0.0,
        recurrent_init: Literal["orthogonal"] | None = None,
        forget_bias: float | None = None,
        update_bias: float | None = None,
        chrono: int | None = None,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell is one of {', '.join(CELLS)}, got {cell!r}")
        check_sizes(hidden_size=hidden_size, num_layers=num_layers)
        check_switches(bidirectional=bidirectional)
        check_dropout(dropout)
        _check_input_kind(num_features, num_tokens)
        if embedding_size is not None and num_tokens is None:
            raise ValueError(
                f"embedding_size={embedding_size} is for tokens; the width of a linear layer on "
                "features is projection"
            )
        self.num_features = num_features
        self.bidirectional = self.looks_ahead = bidirectional
        self.carries_state = not bidirectional
        self.output_size = (1 + bidirectional) * hidden_size
        self._state_size = 2 if cell == "lstm" else 1
        size = num_features
        self.embedding = self.projection = None
        if num_tokens is not None:
            size = hidden_size if embedding_size is None else embedding_size
            check_sizes(embedding_size=size)
            self.embedding = nn.Embedding(num_tokens, size)
        assert size is not None
        if projection is not None:
            check_sizes(projection=projection)
            self.projection = nn.Linear(size, projection)
            size = projection
        rates = {"zoneout": zoneout, "zoneout_c": zoneout_c, "weight_drop": weight_drop}
        rates |= {"recurrent_dropout": recurrent_dropout}
        rates |= {"variational_dropout": variational_dropout}
        starts = {"recurrent_init": recurrent_init, "chrono": chrono}
        starts |= {"forget_bias": forget_bias, "update_bias": update_bias}
        # The layer refuses what its cell does not have, so it gets what is asked for.
        options: dict[str, Any] = {n: v for n, v in rates.items() if v or isinstance(v, bool)}
        options |= {n: v for n, v in starts.items() if v is not None}
        make: Any = CELLS[cell]
        self.layer: RNN | LSTM | GRU = make(
            size,
            hidden_size,
            num_layers,
            batch_first=True,
            # The layer drops between layers only, and warns where there is nothing between.
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
            norm=norm,
            eps=eps,
            fused=fused,
            **options,
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode a batch of sequences.

        Args:
            inputs: Features (B, T, I) or tokens (B, T).
            lengths: Valid steps, (B,), int64 on the CPU, or None where all T are valid.
            state: What the window before returned, or None for zeros: ``(h,)`` or, for the LSTM,
                ``(h, c)``, each (num_layers, B, H).

        Returns:
            Features of every step, (B, T, F), zero beyond each length; and the state after each
            sequence's last valid step, attached to the graph.

        Raises:
            TypeError: If tokens are not whole numbers or ``lengths`` is not int64 on the CPU.
            ValueError: If a shape, length or dtype does not fit, or a bidirectional encoder is
                given a state.
        """
        _check_inputs(inputs, self.num_features, next(self.parameters()).dtype)
        initial = None if state is None else self._layer_state(state)
        if lengths is None:
            output, final = self.layer(self._embed(inputs), initial)
        else:
            if self.num_features is None:
                check_lengths(lengths, inputs)
            else:
                inputs = _clear_padding(inputs, valid_steps(lengths, inputs))
            packed = pack_padded_sequence(
                self._embed(inputs), lengths, batch_first=True, enforce_sorted=False
            )
            packed, final = self.layer(packed, initial)
            output, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
        return self.dropout(output), final if isinstance(final, tuple) else (final,)

    def _embed(self, inputs: Tensor) -> Tensor:
        """Return what the recurrent layer reads."""
        x = inputs if self.embedding is None else self.embedding(inputs)
        return x if self.projection is None else self.projection(x)

    def _layer_state(self, state: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Return a carried state as the layer takes it."""
        if not self.carries_state:
            raise ValueError(
                "a bidirectional encoder takes no state: its backward direction starts at the end "
                "of the sequence; use bidirectional=False to carry a state between windows"
            )
        if len(state) != self._state_size:
            raise ValueError(
                f"this cell's state is a tuple of {self._state_size} tensors, got {len(state)}"
            )
        return state if self._state_size > 1 else state[0]


class TransformerEncoder(nn.Module):
    """Run transformer layers over projected features or embedded tokens.

    With ``norm="pre"`` a last layer norm follows the layers, as in GPT-2: without it the head would
    be the only reader of an unnormalized residual stream. "post" ends in a norm already, and None
    has none anywhere.

    Args:
        num_features: I, where the input is features.
        num_tokens: Number of different tokens, where the input is tokens.
        hidden_size: H, the width throughout and the output size.
        num_layers: Transformer layers.
        num_heads: Attention heads, a divisor of H.
        feedforward_size: Width inside the perceptrons; 4 H where it is None.
        norm: "pre", "post" or None (see ``lnrnn.nn.TransformerLayer``).
        eps: Positive constant added to the variance in every norm.
        dropout: Probability of zeroing, in [0, 1], in the layers and on what they first read.
        causal: Whether a step reads only itself and earlier steps.
        positions: "rotary" (queries and keys are rotated; any length) or "learned" (a vector for
            each step, added to the input).
        max_length: Steps that "learned" has vectors for; None with "rotary".

    Raises:
        TypeError: If a size is not a whole number, a switch not a bool, or ``eps`` or ``dropout``
            not a number.
        ValueError: If not exactly one of ``num_features`` and ``num_tokens`` is given, a size is
            not positive, ``positions`` is unknown, ``max_length`` is missing for "learned" or given
            for "rotary", or the layer refuses its arguments.
    """

    bidirectional = False  # no half of the output belongs to a backward direction
    carries_state = False

    def __init__(
        self,
        *,
        num_features: int | None = None,
        num_tokens: int | None = None,
        hidden_size: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        feedforward_size: int | None = None,
        norm: Literal["pre", "post"] | None = "pre",
        eps: float = 1e-5,
        dropout: float = 0.0,
        causal: bool = False,
        positions: Literal["rotary", "learned"] = "rotary",
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(hidden_size=hidden_size, num_layers=num_layers)
        check_switches(causal=causal)
        _check_input_kind(num_features, num_tokens)
        self.num_features, self.max_length = num_features, max_length
        self.output_size, self.looks_ahead = hidden_size, not causal
        self.embedding = self.projection = None
        if num_tokens is not None:
            self.embedding = nn.Embedding(num_tokens, hidden_size)
        elif num_features is not None:
            self.projection = nn.Linear(num_features, hidden_size)
        self.positions = _position_table(positions, max_length, hidden_size)
        self.layers = nn.ModuleList(
            TransformerLayer(
                hidden_size,
                num_heads,
                feedforward_size,
                norm=norm,
                eps=eps,
                dropout=dropout,
                causal=causal,
                rotate=positions == "rotary",
            )
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(hidden_size, eps) if norm == "pre" else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, None]:
        """Encode a batch of sequences.

        Args:
            inputs: Features (B, T, I) or tokens (B, T).
            lengths: Valid steps, (B,), int64 on the CPU, or None where all T are valid.
            state: None; a transformer has none.

        Returns:
            Features of every step, (B, T, H), zero beyond each length; and None.

        Raises:
            TypeError: If tokens are not whole numbers or ``lengths`` is not int64 on the CPU.
            ValueError: If a shape, length or dtype does not fit, or a state is given.
        """
        if state is not None:
            raise ValueError(
                "a transformer has no state to carry from window to window; pass state=None"
            )
        _check_inputs(inputs, self.num_features, next(self.parameters()).dtype)
        valid = None if lengths is None else valid_steps(lengths, inputs)  # (B, T)
        if valid is not None and self.num_features is not None:
            inputs = _clear_padding(inputs, valid)
        x = self._embed(inputs)
        for layer in self.layers:
            x = layer(x, valid)
        x = self.final_norm(x)
        return x if valid is None else x.masked_fill(~valid[..., None], 0.0), None

    def _embed(self, inputs: Tensor) -> Tensor:
        """Return what the first layer reads."""
        embed = self.projection if self.embedding is None else self.embedding
        assert embed is not None
        x = embed(inputs)
        if self.positions is not None:
            steps = inputs.shape[1]
            if steps > self.positions.num_embeddings:
                raise ValueError(
                    f"positions were learned for max_length={self.positions.num_embeddings} steps, "
                    f"got {steps}; raise max_length or use positions='rotary'"
                )
            x = x + self.positions(torch.arange(steps, device=inputs.device))
        return self.dropout(x)


def _position_table(
    positions: str, max_length: int | None, hidden_size: int
) -> nn.Embedding | None:
    """Return a vector for each step, or None for rotary positions, which need no table."""
    if positions == "rotary":
        if max_length is not None:
            raise ValueError(
                "max_length is the size of the table of learned positions; rotary positions take "
                f"any length, got max_length={max_length}: leave it None or learn positions"
            )
        return None
    if positions != "learned":
        raise ValueError(f"positions is 'rotary' or 'learned', got {positions!r}")
    if max_length is None:
        raise ValueError(
            "positions='learned' needs max_length, the longest sequence it will meet; "
            "positions='rotary' takes any length"
        )
    check_sizes(max_length=max_length)
    return nn.Embedding(max_length, hidden_size)


def _check_input_kind(num_features: int | None, num_tokens: int | None) -> None:
    if (num_features is None) == (num_tokens is None):
        raise ValueError(
            "give exactly one of num_features (real-valued inputs) and num_tokens (symbols), got "
            f"num_features={num_features} and num_tokens={num_tokens}"
        )
    if num_features is not None:
        check_sizes(num_features=num_features)
    else:
        check_sizes(num_tokens=num_tokens)


def _check_inputs(inputs: Tensor, num_features: int | None, dtype: torch.dtype) -> None:
    if num_features is None:
        if inputs.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens must be int64 (or int32), got {inputs.dtype}")
        fits, expected = inputs.dim() == 2, "(B, T)"
    else:
        fits = inputs.dim() == 3 and inputs.shape[-1] == num_features
        expected = f"(B, T, {num_features})"
    if not fits or inputs.shape[1] == 0:
        raise ValueError(
            f"inputs must have shape {expected} with at least one step, got {tuple(inputs.shape)}"
        )
    if num_features is not None:
        check_dtype(inputs, dtype)


def _clear_padding(inputs: Tensor, valid: Tensor) -> Tensor:
    """Zero the padding of features, so that no NaN in it reaches a gradient as 0 * NaN."""
    return inputs.masked_fill(~valid[..., None], 0.0)
