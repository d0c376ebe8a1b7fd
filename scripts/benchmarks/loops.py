"""The loops that a user would write, for want of a layer: a norm inside the step, step by step.

They compute the formulas of `docs/formulas.md` in their default variants, laid out as PyTorch's own
example of custom LSTMs is (``benchmarks/fastrnns/custom_lstms.py``): a step that projects,
normalizes and gates, and a loop over it. Run as they are, they are the loop in Python; scripted,
the loop in TorchScript.

Dimensions: T time steps, B sequences, I input features, H hidden units.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Loop(nn.Module):
    """A loop over steps with the parameters of an `lnrnn` layer of one layer and direction.

    Args:
        layer: The layer, with ``norm="cell"``; its parameters are copied.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.hidden_size: int = layer.hidden_size
        self.eps: float = layer.eps
        for name, parameter in layer.named_parameters():
            copy = nn.Parameter(parameter.detach().clone())
            self.register_parameter(name.removesuffix("_l0"), copy)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run over ``x``, (T, B, I), from zeros; return the output, (T, B, H), and the states."""
        zeros = torch.zeros(x.shape[1], self.hidden_size, dtype=x.dtype)
        state = [zeros, zeros]
        outputs: list[Tensor] = []
        for x_t in x.unbind(0):
            state = self.step(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def step(self, x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Return the states, each (B, H), after a step on ``x``, (B, I); the hidden one first."""
        raise NotImplementedError


class RNNLoop(_Loop):
    """The RNN: one norm over the sum of both projections."""

    gain: Tensor

    def step(self, x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Return the hidden state after a step."""
        size = [self.hidden_size]
        total = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(state[0], self.weight_hh)
        return [torch.tanh(F.layer_norm(total, size, self.gain, self.bias_hh, self.eps))]


class LSTMLoop(_Loop):
    """The LSTM: a norm over each projection, and one over the cell state on its way out."""

    gain_ih: Tensor
    shift_ih: Tensor
    gain_hh: Tensor
    gain_c: Tensor
    shift_c: Tensor

    def step(self, x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Return the hidden and the cell state after a step."""
        size, width = [self.hidden_size], [4 * self.hidden_size]
        a = F.linear(x, self.weight_ih, self.bias_ih)
        a = F.layer_norm(a, width, self.gain_ih, self.shift_ih, self.eps)
        u = F.linear(state[0], self.weight_hh)
        u = F.layer_norm(u, width, self.gain_hh, self.bias_hh, self.eps)
        i, f, g, o = (a + u).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        seen = F.layer_norm(c, size, self.gain_c, self.shift_c, self.eps)
        return [torch.sigmoid(o) * torch.tanh(seen), c]


class GRULoop(_Loop):
    """The GRU: on each side one norm over r and z, and one over n."""

    gain_ih: Tensor
    shift_ih: Tensor
    gain_hh: Tensor

    def step(self, x: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Return the hidden state after a step."""
        a = F.linear(x, self.weight_ih, self.bias_ih)
        u = F.linear(state[0], self.weight_hh)
        a_rz, a_n = self.norms(a, self.gain_ih, self.shift_ih)
        u_rz, u_n = self.norms(u, self.gain_hh, self.bias_hh)
        r, z = torch.sigmoid(a_rz + u_rz).chunk(2, 1)
        n = torch.tanh(a_n + r * u_n)
        return [(1 - z) * n + z * state[0]]

    def norms(self, v: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Normalize (B, 3H) over its first 2H entries and over its last H."""
        two, one = 2 * self.hidden_size, self.hidden_size
        rz = F.layer_norm(v[:, :two], [two], gain[:two], shift[:two], self.eps)
        return rz, F.layer_norm(v[:, two:], [one], gain[two:], shift[two:], self.eps)


LOOPS: dict[str, type[_Loop]] = {"rnn": RNNLoop, "lstm": LSTMLoop, "gru": GRULoop}


def scripted(loop: nn.Module) -> Any:
    """Compile a loop with TorchScript."""
    with warnings.catch_warnings():
        # It is what people have used for this for years, so it is what to compare with.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*is deprecated")
        return torch.jit.script(loop)
