"""Where a recurrent layer normalizes: the choices, and which of them make sense together."""

from dataclasses import dataclass
from typing import Literal, get_args

from lnrnn.ops.checks import check_choice, check_finite, check_positive

Inputs = Literal["paper", "separate", "joint", "input", "recurrent"]
Span = Literal["paper", "all", "gate"]
CellState = Literal["output", "state", "carried"]
Kind = Literal["layer", "rms"]


@dataclass(frozen=True)
class CellNorm:
    r"""A norm inside the recurrent step, with its variants; ``norm="cell"`` is ``CellNorm()``.

    The defaults are those of Ba et al., so far as they agree with one another: RNN with one norm on
    the summed projections, LSTM and GRU with the two projections normalized apart, and the LSTM's
    cell state normalized on its way to the output only. The others are what other libraries
    compute under the name of a layer-normalized LSTM.

    Args:
        inputs: "separate" normalizes the input's and the hidden state's projection apart, "joint"
            their sum, "input" and "recurrent" one of the two alone, None neither. "paper" is joint
            for the RNN and separate for LSTM and GRU. In a GRU's joint norms the reset scales the
            state's part of the candidate's sum, or, with one norm over "all" gates, what comes out
            of the norm.
        span: What one norm covers: "all" gates together, each "gate" apart, or as in the "paper":
            all, but for the GRU r and z together and n apart.
        cell: What the LSTM does with its cell state: "output" normalizes it on its way to the
            hidden state, "state" also carries it on normalized, "carried" does so and lets the
            hidden state see it as it was before its norm, None leaves it alone. RNN and GRU have no
            cell state: "output" and None mean nothing to them, the others are refused.
        kind: "layer" subtracts the mean and divides by the standard deviation, "rms" divides by the
            root mean square. Shifts are kept either way.
        gain_init: What the gains start at; shifts start at zero.
        cell_clip: What the LSTM's new cell state is clipped to, [-cell_clip, cell_clip], before its
            norm; None for no clipping.

    Kernels compute the inputs "paper", "separate", "joint" (not in a GRU) and "recurrent", on a CPU
    "input" and None too, with any cell but "carried" and without ``cell_clip``; the reference
    computes everything.

    Raises:
        ValueError: If a field is not one of its choices, ``gain_init`` is not finite, ``cell_clip``
            is not positive, or nothing is normalized.
        TypeError: If ``gain_init`` or ``cell_clip`` is not a number.

    Example:
        >>> CellNorm(inputs="joint", cell="state").span
        'paper'

    Reference:
        Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, equation 4 and supplement.
    """

    inputs: Inputs | None = "paper"
    span: Span = "paper"
    cell: CellState | None = "output"
    kind: Kind = "layer"
    gain_init: float = 1.0
    cell_clip: float | None = None

    def __post_init__(self) -> None:
        check_choice("CellNorm's inputs", self.inputs, (*get_args(Inputs), None))
        check_choice("CellNorm's span", self.span, get_args(Span))
        check_choice("CellNorm's cell", self.cell, (*get_args(CellState), None))
        check_choice("CellNorm's kind", self.kind, get_args(Kind))
        check_finite("CellNorm's gain_init", self.gain_init)
        if self.cell_clip is not None:
            check_positive("CellNorm's cell_clip", self.cell_clip)
        if self.inputs is None and self.cell is None:
            raise ValueError(
                "CellNorm(inputs=None, cell=None) normalizes nothing; for a layer without a norm "
                "take norm=None"
            )

    def is_joint(self, cell: str) -> bool:
        """Return whether one norm covers both projections of "rnn", "lstm" or "gru"."""
        return self.inputs == "joint" or (self.inputs == "paper" and cell == "rnn")

    def sides(self, cell: str) -> tuple[str, ...]:
        """Return which sides of "rnn", "lstm" or "gru" have a norm of their own."""
        if self.is_joint(cell) or self.inputs is None:
            return ()
        return (self.inputs,) if self.inputs in ("input", "recurrent") else ("input", "recurrent")

    def has_kernel(self, cell: str) -> bool:
        """Return whether kernels of every device compute this norm in "rnn", "lstm" or "gru"."""
        if self.inputs in ("input", None) or (cell == "gru" and self.inputs == "joint"):
            return False
        return cell != "lstm" or (self.cell != "carried" and self.cell_clip is None)


def as_cell_norm(norm: str | CellNorm | None, cell: str) -> CellNorm | None:
    """Return the norm inside the step of "rnn", "lstm" or "gru", or None if there is none.

    Raises:
        ValueError: If ``norm`` is an unknown word or this cell cannot have it.
        TypeError: If ``norm`` is neither a word, a `CellNorm` nor None.
    """
    if norm is None or norm == "output":
        return None
    if norm == "cell":
        return CellNorm()
    choices = 'None, "output", "cell" or lnrnn.CellNorm(...)'
    if isinstance(norm, str):
        null = "; in a configuration None is written null" if norm.lower() == "none" else ""
        raise ValueError(f"norm must be {choices}, got {norm!r}{null}")
    if not isinstance(norm, CellNorm):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"norm must be {choices}, got {norm!r}")
    if cell != "lstm":
        _check_without_cell_state(norm, cell)
    return norm


def _check_without_cell_state(norm: CellNorm, cell: str) -> None:
    """Check that a norm asks for nothing that only the LSTM has."""
    if norm.cell in ("state", "carried"):
        raise ValueError(
            f"only the LSTM has a cell state to carry normalized, got {norm} for {cell.upper()}; "
            f'leave out cell="{norm.cell}"'
        )
    if norm.cell_clip is not None:
        raise ValueError(
            f"only the LSTM has a cell state to clip, got {norm} for {cell.upper()}; leave out "
            "cell_clip"
        )
    if norm.inputs is None:
        raise ValueError(
            f"only the LSTM has a cell state, which CellNorm(inputs=None) normalizes alone, got "
            f"{norm} for {cell.upper()}; for a layer without a norm take norm=None"
        )


def check_output_width(width: int) -> None:
    """Check that a norm on a layer's output covers more than one value.

    Raises:
        ValueError: If ``width``, the number of directions times the size of one, is 1.
    """
    if width == 1:
        raise ValueError(
            "a layer norm over a single value is always 0, and this layer outputs one value a "
            'step; take a larger hidden_size (or proj_size), or another norm than "output"'
        )


def check_cell_widths(
    norm: CellNorm, cell: str, *, input_size: int, recurrent_size: int, hidden_size: int, bias: bool
) -> None:
    """Check that every norm inside the step has something to normalize.

    A norm over one value returns 0 (or, if "rms", the value's sign), and a norm over the multiples
    of one value keeps only that value's sign.

    Args:
        norm: The norm.
        cell: "rnn", "lstm" or "gru".
        input_size: Features that the layer reads.
        recurrent_size: Features of the hidden state it reads back.
        hidden_size: Entries of one gate.
        bias: Whether the input's projection has a bias.

    Raises:
        ValueError: If there is too little to normalize.
    """
    spans_one_gate = cell == "rnn" or norm.span == "gate" or (norm.span, cell) == ("paper", "gru")
    spans_one_gate = spans_one_gate and norm.inputs is not None
    if hidden_size == 1 and (spans_one_gate or (cell == "lstm" and norm.cell is not None)):
        raise ValueError(
            f"a norm over a single value is always 0 (or its sign), and hidden_size=1 gives {norm} "
            "one value to cover; take a larger hidden_size"
        )
    sides = norm.sides(cell)
    if "input" in sides and input_size == 1 and not bias:
        raise ValueError(
            "the norm of a one-feature input's projection keeps only the input's sign unless a "
            f"bias is added first, got one input feature and bias=False for {norm}; take bias=True"
            + ' or inputs="joint"'
        )
    if "recurrent" in sides and recurrent_size == 1:
        raise ValueError(
            "the norm of a one-feature hidden state's projection keeps only the state's sign, got "
            f"{norm} with one recurrent feature; take a larger hidden_size (or proj_size)"
            + ' or inputs="joint"'
        )
