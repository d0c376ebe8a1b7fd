"""A recurrence run in pieces, cut 1, 2, 4, ... steps before each sequence's own end.

Where it is cut the state that is carried on is a tensor of its own, so one backward pass gives the
gradient with respect to every one of them: a dozen calls of the layer, whatever the length.

Dimensions: T time steps, B sequences, I input features, H hidden units, n steps of a piece.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lnrnn.nn import GRU, LSTM, RNN

Layer = RNN | LSTM | GRU
State = tuple[Tensor, ...]


class Piece(NamedTuple):
    """The steps between two cuts, of the sequences that have any there.

    Attributes:
        lag: Steps from the cut before it to each sequence's end; 0 for the first piece, before
            which there is no cut.
        where: Where its steps are among the T * B of a padded batch, in packed order.
        sizes: Sequences that have each of its steps, int64 on the CPU, falling.
        rows: Sequences that have a step in it: the first ones.
        started: Sequences that had a step before it: the first ones too.
    """

    lag: int
    where: Tensor | slice
    sizes: Tensor
    rows: int
    started: int


def cut(lengths: Tensor, device: torch.device) -> list[Piece]:
    """Cut sequences 1, 2, 4, ... steps before their ends; the piece farthest from them is first.

    Args:
        lengths: Steps of each sequence, (B,), falling, int64 on the CPU.
        device: Where the indices are wanted.
    """
    longest, batch = int(lengths[0]), len(lengths)
    lags = [1 << k for k in range(longest.bit_length()) if 1 << k < longest]
    even = bool((lengths == longest).all())
    pieces = []
    for far, near in pairwise([longest, *reversed(lags), 0]):
        first, last = ((lengths - lag).clamp_min(0) for lag in (far, near))
        step = torch.arange(int(last[0] - first[0]))[:, None]
        there = step < last - first  # (n, B)
        index: Tensor | slice = slice(int(first[0]) * batch, int(last[0]) * batch)
        if not even:
            index = ((first + step) * batch + torch.arange(batch))[there].to(device)
        started = int((lengths > far).sum())
        lag = 0 if far == longest else far
        pieces.append(Piece(lag, index, there.sum(1), int(there[0].sum()), started))
    return pieces


def reversed_in_time(x: Tensor, lengths: Tensor) -> Tensor:
    """Return every sequence from its end to its beginning, (T, B, ...); padding stays behind it."""
    steps, batch = x.shape[:2]
    if bool((lengths == steps).all()):
        return x.flip(0)
    step = torch.arange(steps)[:, None]
    source = torch.where(step < lengths, lengths - 1 - step, step).to(x.device)
    return x[source, torch.arange(batch, device=x.device)]


def run_in_pieces(
    layer: Layer, x: Tensor, initial: State, pieces: list[Piece]
) -> tuple[Tensor, list[State]]:
    """Run one direction of one layer, with a gradient from the first cut on.

    Args:
        layer: One layer of one direction, forward, whose parameters want no gradient.
        x: (T, B, I).
        initial: (B, H) each: h, or h and c.
        pieces: From `cut`.

    Returns:
        The hidden states, (T, B, H), zero beyond each sequence's end; and the state at every cut,
        (B, H) each, from the farthest to the nearest. A sequence that has not begun at a cut has
        its initial state there.
    """
    flat, state = x.flatten(0, 1), initial
    outputs, at_cuts = [], []
    for piece in pieces:
        if piece is not pieces[0]:
            # In the lowest layer the graph begins here: what comes before has no part in it.
            state = tuple(s if s.requires_grad else s.requires_grad_() for s in state)
            at_cuts.append(state)
        output, after = _run_piece(layer, flat[piece.where], state, piece)
        outputs.append(output)
        state = tuple(
            a if piece.rows == len(s) else torch.cat([a, s[piece.rows :].to(a.dtype)])
            for a, s in zip(after, state, strict=True)
        )
    joined = torch.cat(outputs)
    if isinstance(pieces[0].where, Tensor):
        index = torch.cat([piece.where for piece in pieces])  # pyright: ignore
        joined = joined.new_zeros(len(flat), joined.shape[-1]).index_copy(0, index, joined)
    return joined.unflatten(0, x.shape[:2]), at_cuts


def with_cut_states(
    output: Tensor, at_cuts: list[State], lengths: Tensor, pieces: list[Piece]
) -> Tensor:
    """Return hidden states in which those at the cuts are the very tensors that were carried on.

    So a gradient with respect to such a state has in it what the layer above makes of it too.

    Args:
        output: Hidden states from `run_in_pieces`, (T, B, H).
        at_cuts: The states at the cuts, from there.
        lengths: Steps of each sequence, (B,), falling.
        pieces: From `cut`.
    """
    if not at_cuts:
        return output
    step = torch.cat([lengths[: piece.started] - piece.lag - 1 for piece in pieces[1:]])
    row = torch.cat([torch.arange(piece.started) for piece in pieces[1:]])
    states = [state[0][: p.started] for p, state in zip(pieces[1:], at_cuts, strict=True)]
    where = (step.to(output.device), row.to(output.device))
    return output.index_put(where, torch.cat(states).to(output.dtype))


def _run_piece(layer: Layer, data: Tensor, state: State, piece: Piece) -> tuple[Tensor, State]:
    """Run the steps of a piece; return its hidden states, packed, and the final ones."""
    before = [s[None, : piece.rows].contiguous() for s in state]
    hx: Any = before if isinstance(layer, LSTM) else before[0]
    if isinstance(piece.where, slice):
        output, after = layer(data.unflatten(0, (-1, piece.rows)), hx)
        output = output.flatten(0, 1)
    else:
        output, after = layer(PackedSequence(data, piece.sizes), hx)
        output = output.data
    return output, tuple(a[0] for a in (after if isinstance(after, tuple) else (after,)))


def initial_state(layer: Layer, carried: State | None, row: int, x: Tensor) -> State:
    """Return the state that one direction of one layer starts from, (B, H) each.

    Args:
        layer: One direction.
        carried: The state of all layers, (L, B, H) each, or None for zeros.
        row: Which of them it is.
        x: What it reads, (T, B, I).
    """
    if carried is not None:
        return tuple(part[row] for part in carried)
    sizes = [layer.proj_size or layer.hidden_size]
    if isinstance(layer, LSTM):
        sizes.append(layer.hidden_size)
    return tuple(x.new_zeros(x.shape[1], size) for size in sizes)


def one_direction(layer: Layer, suffix: str) -> Layer:
    """Return one direction of one layer, without a norm on its output and without parameters.

    Args:
        layer: Any layer.
        suffix: What the names of that direction's parameters end in, such as ``_l0_reverse``.
    """
    settings: dict[str, Any] = {"bias": layer.bias, "eps": layer.eps, "fused": layer.fused}
    settings["norm"] = None if layer.norm == "output" else layer.norm
    # The look is without dropout; zoneout acts in evaluation too.
    given = layer.regularizers.given().items()
    zoneout = {name: value for name, value in given if name.startswith("zoneout")}
    settings |= zoneout
    if isinstance(layer, RNN):
        settings["nonlinearity"] = layer.nonlinearity
    if isinstance(layer, LSTM):
        settings["proj_size"] = layer.proj_size
    input_size = layer.get_parameter(f"weight_ih{suffix}").shape[1]
    single = type(layer)(input_size, layer.hidden_size, device="meta", **settings)
    return single.train(not zoneout)  # cuDNN has no gradient in evaluation


def share_parameters(single: Layer, layer: Layer, suffix: str) -> None:
    """Let one direction look at a layer's parameters, which it does not own and cannot change."""
    for name, _ in list(single.named_parameters()):
        source = layer.get_parameter(name.removesuffix("_l0") + suffix)
        setattr(single, name, nn.Parameter(source.detach(), requires_grad=False))
