"""How every arm learns, with the spread over its seeds, against steps or against time."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from lnrnn.comparison.plots.canvas import (
    FAINT,
    LEFT,
    PAPER,
    Caption,
    End,
    Look,
    add_panel,
    caption,
    label_axes,
    label_ends,
    label_room,
    looks,
    mark_logarithmic,
    new_figure,
    wrap,
)
from lnrnn.comparison.records import Curve, Run
from lnrnn.comparison.statistics import median_curve

WIDTH, HEIGHT = 5.4, 3.3  # of the axes, in inches
# A logarithmic axis helps where most of the way is made in a small part of the training, and shows
# a speed-up by a factor as the same shift everywhere.
SHARE_OF_WAY, EARLY = 0.75, 0.2
DENSE = 20_000  # points of all seeds beyond which they and bands are an image in the drawing
STEPS = "optimizer steps"
LOG_RANGE = 20.0  # a positive metric that spans this factor is drawn on a logarithmic axis


def learning_curves(
    arms: Mapping[str, Sequence[Run]],
    *,
    targets: Sequence[float] = (),
    seconds_per_step: Mapping[str, float | None] | None = None,
) -> Figure | None:
    """Draw the validation metric of every arm against the optimizer's steps, or against time.

    A line is the median over the arm's finished runs, its band the middle half of them (the
    quartiles); behind it is every single run. Runs that did not finish are dotted and enter
    neither. The horizontal axis is logarithmic if the first arm makes three quarters of its way in
    the first fifth of it, the vertical one if the metric is a positive error that falls twentyfold.

    Args:
        arms: The runs of each arm, in the order in which they are compared.
        targets: Values of the metric to be marked.
        seconds_per_step: What a step of each arm costs. Given, the axis is steps times this; an arm
            without a cost is left out.

    Returns:
        The figure; None if no run has a validation curve.
    """
    scale = dict.fromkeys(arms, 1.0) if seconds_per_step is None else seconds_per_step
    drawn = {
        name: [run for run in runs if finite_curve(run)]
        for name, runs in arms.items()
        if scale.get(name) is not None
    }
    shown = [run for runs in drawn.values() for run in runs]
    if not shown:
        return None
    labels = _labels(drawn)
    figure = new_figure(LEFT + WIDTH + label_room(labels.values()), HEIGHT + 0.75)
    axes = add_panel(figure, LEFT, 0.1, WIDTH, HEIGHT)
    ends: list[End] = []
    look = looks(arms)
    dense = sum(len(finite_curve(run)) for run in shown) > DENSE
    for name, runs in drawn.items():
        _draw_seeds(axes, runs, look[name], scale[name] or 1.0, rasterized=dense)
        end = _draw_median(axes, runs, look[name], scale[name] or 1.0, rasterized=dense)
        if end is not None:
            ends.append(End(labels[name], look[name], *end))
    _set_scales(axes, drawn, scale)
    _mark_targets(axes, targets)
    unit = STEPS if seconds_per_step is None else "seconds of training steps"
    _label(axes, shown[0], unit)
    label_ends(axes, ends)
    caption(figure, _words(shown, ends, unit))
    return figure


def finite_curve(run: Run) -> Curve:
    """Return the points of the validation curve that can be drawn."""
    points = run.curve(f"val/{run.metric}")
    return tuple((step, value) for step, value in points if np.isfinite(value))


def _labels(arms: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Return the text beside each line: the arm, and its finished runs where those differ."""
    seeds = {name: sum(run.status == "finished" for run in runs) for name, runs in arms.items()}
    if len(set(seeds.values())) == 1:
        return {name: wrap(name) for name in arms}
    return {name: wrap(f"{name} (n={count})") for name, count in seeds.items()}


def _draw_seeds(
    axes: Axes, runs: Sequence[Run], look: Look, scale: float, *, rasterized: bool
) -> None:
    """Draw every run of an arm, faintly."""
    for run in runs:
        steps, values = zip(*finite_curve(run), strict=True)
        axes.plot(
            np.multiply(steps, scale),
            values,
            color=look.color,
            linestyle="-" if run.status == "finished" else ":",
            linewidth=0.7,
            alpha=0.3,
            zorder=1,
            rasterized=rasterized,
        )


def _draw_median(
    axes: Axes, runs: Sequence[Run], look: Look, scale: float, *, rasterized: bool
) -> tuple[float, float] | None:
    """Draw an arm's median and band; return where the line ends, None if there is none."""
    finished = [finite_curve(run) for run in runs if run.status == "finished"]
    steps, (low, middle, high) = median_curve(finished)
    if not len(steps):
        return None
    x = steps * scale
    axes.fill_between(
        x,
        low,
        high,
        color=look.color,
        alpha=0.18,
        linewidth=0,
        zorder=2,
        rasterized=rasterized,
    )
    point = "o" if len(steps) == 1 else ""  # one value makes no line
    axes.plot(x, middle, marker=point, color=look.color, linestyle=look.line, linewidth=2, zorder=3)
    return float(x[-1]), float(middle[-1])


def _set_scales(
    axes: Axes, arms: Mapping[str, Sequence[Run]], scale: Mapping[str, float | None]
) -> None:
    """Choose between linear and logarithmic axes, and let the horizontal one end with the data."""
    shown = [run for runs in arms.values() for run in runs]
    first = next(runs for runs in arms.values() if runs)
    x = [step * (scale[name] or 1.0) for name, runs in arms.items() for run in runs
         for step, _ in finite_curve(run)]  # fmt: skip
    values = [value for run in shown for _, value in finite_curve(run)]
    if _learns_early(first):
        axes.set_xscale("log")
        axes.set_xlim(min(x), max(x))
        mark_logarithmic(axes.xaxis, min(x), max(x))
    else:
        axes.set_xlim(0, max(x) or 1)
    if not shown[0].higher_is_better and min(values) > 0 and max(values) / min(values) > LOG_RANGE:
        axes.set_yscale("log")
        mark_logarithmic(axes.yaxis, min(values), max(values))


def _learns_early(runs: Sequence[Run]) -> bool:
    """Tell whether the median of these runs makes most of its way in the first part of training."""
    steps, (_, middle, _) = median_curve([finite_curve(run) for run in runs])
    if len(steps) < 3 or steps[0] <= 0:
        return False
    best = middle.max() if runs[0].higher_is_better else middle.min()
    way = np.abs(middle - middle[0]) >= SHARE_OF_WAY * abs(best - middle[0])
    return bool(steps[np.argmax(way)] <= EARLY * steps[-1])


def _mark_targets(axes: Axes, targets: Sequence[float]) -> None:
    """Draw a dotted line for each target, with its value at the left."""
    for target in targets:
        axes.axhline(target, color=FAINT, linestyle=(0, (1, 2)), linewidth=1, zorder=2.5)
        axes.annotate(
            f"target {target:.3g}",
            xy=(0, target),
            xycoords=("axes fraction", "data"),
            xytext=(4, 1.5),
            textcoords="offset points",
            color=FAINT,
            fontsize=7.5,
            verticalalignment="bottom",
            path_effects=[withStroke(linewidth=2, foreground=PAPER)],
            zorder=4,
        )


def _label(axes: Axes, run: Run, unit: str) -> None:
    better = "higher" if run.higher_is_better else "lower"
    across, up = (", log scale" if kind == "log" else "" for kind in
                  (axes.get_xscale(), axes.get_yscale()))  # fmt: skip
    metric = run.metric.replace("_", " ")
    label_axes(axes, f"{unit}{across}", f"validation {metric} ({better} is better{up})")


def _words(runs: Sequence[Run], ends: Sequence[End], unit: str) -> Caption:
    """Say what is shown, of how many runs, what line and band are, and where the lines end."""
    seeds, splits = {run.seed for run in runs}, {run.split for run in runs}
    many = f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
    if len(splits) > 1:
        many += f" on {len(splits)} splits"
    parts = [
        f"line: median over {many}",
        "band: middle half of them",
        f"thin: each {'seed' if len(splits) == 1 else 'run'}",
    ]
    if any(run.status != "finished" for run in runs):
        parts.append("dotted: unfinished, not in the median")
    metric = runs[0].metric.replace("_", " ")
    moment = "while training" if unit == STEPS else "by training time"
    last = "; ".join(f"{' '.join(end.label.split())} {end.y:.4g} at {end.x:.4g}" for end in ends)
    return Caption(
        f"{runs[0].data}: validation {metric} {moment}",
        "; ".join(parts),
        f"Validation {metric} against {unit}. The medians end at: {last or 'no finished run'}.",
    )
