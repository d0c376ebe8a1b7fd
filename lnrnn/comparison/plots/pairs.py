"""Every seed's own difference, which is what the statistics are made of."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lnrnn.comparison import tables
from lnrnn.comparison.plots.canvas import (
    FAINT,
    INK,
    Caption,
    Look,
    add_panel,
    caption,
    looks,
    new_figure,
    panel_title,
    wrap,
)
from lnrnn.comparison.wording import when

SLOPE, DIFFERENCE, HEIGHT = 1.35, 0.85, 1.75  # inches
LEFT, BETWEEN, PANEL_GAP, ROW_GAP = 0.78, 0.22, 1.6, 0.85


class Panel(NamedTuple):
    """One arm beside the first by one outcome, a value a seed."""

    title: str
    names: tuple[str, str]
    look: Look
    values: list[tuple[float, float]]  # baseline, arm
    difference: float
    interval: Sequence[float] | None
    higher_is_better: bool


def pairs(result: Mapping[str, Any]) -> Figure | None:
    """Draw a line for every seed, from the first arm's value to the other's.

    Left the result at the end, right the mean over training; beside each the differences, with
    their mean and its interval.

    Args:
        result: What ``compare`` returned.

    Returns:
        The figure; None if no seed has a value in two arms.
    """
    rows = [row for pair in result["pairs"] if (row := _row(result, pair))]
    if not rows:
        return None
    columns = max(map(len, rows))
    block = SLOPE + BETWEEN + DIFFERENCE
    width = LEFT + columns * block + (columns - 1) * (PANEL_GAP - BETWEEN) + 0.75
    figure = new_figure(width, len(rows) * (HEIGHT + ROW_GAP) + 0.1)
    for line, row in enumerate(rows):
        for column, panel in enumerate(row):
            left = LEFT + column * (block + PANEL_GAP - BETWEEN)
            top = 0.25 + line * (HEIGHT + ROW_GAP)
            _draw_slopes(add_panel(figure, left, top, SLOPE, HEIGHT), panel)
            right = left + SLOPE + BETWEEN
            _draw_differences(add_panel(figure, right, top, DIFFERENCE, HEIGHT), panel)
    caption(figure, _words(result, rows), left=0.2)
    return figure


def _row(result: Mapping[str, Any], pair: Mapping[str, Any]) -> list[Panel]:
    """Return the panels of an arm: those outcomes that pairs have."""
    arms = {arm["name"]: arm for arm in result["arms"]}
    names = (pair["baseline"], pair["arm"])
    outcomes = (
        (f"{when(result)} (test)", "value", pair),
        ("over training (validation)", "validation_mean", pair["validation_difference"]),
    )
    look = looks(arms)[pair["arm"]]
    panels = []
    for title, key, outcome in outcomes:
        first, other = (_by_seed(arms[name], key) for name in names)
        values = [(first[seed], other[seed]) for seed in sorted(first.keys() & other.keys())]
        if values:
            mean, interval = outcome["difference"], outcome["interval"]
            better = result["higher_is_better"]
            panels.append(Panel(title, names, look, values, mean, interval, better))
    return panels


def _by_seed(arm: Mapping[str, Any], key: str) -> dict[int, float]:
    runs = tables.by_seed(arm, key)
    return {seed: run[key] for seed, run in runs.items() if run[key] is not None}


def _better(panel: Panel) -> list[bool]:
    return [(b > a) == panel.higher_is_better and a != b for a, b in panel.values]


def _draw_slopes(axes: Axes, panel: Panel) -> None:
    for (first, other), better in zip(panel.values, _better(panel), strict=True):
        axes.plot(
            [0, 1],
            [first, other],
            color=panel.look.color if better else FAINT,
            linestyle="-" if better else "--",
            marker="o",
            markersize=3,
            linewidth=1.1,
            alpha=0.85,
        )
    axes.set_xlim(-0.12, 1.12)
    axes.set_xticks([0, 1], [_short(name) for name in panel.names], parse_math=False, fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    panel_title(axes, panel.title)


def _short(name: str) -> str:
    """Return a name that fits below a tick."""
    printable = " ".join(wrap(name).split())
    return printable if len(printable) <= 13 else printable[:12] + "…"


def _draw_differences(axes: Axes, panel: Panel) -> None:
    """Draw the differences in a row, sorted, and their mean with its interval."""
    differences = sorted(other - first for first, other in panel.values)
    places = np.linspace(-0.28, 0.08, len(differences)) if len(differences) > 1 else [-0.1]
    axes.axhline(0, color=FAINT, linewidth=1)
    axes.plot(places, differences, "o", color=panel.look.color, markersize=3, alpha=0.5)
    if panel.interval is not None:
        axes.plot([0.3, 0.3], panel.interval, color=panel.look.color, linewidth=2.2)
    axes.plot(0.3, panel.difference, panel.look.marker, color=panel.look.color, markersize=6.5)
    axes.set_xlim(-0.4, 0.5)
    axes.set_xticks([0.05], ["difference"], fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["right"].set_visible(True)
    axes.spines["right"].set_color(FAINT)
    axes.yaxis.tick_right()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if value else "0")
    axes.tick_params(axis="y", colors=FAINT, labelcolor=INK, labelsize=8)


def _words(result: Mapping[str, Any], rows: Sequence[Sequence[Panel]]) -> Caption:
    metric = result["metric"].replace("_", " ")
    direction = "higher" if result["higher_is_better"] else "lower"
    splits = len(result["splits"])
    mean = "" if splits == 1 else f" (mean over {splits} splits)"
    return Caption(
        f"Every seed: {metric} ({direction} is better)",
        f"line: one seed{mean}; dashed gray: arm not better; "
        "large mark and bar: mean, 95 % interval",
        " ".join(_sentence(panel) for row in rows for panel in row),
    )


def _sentence(panel: Panel) -> str:
    interval = ""
    if panel.interval is not None:
        interval = f" (95 % interval {panel.interval[0]:+.4g} to {panel.interval[1]:+.4g})"
    count = f"better in {sum(_better(panel))} of {len(panel.values)} pairs"
    return (
        f"{panel.names[1]} minus {panel.names[0]} {panel.title}: mean difference "
        f"{panel.difference:+.4g}{interval}, {count}."
    )
