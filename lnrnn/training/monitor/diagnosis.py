"""One line in words on what the monitor saw of a run, and what might be tried.

Of every number it takes the median over the run's samples, so that one bad moment is not a
diagnosis. Where nothing is beyond the thresholds below, it says so.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from lnrnn.runs.metrics import parse_entry
from lnrnn.runs.monitor_names import PREFIX, MonitorName, Quantity, parse_monitor_name
from lnrnn.runs.record import read_text

VANISHED = 1e-3
"""Below this share of the gradient one step back, a step that far back hardly learns: the nearer
steps decide the direction of every update."""
EXPLODED = 100.0
"""Above this multiple of the gradient one step back, far steps drown the near ones."""
SATURATED = 0.5
"""A gate that is at the end of its range more often than not passes almost no gradient."""
NEAR_EPS = 0.05
"""Share of rows whose variance is below 10 eps: there eps makes the norm 4.65 % smaller or more."""
CLIPPED = 0.5
"""Where more steps than not are clipped, the clipping sets the size of the step, not the optimizer.
"""
SMALL_STATE = 0.01
"""A hidden state with this root mean square carries almost nothing; tanh reaches 1."""
FEWEST_EPS = 1e-12
"""Variances that would need a smaller eps than this are zero as far as float32 can tell."""

GATES = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "h": "hidden state",
}
NOTHING_REMARKABLE = "nothing remarkable"

Medians = Mapping[MonitorName, float]


def diagnose(metrics: Path, eps: float | None) -> str:
    """Return what is remarkable about a run, parts joined by "; ".

    Args:
        metrics: The run's ``metrics.jsonl``.
        eps: What the model's norms add to a variance; None if it is not known.
    """
    medians = read_medians(metrics)
    if not medians:
        return "no sample was taken"
    parts = [
        *_gradients(medians),
        *_saturation(medians),
        *_variance(medians, eps),
        *_state(medians),
        *_clipping(medians),
    ]
    return "; ".join(parts) or NOTHING_REMARKABLE


def read_medians(metrics: Path) -> dict[MonitorName, float]:
    """Return the median over a run's samples of everything that the monitor recorded.

    A value of NaN or infinity counts as infinite. The last line may be cut short.

    Raises:
        RecordError: If one of the monitor's lines is not what a run writes.
    """
    if not metrics.exists():  # the run ended before it began to train
        return {}
    values: dict[MonitorName, list[float]] = defaultdict(list)
    for number, line in enumerate(read_text(metrics).split("\n")[:-1], start=1):
        if f'"{PREFIX}' not in line:  # most lines need no parsing
            continue
        entry = parse_entry(line, f"{metrics}, line {number}")
        name = parse_monitor_name(entry.name)
        if name is not None:
            values[name].append(entry.value if math.isfinite(entry.value) else math.inf)
    return {name: median(found) for name, found in values.items()}


def _gradients(medians: Medians) -> list[str]:
    """Return whether gradients vanish or explode on their way back, where they do so most."""
    by_layer: dict[str, dict[int, float]] = defaultdict(dict)
    for name, value in medians.items():
        if name.lag is not None:
            by_layer[name.layer][name.lag] = value
    vanishing, exploding = [], []
    for layer, norms in by_layer.items():
        lag, near, far = max(norms), norms[min(norms)], norms[max(norms)]
        peak = max(norms, key=lambda k: norms[k])
        if norms[peak] == math.inf or norms[peak] > EXPLODED * near > 0:
            exploding.append((norms[peak] / near if near else math.inf, layer, peak))
        elif near > 0 and far < VANISHED * near and lag > min(norms):
            vanishing.append((far / near, layer, lag))
    parts = []
    if vanishing:
        ratio, layer, lag = min(vanishing)
        size = f"{ratio:.0e} times as large as one step back" if ratio else "zero"
        parts.append(f"gradients vanish: {_back(lag)} {size} ({layer})")
    if exploding:
        ratio, layer, lag = max(exploding)
        size = "NaN or infinity"
        if math.isfinite(ratio):
            size = f"{ratio:.0e} times as large as one step back"
        parts.append(f"gradients explode: {_back(lag)} {size} ({layer})")
    return parts


def _back(lag: int) -> str:
    return f"{lag} {'step' if lag == 1 else 'steps'} back they are"


def _saturation(medians: Medians) -> list[str]:
    worst = _worst(medians, Quantity.SATURATION, SATURATED)
    if worst is None:
        return []
    share = 100 * medians[worst]
    return [f"{GATES[worst.part]} saturated in {share:.0f} % of activations ({worst.layer})"]


def _variance(medians: Medians, eps: float | None) -> list[str]:
    """Return whether eps swallows a norm, with an eps that would leave 99 rows of 100 alone."""
    worst = _worst(medians, Quantity.NEAR_EPS, NEAR_EPS)
    if worst is None:
        return []
    share, where = 100 * medians[worst], f"{worst.layer} {worst.part}"
    part = f"variance near eps in {share:.0f} % of rows ({where})"
    low = medians.get(worst._replace(quantity=Quantity.LOW_VARIANCE), 0.0)
    better = 10.0 ** math.floor(math.log10(low / 10)) if 0 < low < math.inf else 0.0
    if better < FEWEST_EPS:
        return [f"{part}, some of it zero: no eps helps"]
    if eps is None or better < eps:
        return [f"{part}: try model.eps={better:.0e}"]
    return [part]


def _state(medians: Medians) -> list[str]:
    sizes = {
        name.layer: size
        for name, size in medians.items()
        if name.quantity == Quantity.STATE_NORM and size < SMALL_STATE
    }
    if not sizes:
        return []
    layer = min(sizes, key=lambda name: sizes[name])
    return [f"the hidden state is close to zero: {sizes[layer]:.0e} per unit ({layer})"]


def _clipping(medians: Medians) -> list[str]:
    share = medians.get(MonitorName(Quantity.CLIPPED), 0.0)
    if share <= CLIPPED:
        return []
    return [
        f"{100 * share:.0f} % of steps clipped: try a smaller optimizer.lr or a larger "
        "trainer.gradient_clip_val"
    ]


def _worst(medians: Medians, quantity: Quantity, threshold: float) -> MonitorName | None:
    """Return the name under which a share is largest, if it is above a threshold."""
    shares = [name for name in medians if name.quantity == quantity]
    worst = max(shares, key=lambda name: medians[name], default=None)
    return worst if worst is not None and medians[worst] > threshold else None
