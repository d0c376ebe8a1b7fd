"""What the monitor measures equals a loop over the steps of every sequence alone, in float64."""

import math
from functools import partial
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

import lnrnn
from lnrnn.data import Batch
from lnrnn.models import (
    ClassificationHead,
    RecurrentEncoder,
    SequenceModel,
    TokenHead,
    TransformerEncoder,
)
from lnrnn.nn.norm import as_cell_norm
from lnrnn.training.metrics import sum_loss
from lnrnn.training.monitor import health
from lnrnn.training.monitor.health import RecurrentHealth, TransformerHealth

CELLS = {"rnn": lnrnn.RNNCell, "lstm": lnrnn.LSTMCell, "gru": lnrnn.GRUCell}
BATCH, STEPS, FEATURES, HIDDEN = 5, 11, 3, 6
RAGGED = torch.tensor([4, 11, 1, 9, 2])
EPS = 1e-2


def build(cell: Any, norm=None, head: Any = "last", **settings) -> SequenceModel:
    """Return a float64 model whose gains and shifts are not where they begin."""
    encoder = RecurrentEncoder(
        cell, num_features=FEATURES, hidden_size=HIDDEN, norm=norm, eps=EPS, **settings
    )
    kind = TokenHead if head == "tokens" else partial(ClassificationHead, pooling=head)
    model = SequenceModel(encoder, partial(kind, 4)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gain" in name or "shift" in name:
                parameter += 0.3 * torch.randn_like(parameter)
    return model


def make_batch(lengths: Tensor | None = None, *, tokens: bool = False) -> Batch:
    inputs = torch.randn(BATCH, STEPS, FEATURES, dtype=torch.float64)
    targets = torch.randint(4, (BATCH, STEPS) if tokens else (BATCH,))
    if lengths is not None:
        inputs[torch.arange(STEPS) >= lengths[:, None]] = math.nan  # padding is read by nothing
    return Batch(inputs, targets, lengths)


class Alone:
    """One sequence run a step at a time; keeps the states after every step of every direction."""

    def __init__(self, model: SequenceModel, x: Tensor, carried=None) -> None:
        layer = cast(Any, model.encoder).layer
        self.layer = layer
        self.states: dict[str, list[tuple[Tensor, ...]]] = {}
        self.read: dict[str, list[Tensor]] = {}
        self.before_output: dict[str, Tensor] = {}
        for k in range(layer.num_layers):
            halves = []
            for suffix in (f"_l{k}", f"_l{k}_reverse")[: 1 + layer.bidirectional]:
                way = x.flip(0) if "reverse" in suffix else x
                initial = None if carried is None else tuple(part[k] for part in carried)
                out = self._run(suffix, way, initial)
                halves.append(out.flip(0) if "reverse" in suffix else out)
            x = torch.cat(halves, -1)
            if layer.norm == "output":
                self.before_output[f"l{k}"] = x
                gain, shift = (getattr(layer, f"{n}_out_l{k}") for n in ("gain", "shift"))
                x = F.layer_norm(x, gain.shape, gain, shift, layer.eps)
        self.features = x

    def _run(self, suffix: str, x: Tensor, initial) -> Tensor:
        layer = self.layer
        kind = type(layer).__name__.lower()
        norm = None if layer.norm == "output" else layer.norm
        cell = CELLS[kind](x.shape[1], HIDDEN, norm=norm, eps=EPS, dtype=torch.float64, fused=False)
        parameters = {n: getattr(layer, n + suffix) for n, _ in cell.named_parameters()}
        if initial is None:
            initial = tuple(x.new_zeros(HIDDEN) for _ in range(2 if kind == "lstm" else 1))
        states = [initial]
        for x_t in x:
            hx = states[-1] if kind == "lstm" else states[-1][0]
            after = functional_call(cell, parameters, (x_t, hx))
            after = after if isinstance(after, tuple) else (after,)
            shares = (layer.regularizers.zoneout, layer.regularizers.zoneout_c)
            parts = zip(shares, states[-1], after, strict=False)
            states.append(tuple(p * old + (1 - p) * new for p, old, new in parts))
        self.states[suffix[1:]], self.read[suffix[1:]] = states, list(x)
        return torch.stack([state[0] for state in states[1:]])


def run_alone(model: SequenceModel, batch: Batch, carried=None) -> list[Alone]:
    lengths = [STEPS] * BATCH if batch.lengths is None else batch.lengths.tolist()
    return [
        Alone(model, batch.inputs[b, :n], None if carried is None else [p[:, b] for p in carried])
        for b, n in enumerate(lengths)
    ]


def state_gradients(model: SequenceModel, batch: Batch, runs: list[Alone]) -> dict[str, float]:
    """Return the gradients by autograd through the loop: of the loss, by way of the last step."""
    features = torch.nn.utils.rnn.pad_sequence([run.features for run in runs], batch_first=True)
    leaf = features.detach().requires_grad_()
    total, count = sum_loss(model.head(leaf, batch.lengths), batch.targets)
    (gradient,) = torch.autograd.grad(total / count, leaf)
    found: dict[str, list[float]] = {}
    for b, run in enumerate(runs):
        n, half = len(run.features), HIDDEN if model.encoder.bidirectional else None
        end = (run.features[-1, :half] * gradient[b, n - 1, :half]).sum()
        if half:
            end = end + (run.features[0, half:] * gradient[b, 0, half:]).sum()
        for name, states in run.states.items():
            for lag in (1, 2, 4, 8):
                if lag < n:
                    parts = torch.autograd.grad(end, states[n - lag], retain_graph=True)
                    found.setdefault(f"state_gradient/{name}/lag{lag}", []).append(
                        float(torch.cat(parts).norm())
                    )
    return {name: sum(values) / len(values) for name, values in found.items()}


def look(health: RecurrentHealth | TransformerHealth, batch: Batch, carried: Any) -> dict[str, Any]:
    """Return what a look finds, by the names of the records without what all of them begin with."""
    found = health.look(batch, carried)
    return {str(name).removeprefix("monitor/"): value for name, value in found.items()}


@pytest.mark.parametrize(
    ("cell", "options"),
    [("rnn", {"zoneout": 0.3}), ("lstm", {"zoneout": 0.2, "zoneout_c": 0.5})],
)
def test_zoneout_is_looked_at_as_in_evaluation_and_draws_nothing(cell, options):
    dropouts = {"variational_dropout": 0.5, "weight_drop": 0.5}
    model = build(cell, "cell", **options, **dropouts)
    batch = make_batch()
    values = look(RecurrentHealth(model), batch, None)
    expected = state_gradients(model, batch, run_alone(model, batch))
    for name, value in expected.items():
        assert float(values[name]) == pytest.approx(value, rel=1e-9), name
    health, before = RecurrentHealth(model), torch.get_rng_state()
    look(health, batch, None)
    assert torch.equal(torch.get_rng_state(), before)


NORMS = {
    "rnn": [
        *(None, "output", "cell", lnrnn.CellNorm(inputs="separate", kind="rms")),
        lnrnn.CellNorm(inputs="input"),
    ],
    "lstm": [
        None,
        "output",
        "cell",
        lnrnn.CellNorm(inputs="joint", span="gate", cell="state", kind="rms"),
        lnrnn.CellNorm(cell=None, gain_init=0.5),
        lnrnn.CellNorm(inputs=None),
        lnrnn.CellNorm(inputs="recurrent", cell="carried", cell_clip=0.3),
    ],
    "gru": [
        *(None, "output", "cell", lnrnn.CellNorm(span="all")),
        lnrnn.CellNorm(inputs="recurrent"),
        lnrnn.CellNorm(inputs="joint"),
        lnrnn.CellNorm(inputs="joint", span="gate", kind="rms"),
        lnrnn.CellNorm(inputs="joint", span="all"),
    ],
}
EVERY_NORM = [(cell, norm) for cell, norms in NORMS.items() for norm in norms]


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["padded", "ragged"])
@pytest.mark.parametrize(("cell", "norm"), EVERY_NORM, ids=str)
def test_gradients_by_lag_equal_those_through_a_step_loop(cell, norm, lengths):
    model = build(cell, norm)
    batch = make_batch(lengths)
    values = look(RecurrentHealth(model), batch, None)
    expected = state_gradients(model, batch, run_alone(model, batch))
    found = {name: value for name, value in values.items() if name.startswith("state_grad")}
    assert found.keys() == expected.keys()
    assert {1, 2, 4, 8} == {int(name.rpartition("lag")[2]) for name in found}
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["padded", "ragged"])
@pytest.mark.parametrize("head", ["last", "mean", "tokens"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "norm"), [("gru", "output"), ("lstm", "cell"), ("rnn", None)])
def test_layers_directions_and_heads(cell, norm, bidirectional, head, lengths):
    model = build(cell, norm, head, num_layers=2, bidirectional=bidirectional)
    batch = make_batch(lengths, tokens=head == "tokens")
    values = look(RecurrentHealth(model), batch, None)
    expected = state_gradients(model, batch, run_alone(model, batch))
    assert len(expected) == 4 * 2 * (1 + bidirectional)
    for name, value in expected.items():
        assert float(values[name]) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_carried_state_is_where_the_sequences_begin(cell):
    model = build(cell, "cell", "tokens", num_layers=2)
    batch = make_batch(tokens=True)
    parts = 2 if cell == "lstm" else 1
    carried = tuple(torch.randn(2, BATCH, HIDDEN, dtype=torch.float64) for _ in range(parts))
    values = look(RecurrentHealth(model), batch, carried)
    runs = run_alone(model, batch, carried)
    expected = state_gradients(model, batch, runs)
    for name, value in expected.items():
        assert float(values[name]) == pytest.approx(value, rel=1e-9), name
    assert float(values["state_norm/l1"]) == pytest.approx(mean_state(runs, "l1"), rel=1e-6)
    other = look(RecurrentHealth(model), batch, None)
    assert float(other["state_norm/l1"]) != pytest.approx(mean_state(runs, "l1"), rel=1e-3)


@torch.no_grad()
def mean_state(runs: list[Alone], name: str) -> float:
    norms = [state[0].norm() / math.sqrt(HIDDEN) for run in runs for state in run.states[name][1:]]
    return float(torch.stack(norms).mean())


def N(v: Tensor, kind: str = "layer") -> Tensor:
    if kind == "rms":
        return v / torch.sqrt(v.square().mean() + EPS)
    return (v - v.mean()) / torch.sqrt(v.var(correction=0) + EPS)


def inside_joint_gru(p: dict, normed, widths: list[int], a: Tensor, u: Tensor, span: str):
    """The same for norms of a GRU's sum: the candidate's has the reset in it, or before it."""
    r, z, n = (p["gain"] * normed(a + u) + p["shift"]).chunk(3)
    r, z = torch.sigmoid(r), torch.sigmoid(z)
    if span == "all":
        return {"r": r, "z": z, "n": torch.tanh(r * n)}, {"joint": (a + u).split(widths)}
    side = torch.cat([(a + u)[: 2 * HIDDEN], a[2 * HIDDEN :] + r * u[2 * HIDDEN :]])
    n = (p["gain"] * normed(side) + p["shift"])[2 * HIDDEN :]
    return {"r": r, "z": z, "n": torch.tanh(n)}, {"joint": side.split(widths)}


@torch.no_grad()
def inside_step(layer, suffix: str, x: Tensor, state) -> tuple[dict, dict]:
    """Return the gates' activations and what the norms read at one step, by docs/formulas.md."""
    p = {n.removesuffix(suffix): v for n, v in layer.named_parameters() if n.endswith(suffix)}
    kind = type(layer).__name__.lower()
    norm = as_cell_norm(None if layer.norm == "output" else layer.norm, kind)
    h, s = state[0], torch.sigmoid
    from_x = p["weight_ih"] @ x + p["bias_ih"]
    from_h = p["weight_hh"] @ h
    read = {}
    if norm is None:
        a, u = from_x, from_h + p["bias_hh"]
    else:
        width = HIDDEN if norm.span == "gate" else len(from_x)
        widths = [2 * HIDDEN, HIDDEN] if (kind, norm.span) == ("gru", "paper") else [width]
        widths *= len(from_x) // sum(widths)

        def normed(v: Tensor) -> Tensor:
            return torch.cat([N(part, norm.kind) for part in v.split(widths)])

        if (kind, norm.is_joint(kind)) == ("gru", True):
            return inside_joint_gru(p, normed, widths, from_x, from_h + p["bias_hh"], norm.span)
        a, u = from_x, from_h + p["bias_hh"]
        if "gain" in p:
            read["joint"] = (from_x + from_h).split(widths)
            a, u = 0 * from_x, p["gain"] * normed(from_x + from_h) + p["bias_hh"]
        if "gain_ih" in p:
            read["ih"] = from_x.split(widths)
            a = p["gain_ih"] * normed(from_x) + p["shift_ih"]
        if "gain_hh" in p:
            read["hh"] = from_h.split(widths)
            u = p["gain_hh"] * normed(from_h) + p["bias_hh"]
    if kind == "rnn":
        return {"h": torch.tanh(a + u)}, read
    if kind == "gru":
        (a_r, a_z, a_n), (u_r, u_z, u_n) = a.chunk(3), u.chunk(3)
        r = s(a_r + u_r)
        return {"r": r, "z": s(a_z + u_z), "n": torch.tanh(a_n + r * u_n)}, read
    i, f, g, o = (a + u).chunk(4)
    if norm is not None and norm.cell is not None:
        clip = norm.cell_clip or float("inf")
        read["cell"] = ((s(f) * state[1] + s(i) * torch.tanh(g)).clamp(-clip, clip),)
    return {"i": s(i), "f": s(f), "g": torch.tanh(g), "o": s(o)}, read


@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["padded", "ragged"])
@pytest.mark.parametrize(("cell", "norm"), EVERY_NORM, ids=str)
def test_gates_norms_and_states_equal_those_of_a_step_loop(cell, norm, lengths):
    model = build(cell, norm, num_layers=2, bidirectional=True)
    with torch.no_grad():
        for parameter in cast(Any, model.encoder).parameters():
            parameter *= 4  # so that some gates saturate
    batch = make_batch(lengths)
    values = {n: float(v) for n, v in look(RecurrentHealth(model), batch, None).items()}
    with torch.no_grad():
        runs = run_alone(model, batch)
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        beyond: dict[str, list[bool]] = {}
        read: dict[str, list[float]] = {}
        for run in runs:
            n = len(run.read[name])
            for t, x in enumerate(run.read[name]):
                gates, norms = inside_step(run.layer, f"_{name}", x, run.states[name][t])
                for gate, v in gates.items():
                    ends = (v.abs() > 0.95) if gate in "hgn" else (v < 0.025) | (v > 0.975)
                    beyond.setdefault(gate, []).extend(ends.tolist())
                for which, spans in norms.items():
                    after_cut = n - t in (1, 2, 4, 8) and t > 0
                    if (which == "hh" and t == 0) or (which == "cell" and not after_cut):
                        continue
                    rms = getattr(norm, "kind", "layer") == "rms"
                    spread = [v.square().mean() if rms else v.var(correction=0) for v in spans]
                    read.setdefault(which, []).extend(map(float, spread))
        for gate, ends in beyond.items():
            share = values[f"saturation/{name}/{gate}"]
            assert share == pytest.approx(sum(ends) / len(ends), rel=1e-12), (name, gate)
        assert max(sum(ends) for ends in beyond.values()) > 0
        for which, spread in read.items():
            spread.sort()
            key = f"{name}/{which}"
            assert values[f"variance/{key}"] == pytest.approx(spread[len(spread) // 2], rel=1e-9), (
                key
            )
            assert values[f"low_variance/{key}"] == pytest.approx(
                spread[len(spread) // 100], rel=1e-9
            )
            near = sum(v < 10 * EPS for v in spread) / len(spread)
            assert values[f"near_eps/{key}"] == pytest.approx(near, abs=1e-12)
        known = {key.split("/")[2] for key in values if key.startswith(f"variance/{name}/")}
        assert known - {"output"} == read.keys()
        assert values[f"state_norm/{name}"] == pytest.approx(mean_state(runs, name), rel=1e-9)
        if norm == "output" and "_" not in name:
            rows = torch.cat([run.before_output[name] for run in runs])
            spread = sorted(rows.var(-1, correction=0).tolist())
            expected = spread[len(spread) // 2]
            assert values[f"variance/{name}/output"] == pytest.approx(expected, rel=1e-9)


def test_drift_is_measured_from_where_gains_and_shifts_begin():
    norm = lnrnn.CellNorm(gain_init=0.5)
    encoder = RecurrentEncoder("lstm", num_features=FEATURES, hidden_size=HIDDEN, norm=norm)
    model = SequenceModel(encoder, partial(ClassificationHead, 4))
    batch = make_batch()
    batch = batch._replace(inputs=batch.inputs.float())
    values = look(RecurrentHealth(model), batch, None)
    names = {f"gain_drift/l0/{n}" for n in ("ih", "hh", "cell")}
    names |= {f"shift_drift/l0/{n}" for n in ("ih", "cell")}
    assert {name for name in values if "drift" in name} == names
    assert all(float(values[name]) == 0 for name in names)
    with torch.no_grad():
        encoder.layer.get_parameter("gain_c_l0")[:3] += 2.0  # half of the six, by 2
    moved = look(RecurrentHealth(model), batch, None)
    assert float(moved["gain_drift/l0/cell"]) == pytest.approx(math.sqrt(2.0))
    assert float(moved["gain_drift/l0/ih"]) == 0


def test_the_weights_are_read_at_every_look():
    model = build("gru", "cell")
    batch, looking = make_batch(), RecurrentHealth(model)
    before = look(looking, batch, None)
    with torch.no_grad():
        model.get_parameter("encoder.layer.weight_hh_l0").mul_(-1)
    for value in (look(looking, batch, None), look(RecurrentHealth(model), batch, None)):
        assert value["state_norm/l0"] != before["state_norm/l0"]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("norm", [None, "output", "cell"])
def test_a_look_leaves_no_trace(cell, norm):
    model = build(cell, norm, num_layers=2, dropout=0.5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    batch, modes = make_batch(RAGGED), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    look(RecurrentHealth(model), batch, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, weights[n]) for n, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_sequences_of_one_step_have_no_lag():
    for norm in (None, "output", "cell"):
        model = build("lstm", norm)
        batch = make_batch()._replace(inputs=torch.randn(BATCH, 1, FEATURES, dtype=torch.float64))
        values = look(RecurrentHealth(model), batch, None)
        assert not any("lag" in name or name == "variance/l0/cell" for name in values)
        assert "state_norm/l0" in values


def test_large_batches_are_looked_at_in_part(monkeypatch):
    model, batch = build("gru", "cell"), make_batch(RAGGED)
    monkeypatch.setattr(health, "SEQUENCES", 2)
    part = Batch(batch.inputs[:2], batch.targets[:2], RAGGED[:2])
    found = look(RecurrentHealth(model), batch, None)
    monkeypatch.setattr(health, "SEQUENCES", 32)
    assert found == look(RecurrentHealth(model), part, None)


def test_relu_has_no_range_to_saturate():
    model = build("rnn")
    relu = lnrnn.RNN(FEATURES, HIDDEN, nonlinearity="relu", batch_first=True)
    cast(Any, model.encoder).layer = relu.double()
    values = look(RecurrentHealth(model), make_batch(), None)
    assert not any(name.startswith("saturation") for name in values)
    assert "state_gradient/l0/lag8" in values


def test_nothing_to_predict_at_the_end_gives_no_gradient_by_lag():
    model = build("gru", None, "tokens")
    batch = make_batch(tokens=True)
    batch.targets[:, -1] = -100
    assert not any("lag" in name for name in look(RecurrentHealth(model), batch, None))
    batch.targets[0, -1] = 1  # of one sequence there is: it alone is averaged
    one = Batch(batch.inputs[:1], batch.targets[:1], None)
    ratio = (batch.targets != -100).sum() / (one.targets != -100).sum()
    whole = look(RecurrentHealth(model), batch, None)
    for name, value in look(RecurrentHealth(model), one, None).items():
        if "lag" in name:
            assert float(whole[name] * ratio) == pytest.approx(float(value))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_transformers_norms_are_read_where_they_are(norm):
    encoder = TransformerEncoder(
        num_features=FEATURES, hidden_size=8, num_layers=2, num_heads=2, norm=norm, dropout=0.5
    )
    model = SequenceModel(encoder, partial(ClassificationHead, 4))
    batch = make_batch()
    batch = Batch(batch.inputs.float(), batch.targets, RAGGED)
    state = torch.get_rng_state()
    values = look(TransformerHealth(model), batch, None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())
    norms = {f"l{k}/{n}" for k in (0, 1) for n in ("attention", "feedforward")}
    norms |= {"l1/final"} if norm == "pre" else set()
    kinds = ("variance", "low_variance", "near_eps", "gain_drift", "shift_drift")
    assert values.keys() == {f"{kind}/{n}" for kind in kinds for n in norms}
    if norm == "pre":  # the first norm reads the projected input
        with torch.no_grad():
            assert encoder.projection is not None
            read = encoder.projection(batch.inputs)
        rows = torch.cat([read[b, :n] for b, n in enumerate(RAGGED)])
        spread = rows.var(-1, correction=0).sort().values
        assert values["variance/l0/attention"] == pytest.approx(float(spread[len(spread) // 2]))


def test_a_transformer_without_norms_has_nothing_to_show():
    encoder = TransformerEncoder(num_features=FEATURES, hidden_size=8, norm=None)
    model = SequenceModel(encoder, partial(ClassificationHead, 4))
    batch = make_batch()
    assert look(TransformerHealth(model), batch._replace(inputs=batch.inputs.float()), None) == {}
