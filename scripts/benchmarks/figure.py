"""The figure: what each candidate takes over torch's layer without a norm, against hidden size."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import HEAPS, NAMES
from benchmarks.rows import Row
from benchmarks.workloads import OURS, PYTHON, REFERENCE, SCRIPT, TORCH, TORCH_NORM

# Okabe and Ito's colors, told apart by readers with any kind of color vision.
STYLES = {
    OURS: ("#0072B2", "o"),
    TORCH_NORM: ("#000000", "s"),
    REFERENCE: ("#009E73", "^"),
    SCRIPT: ("#E69F00", "D"),
    PYTHON: ("#D55E00", "v"),
}
LINES = {1: "-", 2: "--"}
TICKS = (0.5, 1, 2, 4, 8, 16)


def draw(rows: Sequence[Row], path: Path, mode: str = "training") -> None:
    """Draw the rows of one mode, a column a cell and a line of panels a heap, into a PNG file.

    Raises:
        ValueError: If there is no row of that mode.
    """
    shown = [row for row in rows if row.mode == mode]
    if not shown:
        raise ValueError(
            f"the figure shows {mode}, and of that there is no measurement; "
            f"there are {', '.join(sorted({row.mode for row in rows})) or 'none at all'}"
        )
    cells = [cell for cell in NAMES if any(row.cell == cell for row in shown)]
    heaps = [heap for heap in HEAPS if any(row.heap == heap for row in shown)]
    size = (3.3 * len(cells) + 2.2, 3.0 * len(heaps) + 0.5)
    figure = Figure(figsize=size, dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(heaps), len(cells), sharex=True, sharey=True, squeeze=False)
    for line, heap in zip(panels, heaps, strict=True):
        for axes, cell in zip(line, cells, strict=True):
            _draw_panel(axes, [r for r in shown if (r.cell, r.heap) == (cell, heap)])
            axes.set_title(NAMES[cell] + HEAPS[heap], fontsize=10)
        line[0].set_ylabel("time / torch.nn's, no norm")
    for axes in panels[-1]:
        axes.set_xlabel("hidden units")
    lines = {a.get_label(): a for panel in panels.flat for a in panel.get_lines()}
    labels = [label for label in lines if not str(label).startswith("_")]
    panels[0, 0].set_ylim(_limits(panels.flat))
    figure.legend([lines[label] for label in labels], labels, loc="outside right upper", fontsize=8)
    figure.suptitle(f"{mode}, {shown[0].machine['cpu']}, torch {shown[0].machine['torch']}", size=9)
    figure.savefig(path, format="png", metadata={"Software": None})


def _limits(panels: Iterable[Axes]) -> tuple[float, float]:
    """Return limits of the vertical axis that hold every line and the one at 1."""
    values = [
        float(y) for axes in panels for a in axes.get_lines() for y in np.asarray(a.get_ydata())
    ]
    return min(values) / 1.2, max(values) * 1.2


def _draw_panel(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the candidates of one cell and heap."""
    for threads in sorted({row.threads for row in rows}):
        some = sorted((r for r in rows if r.threads == threads), key=lambda row: row.shape[-1])
        for name, (color, marker) in STYLES.items():
            found = [row for row in some if name in row.values]
            ratios = [row.ratio(name, TORCH) for row in found]
            if not found:
                continue
            axes.errorbar(
                [row.shape[-1] for row in found],
                [r.median for r in ratios],
                yerr=[[r.median - r.low for r in ratios], [r.high - r.median for r in ratios]],
                color=color,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                elinewidth=0.8,
                linestyle=LINES.get(threads, ":"),
            )[0].set_label(f"{name}, {threads} thread{'s' if threads > 1 else ''}")
    axes.axhline(1, color="#666666", linewidth=0.8, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    widths = sorted({row.shape[-1] for row in rows})
    axes.set_xlim(widths[0] / 1.4, widths[-1] * 1.4)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
