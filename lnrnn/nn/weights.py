"""A layer's parameters as `torch.nn.RNNBase` shows them, and what it offers to check a call with.

Code that was written for torch's layers walks ``all_weights``, flattens parameters, or asks a layer
which state it expects. Names, results and wording are torch's.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, I input
features, H hidden units, R recurrent features (``proj_size`` if set, else H), L layers, D
directions.
"""

from typing import Any

from torch import Tensor, nn

from lnrnn.nn import inputs
from lnrnn.nn.cudnn import flatten_weights
from lnrnn.nn.norm import CellNorm


class Weights(nn.Module):
    """What a layer has of torch's interface besides its forward pass.

    Attributes:
        all_weights: The parameters that torch's layer has too, a list for each layer and direction.
    """

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    proj_size: int
    norm: str | CellNorm | None
    fused: bool | None
    weight_hh_l0: Tensor
    _cell: str
    _cell_norm: CellNorm | None
    _weight_names: list[list[str]]
    _gains_seen = False  # of modules pickled without it too

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """Return the parameters that torch's layer has too, for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _all_weights(self) -> list[list[str]]:
        found = []
        for names in self._weight_names:
            each = len(names) // self._directions
            found += [names[i : i + each] for i in range(0, len(names), each)]
        return found

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._weight_names for name in names]

    @property
    def _flat_weights(self) -> list[Tensor]:
        """Return what torch's layer passes to its kernels; gains and shifts are not among it."""
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, value: object) -> None:
        raise AttributeError(
            "_flat_weights cannot be set: it is read from the parameters at every call; replace "
            "the parameters themselves, as in layer.weight_hh_l0 = weight"
        )

    def flatten_parameters(self) -> None:
        """Lay the weights out as cuDNN wants them, as torch's layers do; without CUDA do nothing.

        The layer does it by itself when its parameters move; call it after replacing their data.
        """
        if self._cell_norm is not None:
            return
        every = list(range(self.num_layers))
        for layers in [every] if self.norm is None else [[layer] for layer in every]:
            flatten_weights(
                self._weights(layers),
                mode=self.mode,
                hidden_size=self.hidden_size,
                proj_size=self.proj_size,
                num_layers=len(layers),
                bias=self.bias,
                bidirectional=self.bidirectional,
            )

    def get_expected_hidden_size(
        self, input: Tensor, batch_sizes: Tensor | None
    ) -> tuple[int, int, int]:
        """Return the shape of the hidden state for an input, (L * D, B, R).

        Args:
            input: (T, B, I), or (B, T, I) if ``batch_first``; or packed, (N, I).
            batch_sizes: Live sequences at each step, for a packed input.
        """
        batch = input.shape[0 if self.batch_first else 1]
        batch = batch if batch_sizes is None else int(batch_sizes[0])
        return self.num_layers * self._directions, batch, self.proj_size or self.hidden_size

    def get_expected_cell_size(
        self, input: Tensor, batch_sizes: Tensor | None
    ) -> tuple[int, int, int]:
        """Return the shape of an LSTM's cell state for an input, (L * D, B, H)."""
        return *self.get_expected_hidden_size(input, batch_sizes)[:2], self.hidden_size

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Check an input, (T, B, I), (B, T, I) if ``batch_first``, or packed (N, I).

        Raises:
            ValueError: If dimensions, features or dtype do not fit.
        """
        layouts = {3: "(B, T, I)" if self.batch_first else "(T, B, I)"}
        layouts = layouts if batch_sizes is None else {2: "packed (N, I)"}
        inputs.check_input(input, layouts, self.input_size, self.weight_hh_l0.dtype)

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: tuple[int, int, int],
        msg: str = "Expected hidden size {}, got {}",
    ) -> None:
        """Check the shape of a state.

        Raises:
            ValueError: If it is another; ``msg`` with both shapes.
        """
        if hx.shape != expected_hidden_size:
            raise inputs.ShapeError(msg.format(expected_hidden_size, list(hx.shape)))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Check an input and its initial state, (L * D, B, R), for the LSTM a pair of them.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        self.check_input(input, batch_sizes)
        expected = self.get_expected_hidden_size(input, batch_sizes)
        if self._cell != "lstm":
            self.check_hidden_size(hidden, expected)
            return
        h, c = hidden
        self.check_hidden_size(h, expected, "Expected hidden[0] size {}, got {}")
        expected = self.get_expected_cell_size(input, batch_sizes)
        self.check_hidden_size(c, expected, "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """Return a state, for the LSTM a pair of them, with its sequences in another order."""
        if permutation is None:
            return hx
        if self._cell == "lstm":
            return tuple(s.index_select(1, permutation) for s in hx)
        return hx.index_select(1, permutation)

    def _weights(self, layers: list[int]) -> list[Tensor]:
        return [getattr(self, name) for layer in layers for name in self._weight_names[layer]]

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    @property
    def _runs_in_python(self) -> bool:
        """Whether no fused kernel will run the steps, which a graph would have to write out."""
        norm = self._cell_norm
        return norm is None or self.fused is False or not norm.has_kernel(self._cell)

    def _suffixes_of_directions(self) -> list[str]:
        return [suffix for layer in range(self.num_layers) for suffix in self._suffixes(layer)]

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _apply(self, fn, recurse=True):
        module = super()._apply(fn, recurse)
        self.flatten_parameters()
        return module

    def __setstate__(self, state) -> None:
        super().__setstate__(state)
        self.flatten_parameters()


def is_recurrent(module: nn.Module, cell: str | None = None) -> bool:
    """Return whether a module is a recurrent layer, torch's or ours.

    `lnrnn.LSTM` is no subclass of `torch.nn.LSTM`, which `torch.compile(fullgraph=True)` refuses,
    so code that finds layers by ``isinstance(module, torch.nn.LSTM)`` passes it over.

    Args:
        module: Any module.
        cell: "rnn", "lstm" or "gru" for layers of that cell alone.

    Raises:
        ValueError: If ``cell`` is another word.

    Example:
        >>> import lnrnn
        >>> is_recurrent(lnrnn.LSTM(3, 7)), is_recurrent(nn.LSTM(3, 7), "gru")
        (True, False)
    """
    if cell not in ("rnn", "lstm", "gru", None):
        raise ValueError(f"cell must be 'rnn', 'lstm', 'gru' or None, got {cell!r}")
    if not isinstance(module, nn.RNNBase | Weights):
        return False
    return cell is None or module.mode.partition("_")[0].lower() == cell
