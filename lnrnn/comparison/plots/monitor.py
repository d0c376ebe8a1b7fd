"""What the health monitor of the runs recorded, arm beside arm.

Every part of every layer is a panel; lines are medians over an arm's runs, bands their middle half.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from lnrnn.comparison.plots.canvas import (
    LEFT,
    RIGHT,
    Caption,
    Look,
    add_panel,
    caption,
    label_axes,
    looks,
    mark_logarithmic,
    names_height,
    new_figure,
    panel_title,
    write_names,
)
from lnrnn.comparison.records import Curve, Run
from lnrnn.comparison.statistics import median_curve
from lnrnn.runs.monitor_names import MonitorName, Quantity, parse_monitor_name

WIDTH, HEIGHT, ROW_GAP, COLUMN_GAP = 6.6, 1.6, 0.62, 0.34  # inches
COLUMNS = 4
POINTS = 150  # of a line that are drawn at most, evenly chosen: what a panel can show
PHASES = ("early", "late")
PHASE = 0.1  # of the sampled steps: how many of them are early, and how many late

Runs = Mapping[str, Sequence[Run]]
Quartiles = tuple[NDArray[np.int64], NDArray[np.float64]]  # steps (S,), quartiles (3, S)
# Panel title -> arm -> its line; the horizontal axis is steps or lags.
Panels = dict[str, dict[str, Quartiles]]


class Chart(NamedTuple):
    """A figure of one quantity, or of a few that belong together, over the training."""

    stem: str
    quantities: tuple[Quantity, ...]
    headline: str
    axis: str
    logarithmic: bool
    part: str  # what the last part of a name is called in a panel's title


CHARTS = (
    Chart(
        "monitor_recurrent_gradient",
        (Quantity.RECURRENT_GRADIENT,),
        "Gradient of the recurrent weights",
        "norm",
        logarithmic=True,
        part="",
    ),
    Chart(
        "monitor_saturation",
        (Quantity.SATURATION,),
        "Saturated gates",
        "share",
        logarithmic=False,
        part="gate ",
    ),
    Chart(
        "monitor_variance",
        (Quantity.VARIANCE,),
        "Variance before each norm",
        "median variance",
        logarithmic=True,
        part="norm ",
    ),
    Chart(
        "monitor_near_eps",
        (Quantity.NEAR_EPS,),
        "Rows whose variance is near eps",
        "share",
        logarithmic=False,
        part="norm ",
    ),
    Chart(
        "monitor_drift",
        (Quantity.GAIN_DRIFT, Quantity.SHIFT_DRIFT),
        "Change of gains and shifts since the start",
        "root mean square",
        logarithmic=False,
        part="",
    ),
    Chart(
        "monitor_state_norm",
        (Quantity.STATE_NORM,),
        "Size of the hidden state",
        "norm / √units",
        logarithmic=False,
        part="",
    ),
    Chart(
        "monitor_clipped",
        (Quantity.CLIPPED,),
        "Steps whose gradient was clipped",
        "share",
        logarithmic=False,
        part="",
    ),
)


def monitor_figures(runs: Runs) -> dict[str, Figure]:
    """Draw what the monitors recorded.

    Args:
        runs: The readable runs of each arm.

    Returns:
        The figures by the stem of their file. Left out: what no run recorded, and what is zero
        wherever it was recorded.
    """
    look = looks(runs)
    figures = {}
    lags = _gradient_panels(runs)
    if lags:
        notes = (
            "norm of the loss's gradient with respect to the state, by how many steps before the "
            "end that state is;\na line stops where the gradient is zero or the sequences end; "
            "early and late: first and last tenth of the samples"
        )
        words = Caption("Does the gradient reach back in time?", notes, _describe(lags, "lag"))
        axes = ("steps back", "norm, log scale")
        figures["monitor_gradient"] = _draw(lags, look, words, axes, "lags")
    for chart in CHARTS:
        panels = _chart_panels(runs, chart)
        if panels:
            figures[chart.stem] = _draw_chart(panels, look, chart)
    return figures


def _draw_chart(panels: Panels, look: Mapping[str, Look], chart: Chart) -> Figure:
    notes = "line: median over an arm's runs; band: middle half of them"
    words = Caption(chart.headline, notes, _describe(panels, "step"))
    axis = chart.axis + (", log scale" if chart.logarithmic else "")
    kind = "logarithmic" if chart.logarithmic else "linear"
    return _draw(panels, look, words, ("optimizer steps", axis), kind)


def _chart_panels(runs: Runs, chart: Chart) -> Panels:
    """Return the panels of a chart, those of one layer beside each other."""
    names = _names(runs, chart.quantities)
    several = len({name.layer for name in names}) > 1
    panels: Panels = {}
    for name in sorted(names, key=lambda name: name.layer):
        lines = {arm: _quartiles(members, name) for arm, members in runs.items()}
        drawn = {arm: line for arm, line in lines.items() if len(line[0])}
        if drawn:
            panels[_panel_title(name, chart, several=several)] = drawn
    everything = [line for lines in panels.values() for _, line in lines.values()]
    return panels if any(line.any() for line in everything) else {}


def _names(runs: Runs, quantities: Sequence[Quantity]) -> list[MonitorName]:
    """Return the names of these quantities that any run recorded, each once."""
    curves = [name for members in runs.values() for run in members for name in run.curves]
    parsed = [parse_monitor_name(name) for name in dict.fromkeys(curves)]
    return [name for name in parsed if name is not None and name.quantity in quantities]


def _panel_title(name: MonitorName, chart: Chart, *, several: bool) -> str:
    """Return the title of a name's panel: its part, and its layer where there are several."""
    title = f"{chart.part}{name.part}" if name.part else ""
    if len(chart.quantities) > 1:
        title = f"{name.quantity.removesuffix('_drift')} {name.part}"
    return ", ".join(word for word in ((name.layer if several else ""), title) if word)


def _quartiles(runs: Sequence[Run], name: MonitorName) -> Quartiles:
    """Return the quartiles of one name over runs, at the steps at which all of them have it."""
    curves = [_finite(run.curve(str(name))) for run in runs]
    steps, table = median_curve([curve for curve in curves if curve])
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))
    return steps[chosen], table[:, chosen]


def _finite(curve: Curve) -> Curve:
    return tuple((step, value) for step, value in curve if np.isfinite(value))


def _gradient_panels(runs: Runs) -> Panels:
    """Return, for each layer, the gradient by lag early and late in training."""
    by_layer: dict[str, dict[int, str]] = {}
    for name in _names(runs, [Quantity.STATE_GRADIENT]):
        if name.lag is not None:
            by_layer.setdefault(name.layer, {})[name.lag] = str(name)
    panels: Panels = {}
    for layer, names in sorted(by_layer.items()):
        for late, phase in enumerate(PHASES):
            title = phase if len(by_layer) == 1 else f"{layer}, {phase}"
            lines = {arm: _by_lag(members, names, bool(late)) for arm, members in runs.items()}
            panels[title] = {arm: line for arm, line in lines.items() if len(line[0])}
    return {title: lines for title, lines in panels.items() if lines}


def _by_lag(runs: Sequence[Run], names: Mapping[int, str], late: bool) -> Quartiles:
    """Return lags and quartiles over runs of the gradient there, positive ones only."""
    lags, quartiles = [], []
    for lag, name in sorted(names.items()):
        values = [_phase_mean(curve, late) for run in runs if (curve := _finite(run.curve(name)))]
        if values and np.median(values) > 0:
            lags.append(lag)
            quartiles.append(np.percentile(values, [25, 50, 75]))
    table = np.array(quartiles).T if quartiles else np.empty((3, 0))  # (3, lags)
    return np.array(lags, dtype=np.int64), table


def _phase_mean(curve: Curve, late: bool) -> float:
    """Return the mean over the first or the last samples of a curve."""
    values = [value for _, value in curve]
    count = max(1, round(PHASE * len(values)))
    return float(np.mean(values[-count:] if late else values[:count]))


def _draw(
    panels: Panels, look: Mapping[str, Look], words: Caption, labels: tuple[str, str], kind: str
) -> Figure:
    """Draw panels in rows, on one vertical scale, with the arms' names above."""
    columns = min(2 if kind == "lags" else COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    arms = {arm: look[arm] for arm in look if any(arm in lines for lines in panels.values())}
    start = names_height(arms, WIDTH) + 0.3 + 0.13 * words.notes.count("\n")
    figure = new_figure(LEFT + WIDTH + RIGHT, start + rows * (HEIGHT + ROW_GAP))
    write_names(figure, arms, LEFT, start - 0.3 - names_height(arms, WIDTH) + 0.1, WIDTH)
    width = (WIDTH - (columns - 1) * COLUMN_GAP) / columns
    limits = _limits(panels, kind)
    for place, (title, lines) in enumerate(panels.items()):
        row, column = divmod(place, columns)
        left, top = LEFT + column * (width + COLUMN_GAP), start + row * (HEIGHT + ROW_GAP)
        axes = add_panel(figure, left, top, width, HEIGHT)
        for arm, line in lines.items():
            _draw_line(axes, line, look[arm], markers=kind == "lags")
        _set_scales(axes, panels, limits, kind)
        bottom = place + columns >= len(panels)
        label_axes(axes, labels[0] if bottom else "", labels[1] if column == 0 else "")
        if column:
            axes.tick_params(axis="y", labelleft=False, length=0, which="both")
        panel_title(axes, title)
    caption(figure, words)
    return figure


def _draw_line(axes: Axes, line: Quartiles, look: Look, *, markers: bool) -> None:
    steps, (low, middle, high) = line
    axes.fill_between(steps, low, high, color=look.color, alpha=0.18, linewidth=0)
    point = look.marker if markers or len(steps) == 1 else ""
    axes.plot(
        steps,
        middle,
        color=look.color,
        linestyle=look.line,
        marker=point,
        markersize=4.5,
        linewidth=1.8,
    )


def _limits(panels: Panels, kind: str) -> tuple[float, float]:
    """Return the ends of the vertical axis of all panels."""
    values = np.concatenate(
        [line.ravel() for lines in panels.values() for _, line in lines.values()]
    )
    if kind == "linear":
        return 0.0, 1.05 * float(values.max())
    positive = values[values > 0]
    return float(positive.min()) / 1.5, float(positive.max()) * 1.5


def _set_scales(axes: Axes, panels: Panels, limits: tuple[float, float], kind: str) -> None:
    steps = np.concatenate([steps for lines in panels.values() for steps, _ in lines.values()])
    if kind == "lags":
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(np.unique(steps).tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
        axes.set_xlim(0, max(1, int(steps.max())))
    if kind != "linear":
        axes.set_yscale("log")
        mark_logarithmic(axes.yaxis, *limits)
    axes.set_ylim(*limits)


def _describe(panels: Panels, place: str) -> str:
    """Say in numbers where every line ends."""
    parts = []
    for title, lines in panels.items():
        ends = [
            f"{arm} {line[1][-1]:.3g} at {place} {steps[-1]}"
            for arm, (steps, line) in lines.items()
        ]
        parts.append(f"{title}: {', '.join(ends)}." if title else f"{', '.join(ends)}.")
    return " ".join(parts)
