"""The operators of `lnrnn` as nodes of ONNX, for `torch.onnx.export`.

A norm inside the step is a Scan, whose body is one step of `lnrnn.ops.reference`; over a single
step there is no loop. Torch's own recurrence is ONNX's, with the gates in ONNX's order.

Dimensions: T time steps, B sequences, I input features, H hidden units, R recurrent features, G
gate entries, D directions.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import evaluator

from lnrnn.export.onnx_graph import Nodes, Norm, Value
from lnrnn.ops import fused

# Torch's gates in ONNX's order.
ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return each operator and what writes it as nodes, by names of their schemas."""
    loops = itertools.count()  # not by id: two files of one module are equal, byte for byte
    found = {
        getattr(torch.ops.lnrnn, op.name).default: partial(_translate, loops, op)
        for op in fused.OPS
    }
    found[torch.ops.lnrnn.torch_layer.default] = partial(_torch_layer, loops)
    table: dict[Callable[..., Any], Callable[..., Any]] = {}
    for target, function in found.items():
        table[target] = _named(function, target.name())
    return table


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def translate(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    translate.__name__ = name.replace("::", "_")
    return translate


def _at(x: Any, loops: Iterator[int]) -> Nodes:
    """Return where the nodes of the operator that is being translated go."""
    nodes = evaluator.default().nodes  # pyright: ignore[reportAttributeAccessIssue]
    return Nodes(nodes, x.dtype, loops)


# One step: nodes, input side (B, G) and states (B, H) to states, of which the first is the output.
Step = Callable[[Nodes, Value, list[Value]], list[Value]]


def _translate(loops: Iterator[int], op: fused.Op, *args: Any) -> list[Value]:
    """Write a recurrence with a norm inside the step."""
    given = fused.by_name(op.takes, args)
    _check(op, given)
    x, weight = given["x"], given["weight_hh"]
    at = _at(x, loops)
    hidden = weight.shape[0] // op.gates
    widths = [hidden * n for n in given.get("spans", [1])]
    if given["weight_ih"] is not None:
        x = at.sum(at.product(x, at.transposed(given["weight_ih"])), given["bias_ih"])
        if given["gain_ih"] is not None:
            x = Norm.of(at, given["gain_ih"], given["shift_ih"], widths, given)(at, x)
    norm = Norm.of(at, given["gain"], given["bias_hh"], widths, given)
    recurrent = at.transposed(weight)
    if op.cell == "lstm":
        norm_c = None
        if given["gain_c"] is not None:
            norm_c = Norm.of(at, given["gain_c"], given["shift_c"], [hidden], given)
        step = _lstm_step(
            recurrent,
            partial(_sides, norm, given["joint"]),
            norm_c,
            given["cell"],
            at.transposed(given["weight_hr"]),
            hidden,
        )
    elif op.cell == "gru":
        step = _gru_step(recurrent, norm, hidden)
    else:
        step = _rnn_step(recurrent, partial(_sides, norm, given["joint"]), given["relu"])
    step = _zoned_out(step, [given["zoneout"], given.get("zoneout_c", 0.0)][: op.states])
    state = [given["h_0"], *([given["c_0"]] if op.states == 2 else [])]
    single = given["x"].shape[0] == 1
    run = _one_step if single else _scan
    results = run(at, step, x, state, given["reverse"])
    nothing = at.number(0.0)
    # What is kept for a backward is asked for by nobody.
    return [*results, *(at.add("Identity", nothing) for _ in op.saved)]


def _check(op: fused.Op, given: dict[str, Any]) -> None:
    known = {
        *(name.rstrip("?") for name in op.tensors),
        *("batch_sizes", "reverse", "joint", "spans", "cell", "relu", "centered", "eps"),
        *("storage", "narrow", "keep"),
        *fused.NOISE.values(),  # dropouts are those of a call with masks, which no program records
    }
    if given["batch_sizes"] is not None:
        raise NotImplementedError("an ONNX file has no packed input; give padded input")
    if any(name not in known and value is not None for name, value in given.items()):
        raise NotImplementedError(
            "an ONNX file has no resets inside a sequence; run the pieces between them one by one, "
            "from the state that the last one returned or from zeros"
        )
    if given["storage"] is not None:
        raise NotImplementedError(
            "an ONNX file of a norm inside the step computes in float32 or float64; export "
            "module.float(), outside of autocast"
        )


def _sides(norm: Norm | None, joint: bool, at: Nodes, x: Value, product: Value) -> Value:
    """Return the sum of both sides, normalized."""
    if norm is None:
        return at.add("Add", x, product)
    if joint:
        return norm(at, at.add("Add", x, product))
    return at.add("Add", x, norm(at, product))


def _rnn_step(weight: Value, sides: Callable[..., Value], relu: bool) -> Step:
    def step(at: Nodes, x: Value, state: list[Value]) -> list[Value]:
        total = sides(at, x, at.product(state[0], weight))
        return [at.add("Relu" if relu else "Tanh", total)]

    return step


def _lstm_step(
    weight: Value,
    sides: Callable[..., Value],
    norm_c: Norm | None,
    cell: str | None,
    projection: Value | None,
    hidden: int,
) -> Step:
    def step(at: Nodes, x: Value, state: list[Value]) -> list[Value]:
        h, c = state
        z = sides(at, x, at.product(h, weight))
        i, f, g, o = at.split(z, [hidden] * 4)
        kept = at.add("Mul", at.add("Sigmoid", f), c)
        c = at.add("Add", kept, at.add("Mul", at.add("Sigmoid", i), at.add("Tanh", g)))
        if norm_c is not None and cell == "state":
            c = norm_c(at, c)
        seen = norm_c(at, c) if norm_c is not None and cell == "output" else c
        h = at.add("Mul", at.add("Sigmoid", o), at.add("Tanh", seen))
        return [h if projection is None else at.product(h, projection), c]

    return step


def _gru_step(weight: Value, norm: Norm, hidden: int) -> Step:
    def step(at: Nodes, x: Value, state: list[Value]) -> list[Value]:
        (h,) = state
        u_r, u_z, u_n = at.split(norm(at, at.product(h, weight)), [hidden] * 3)
        x_r, x_z, x_n = at.split(x, [hidden] * 3)
        r = at.add("Sigmoid", at.add("Add", x_r, u_r))
        z = at.add("Sigmoid", at.add("Add", x_z, u_z))
        n = at.add("Tanh", at.add("Add", x_n, at.add("Mul", r, u_n)))
        old, new = at.add("Mul", z, h), at.add("Mul", at.add("Sub", at.number(1.0), z), n)
        return [at.add("Add", new, old)]

    return step


def _zoned_out(step: Step, probabilities: Sequence[float]) -> Step:
    """Mix the states before a step into those after it, as zoneout does in evaluation."""
    if not any(probabilities):
        return step

    def mixed(at: Nodes, new: Value, old: Value, p: float) -> Value:
        if not p:
            return new
        kept, made = at.add("Mul", old, at.number(p)), at.add("Mul", new, at.number(1 - p))
        return at.add("Add", kept, made)

    def zoned(at: Nodes, x: Value, state: list[Value]) -> list[Value]:
        pairs = zip(step(at, x, state), state, probabilities, strict=True)
        return [mixed(at, *pair) for pair in pairs]

    return zoned


def _one_step(at: Nodes, step: Step, x: Value, state: list[Value], *_: Any) -> list[Value]:
    """Run a step over (1, B, G); return the output, (1, B, R), and the states."""
    state = step(at, at.add("Squeeze", x, at.whole(0)), state)
    return [at.add("Unsqueeze", state[0], at.whole(0)), *(at.add("Identity", s) for s in state)]


def _scan(at: Nodes, step: Step, x: Value, state: list[Value], reverse: bool) -> list[Value]:
    """Run a step over (T, B, G); return the output, (T, B, R), and the final states."""
    names = ("h", "c")[: len(state)]
    number = next(at.loops)
    before = [
        _input(f"{name}_{number}", at.dtype, s.shape) for name, s in zip(names, state, strict=True)
    ]
    x_t = _input(f"x_{number}", at.dtype, None)
    inside = Nodes([], at.dtype, at.loops)
    after = step(inside, x_t, before)
    output = inside.add("Identity", after[0])
    for i, node in enumerate(inside.nodes):
        for j, value in enumerate(node.outputs):
            value.name = f"step_{number}_{i}_{j}"
    body = ir.Graph([*before, x_t], [*after, output], nodes=inside.nodes, name=f"step_{number}")
    *final, whole = at.add(
        "Scan",
        *state,
        x,
        outputs=len(state) + 1,
        body=body,
        num_scan_inputs=1,
        scan_input_directions=[int(reverse)],
        scan_output_directions=[int(reverse)],
    )
    return [whole, *final]


def _input(name: str, dtype: ir.DataType, shape: ir.Shape | None) -> Value:
    return ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))


def _torch_layer(
    loops: Iterator[int],
    x: Any,
    h_0: Any,
    c_0: Value | None,
    weights: Sequence[Any],
    mode: str,
    bias: bool,
) -> list[Value]:
    """Write one layer of torch's own recurrence."""
    at = _at(x, loops)
    directions = 2 if h_0.shape[0] == 2 else 1
    each = len(weights) // directions
    sides = [list(weights[d * each : (d + 1) * each]) for d in range(directions)]
    if each == (5 if bias else 3):
        assert c_0 is not None
        return _projected_lstm(at, x, h_0, c_0, sides, bias)
    op = mode.partition("_")[0]
    hidden = weights[1].shape[1]
    stacked = [
        at.add("Unsqueeze", at.joined(parts, axis=0), at.whole(0))
        for w_ih, w_hh, *biases in sides
        for parts in (
            *([_reordered(at, w, op, hidden)] for w in (w_ih, w_hh)),
            [_reordered(at, b, op, hidden) for b in biases],
        )
        if parts
    ]
    kinds = 3 if bias else 2
    tensors = [at.joined(stacked[k::kinds], axis=0) for k in range(kinds)]
    options: dict[str, Any] = {"hidden_size": hidden}
    options["direction"] = "bidirectional" if directions == 2 else "forward"
    if op == "GRU":
        options["linear_before_reset"] = 1
    if op == "RNN":
        options["activations"] = ["Relu" if mode.endswith("RELU") else "Tanh"] * directions
    inputs = [x, *tensors, *([] if bias else [None]), None, h_0, c_0]
    output, *final = at.add(op, *inputs, outputs=3 if op == "LSTM" else 2, **options)
    # (T, D, B, H) to (T, B, D * H)
    output = at.add("Transpose", output, perm=[0, 2, 1, 3])
    output = at.add("Reshape", output, at.whole(0, 0, directions * hidden))
    return [output, *final, *([] if op == "LSTM" else [at.number(0.0)])]


def _reordered(at: Nodes, tensor: Value, op: str, hidden: int) -> Value:
    """Put the gates of a weight or bias, (G, ...), in ONNX's order."""
    order = ORDERS[op]
    if len(order) == 1:
        return tensor
    parts = at.parts(tensor, [hidden] * len(order))
    return at.joined([parts[i] for i in order], axis=0)


def _projected_lstm(
    at: Nodes, x: Any, h_0: Any, c_0: Any, sides: list[list[Any]], bias: bool
) -> list[Value]:
    """Write an LSTM whose hidden state is projected, which ONNX's does not know, as Scans."""
    results = []
    for d, (w_ih, w_hh, *rest) in enumerate(sides):
        hidden = w_hh.shape[0] // 4
        projected = at.sum(at.product(x, at.transposed(w_ih)), *(rest[:2] if bias else []))
        step = _lstm_step(
            at.transposed(w_hh),
            partial(_sides, None, False),
            None,
            None,
            at.transposed(rest[-1]),
            hidden,
        )
        state = [at.add("Gather", s, at.add("Constant", value_int=d), axis=0) for s in (h_0, c_0)]
        run = _one_step if x.shape[0] == 1 else _scan
        results.append(run(at, step, projected, state, d == 1))
    outputs, *states = zip(*results, strict=True)
    stacked = [
        at.joined([at.add("Unsqueeze", s, at.whole(0)) for s in each], axis=0) for each in states
    ]
    return [at.joined(outputs), *(at.add("Identity", s) for s in stacked)]
