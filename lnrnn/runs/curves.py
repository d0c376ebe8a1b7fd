"""The picture of one run: its metrics against steps."""

import math
from collections import defaultdict
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lnrnn.runs.files import replacing
from lnrnn.runs.metrics import read_metrics

COLORS = {"train": "#0072B2", "val": "#D55E00", "test": "#009E73"}  # distinct for the color-blind


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw every metric of a run, one panel a name; the test value is a single point.

    What the monitor wrote (``monitor/...``) is left out: it is too much for one picture.

    Args:
        metrics: The run's ``metrics.jsonl``.
        picture: Where the PNG goes.

    Raises:
        RecordError: If a line of the metrics is not what a run writes.
    """
    curves: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for entry in read_metrics(metrics):
        part, _, name = entry.name.partition("/")
        if math.isfinite(entry.value) and part in COLORS:
            curves[name][part].append((entry.step, entry.value))
    # What only the test measures has no curve.
    curves = {name: parts for name, parts in curves.items() if parts.keys() != {"test"}} or curves
    figure = Figure(figsize=(4.2 * max(1, len(curves)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(1, len(curves)), squeeze=False)[0]
    for panel, (name, parts) in zip(panels, curves.items(), strict=False):
        for part, points in parts.items():
            steps, values = zip(*points, strict=True)
            style = "o" if part == "test" else "-"
            panel.plot(steps, values, style, color=COLORS[part], label=part, markersize=6)
        panel.set_xlabel("optimizer steps")
        panel.set_ylabel(name.replace("_", " "))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    with replacing(picture) as file:
        figure.savefig(file, format="png", dpi=120)
