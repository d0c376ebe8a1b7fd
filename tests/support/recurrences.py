"""One direction of a case's recurrence as a function of tensors, and tensors to call it with.

With ``project``, as layers call it, x is the input and is projected by the op; without, x has been
projected before.
"""

from collections.abc import Callable
from typing import Any

import torch
from norm_cases import Case, every_case
from torch import Tensor

from lnrnn.ops import ln_gru, ln_lstm, ln_rnn
from lnrnn.ops.gates import GATES

FEATURES = 3  # of an input that is not projected yet, unless a test says


def distinct() -> list[Case]:
    """Return one case for each thing that an op can be asked for: layers tell more apart."""
    found: dict[Any, Case] = {}
    for case in every_case():
        n = case.norm
        joint = case.cell != "gru" and n.is_joint(case.cell)
        span = {"rnn": "", "lstm": n.span.replace("paper", "all")}.get(case.cell, n.span)
        state = n.cell if case.cell == "lstm" else None
        asked = (case.cell, joint, span, state, n.kind)
        found.setdefault((*asked, case.bias, case.proj_size, case.nonlinearity), case)
    return list(found.values())


def names(case: Case, *, project: bool = True) -> list[str]:
    """Return what the recurrence of a case takes, in order."""
    affine = ["gain_c", "shift_c"] if case.cell == "lstm" and case.norm.cell else []
    separate = ["gain_ih", "shift_ih"] if "input" in case.norm.sides(case.cell) else []
    inputs = ["weight_ih", *(["bias_ih"] if case.bias else []), *separate]
    normed = case.norm.is_joint(case.cell) or "recurrent" in case.norm.sides(case.cell)
    return [
        "x",
        "h_0",
        *(["c_0"] if case.cell == "lstm" else []),
        "weight_hh",
        *(["gain"] if normed else []),
        *(["bias_hh"] if case.bias else []),
        *affine,
        *(["weight_hr"] if case.proj_size else []),
        *(inputs if project else []),
    ]


def arguments(
    case: Case,
    steps: int = 3,
    batch: int = 2,
    *,
    hidden: int = 5,
    projected: int = 3,
    features: int = FEATURES,
    sizes: list[int] | None = None,
    dtype: torch.dtype = torch.float64,
    project: bool = True,
) -> list[Tensor]:
    """Return tensors for a recurrence; ``sizes`` are the batch sizes of a packed x."""
    gates, recurrent = len(GATES[case.cell]) * hidden, projected if case.proj_size else hidden
    width = features if project else gates
    batch = batch if sizes is None else sizes[0]
    shapes = {
        "x": (steps, batch, width) if sizes is None else (sum(sizes), width),
        "h_0": (batch, recurrent),
        "c_0": (batch, hidden),
        "weight_hh": (gates, recurrent),
        "gain": (gates,),
        "bias_hh": (gates,),
        "gain_c": (hidden,),
        "shift_c": (hidden,),
        "weight_hr": (projected, hidden),
        "weight_ih": (gates, features),
        "bias_ih": (gates,),
        "gain_ih": (gates,),
        "shift_ih": (gates,),
    }
    return [0.8 * torch.randn(shapes[n], dtype=dtype) for n in names(case, project=project)]


def op(case: Case, *, project: bool = True, **more: Any) -> Callable[..., tuple[Tensor, ...]]:
    """Return the case's recurrence as a function of the tensors in ``names``."""
    function: Any = {"rnn": ln_rnn, "lstm": ln_lstm, "gru": ln_gru}[case.cell]
    options: dict[str, Any] = {"kind": case.norm.kind, "eps": 1e-2, **more}
    if case.cell != "gru":
        options["joint"] = case.norm.is_joint(case.cell)
    if case.cell != "rnn":
        options["span"] = case.norm.span
    if case.cell == "rnn":
        options["nonlinearity"] = case.nonlinearity
    if case.cell == "lstm":
        options["cell"] = case.norm.cell

    def call(*args: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names(case, project=project), args, strict=True))
        return function(**{"gain": None, **named}, **options)

    return call


def reset_mask(rows: tuple[int, ...], share: float = 0.4) -> Tensor:
    """Return where resets are: some of everything, the first step included."""
    return torch.rand(rows, generator=torch.Generator().manual_seed(3)) < share


def states_of(case: Case) -> list[str]:
    return ["h", "c"] if case.cell == "lstm" else ["h"]


def with_states(case: Case, args: list[Tensor], given: bool = True) -> list[Tensor]:
    """Return arguments and, if ``given``, states after a reset behind them."""
    named = dict(zip(names(case), args, strict=True))
    states = [named[f"{s}_0"] for s in states_of(case)] if given else []
    return [*args, *(0.7 * torch.randn_like(state) for state in states)]


def op_with(case: Case, resets: Tensor, **options: Any) -> Callable[..., tuple[Tensor, ...]]:
    """Return the recurrence with resets as a function of what `with_states` returns."""

    def call(*args: Tensor) -> tuple[Tensor, ...]:
        count = len(names(case))
        keys = [f"reset_{s}" for s in states_of(case)]
        reset = dict(zip(keys, args[count:], strict=False))
        return op(case, resets=resets, **reset, **options)(*args[:count])

    return call
