"""The comparison as a person reads it in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lnrnn.comparison.cost_table import (
    cost_table,
    plain_table,
    speed_table,
    step_time_table,
    steps_table,
    tuning_table,
)
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
    """Print the outcomes, speed, cost and tuning, a verdict in words per pair, and every warning.

    Args:
        result: What ``compare`` returned.
        console: Where to print.
    """
    better = "higher" if result["higher_is_better"] else "lower"
    console.print(Text(f"\n{result['data']}, {better} is better", "bold"))
    for title, rows in _outcome_rows(result).items():
        console.print(_outcome_table(title, rows))
    if len(result["pairs"]) > 1:
        console.print(Text(UNCORRECTED, "dim"))
    for table in _other_tables(result):
        console.print(table)
    console.print()
    for pair in result["pairs"]:
        console.print(Text(pair["verdict"] + "\n"))
    for arm in result["arms"]:
        for line in arm["diagnosis"]:
            console.print(Text.assemble((f"{arm['name']}, ", "dim"), line))
    for warning in result["warnings"]:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _other_tables(result: Mapping[str, Any]) -> Iterator[Table]:
    targets = result["steps_to_target"]
    if targets:
        yield steps_table(targets)
        if result["pairs"]:
            yield speed_table(result["pairs"])
    yield step_time_table(result["arms"]) if result["cost"] is None else cost_table(result["cost"])
    if result["tuning"] is not None:
        yield tuning_table(result["tuning"])


def _outcome_rows(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    metric = result["metric"].replace("_", " ")
    return {
        f"test {metric} at the end": _rows_at_end(result),
        f"mean validation {metric} over training": _rows(
            result, "validation_mean", "validation_difference"
        ),
        f"best validation {metric}": _rows(result, "best", "best_difference"),
    }


def _rows_at_end(result: Mapping[str, Any]) -> list[Row]:
    pairs = [None, *result["pairs"]]
    return [
        Row(arm["name"], _count(arm, "value"), arm["mean"], arm["sd"], pair)
        for arm, pair in zip(result["arms"], pairs, strict=True)
    ]


def _rows(result: Mapping[str, Any], key: str, difference: str) -> list[Row]:
    pairs = [None, *(pair[difference] for pair in result["pairs"])]
    return [
        Row(arm["name"], _count(arm, key), arm[key]["mean"], arm[key]["sd"], pair)
        for arm, pair in zip(result["arms"], pairs, strict=True)
    ]


def _count(arm: Mapping[str, Any], key: str) -> int:
    return sum(run[key] is not None for run in arm["runs"])


def _outcome_table(title: str, rows: Sequence[Row]) -> Table:
    """Return a table of means, spreads and differences from the first row's arm."""
    digits = decimals([row.sd for row in rows])
    table = plain_table(title)
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
