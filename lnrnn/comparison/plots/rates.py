"""How each arm does at other learning rates."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lnrnn.comparison.plots.canvas import (
    INK,
    LEFT,
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

WIDTH, HEIGHT = 5.4, 3.1  # of the axes, in inches
LOG_RANGE = 5.0  # losses that span this factor are drawn on a logarithmic axis
# Height of the divergences above the axes, whose height is 1: the first arm's, and the next one's
# above it.
CROSSES, CROSS_LINE = 1.04, 0.055


def learning_rates(result: Mapping[str, Any]) -> Figure | None:
    """Draw the best validation loss of every tuning run against its learning rate.

    A dot is a run, a line the mean over those of a rate that did not diverge; a rate at which a run
    diverged has a cross above. The ring is the rate that was chosen.

    Args:
        result: What ``compare`` returned.

    Returns:
        The figure; None without tuning, or if every tuning run failed.
    """
    tuning = result["tuning"]
    if tuning is None or not _finite(tuning["arms"]):
        return None
    labels = {arm["name"]: wrap(arm["name"]) for arm in tuning["arms"]}
    lost = any(rate["diverged"] for arm in tuning["arms"] for rate in arm["rates"])
    crosses = 0.1 + HEIGHT * CROSS_LINE * len(labels) * lost
    figure = new_figure(LEFT + WIDTH + label_room(labels.values()), crosses + HEIGHT + 0.65)
    axes = add_panel(figure, LEFT, crosses, WIDTH, HEIGHT)
    axes.set_xscale("log")
    _ticks(axes, tuning["grid"])
    if max(_finite(tuning["arms"])) > LOG_RANGE * min(_finite(tuning["arms"])) > 0:
        axes.set_yscale("log")
        mark_logarithmic(axes.yaxis, min(_finite(tuning["arms"])), max(_finite(tuning["arms"])))
    look, ends = looks(arm["name"] for arm in result["arms"]), []
    for place, arm in enumerate(tuning["arms"]):
        offset = _offset(place, len(tuning["arms"]))
        end = _draw_arm(axes, arm, look[arm["name"]], offset)
        _mark_divergences(axes, arm, look[arm["name"]], CROSSES + CROSS_LINE * place)
        if end is not None:
            ends.append(End(labels[arm["name"]], look[arm["name"]], *end))
    logarithmic = ", log scale" if axes.get_yscale() == "log" else ""
    label_axes(
        axes, "learning rate, log scale", f"best validation loss (lower is better{logarithmic})"
    )
    label_ends(axes, ends)
    caption(figure, _words(tuning))
    return figure


def _finite(arms: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the loss of every run that has one."""
    rates = [rate for arm in arms for rate in arm["rates"]]
    return [value for rate in rates for value in rate["values"] if value is not None]


def _ticks(axes: Axes, grid: Sequence[float]) -> None:
    """Mark the rates that were tried and no other."""
    axes.xaxis.set_major_locator(FixedLocator(list(grid)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(min(grid) / 1.35, max(grid) * 1.35)


def _offset(place: int, count: int) -> float:
    """Return the factor that sets the marks of an arm a little beside the others'."""
    return 1.04 ** (place - (count - 1) / 2)


def _draw_arm(
    axes: Axes, arm: Mapping[str, Any], look: Look, offset: float
) -> tuple[float, float] | None:
    """Draw one arm and return where its line ends, None if it has no line."""
    x, y = [], []
    for entry in arm["rates"]:
        rate = entry["rate"] * offset
        values = [value for value in entry["values"] if value is not None]
        axes.plot([rate] * len(values), values, "o", color=look.color, markersize=3.5, alpha=0.45)
        if values:
            x.append(rate)
            y.append(float(np.mean(values)))
            if entry["rate"] == arm["best"]:
                _ring(axes, rate, y[-1], look)
    axes.plot(x, y, look.line, color=look.color, marker=look.marker, markersize=5.5, linewidth=2)
    return (x[-1], y[-1]) if x else None


def _ring(axes: Axes, x: float, y: float, look: Look) -> None:
    axes.plot(
        x,
        y,
        "o",
        markersize=14,
        markerfacecolor="none",
        color=look.color,
        markeredgewidth=1.6,
    )


def _mark_divergences(axes: Axes, arm: Mapping[str, Any], look: Look, height: float) -> None:
    """Draw a cross above the axes for each rate that lost a run, with the number of runs."""
    up = axes.get_xaxis_transform()
    for entry in arm["rates"]:
        if not entry["diverged"]:
            continue
        place = (entry["rate"], height)
        axes.plot(
            *place,
            "x",
            transform=up,
            color=look.color,
            markersize=6,
            markeredgewidth=2,
            clip_on=False,
        )
        axes.annotate(
            str(entry["diverged"]),
            place,
            xycoords=up,
            xytext=(7, 0),
            textcoords="offset points",
            va="center_baseline",
            color=INK,
            fontsize=8,
        )


def _words(tuning: Mapping[str, Any]) -> Caption:
    seeds = len(tuning["seeds"])
    return Caption(
        "Learning rates tried",
        f"dot: one of {seeds} {'seed' if seeds == 1 else 'seeds'}; line: mean; "
        "ring: chosen; cross above: diverged or failed (how many)",
        " ".join(_sentence(arm) for arm in tuning["arms"]),
    )


def _sentence(arm: Mapping[str, Any]) -> str:
    parts = []
    for entry in arm["rates"]:
        mean = entry["mean"]
        known = mean is not None and math.isfinite(mean)
        loss = f"{mean:.4g}" if known else "no mean"
        lost = f", {entry['diverged']} diverged" if entry["diverged"] else ""
        parts.append(f"{entry['rate']:g}: {loss}{lost}")
    chosen = "none" if arm["best"] is None else f"{arm['best']:g}"
    return f"{arm['name']}: best validation loss at rate {'; '.join(parts)}. Chosen: {chosen}."
