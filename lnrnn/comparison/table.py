"""The comparison as a person reads it in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lnrnn.comparison.wording import decimals, p_text

UNCORRECTED = "intervals are not corrected for the number of arms; Holm p is, within each table"


class Row(NamedTuple):
    """One arm's line for one outcome; ``pair`` is its comparison with the first arm."""

    name: str
    runs: int
    mean: float | None
    sd: float | None
    pair: Mapping[str, Any] | None


def print_table(result: Mapping[str, Any], console: Console) -> None:
    """Print both outcomes, what a step costs, a verdict in words per pair, and every warning.

    Args:
        result: What ``compare`` returned.
        console: Where to print.
    """
    metric = result["metric"].replace("_", " ")
    better = "higher" if result["higher_is_better"] else "lower"
    console.print(Text(f"\n{result['data']}, {better} is better", "bold"))
    console.print(_outcome_table(f"test {metric} at the end", _rows_at_end(result)))
    over_training = f"mean validation {metric} over training"
    console.print(_outcome_table(over_training, _rows_over_training(result)))
    if len(result["pairs"]) > 1:
        console.print(Text(UNCORRECTED, "dim"))
    console.print(_cost_table(result))
    console.print()
    for pair in result["pairs"]:
        console.print(Text(pair["verdict"] + "\n"))
    for warning in result["warnings"]:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _rows_at_end(result: Mapping[str, Any]) -> list[Row]:
    pairs = [None, *result["pairs"]]
    return [
        Row(arm["name"], _count(arm, "value"), arm["mean"], arm["sd"], pair)
        for arm, pair in zip(result["arms"], pairs, strict=True)
    ]


def _rows_over_training(result: Mapping[str, Any]) -> list[Row]:
    pairs = [None, *(pair["validation_difference"] for pair in result["pairs"])]
    return [
        Row(
            arm["name"],
            _count(arm, "validation_mean"),
            arm["validation_mean"]["mean"],
            arm["validation_mean"]["sd"],
            pair,
        )
        for arm, pair in zip(result["arms"], pairs, strict=True)
    ]


def _count(arm: Mapping[str, Any], key: str) -> int:
    return sum(run[key] is not None for run in arm["runs"])


def _table(title: str) -> Table:
    """Return an empty table that stays within 80 columns."""
    return Table(
        title=Text(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _outcome_table(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of means, spreads and differences from the first row's arm."""
    digits = decimals([row.sd for row in rows])
    table = _table(title)
    table.add_column("arm")
    table.add_column("runs", justify="right")
    table.add_column("mean ± sd", justify="right", no_wrap=True)
    table.add_column(Text(f"minus {rows[0].name} [95 % interval]"), justify="right")
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("Holm p", justify="right", no_wrap=True)
    for row in rows:
        spread = "" if row.sd is None else f" ± {row.sd:.{digits}f}"
        mean = "-" if row.mean is None else f"{row.mean:.{digits}f}{spread}"
        table.add_row(Text(row.name), str(row.runs), mean, *_difference_cells(row.pair, digits))
    return table


def _difference_cells(pair: Mapping[str, Any] | None, digits: int) -> tuple[str, str, str]:
    if pair is None:
        return "", "", ""
    if pair["difference"] is None:
        return "-", "-", "-"
    difference = f"{pair['difference']:+.{digits}f}"
    if pair["interval"] is not None:
        low, high = pair["interval"]
        difference += f" \\[{low:+.{digits}f}, {high:+.{digits}f}]"
    return difference, p_text(pair["p_sign_flip"]), p_text(pair["p_holm"])


def _cost_table(result: Mapping[str, Any]) -> Table:
    """Return what a step costs, and how many steps it takes to the targets."""
    targets = result["steps_to_target"]
    baseline = result["arms"][0]
    table = _table("cost")
    # One run after the other: whatever else the machine did then is in these times.
    table.caption = Text("time/step: median while training, one run after the other", "dim")
    table.caption_justify = "left"
    table.add_column("arm")
    table.add_column("parameters", justify="right")
    table.add_column("time/step", justify="right", no_wrap=True)
    for target in targets:
        table.add_column(Text(f"steps to {target['target']:.3g}"), justify="right")
    for place, arm in enumerate(result["arms"]):
        steps = [_reached(target["arms"][place]) for target in targets]
        size = "-" if arm["parameters"] is None else f"{arm['parameters']:,}"
        table.add_row(Text(arm["name"]), size, _step_time(arm, baseline), *steps)
    return table


def _reached(arm: Mapping[str, Any]) -> str:
    """Return the median step, and how many runs got there if not all did."""
    median = "-" if arm["median"] is None else f"{arm['median']:.0f}"
    total = len(arm["runs"])
    return median if arm["reached"] == total else f"{median} ({arm['reached']}/{total})"


def _step_time(arm: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    seconds, base = arm["seconds_per_step"], baseline["seconds_per_step"]
    if seconds is None:
        return "-"
    ratio = f" (x {seconds / base:.2f})" if base and arm is not baseline else ""
    return f"{1000 * seconds:.2f} ms{ratio}"
