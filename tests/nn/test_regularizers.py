"""Zoneout and dropout inside the recurrence, against loops in NumPy with the same masks."""

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from norm_cases import LAYERS, randomized, run, states
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import lnrnn
from lnrnn import ops
from lnrnn.nn import options
from lnrnn.nn.regularizers import Regularizers
from lnrnn.ops import noise, reference
from lnrnn.ops.noise import keep_mask

Array = NDArray[np.float64]
I, H, T, B, EPS, SEED = 3, 7, 5, 2, 1e-3, 11
ALL = {"zoneout": 0.3, "variational_dropout": 0.4, "weight_drop": 0.2}
OPTIONS = {
    "rnn": ALL,
    "lstm": ALL | {"zoneout_c": 0.5, "recurrent_dropout": 0.25},
    "gru": ALL | {"recurrent_dropout": 0.25},
}
EACH = [
    (cell, {name: value}) for cell, options in OPTIONS.items() for name, value in options.items()
]
EACH += list(OPTIONS.items())
NORMS: dict[str, Any] = {"none": None, "output": "output", "cell": "cell"}
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
every_option = pytest.mark.parametrize(("cell", "options"), EACH, ids=str)
every_cell = pytest.mark.parametrize("cell", list(LAYERS))


def build(cell: str, norm: Any, options: dict[str, Any], **more: Any) -> Any:
    torch.manual_seed(3)
    layer = LAYERS[cell](I, H, norm=norm, eps=EPS, dtype=torch.float64, **options, **more)
    return randomized(layer)


def inputs(steps: int = T, batch: int = B) -> torch.Tensor:
    return torch.randn(steps, batch, I, dtype=torch.float64)


def seeded(layer: Any, *args: Any, **options: Any) -> list[torch.Tensor]:
    """Run a layer under a seed of torch's."""
    torch.manual_seed(SEED)
    output, final = layer(*args, **options)
    return [output, *(final if isinstance(final, tuple) else (final,))]


def seed_of_call() -> int:
    """What a call draws under that seed, as docs/formulas.md says."""
    torch.manual_seed(SEED)
    return int(torch.randint(2**63 - 1, ()))


def s(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def N(v: Array) -> Array:
    return (v - v.mean()) / np.sqrt(v.var() + EPS)


def gates_of(
    cell: str, p: dict[str, Array], normed: bool, x: Array, h: Array
) -> tuple[Array, Array]:
    """What the two sides of a step come to; a sum is all on the left."""
    wx, wh = p["weight_ih"] @ x + p["bias_ih"], p["weight_hh"] @ h
    if not normed:
        return wx, wh + p["bias_hh"]
    if cell == "rnn":
        return p["gain"] * N(wx + wh) + p["bias_hh"], np.zeros(H)
    spans = [slice(0, 2 * H), slice(2 * H, 3 * H)] if cell == "gru" else [slice(0, 4 * H)]
    wx, wh = (np.concatenate([N(v[span]) for span in spans]) for v in (wx, wh))
    return p["gain_ih"] * wx + p["shift_ih"], p["gain_hh"] * wh + p["bias_hh"]


class Loop:
    """One direction of one layer over one sequence, in training with ``seed`` or in evaluation."""

    def __init__(self, cell: str, p: dict[str, Array], normed: bool, options: dict[str, float]):
        self.cell, self.p, self.normed, self.options = cell, p, normed, options
        self.seed: int | None = None
        self.stream = self.row = 0

    def kept(self, name: str, purpose: int, t: int) -> Array:
        """Ones where a mask keeps a unit; without a seed, all of them."""
        if self.seed is None or name not in self.options:
            return np.ones(H)
        step, row = torch.tensor([t]), torch.tensor([self.row])
        probability = self.options[name]
        mask = keep_mask(probability, self.seed, purpose + 4 * self.stream, step, row, H)
        return mask[0].numpy().astype(np.float64)

    def dropped(self, v: Array, name: str, purpose: int, t: int) -> Array:
        if self.seed is None:
            return v
        return v * self.kept(name, purpose, t) / (1 - self.options.get(name, 0.0))

    def zoned(self, new: Array, old: Array, name: str, purpose: int, t: int) -> Array:
        rate = self.options.get(name, 0.0)
        share = 1 - rate if self.seed is None else self.kept(name, purpose, t)
        return share * new + (1 - share) * old

    def step(self, x: Array, h: Array, c: Array, t: int) -> tuple[Array, Array]:
        read = self.dropped(h, "variational_dropout", noise.SEEN_STATE, 0)
        a, u = gates_of(self.cell, self.p, self.normed, x, read)
        new_c = c
        if self.cell == "rnn":
            new = np.tanh(a + u)
        elif self.cell == "gru":
            (a_r, a_z, a_n), (u_r, u_z, u_n) = a.reshape(3, H), u.reshape(3, H)
            r, z = s(a_r + u_r), s(a_z + u_z)
            n = self.dropped(np.tanh(a_n + r * u_n), "recurrent_dropout", noise.CANDIDATE, t)
            new = (1 - z) * n + z * h
        else:
            i, f, g, o = (a + u).reshape(4, H)
            g = self.dropped(np.tanh(g), "recurrent_dropout", noise.CANDIDATE, t)
            new_c = s(f) * c + s(i) * g
            seen = self.p["gain_c"] * N(new_c) + self.p["shift_c"] if self.normed else new_c
            new = s(o) * np.tanh(seen)
            new_c = self.zoned(new_c, c, "zoneout_c", noise.ZONEOUT_C, t)
        return self.zoned(new, h, "zoneout", noise.ZONEOUT, t), new_c


def truth(layer: Any, x: torch.Tensor, state: Any, options: dict[str, float]) -> list[Array]:
    """Return output and final states of every sequence, (T, B, D * H) and (D, B, H)."""
    cell = layer.mode.partition("_")[0].lower()
    seed = seed_of_call() if layer.training else None
    ways = 2 if layer.bidirectional else 1
    output = np.zeros((len(x), x.shape[1], ways * H))
    final = [np.zeros((ways, x.shape[1], H)) for _ in state]
    for d, suffix in enumerate(("_l0", "_l0_reverse")[:ways]):
        named = layer.named_parameters()
        p = {n.removesuffix(suffix): v.detach().numpy() for n, v in named if n.endswith(suffix)}
        if seed is not None and "weight_drop" in options:
            rows, rate = torch.arange(len(p["weight_hh"])), options["weight_drop"]
            mask = keep_mask(rate, seed, 4 * 2**20 + d, torch.zeros_like(rows), rows, H)
            p["weight_hh"] = p["weight_hh"] * mask.numpy() / (1 - rate)
        for b in range(x.shape[1]):
            loop = Loop(cell, p, layer.norm == "cell", options)
            loop.seed, loop.stream, loop.row = seed, d, b
            h, c = (state[k][d, b].numpy() for k in (0, -1))
            for t in range(len(x)) if d == 0 else reversed(range(len(x))):
                h, c = loop.step(x[t, b].numpy(), h, c, t)
                output[t, b, d * H : (d + 1) * H] = h
            for k, value in zip(range(len(final)), (h, c), strict=False):
                final[k][d, b] = value
    if layer.norm == "output":
        gain, shift = layer.gain_out_l0.detach().numpy(), layer.shift_out_l0.detach().numpy()
        output = np.apply_along_axis(N, -1, output) * gain + shift
    return [output, *final]


@every_norm
@every_option
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_layers_equal_the_loop(cell: str, options: Any, norm: Any, training: bool) -> None:
    layer = build(cell, norm, options, bidirectional=True).train(training)
    x, state = inputs(), states(layer, B)
    expected = truth(layer, x, state, options)
    found = seeded(layer, x, state[0] if len(state) == 1 else state)
    for value, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(value.detach().numpy(), exact, rtol=0, atol=1e-12)


@every_norm
@every_option
def test_packed_sequences_get_the_masks_of_the_padded_batch(
    cell: str, options: Any, norm: Any
) -> None:
    layer, x, lengths = build(cell, norm, options), inputs(T, 3), [2, 5, 3]
    padded = seeded(layer, x)[0]
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, _ = pad_packed_sequence(seeded(layer, packed)[0])  # pyright: ignore
    for row, length in enumerate(lengths):
        torch.testing.assert_close(output[:length, row], padded[:length, row], rtol=0, atol=1e-13)
    output = seeded(layer, x, lengths=lengths)[0]
    torch.testing.assert_close(output[:2], padded[:2], rtol=0, atol=1e-13)


@every_norm
@every_option
def test_a_seed_repeats_and_the_next_call_differs(cell: str, options: Any, norm: Any) -> None:
    layer, x = build(cell, norm, options, num_layers=2), inputs()
    first = seeded(layer, x)[0]
    second = layer(x)[0]
    assert torch.equal(seeded(layer, x)[0], first)
    assert not torch.equal(second, first)
    again = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    assert torch.equal(seeded(again, x)[0], first)


@every_norm
@every_cell
def test_dropout_is_off_in_evaluation(cell: str, norm: Any) -> None:
    dropouts = {n: v for n, v in OPTIONS[cell].items() if not n.startswith("zoneout")}
    layer = build(cell, norm, dropouts).eval()
    plain = build(cell, norm, {}).eval()
    x = inputs()
    before = torch.get_rng_state()
    assert torch.equal(layer(x)[0], plain(x)[0])
    assert torch.equal(torch.get_rng_state(), before)


@every_cell
def test_without_them_a_call_draws_nothing(cell: str) -> None:
    layer, x = build(cell, "cell", {"zoneout": 0.0, "weight_drop": 0}), inputs()
    before = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert "zoneout" not in repr(layer)


def test_layers_and_directions_have_masks_of_their_own() -> None:
    layer = build("lstm", None, {"variational_dropout": 0.5}, num_layers=2, bidirectional=True)
    names = {"weight_ih": 0.0, "bias": 0.0}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.fill_(next((v for n, v in names.items() if n in name), 0.3))
        layer.weight_hh_l0_reverse.copy_(layer.weight_hh_l0)
    state = torch.ones(4, B, H, dtype=torch.float64)
    _, h_n, _ = seeded(layer, inputs(1), (state, state))
    assert len({round(v, 12) for v in h_n.detach()[:, 0, 0].tolist()}) > 1


@every_option
def test_gradients(cell: str, options: Any) -> None:
    layer, x = build(cell, "cell", options), inputs(3).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(SEED)
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

    tensors = (x, *layer.parameters())
    assert torch.autograd.gradcheck(call, tensors, fast_mode=True)


def test_checkpointed_segments_get_the_same_masks_again() -> None:
    layer, x = build("gru", "cell", OPTIONS["gru"]), inputs().requires_grad_()
    output = seeded(layer, x)[0]
    cotangent = torch.randn_like(output)
    (plain,) = torch.autograd.grad(output, x, cotangent)
    torch.manual_seed(SEED)
    output: Any = checkpoint(lambda v: layer(v)[0], x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(output, x, cotangent)[0], plain)


@every_norm
@every_cell
def test_after_a_reset_zoneout_keeps_the_reset_state(cell: str, norm: Any) -> None:
    zoneouts = {n: v for n, v in OPTIONS[cell].items() if n.startswith("zoneout")}
    layer, x = build(cell, norm, zoneouts).eval(), inputs(6, 1)
    mask = torch.zeros(6, 1, dtype=torch.bool)
    mask[2] = True
    pieces = torch.cat([layer(x[:2])[0], layer(x[2:])[0]])
    torch.testing.assert_close(layer(x, resets=mask)[0], pieces, rtol=0, atol=1e-12)


@every_cell
def test_weight_drop_goes_with_torchs_recurrence_and_with_resets(cell: str) -> None:
    layer, x = build(cell, None, {"weight_drop": 0.5}), inputs()
    dropped = copy.deepcopy(layer).eval()
    rows = torch.arange(len(layer.weight_hh_l0))
    mask = keep_mask(0.5, seed_of_call(), 4 * 2**20, torch.zeros_like(rows), rows, H)
    with torch.no_grad():
        dropped.weight_hh_l0.mul_(mask * 2.0)
    assert torch.equal(seeded(layer, x)[0], dropped(x)[0])
    resets = torch.rand(T, B) < 0.5
    assert torch.equal(seeded(layer, x, resets=resets)[0], dropped(x, resets=resets)[0])


@every_norm
@every_option
def test_they_go_with_kernels(cell: str, options: Any, norm: Any) -> None:
    x = inputs()
    layer = build(cell, norm, options, bidirectional=True, fused=True)
    slow = build(cell, norm, options, bidirectional=True, fused=False)
    cotangent = torch.randn(T, B, 2 * H, dtype=torch.float64)
    for training in (True, False):
        found = seeded(layer.train(training), x)[0]
        truth = seeded(slow.train(training), x)[0]
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)
        grads = (
            torch.autograd.grad(output, [*module.parameters()], cotangent)
            for output, module in ((found, layer), (truth, slow))
        )
        for value, expected in zip(*grads, strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("bias", [True, False])
@every_cell
def test_kernels_compute_steps_without_a_norm(
    cell: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where masks change torch's steps: not in a loop of Python's, but for ``fused=False``."""
    calls = []
    for name in ("ln_rnn", "ln_lstm", "ln_gru"):
        run = getattr(reference, name)
        monkeypatch.setattr(
            reference, name, lambda *a, run=run, **o: [calls.append(0), run(*a, **o)][1]
        )
    for fused in (None, False):
        layer = build(cell, None, {"zoneout": 0.3}, bias=bias, fused=fused)
        seeded(layer, inputs())[0].square().sum().backward()
        assert bool(calls) == (fused is False)


@every_norm
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@every_cell
def test_dtypes_are_those_without(cell: str, dtype: torch.dtype, norm: Any) -> None:
    layer = build(cell, norm, OPTIONS[cell]).to(dtype)
    plain = build(cell, norm, {}).to(dtype)
    x = inputs().to(dtype)
    found, usual = seeded(layer, x), run(plain, x)
    assert [v.dtype for v in found] == [v.dtype for v in usual]
    assert all(v.isfinite().all() for v in found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ["zoneout", "weight_drop"])
@every_norm
def test_tools_that_record_a_call(name: str, norm: Any) -> None:
    layer, x = build("gru", norm, {name: 0.5}), inputs()
    compiled = torch.compile(layer, backend="eager")
    expected = seeded(layer, x)[0]
    torch.manual_seed(SEED)
    assert torch.equal(compiled(x)[0], expected)
    message = f"{name} of a layer in training mode cannot be recorded as one program"
    with pytest.raises(NotImplementedError, match=message):
        torch.jit.trace(layer, (x,))
    with pytest.raises(Exception, match=message):
        torch.export.export(layer, (x,))
    torch.compiler.reset()  # what was compiled above is kept for the same code
    with pytest.raises(Exception, match=message):
        torch.compile(layer, backend="eager", fullgraph=True)(x)
    layer.eval()
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x)[0], layer(x)[0], rtol=0, atol=1e-13)


def test_what_is_no_probability_or_unknown_is_refused() -> None:
    make: Any = lnrnn.LSTM
    for name in OPTIONS["lstm"]:
        for value in (-0.1, 1.0, float("nan")):
            with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\), got {value}"):
                make(3, 7, **{name: value})
        with pytest.raises(TypeError, match=f"{name} must be a number, got True"):
            make(3, 7, **{name: True})
    for make, name in (
        (lnrnn.RNN, "recurrent_dropout"),
        (lnrnn.RNN, "zoneout_c"),
        (lnrnn.GRU, "zoneout_c"),
        (lnrnn.LSTM, "nonlinearity"),
        (lnrnn.LSTM, "xyz"),
    ):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'; besides its"):
            make(3, 7, **{name: 0.1})
    for make, name, meant in (
        (lnrnn.LSTM, "zoneuot", "zoneout"),
        (lnrnn.LSTM, "num_layer", "num_layers"),
        (lnrnn.GRU, "batchfirst", "batch_first"),
        (lnrnn.LSTMCell, "hiden_size", "hidden_size"),
    ):
        with pytest.raises(TypeError, match=f"'{name}'; did you mean '{meant}'[?] besides its"):
            make(3, 7, **{name: 0.1})


def test_what_is_meant_may_be_any_argument_of_the_signature() -> None:
    for cell, layer in (("rnn", lnrnn.RNN), ("lstm", lnrnn.LSTM), ("gru", lnrnn.GRU)):
        step = getattr(lnrnn, f"{cell.upper()}Cell")
        for made, is_step in ((layer, False), (step, True)):
            found = {*inspect.signature(made).parameters} - {"options"}
            assert {*options.signature(cell, step=is_step)} == found


def test_ops_refuse_what_a_cell_does_not_have() -> None:
    x, h, w = torch.zeros(2, 1, 7), torch.zeros(1, 7), torch.zeros(7, 7)
    for given in (noise.Noise(zoneout_c=0.1), noise.Noise(recurrent_dropout=0.1)):
        with pytest.raises(ValueError, match="acts on what this cell does not have"):
            ops.ln_rnn(x, h, w, None, joint=False, noise=given)
    with pytest.raises(ValueError, match=r"zoneout must be in \[0, 1\), got 2"):
        ops.ln_rnn(x, h, w, None, joint=False, noise=noise.Noise(zoneout=2))


def test_the_description_says_what_is_on() -> None:
    layer = lnrnn.LSTM(3, 7, zoneout=0.1, weight_drop=0.5, forget_bias=1.0)
    assert repr(layer) == "LSTM(3, 7, zoneout=0.1, weight_drop=0.5, forget_bias=1.0)"


def test_a_layer_pickled_without_them_still_runs() -> None:
    layer = lnrnn.LSTM(3, 7)
    for name in ("regularizers", "starts"):
        del layer.__dict__[name]
    assert isinstance(layer, nn.Module)
    layer(torch.randn(4, 2, 3))
    layer.reset_parameters()
    assert repr(layer) == "LSTM(3, 7)"


@every_norm
def test_regularizers_may_be_replaced(norm: Any) -> None:
    layer, x = build("lstm", norm, {}), inputs()
    for zoneout in (0.5, 0.1, 0.0):
        layer.regularizers = Regularizers(zoneout=zoneout)
        same = build("lstm", norm, {"zoneout": zoneout})
        for training in (True, False):
            found = seeded(layer.train(training), x)[0]
            assert torch.equal(found, seeded(same.train(training), x)[0])
    with pytest.raises(TypeError, match=r"regularizers must be a .*Regularizers, got 0"):
        layer.regularizers = 0.1
    with pytest.raises(TypeError, match="GRU got an unexpected keyword argument 'zoneout_c'"):
        build("gru", norm, {}).regularizers = Regularizers(zoneout_c=0.1)
