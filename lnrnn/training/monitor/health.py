"""What the monitor measures of a model on a batch, by name.

A model is looked at without dropout, on the first sequences of a batch, in passes of their own: no
gradient is left, no random number drawn, no hook kept, and no state of the model changed.

Dimensions: T time steps, B sequences, I input features, H hidden units, F the encoder's output.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnrnn.data import Batch
from lnrnn.models import RecurrentEncoder, SequenceModel, TransformerEncoder
from lnrnn.models.checks import valid_steps
from lnrnn.models.heads import last_step
from lnrnn.nn.cudnn import without_cudnn_advice
from lnrnn.ops.reference import widen
from lnrnn.runs.monitor_names import MonitorName, Quantity
from lnrnn.training.metrics import sum_loss
from lnrnn.training.monitor import cuts, gates
from lnrnn.training.monitor.cuts import Layer, Piece, State

Values = dict[MonitorName, Tensor]

SEQUENCES = 16  # of a batch, looked at: enough for shares and medians, however large the batch
NEAR = 10.0  # a variance below so many eps is near it: eps makes the norm 4.65 % smaller or more
LOW = 0.01  # the quantile of the variances that is recorded beside their median


class Passed(NamedTuple):
    """What one direction of a layer has run over.

    Attributes:
        x: What it read, in its own direction of time, (T, B, I).
        output: Its hidden states, (T, B, H).
        initial: The state it began with, (B, H) each.
        at_cuts: The states at the cuts, as `run_in_pieces` returns them.
        carried: Whether the initial state came from the window before, rather than being zero.
    """

    x: Tensor
    output: Tensor
    initial: State
    at_cuts: list[State]
    carried: bool


class RecurrentHealth:
    """Looks into an RNN, LSTM or GRU: its norms, gates and states, and gradients by time lag.

    Args:
        model: A model whose encoder is recurrent. Its parameters are read at every look.
    """

    def __init__(self, model: SequenceModel) -> None:
        assert isinstance(model.encoder, RecurrentEncoder)
        self.model, self.encoder, self.layer = model, model.encoder, model.encoder.layer
        directions = ("", "_reverse")[: 1 + self.layer.bidirectional]
        self.singles = {  # one direction of one layer each, by the end of its parameters' names
            f"_l{k}{direction}": cuts.one_direction(self.layer, f"_l{k}{direction}")
            for k in range(self.layer.num_layers)
            for direction in directions
        }

    def look(self, batch: Batch, carried: State | None) -> Values:
        """Return what is measured on a batch, by name.

        Args:
            batch: A training batch.
            carried: The state that its windows start from, (L, B, H) each; None for zeros.
        """
        batch, carried = first_sequences(batch, carried)
        with torch.no_grad(), without_cudnn_advice():
            x = self._embedded(batch.inputs).transpose(0, 1)
        lengths = torch.full((x.shape[1],), x.shape[0]) if batch.lengths is None else batch.lengths
        pieces = cuts.cut(lengths, x.device)
        values: Values = {}
        at_cuts: dict[str, list[State]] = {}
        with torch.enable_grad(), without_cudnn_advice():
            for k in range(self.layer.num_layers):
                halves = []
                for suffix in (s for s in self.singles if s.split("_")[1] == f"l{k}"):
                    passed = self._pass(suffix, x, lengths, pieces, carried)
                    values |= self._inside(suffix, passed, lengths, pieces)
                    at_cuts[suffix[1:]] = passed.at_cuts
                    backward = suffix.endswith("_reverse")
                    output = cuts.with_cut_states(passed.output, passed.at_cuts, lengths, pieces)
                    halves.append(cuts.reversed_in_time(output, lengths) if backward else output)
                x = self._after_layer(k, torch.cat(halves, dim=-1), lengths, values)
            features = x.transpose(0, 1)
            values |= state_gradients(self.model, features, batch, at_cuts, pieces)
        return values

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Return what the first layer reads, (B, T, I)."""
        x = inputs if self.encoder.embedding is None else self.encoder.embedding(inputs)
        return x if self.encoder.projection is None else self.encoder.projection(x)

    def _pass(
        self,
        suffix: str,
        x: Tensor,
        lengths: Tensor,
        pieces: list[Piece],
        carried: State | None,
    ) -> Passed:
        """Run one direction of one layer in pieces."""
        single = self.singles[suffix]
        cuts.share_parameters(single, self.layer, suffix)
        if suffix.endswith("_reverse"):
            x = cuts.reversed_in_time(x, lengths)
        row = int(suffix.split("_")[1][1:])  # a state is carried in one direction only
        initial = cuts.initial_state(single, carried, row, x)
        output, at_cuts = cuts.run_in_pieces(single, x, initial, pieces)
        return Passed(x, output, initial, at_cuts, carried is not None)

    @torch.no_grad()
    def _inside(self, suffix: str, passed: Passed, lengths: Tensor, pieces: list[Piece]) -> Values:
        """Return what a direction's hidden states, gates and norms say."""
        single, name = self.singles[suffix], suffix[1:]
        h = passed.output.detach()
        before = torch.cat([passed.initial[0][None].to(h.dtype), h[:-1]])
        states = widen(valid_rows(h, lengths))
        size = states.norm(dim=-1).mean() / math.sqrt(h.shape[-1])
        inside = gates.look_inside(
            single, valid_rows(passed.x.detach(), lengths), valid_rows(before, lengths)
        )
        values = {MonitorName(Quantity.STATE_NORM, name): size}
        for gate, share in gates.saturation(single, inside).items():
            values[MonitorName(Quantity.SATURATION, name, gate)] = share
        norm = gates.cell_norm_of(single)
        if norm is None:
            return values
        for which, v in inside.normed.items():
            if which == "hh" and not passed.carried:
                v = v[h.shape[1] :]  # a zero state has no variance, whatever the weights
            if not len(v):
                continue
            spread = gates.variances(v, gates.widths_of(single, norm), norm.kind)
            values |= about_variance(name, which, spread, single.eps)
        if "i" in inside.gates and norm.cell is not None and passed.at_cuts:
            c = self._cell_states(single, passed, pieces, norm.cell_clip)
            spread = gates.variances(c, [c.shape[-1]], norm.kind)
            values |= about_variance(name, "cell", spread, single.eps)
        return values | self._drift(suffix, norm.gain_init)

    def _cell_states(
        self, single: Layer, passed: Passed, pieces: list[Piece], clip: float | None
    ) -> Tensor:
        """Return the cell state before its norm at the step after every cut, (rows, H).

        Only there is the cell state before the step known without stepping.
        """
        flat = passed.x.detach().flatten(0, 1)
        found = []
        for piece, (h, c) in zip(pieces[1:], passed.at_cuts, strict=True):
            some = slice(piece.started)
            inside = gates.look_inside(single, flat[piece.where][some], h.detach()[some])
            found.append(gates.next_cell_state(inside, c.detach()[some], clip))
        return torch.cat(found)

    def _after_layer(self, k: int, x: Tensor, lengths: Tensor, values: Values) -> Tensor:
        """Apply the norm on a layer's output, if there is one, and note what it read."""
        if self.layer.norm != "output":
            return x
        gain = self.layer.get_parameter(f"gain_out_l{k}").detach()
        shift = self.layer.get_parameter(f"shift_out_l{k}").detach()
        spread = gates.variances(valid_rows(x.detach(), lengths), [x.shape[-1]], "layer")
        values |= about_variance(f"l{k}", "output", spread, self.layer.eps)
        values |= about_drift(f"l{k}", "output", gain, shift)
        return F.layer_norm(x, gain.shape, gain, shift, self.layer.eps)

    def _drift(self, suffix: str, gain_init: float) -> Values:
        """Return how far the gains and shifts inside the step have moved.

        b_hh, which serves the recurrent norm as its shift, starts at random values: left out.
        """
        parameters = dict(self.layer.named_parameters())
        kinds = {"gain": (Quantity.GAIN_DRIFT, gain_init), "shift": (Quantity.SHIFT_DRIFT, 0.0)}
        norms = {"_ih": "ih", "_hh": "hh", "": "joint", "_c": "cell"}
        return {
            MonitorName(quantity, suffix[1:], norm): drift(
                parameters[f"{kind}{end}{suffix}"], start
            )
            for kind, (quantity, start) in kinds.items()
            for end, norm in norms.items()
            if f"{kind}{end}{suffix}" in parameters
        }

    def recurrent_gradients(self) -> Values:
        """Return the norm of the gradient that each recurrent weight has just now, by name."""
        weights = {s[1:]: self.layer.get_parameter(f"weight_hh{s}") for s in self.singles}
        return {
            MonitorName(Quantity.RECURRENT_GRADIENT, name): weight.grad.norm()
            for name, weight in weights.items()
            if weight.grad is not None
        }


def state_gradients(
    model: SequenceModel,
    features: Tensor,
    batch: Batch,
    at_cuts: Mapping[str, list[State]],
    pieces: list[Piece],
) -> Values:
    """Return how large the gradient is that reaches the state k steps before the end, by name.

    What is traced back is the gradient that the loss gives to the last step's output (a backward
    direction's last step is the sequence's first). A loss on every step would hide how little of
    it gets far, since every state is near some step. Where only the last step is read, it is the
    gradient of the loss. Norms are over all that is carried (the LSTM's h and c together), and
    averaged over the sequences of more than k steps.

    Args:
        model: The model.
        features: The encoder's output, (B, T, F), made of the states.
        batch: The batch.
        at_cuts: The states, by layer and direction, as `run_in_pieces` returns them.
        pieces: From `cut`.
    """
    leaf = features.detach().requires_grad_()
    predictions = model.head(leaf, batch.lengths)
    total, count = sum_loss(predictions, batch.targets)
    (gradient,) = torch.autograd.grad(total / count.clamp_min(1), leaf)
    ends = {"lengths": batch.lengths, "bidirectional": model.encoder.bidirectional}
    seed = last_step(gradient, **ends)
    reached = seed.abs().amax(-1) > 0  # not where there is nothing to predict at the end
    scale = seed.abs().max().clamp_min(torch.finfo(seed.dtype).tiny)  # or small types underflow
    states = [part for found in at_cuts.values() for state in found for part in state]
    if not states or not bool(reached.any()):
        return {}
    end = (last_step(features, **ends) * (seed / scale)).sum()
    gradients = iter(torch.autograd.grad(end, states))
    values = {}
    for name, found in at_cuts.items():
        for piece, state in zip(pieces[1:], found, strict=True):
            parts = [next(gradients)[: piece.started] for _ in state]
            size = torch.cat([widen(part) for part in parts], dim=-1).norm(dim=-1)[
                reached[: piece.started]
            ]
            if len(size):
                key = MonitorName(Quantity.STATE_GRADIENT, name, lag=piece.lag)
                values[key] = size.mean() * scale
    return values


class TransformerHealth:
    """Looks at what a transformer's norms read, and how far their gains and shifts have moved.

    Args:
        model: A model whose encoder is a transformer.
    """

    def __init__(self, model: SequenceModel) -> None:
        encoder = model.encoder
        assert isinstance(encoder, TransformerEncoder)
        self.encoder = encoder
        norms: dict[tuple[str, str], Any] = {}
        for k, layer in enumerate(encoder.layers):
            norms[f"l{k}", "attention"] = layer.attention_norm
            norms[f"l{k}", "feedforward"] = layer.feedforward_norm
        norms[f"l{len(encoder.layers) - 1}", "final"] = encoder.final_norm
        self.norms = {  # by layer and name
            where: norm for where, norm in norms.items() if isinstance(norm, nn.LayerNorm)
        }

    @torch.no_grad()
    def look(self, batch: Batch, carried: State | None) -> Values:
        """Return what is measured on a batch, by name; a transformer carries no state."""
        batch, _ = first_sequences(batch, carried)
        read: dict[tuple[str, str], Tensor] = {}

        def note(where: tuple[str, str]) -> Any:
            return lambda module, inputs: read.update({where: inputs[0]})

        handles = [norm.register_forward_pre_hook(note(n)) for n, norm in self.norms.items()]
        try:
            with evaluating(self.encoder):
                self.encoder(batch.inputs, batch.lengths)
        finally:
            for handle in handles:
                handle.remove()
        values: Values = {}
        for where, v in read.items():
            norm = self.norms[where]
            rows = v.flatten(0, 1)
            if batch.lengths is not None:
                rows = v[valid_steps(batch.lengths, v)]
            spread = gates.variances(rows, [v.shape[-1]], "layer")
            values |= about_variance(*where, spread, norm.eps)
            values |= about_drift(*where, norm.weight, norm.bias)
        return values

    def recurrent_gradients(self) -> Values:
        """Return nothing: there is no recurrent weight."""
        return {}


def first_sequences(batch: Batch, carried: State | None) -> tuple[Batch, State | None]:
    """Return the first SEQUENCES of a batch, the longest first, and their states."""
    inputs, targets = batch.inputs[:SEQUENCES], batch.targets[:SEQUENCES]
    carried = None if carried is None else tuple(part[:, :SEQUENCES] for part in carried)
    if batch.lengths is None:
        return Batch(inputs, targets, None), carried
    lengths, order = batch.lengths[:SEQUENCES].sort(descending=True, stable=True)
    there = order.to(inputs.device)
    carried = None if carried is None else tuple(part[:, there] for part in carried)
    return Batch(inputs[there], targets[there], lengths), carried


def valid_rows(v: Tensor, lengths: Tensor) -> Tensor:
    """Return the steps of sequences without padding, (N, ...); all first steps come first."""
    if bool((lengths == len(v)).all()):
        return v.flatten(0, 1)
    return v[(torch.arange(len(v))[:, None] < lengths).to(v.device)]


def about_variance(layer: str, norm: str, spread: Tensor, eps: float) -> Values:
    """Return the median and a low quantile of variances, and the share of them near eps."""
    ordered = spread.sort().values
    found = {
        Quantity.VARIANCE: ordered[len(ordered) // 2],
        Quantity.LOW_VARIANCE: ordered[int(LOW * len(ordered))],
        Quantity.NEAR_EPS: gates.share_of(ordered < NEAR * eps),
    }
    return {MonitorName(quantity, layer, norm): value for quantity, value in found.items()}


def about_drift(layer: str, norm: str, gain: Tensor, shift: Tensor) -> Values:
    """Return how far a gain that began at one and a shift that began at zero have moved."""
    return {
        MonitorName(Quantity.GAIN_DRIFT, layer, norm): drift(gain, 1.0),
        MonitorName(Quantity.SHIFT_DRIFT, layer, norm): drift(shift, 0.0),
    }


def drift(parameter: Tensor, start: float) -> Tensor:
    """Return the root mean square of a parameter's distance from where all of it began."""
    return (widen(parameter.detach()) - start).square().mean().sqrt()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and every part back to the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
