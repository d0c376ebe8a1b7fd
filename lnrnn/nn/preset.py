"""What a preset is: a published cell, as settings of a layer."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lnrnn.nn.direction import affine_shapes, bias_behind
from lnrnn.nn.norm import CellNorm, as_cell_norm
from lnrnn.ops.checks import check_choice, check_eps, check_finite
from lnrnn.ops.gates import GATES

HOLDABLE = ("bias_ih", "bias_hh", "shift_ih", "shift_c", "shift")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published cell: the settings under which a layer computes the same function.

    Weights are drawn as torch draws them and gains start at the norm's ``gain_init``, whatever the
    source does; the note says where it differs. The bias behind the norm is ``bias_hh``, and
    ``shift`` where a GRU's norms are joint.

    Args:
        name: What it goes by.
        cell: "rnn", "lstm" or "gru".
        norm: The norm inside the step.
        eps: Added to the variance, inside the root.
        zeros: Parameters that the source lacks, by their names without suffix: held at zero.
        bias_start: What the bias behind the norm starts at; None leaves it as without a preset.
        forget_bias: What the forget gate's part of it starts at in an LSTM, if it differs.
        update_bias: What the part of it for z starts at in a GRU, if it differs; z is the share of
            the old state that is kept.
        source: Where the cell is from: a repository and a path, or a paper.
        version: Which version of it was read.
        note: Its formula, in one line, with what else there is to know.

    Raises:
        ValueError: If a field is not one of its choices, or the cell cannot have the norm.
        TypeError: If a number is not one.

    Example:
        >>> from lnrnn import presets
        >>> presets["haste_gru"].norm.span, presets["haste_gru"].zeros
        ('all', ('bias_ih',))
    """

    name: str
    cell: str
    norm: CellNorm
    eps: float = 1e-5
    zeros: tuple[str, ...] = ("bias_ih",)
    bias_start: float | None = 0.0
    forget_bias: float | None = None
    update_bias: float | None = None
    source: str
    version: str
    note: str

    def __post_init__(self) -> None:
        check_choice("a preset's cell", self.cell, tuple(GATES))
        if not isinstance(self.norm, CellNorm):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a preset's norm must be a lnrnn.CellNorm, got {self.norm!r}")
        as_cell_norm(self.norm, self.cell)
        check_eps(self.eps)
        has = {"bias_ih", "bias_hh", *affine_shapes(self.norm, self.cell, 1)}
        for name in self.zeros:
            check_choice(
                "what a preset holds at zero", name, tuple(n for n in HOLDABLE if n in has)
            )
        started = any((self.bias_start, self.forget_bias, self.update_bias))
        if started and self._behind in self.zeros:
            raise ValueError(f"a preset that holds {self._behind} at zero cannot say its start")
        for name, cell in {"bias_start": None, "forget_bias": "lstm", "update_bias": "gru"}.items():
            value = getattr(self, name)
            if value is not None:
                check_finite(f"a preset's {name}", value)
                if cell not in (None, self.cell):
                    raise ValueError(f"{name} is for a preset of {cell!r}, got {self.cell!r}")

    @property
    def _behind(self) -> str:
        """Return the name of the bias behind the norms of the gates."""
        return bias_behind(self.norm, self.cell)

    def start(self, module: nn.Module, suffix: str) -> None:
        """Bring one direction's biases to where they start, and hold at zero what the source lacks.

        Args:
            module: A layer or a cell that was made for this preset.
            suffix: What its parameters' names end in.
        """
        bias = getattr(module, self._behind + suffix)
        with torch.no_grad():
            if self.bias_start is not None:
                bias.fill_(self.bias_start)
            for gate, value in {"f": self.forget_bias, "z": self.update_bias}.items():
                if value is not None:
                    gates = GATES[self.cell]
                    bias.chunk(len(gates))[gates.index(gate)].fill_(value)
            for name in self.zeros:
                getattr(module, name + suffix).zero_().requires_grad_(False)


class Presets(Mapping[str, Preset]):
    """Presets by name; it cannot be changed."""

    def __init__(self, *entries: Preset) -> None:
        self._by_name = {entry.name: entry for entry in entries}

    def __getitem__(self, name: str) -> Preset:
        """Return a preset.

        Raises:
            KeyError: If there is none of that name, with the names that are close.
        """
        if name not in self._by_name:
            close = difflib.get_close_matches(str(name), self._by_name, cutoff=0.5)
            hint = f"close to it: {', '.join(close)}" if close else f"there are: {', '.join(self)}"
            raise KeyError(f"there is no preset {name!r}; {hint}")
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"presets({', '.join(self)})"
