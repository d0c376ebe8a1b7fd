"""The figures of a comparison, each drawn only if there are data for it.

Figures are built as objects and never through ``pyplot``, which would keep them alive and choose a
window system.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from lnrnn.comparison.plots.canvas import COLORS, png, spread
from lnrnn.comparison.plots.curves import learning_curves
from lnrnn.comparison.plots.monitor import monitor_figures
from lnrnn.comparison.plots.pairs import pairs
from lnrnn.comparison.plots.rates import learning_rates
from lnrnn.comparison.plots.speed import speed
from lnrnn.comparison.records import Run

__all__ = ["COLORS", "draw", "learning_curves", "png", "spread"]


def draw(result: Mapping[str, Any], runs: Mapping[str, Sequence[Run]]) -> dict[str, Figure]:
    """Draw everything that a comparison has data for.

    Args:
        result: What ``compare`` returned.
        runs: The readable runs of each of its arms, in its order; curves are drawn from them.

    Returns:
        The figures by the stem of the file each belongs in: ``learning_curves``,
        ``learning_curves_seconds`` (needs a measured cost), ``speed``, ``pairs``,
        ``learning_rates`` (needs tuning) and ``monitor_...`` (need runs with ``monitor=true``).
    """
    targets = [entry["target"] for entry in result["steps_to_target"]]
    figures = {"learning_curves": learning_curves(runs, targets=targets)}
    if result["cost"] is not None:
        seconds = {arm["name"]: arm["seconds_per_step"] for arm in result["cost"]["arms"]}
        by_time = learning_curves(runs, targets=targets, seconds_per_step=seconds)
        figures["learning_curves_seconds"] = by_time
    figures |= {"speed": speed(result), "pairs": pairs(result)}
    figures |= {"learning_rates": learning_rates(result), **monitor_figures(runs)}
    return {stem: figure for stem, figure in figures.items() if figure is not None}
