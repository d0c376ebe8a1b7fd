"""Who runs a layer's steps: torch's own recurrence, or `lnrnn.ops`.

Dimensions: T time steps, B sequences, N time steps of all packed sequences together, I input
features, H hidden units, R recurrent features (``proj_size`` if set, else H), L layers, D
directions.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lnrnn.nn import direction, tools
from lnrnn.nn.cudnn import without_cudnn_advice
from lnrnn.nn.regularizers import Regularizers
from lnrnn.nn.resets import Pieces, Resets
from lnrnn.nn.weights import Weights
from lnrnn.ops import torch_layers

State = tuple[Tensor, ...]


class Layers(Weights):
    """How layers are run, one after the other.

    A subclass runs one direction of one layer (`_run_direction`).
    """

    dropout: float
    eps: float
    regularizers = Regularizers()  # of modules pickled without them too

    def _run_layers(
        self,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        order: Tensor | None,
        resets: Resets | None,
    ) -> tuple[Tensor, State]:
        """Run every layer over ``x``, (T, B, I) or (N, I), from states (L * D, B, R or H).

        States are put in order layer by layer: a product's last digits may depend on where its
        arguments begin in memory, and so they begin where those of torch's layers in a row do.
        """
        seed = None
        if self._regularized and self.training:
            seed = self.regularizers.draw_seed()
        if not self._runs_in_ops:
            if resets is not None:
                return self._run_pieces(x, _ordered(state, order), batch_sizes, order, resets, seed)
            if self.norm is None:
                return self._run_torch_layers(x, _ordered(state, order), batch_sizes, seed)
        return self._run_each(x, state, batch_sizes, order, resets, seed)

    @property
    def _regularized(self) -> bool:
        """Whether anything may be random, or zoned out, now: `regularizers` may be replaced."""
        return self.regularizers.act(self.training)

    @property
    def _runs_in_ops(self) -> bool:
        """Whether `lnrnn.ops` runs the steps, rather than torch's own recurrence."""
        if self._cell_norm is not None:
            return True
        return self.regularizers.in_steps(self.training)

    def _run_each(
        self,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        order: Tensor | None,
        resets: Resets | None,
        seed: int | None,
    ) -> tuple[Tensor, State]:
        """Run one layer after the other."""
        final: list[State] = []
        for layer in range(self.num_layers):
            x = F.dropout(x, self.dropout, self.training) if layer else x
            rows = slice(layer * self._directions, (layer + 1) * self._directions)
            initial = _ordered(tuple(s[rows] for s in state), order)
            if self._runs_in_ops:
                after = None if resets is None or resets.state is None else resets.state
                after = after and _ordered(tuple(s[rows] for s in after), order)
                here = None if resets is None else Resets(resets.where, after)
                x, last = self._run_cell(layer, x, initial, batch_sizes, here, order, seed)
            else:
                x, last = self._run_torch([layer], x, initial, batch_sizes, 0.0, seed)
            if self.norm == "output":
                gain = getattr(self, f"gain_out_l{layer}")
                shift = getattr(self, f"shift_out_l{layer}")
                x = F.layer_norm(x, gain.shape, gain, shift, self.eps)
            final.append(last)
        return x, tuple(torch.cat(s) for s in zip(*final, strict=True))

    def _run_pieces(
        self,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        order: Tensor | None,
        resets: Resets,
        seed: int | None,
    ) -> tuple[Tensor, State]:
        """Run every layer by torch's recurrence, each piece between two resets by itself."""
        why = "torch's own recurrence runs the pieces between them; take a norm inside the step"
        tools.check_recordable("a mask of resets", why, traced=False)
        if not resets.where.any():
            return self._run_torch_layers(x, state, batch_sizes, seed)
        sizes = torch.tensor([x.shape[1]] * x.shape[0]) if batch_sizes is None else batch_sizes
        pieces, ways = Pieces(resets.where.flatten(), sizes), self._directions
        after = [None] * len(state) if resets.state is None else _ordered(resets.state, order)
        begin = tuple(pieces.begin_with(s, r, ways) for s, r in zip(state, after, strict=True))
        rows = pieces.take(x.reshape(-1, x.shape[-1]))
        output, final = self._run_torch_layers(rows, begin, pieces.batch_sizes, seed)
        output = pieces.put_back(output).view(*x.shape[:-1], output.shape[-1])
        return output, tuple(pieces.end_with(s, ways) for s in final)

    def _run_torch_layers(
        self, x: Tensor, state: State, batch_sizes: Tensor | None, seed: int | None
    ) -> tuple[Tensor, State]:
        """Run every layer by torch's recurrence, from states in the order of its sequences."""
        if self.norm is None:
            every = list(range(self.num_layers))
            return self._run_torch(every, x, state, batch_sizes, self.dropout, seed)
        return self._run_each(x, state, batch_sizes, None, None, seed)

    def _run_torch(
        self,
        layers: list[int],
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        dropout: float,
        seed: int | None,
    ) -> tuple[Tensor, State]:
        """Run torch's own recurrence over some layers."""
        if batch_sizes is None and tools.wants_one_node(x):
            return self._run_nodes(layers, x, state, dropout)
        weights = self._weights(layers)
        if seed is not None:
            weights = self._dropped_weights(layers, seed)
        hx = state if self._cell == "lstm" else state[0]
        settings = (self.bias, len(layers), dropout, self.training, self.bidirectional)
        # Weights with zeroed entries are new at every call: cuDNN has to copy them.
        with without_cudnn_advice() if seed is not None and x.is_cuda else nullcontext():
            if batch_sizes is None:
                result = torch_layers.call(self.mode, x, hx, weights, *settings, False)
            else:
                result = torch_layers.RECURRENCES[self.mode](x, batch_sizes, hx, weights, *settings)
        return result[0], tuple(result[1:])

    def _dropped_weights(self, layers: list[int], seed: int) -> list[Tensor]:
        """Return what `_weights` does, with entries of the recurrent weights zeroed."""
        found: list[Tensor] = []
        for layer in layers:
            for d, suffix in enumerate(self._suffixes(layer)):
                names = [n for n in self._weight_names[layer] if n.endswith(suffix)]
                weights = {name: getattr(self, name) for name in names}
                stream, name = layer * self._directions + d, f"weight_hh{suffix}"
                weights[name] = self.regularizers.drop_weight(weights[name], seed, stream)
                found += weights.values()
        return found

    def _run_nodes(
        self, layers: list[int], x: Tensor, state: State, dropout: float
    ) -> tuple[Tensor, State]:
        """Run torch's own recurrence as one node a layer of a graph that is being recorded."""
        final: list[State] = []
        for i, layer in enumerate(layers):
            x = F.dropout(x, dropout, self.training) if i else x
            rows = slice(i * self._directions, (i + 1) * self._directions)
            initial = tuple(s[rows] for s in state)
            x, last = torch_layers.run(x, initial, self._weights([layer]), self.mode, self.bias)
            final.append(last)
        return x, tuple(torch.cat(s) for s in zip(*final, strict=True))

    def _run_cell(
        self,
        layer: int,
        x: Tensor,
        state: State,
        batch_sizes: Tensor | None,
        resets: Resets | None,
        order: Tensor | None,
        seed: int | None,
    ) -> tuple[Tensor, State]:
        """Run one layer by `lnrnn.ops`."""
        outputs, final = [], []
        for d, suffix in enumerate(self._suffixes(layer)):
            more: dict[str, Any] = {}
            if resets is not None:
                more["resets"] = resets.where
                if resets.state is not None:
                    more["reset_state"] = tuple(s[d] for s in resets.state)
            parameters, stream = direction.Direction.of(self, suffix), layer * self._directions + d
            if seed is not None:
                weight = self.regularizers.drop_weight(parameters.weight_hh, seed, stream)
                parameters = parameters._replace(weight_hh=weight)
            if self.regularizers.in_steps(self.training):
                more["noise"] = self.regularizers.noise(seed, stream, order)
            output, *last = self._run_direction(
                parameters,
                x,
                tuple(s[d] for s in state),
                batch_sizes=batch_sizes,
                reverse=d == 1,
                eps=self.eps,
                fused=self.fused,
                **more,
            )
            outputs.append(output)
            final.append(last)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return output, tuple(torch.stack(s) for s in zip(*final, strict=True))

    def _run_direction(
        self, parameters: direction.Direction, x: Tensor, state: State, **sequence: Any
    ) -> State:
        """Run one direction; return its output and its final states.

        Args:
            parameters: Of the direction.
            x: (T, B, I), or packed, (N, I).
            state: The initial states.
            **sequence: The keyword arguments of `lnrnn.nn.direction.run_rnn` and its kin.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which cell it runs")


def _ordered(state: State, order: Tensor | None) -> State:
    """Return states in the order of packed sequences, or as they are where that is the same."""
    return state if order is None else tuple(s.index_select(1, order) for s in state)
