"""``confusion.json`` and its picture: which class a model takes for which, in its test."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lnrnn.runs.files import replace_text, replacing

NUMBERED = 20  # classes up to which every count is written in the picture
LONGEST = 16  # letters of a name in the picture


@dataclass(frozen=True)
class ConfusionTable:
    """How many examples of each class were predicted to be of each.

    Args:
        classes: The names, C of them.
        counts: (C, C); a row for each class that is right, a column for each that was predicted.
    """

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def mistakes(self) -> list[tuple[int, str, str]]:
        """Return count, right class and predicted class of each pair that occurs, by count."""
        found = [
            (count, self.classes[row], self.classes[column])
            for row, counts in enumerate(self.counts)
            for column, count in enumerate(counts)
            if count and row != column
        ]
        return sorted(found, key=lambda mistake: -mistake[0])


def write_confusion(path: Path, table: ConfusionTable) -> None:
    """Replace a ``confusion.json`` in one step."""
    rows = ",\n    ".join(json.dumps(list(row)) for row in table.counts)
    classes = json.dumps(list(table.classes), ensure_ascii=False)
    what = '"rows": "right class", "columns": "predicted class"'
    replace_text(
        path, f'{{\n  {what},\n  "classes": {classes},\n  "counts": [\n    {rows}\n  ]\n}}\n'
    )


def plot_confusion(table: ConfusionTable, picture: Path) -> None:
    """Draw a table, every row shaded by its shares, with the counts where there is room.

    Args:
        table: What to draw.
        picture: Where the PNG goes.
    """
    counts = np.array(table.counts, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(12.0, max(3.6, 1.8 + 0.42 * len(counts)))
    figure = Figure(figsize=(size, size), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("right class")
    if len(counts) <= NUMBERED:
        names = [_short(name) for name in table.classes]
        panel.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        panel.set_yticks(range(len(names)), names, parse_math=False)
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                color = "white" if shares[row, column] > 0.6 else "black"
                text = f"{counts[row, column]:.0f}"
                panel.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    with replacing(picture) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # letters no font here has
        figure.savefig(file, format="png", dpi=120)


def table_of(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> ConfusionTable:
    """Return a table of plain numbers and names."""
    return ConfusionTable(tuple(classes), tuple(tuple(int(n) for n in row) for row in counts))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 2]}.."
