"""The files of a comparison: JSON, CSV and pictures, each written whole or not at all."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lnrnn.comparison.arms import readable_runs
from lnrnn.comparison.html import page
from lnrnn.comparison.plots import draw, png
from lnrnn.comparison.records import RunOrFolder, read_runs
from lnrnn.runs.files import replacing

COLUMNS = ("arm", "seed", "status", "outcome", "value", "folder", "split")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one


def write(
    result: Mapping[str, Any],
    arms: Mapping[str, Sequence[RunOrFolder]],
    folder: str | os.PathLike[str],
) -> list[Path]:
    """Write ``compare.json``, ``compare.csv``, the figures and ``report.html``, which shows it all.

    Args:
        result: What ``compare`` returned.
        arms: What ``compare`` was given; the figures are drawn from it.
        folder: Where to write; made if it is not there.

    Returns:
        The files written. A figure is missing where there is nothing to draw.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    written = [
        _replace(target / "compare.json", text.encode()),
        _replace(target / "compare.csv", table_of_values(result).encode()),
    ]
    figures = draw(result, {name: readable_runs(read_runs(runs)) for name, runs in arms.items()})
    for stem, figure in figures.items():
        written.append(_replace(target / f"{stem}.png", png(figure)))
    written.append(_replace(target / "report.html", page(result, figures).encode()))
    return written


def table_of_values(result: Mapping[str, Any]) -> str:
    """Return ``compare.csv``: one row for each arm, seed, split and outcome.

    No value is an empty cell. Text that a spreadsheet would take for a formula gets an apostrophe
    in front.

    Args:
        result: What ``compare`` returned.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in _rows(result):
        table.writerow([_cell(value) for value in row])
    return text.getvalue()


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    metric = result["metric"]
    outcomes = {
        f"test/{metric}": "value",
        f"val/{metric} mean over training": "validation_mean",
        f"val/{metric} best": "best",
    }
    for place, arm in enumerate(result["arms"]):
        reached = _steps_by_seed(result, place)
        for run in arm["runs"]:
            who = (arm["name"], run["seed"], run["status"])
            for outcome, key in outcomes.items():
                yield *who, outcome, run[key], run["folder"], run["split"]
            for outcome, steps in reached.items():
                yield *who, outcome, steps.get(run["seed"]), run["folder"], run["split"]


def _steps_by_seed(result: Mapping[str, Any], place: int) -> dict[str, dict[int, int | None]]:
    return {
        f"steps to val/{result['metric']} {target['target']!r}": {
            run["seed"]: run["step"] for run in target["arms"][place]["runs"]
        }
        for target in result["steps_to_target"]
    }


def _cell(value: object) -> object:
    """Return a cell that stays what it is; numbers, negative ones too, are no formulas."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _replace(path: Path, content: bytes) -> Path:
    """Write a whole file or none; it is not there in part, and no draft is left beside it."""
    with replacing(path) as file:
        file.write(content)
    return path
