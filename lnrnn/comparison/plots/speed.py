"""How many times fewer steps, and how much less time, an arm takes to each target."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lnrnn.comparison.plots.canvas import (
    FAINT,
    INK,
    RIGHT,
    TIMES,
    Caption,
    Look,
    add_panel,
    caption,
    looks,
    mark_logarithmic,
    new_figure,
    panel_title,
    wrap,
)

PANEL, ROW, GAP = 2.35, 0.3, 0.25  # inches
UNITS = {"steps": "steps", "seconds": "time"}


class Row(NamedTuple):
    """One arm's way to one target; ``height`` is where its marks are, counted downward."""

    arm: str
    look: Look
    target: float
    share: float
    entry: Mapping[str, Any]
    height: float


def speed(result: Mapping[str, Any]) -> Figure | None:
    """Draw the ladder: for every target, how much faster each arm reaches it than the first arm.

    A dot is the ratio over the pairs, a bar its interval. Where runs that never arrived leave an
    interval without an end, the bar is an arrow.

    Args:
        result: What ``compare`` returned.

    Returns:
        The figure; None if no arm has a ratio or a bound to any target.
    """
    rows = _rows(result)
    kinds = [kind for kind in ("steps", "seconds") if any(_known(row.entry[kind]) for row in rows)]
    if not kinds:
        return None
    names = [wrap(row.arm) for row in rows]
    left = 0.35 + 0.085 * max(len(line) for name in names for line in name.split("\n"))
    left = max(left, 2.4)  # the names of the targets are that long
    reached = 1.65
    height = (rows[-1].height + 0.7) * ROW
    width = left + len(kinds) * (PANEL + GAP) + reached + RIGHT
    figure = new_figure(width, height + 0.85)
    low, high = _limits([row.entry[kind] for kind in kinds for row in rows])
    for place, kind in enumerate(kinds):
        axes = add_panel(figure, left + place * (PANEL + GAP), 0.3, PANEL, height)
        _draw_panel(axes, rows, kind, (low, high))
        panel_title(axes, f"speed-up in {UNITS[kind]}")
        if place == 0:
            _write_rows(axes, rows, left)
        if place == len(kinds) - 1:
            _write_reached(axes, rows)
    caption(figure, _words(result, rows, kinds), left=0.2)
    return figure


def _rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows from above, grouped by target, a line between the groups for their names."""
    look = looks(arm["name"] for arm in result["arms"])
    rows, height = [], 0.0
    for place, target in enumerate(result["steps_to_target"]):
        height += 1.2 if place else 0.7
        for pair in result["pairs"]:
            entry = pair["speed"][place]
            height += 1
            rows.append(
                Row(
                    pair["arm"], look[pair["arm"]], target["target"], target["share"], entry, height
                )
            )
    return rows


def _known(ratio: Mapping[str, Any] | None) -> bool:
    """Tell whether there is anything to draw: a ratio, or one end of an interval."""
    return ratio is not None and any(value is not None for value in _numbers(ratio))


def _numbers(ratio: Mapping[str, Any]) -> list[float | None]:
    return [ratio["ratio"], *(ratio["interval"] or ())]


def _limits(ratios: Sequence[Mapping[str, Any] | None]) -> tuple[float, float]:
    """Return the ends of the axis: all numbers, one, and room for arrows."""
    shown = [value for ratio in ratios if ratio for value in _numbers(ratio) if value]
    low, high = min([0.8, *shown]), max([1.25, *shown])
    return low / 1.25, high * 1.25


def _draw_panel(axes: Axes, rows: Sequence[Row], kind: str, limits: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.set_ylim(rows[-1].height + 0.7, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    mark_logarithmic(axes.xaxis, *limits)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{TIMES}"))
    axes.axvline(1, color=FAINT, linewidth=1)
    for row in rows:
        ratio = row.entry[kind]
        if _known(ratio):
            _draw_ratio(axes, row, ratio, limits)
        else:
            axes.text(1, row.height, "  no ratio", color=FAINT, fontsize=8, va="center")


def _draw_ratio(
    axes: Axes, row: Row, ratio: Mapping[str, Any], limits: tuple[float, float]
) -> None:
    """Draw the dot with its number, and the bar or the arrow of the interval."""
    color = row.look.color
    if ratio["interval"] is not None:
        low, high = ratio["interval"]
        start, end = (low or limits[0]), (high or limits[1])
        axes.plot([start, end], [row.height] * 2, color=color, linewidth=2, solid_capstyle="butt")
        for bound, tip, shape in ((low, limits[0], "<"), (high, limits[1], ">")):
            if bound is None:
                axes.plot(tip, row.height, shape, color=color, markersize=7, clip_on=False)
    if ratio["ratio"] is not None:
        filled = color if ratio["supported"] else "white"
        axes.plot(
            ratio["ratio"],
            row.height,
            row.look.marker,
            color=color,
            markerfacecolor=filled,
            markeredgewidth=1.5,
            markersize=6.5,
        )
        axes.annotate(
            f"{ratio['ratio']:.2f}",
            (ratio["ratio"], row.height),
            xytext=(0, 5.5),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=7.5,
        )


def _write_rows(axes: Axes, rows: Sequence[Row], left: float) -> None:
    """Write the targets and the arms left of the first panel."""
    across = -left / PANEL  # the figure's left edge, in the units of the axes
    for place, row in enumerate(rows):
        if place == 0 or rows[place - 1].target != row.target:
            _write(axes, across + 0.2 / PANEL, row.height - 1, _target(row), INK, bold=False)
        _write(axes, across + 0.32 / PANEL, row.height, wrap(row.arm), row.look.text, bold=True)


def _target(row: Row) -> str:
    return f"to {row.target:.3g} ({100 * row.share:.0f} % of the improvement)"


def _write_reached(axes: Axes, rows: Sequence[Row]) -> None:
    """Write right of the last panel how many runs of both arms arrived."""
    for place, row in enumerate(rows):
        reached, total = row.entry["reached"], row.entry["of"]
        if place == 0:
            _write(axes, 1.06, row.height - 1, "runs that arrive", FAINT, bold=False)
        text = f"{reached['arm']} of {total}, first arm {reached['baseline']}"
        _write(axes, 1.06, row.height, text, INK, bold=False)


def _write(axes: Axes, x: float, height: float, text: str, color: str, *, bold: bool) -> None:
    axes.text(
        x,
        height,
        text,
        transform=axes.get_yaxis_transform(),
        color=color,
        fontsize=9 if bold else 8.5,
        fontweight="bold" if bold else "normal",
        va="center",
        parse_math=False,
    )


def _words(result: Mapping[str, Any], rows: Sequence[Row], kinds: Sequence[str]) -> Caption:
    baseline = result["arms"][0]["name"]
    parts = [_sentence(row, kind) for row in rows for kind in kinds if _known(row.entry[kind])]
    return Caption(
        f"How much faster than {' '.join(wrap(baseline).split())}",
        "dot: ratio over pairs (filled: supported); bar: 95 % interval; arrow: unbounded",
        f"Speed against {baseline}. " + " ".join(parts),
    )


def _sentence(row: Row, kind: str) -> str:
    ratio = row.entry[kind]
    value = "no ratio" if ratio["ratio"] is None else f"{ratio['ratio']:.2f}"
    bounds = ""
    if ratio["interval"] is not None:
        low, high = ("unbounded" if end is None else f"{end:.2f}" for end in ratio["interval"])
        bounds = f" (95 % interval {low} to {high})"
    return f"{row.arm} to {row.target:.3g}: speed-up in {UNITS[kind]} {value}{bounds}."
