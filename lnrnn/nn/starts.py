"""Where a layer's parameters start, where that is not where torch starts them."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from lnrnn.checks import is_whole
from lnrnn.nn.direction import bias_behind
from lnrnn.nn.norm import CellNorm
from lnrnn.ops.checks import check_choice, check_finite
from lnrnn.ops.gates import GATES


@dataclass(frozen=True)
class Starts:
    """Starts of the recurrent weight and of gates' biases; what is None starts as in torch.

    Biases are set where they act: on what is added to a gate behind all norms, with the other bias,
    if that is not inside a norm, at 0.

    Args:
        recurrent_init: "orthogonal" draws each gate's part of W_hh as an orthogonal matrix, after
            everything else has been drawn as without it.
        forget_bias: What the LSTM's forget gate starts with.
        update_bias: What z of the GRU starts with, the share of the old state that is kept.
        chrono: T_max, the longest dependency that is expected, in steps: forget gates start with
            log(u), u from U(1, T_max - 1), and input gates with its negative; z of a GRU with
            log(u).

    Raises:
        ValueError: If a word is unknown, a number is not finite, ``chrono`` is below 3, or two of
            them want the same bias.
        TypeError: If a number is not one.

    Reference:
        Tallec and Ollivier, "Can recurrent neural networks warp time?", arXiv:1804.11188, section 2
        and equation 16; Saxe, McClelland and Ganguli, arXiv:1312.6120.
    """

    recurrent_init: str | None = None
    forget_bias: float | None = None
    update_bias: float | None = None
    chrono: int | None = None

    def __post_init__(self) -> None:
        check_choice("recurrent_init", self.recurrent_init, ("orthogonal", None))
        for name in ("forget_bias", "update_bias"):
            if getattr(self, name) is not None:
                check_finite(name, getattr(self, name))
        if self.chrono is None:
            return
        if not is_whole(self.chrono):
            raise TypeError(f"chrono must be a whole number of steps, got {self.chrono!r}")
        if self.chrono < 3:
            raise ValueError(f"chrono draws from 1 to T_max - 1, so at least 3, got {self.chrono}")
        check_finite("chrono", self.chrono)
        twice = [n for n in ("forget_bias", "update_bias") if getattr(self, n) is not None]
        if twice:
            raise ValueError(f"chrono starts the same bias as {twice[0]} does: give one of them")

    def given(self) -> dict[str, Any]:
        """Return those that are not None, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def of_biases(self) -> list[str]:
        """Return the names of those given that set biases."""
        return [name for name in self.given() if name != "recurrent_init"]

    @torch.no_grad()
    def apply(
        self, module: nn.Module, suffix: str, cell: str, norm: CellNorm | None, *, weights: bool
    ) -> None:
        """Start one direction's biases and, if ``weights``, its recurrent weight.

        Args:
            module: A layer.
            suffix: What the names of the direction's parameters end in.
            cell: "rnn", "lstm" or "gru".
            norm: The norm inside the step.
            weights: Whether the weight is drawn anew.
        """
        gates = GATES[cell]
        if weights and self.recurrent_init == "orthogonal":
            for part in module.get_parameter(f"weight_hh{suffix}").chunk(len(gates)):
                _draw_orthogonal(part)
        if not self.of_biases:
            return
        bias = module.get_parameter(bias_behind(norm, cell) + suffix)
        hidden_size = len(bias) // len(gates)
        for gate, start in self._gates(cell, hidden_size, bias.device).items():
            rows = slice(gates.index(gate) * hidden_size, (gates.index(gate) + 1) * hidden_size)
            bias[rows] = start
            if norm is None or not (norm.is_joint(cell) or "input" in norm.sides(cell)):
                module.get_parameter(f"bias_ih{suffix}")[rows] = 0.0

    def _gates(
        self, cell: str, hidden_size: int, device: torch.device
    ) -> dict[str, Tensor | float]:
        """Return what gates start with, by torch's letters."""
        if self.chrono is not None:
            times = torch.empty(hidden_size, device=device).uniform_(1, self.chrono - 1).log()
            return {"f": times, "i": -times} if cell == "lstm" else {"z": times}
        found = {"f": self.forget_bias, "z": self.update_bias}
        return {gate: value for gate, value in found.items() if value is not None}


def _draw_orthogonal(weight: Tensor) -> None:
    """Draw an orthogonal matrix in float32 or better: half precision has no QR decomposition."""
    drawn = torch.empty_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    weight.copy_(nn.init.orthogonal_(drawn))
