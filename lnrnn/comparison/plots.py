"""The figure of a comparison: how every arm learns, with the spread over its seeds.

Figures are built as objects and never through ``pyplot``, which would keep them alive and choose a
window system.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lnrnn.comparison.records import Curve, Run
from lnrnn.comparison.statistics import median_curve

# Okabe and Ito's colors, told apart by readers with any kind of color vision; yellow is left out
# because it is too light for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
INK, FAINT = "#222222", "#666666"
LEFT, AXES_WIDTH = 0.72, 5.4  # inches
LABEL_GAP = 0.075  # between the labels of two arms, as a share of the height of the axes


def draw(result: Mapping[str, Any], runs: Mapping[str, Sequence[Run]]) -> dict[str, Figure]:
    """Return the figures of a comparison by the stem of their file.

    Args:
        result: What ``compare`` returned.
        runs: Every arm's readable runs.
    """
    figure = learning_curves({arm["name"]: runs[arm["name"]] for arm in result["arms"]})
    return {} if figure is None else {"learning_curves": figure}


def learning_curves(arms: Mapping[str, Sequence[Run]]) -> Figure | None:
    """Draw the validation metric of every arm against the optimizer's steps.

    A line is the median over the arm's finished runs, its band the middle half of them (the
    quartiles); behind it lies every run by itself. Runs that did not finish are dotted and enter
    neither.

    Args:
        arms: The runs of each arm, in the order in which they are compared.

    Returns:
        The figure; None if no run has a validation curve.
    """
    drawn = {name: [run for run in runs if _finite_curve(run)] for name, runs in arms.items()}
    shown = [run for runs in drawn.values() for run in runs]
    if not shown:
        return None
    labels = _labels(drawn)
    width = LEFT + AXES_WIDTH + 0.4 + 0.1 * max(10, *map(len, labels.values()))  # inches
    figure = Figure(figsize=(width, 4.6), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((LEFT / width, 0.12, AXES_WIDTH / width, 0.715))
    ends: list[tuple[str, str, float, float]] = []
    for (name, runs), (color, line) in zip(drawn.items(), _styles(len(drawn)), strict=True):
        end = _draw_arm(axes, runs, color, line)
        if end is not None:
            ends.append((labels[name], color, *end))
    _label_axes(axes, shown)
    _label_ends(axes, ends)
    _title(figure, shown, LEFT / width)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _finite_curve(run: Run) -> Curve:
    """Return the points of the validation curve that can be drawn."""
    points = run.curve(f"val/{run.metric}")
    return tuple((step, value) for step, value in points if np.isfinite(value))


def _styles(arms: int) -> list[tuple[str, str]]:
    """Return a color and a line style an arm; used up, the colors come again in another style."""
    colors = cycle(COLORS)
    return [(next(colors), LINES[place // len(COLORS) % len(LINES)]) for place in range(arms)]


def _draw_arm(axes: Axes, runs: Sequence[Run], color: str, line: str) -> tuple[float, float] | None:
    """Draw one arm and return where its line ends, None if it has no line."""
    for run in runs:
        steps, values = zip(*_finite_curve(run), strict=True)
        style = "-" if run.status == "finished" else ":"
        axes.plot(steps, values, color=color, linestyle=style, linewidth=0.7, alpha=0.3, zorder=1)
    finished = [_finite_curve(run) for run in runs if run.status == "finished"]
    steps, (low, middle, high) = median_curve(finished)
    if not len(steps):
        return None
    axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0, zorder=2)
    point = "o" if len(steps) == 1 else ""  # one value makes no line
    axes.plot(steps, middle, marker=point, color=color, linestyle=line, linewidth=2, zorder=3)
    return float(steps[-1]), float(middle[-1])


def _label_axes(axes: Axes, runs: Sequence[Run]) -> None:
    """Name the axes and take away the ink that says nothing."""
    run = runs[0]
    better = "higher" if run.higher_is_better else "lower"
    axes.set_xlabel("optimizer steps", color=INK)
    axes.set_ylabel(f"validation {run.metric.replace('_', ' ')} ({better} is better)", color=INK)
    axes.set_xlim(0, max(1, *(step for run in runs for step, _ in _finite_curve(run))))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelcolor=INK)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def _label_ends(axes: Axes, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Write every arm's name right of where its line ends, apart from each other."""
    low, high = axes.get_ylim()
    wanted = [(end[3] - low) / (high - low) for end in ends]
    for (name, color, step, value), height in zip(ends, spread(wanted, LABEL_GAP), strict=True):
        axes.annotate(
            name,
            xy=(step, value),
            xytext=(1.045, height),
            textcoords="axes fraction",
            color=color,
            fontweight="bold",
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "relpos": (0, 0.5)},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights as far apart as labels need, in their order, within 0 to 1 where they fit.

    Example:
        >>> spread([0.5, 0.9, 0.9], gap=0.25)
        [0.5, 0.75, 1.0]
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = [0.0] * len(heights)
    # Upward first, so that no label touches the one below it; then down from the top.
    floor = 0.0
    for place in order:
        moved[place] = max(heights[place], floor)
        floor = moved[place] + gap
    ceiling = 1.0
    for place in reversed(order):
        moved[place] = min(moved[place], ceiling)
        ceiling = moved[place] - gap
    return moved


def _labels(arms: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Return the text beside each line: the arm, and its finished runs where those differ."""
    seeds = {name: sum(run.status == "finished" for run in runs) for name, runs in arms.items()}
    if len(set(seeds.values())) == 1:
        return {name: name for name in arms}
    return {name: f"{name} (n={count})" for name, count in seeds.items()}


def _title(figure: Figure, runs: Sequence[Run], left: float) -> None:
    """Say what is shown, of how many runs, and what line and band are."""
    seeds = {run.seed for run in runs}
    parts = [
        f"line: median over {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}",
        "band: middle half of them",
        "thin: each seed",
    ]
    if any(run.status != "finished" for run in runs):
        parts.append("dotted: unfinished, not in the median")
    metric = runs[0].metric.replace("_", " ")
    headline = f"{runs[0].data}: validation {metric} while training"
    figure.text(left, 0.95, headline, fontsize=12.5, fontweight="bold", color=INK)
    figure.text(left, 0.895, "; ".join(parts), fontsize=8.5, color=FAINT)
