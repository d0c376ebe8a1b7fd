"""The comparison as a person reads it in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lnrnn.comparison import tables
from lnrnn.comparison.cells import FORMATS, NOTHING, Cell, Formats, text
from lnrnn.comparison.html_setup import coverage
from lnrnn.comparison.tables import Group, Row

UNCORRECTED = "intervals are not corrected for the number of arms; Holm p is, within each table"
OUTCOMES = ("value", "validation_mean", "best")  # in the order in which they are printed
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def print_table(result: Mapping[str, Any], console: Console) -> None:
    """Print the outcomes, speed, cost and tuning, a verdict in words per pair, and every warning.

    Args:
        result: What ``compare`` returned.
        console: Where to print.
    """
    better = "higher" if result["higher_is_better"] else "lower"
    console.print(Text(f"\n{result['data']}, {better} is better", "bold"))
    outcomes = tables.outcomes(result)
    for key in OUTCOMES:
        console.print(_outcome_table(outcomes[key]))
    if len(result["pairs"]) > 1:
        console.print(Text(UNCORRECTED, "dim"))
    if len(result["splits"]) > 1:
        console.print(Text(f"intervals and p-values {coverage(result)}", "dim"))
    for table in _other_tables(result):
        console.print(table)
    console.print()
    for pair in result["pairs"]:
        console.print(Text(pair["verdict"] + "\n"))
    for arm in result["arms"]:
        for entry in arm["diagnoses"]:
            line = f"seed {entry['seed']}: {entry['text']}"
            console.print(Text.assemble((f"{arm['name']}, ", "dim"), line))
    for warning in result["warnings"]:
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _other_tables(result: Mapping[str, Any]) -> Iterator[Table]:
    groups = tables.targets(result)
    if groups:
        yield _steps_table(groups)
        if result["pairs"]:
            yield _speed_table(result, groups)
    if result["cost"] is None:
        yield _step_time_table(tables.step_times(result))
    else:
        yield _cost_table(result["cost"])
    if result["tuning"] is not None:
        yield _tuning_table(result["tuning"])


def _outcome_table(group: Group) -> Table:
    """Return a table of means, spreads and differences from the first row's arm."""
    table = _empty_table(_text(group.title))
    table.add_column("runs", justify="right")
    first = _first_name(group.rows[0].head)
    _add_numbers(table, "mean ± sd", f"minus {first} [95 %]", "Holm p")
    for row in group.rows:
        runs, mean, p_holm = (_cell(row, key) for key in ("runs", "mean", "p_holm"))
        _add_row(table, row, runs, mean, _joined(row, "difference", "interval"), p_holm)
    return table


def _steps_table(groups: Sequence[Group]) -> Table:
    """Return every arm's median steps to each target."""
    caption = "median; (8/10): so many runs get there; -: at least half do not"
    table = _empty_table("steps to validation targets", caption)
    for group in groups:
        table.add_column(Text(_text(group.title)), justify="right")
    for rows in zip(*(group.rows for group in groups), strict=True):
        _add_row(table, rows[0], *(_cell(row, "steps") + _cell(row, "arrived") for row in rows))
    return table


def _speed_table(result: Mapping[str, Any], groups: Sequence[Group]) -> Table:
    """Return how much faster each arm reaches each target."""
    speeds = [rung for pair in result["pairs"] for rung in pair["speed"]]
    kinds = ("steps", "seconds") if any(rung["seconds"] for rung in speeds) else ("steps",)
    caption = "above 1: faster; *: the median, because some runs never get there"
    first, *others = zip(*(group.rows for group in groups), strict=True)
    table = _empty_table(f"speed-up over {_first_name(first[0].head)} [95 %]", caption)
    _add_numbers(table, "target", *(head for what in kinds for head in (f"in {what}", "Holm p")))
    for rows in others:
        for place, (row, group) in enumerate(zip(rows, groups, strict=True)):
            cells = [
                cell
                for kind in kinds
                for cell in (
                    _joined(row, f"{kind} ratio", f"{kind} interval"),
                    _cell(row, f"{kind} p_holm"),
                )
            ]
            _, share = group.title.value
            head = "" if place else row.head
            _add_row(table, row._replace(head=head), f"{100 * share:g} %", *cells)
    return table


def _step_time_table(rows: Sequence[Row]) -> Table:
    """Return what each arm's steps took while it trained."""
    table = _empty_table("cost", "time/step: median while training, not measured side by side")
    table.add_column("parameters", justify="right")
    _add_numbers(table, "time/step")
    for row in rows:
        ratio = f" ({_cell(row, 'ratio')})" if "ratio" in row.cells else ""
        _add_row(table, row, _cell(row, "parameters"), _cell(row, "seconds") + ratio)
    return table


def _cost_table(cost: Mapping[str, Any]) -> Table:
    """Return what a training step of each arm takes, measured side by side."""
    first = cost["arms"][0]
    caption = (
        f"arms taking turns, {cost['rounds']} rounds, threads: {cost['threads']}; "
        "median [quartiles]; memory: what a step adds"
    )
    table = _empty_table("cost of a training step", caption)
    table.add_column("parameters", justify="right")
    _add_numbers(table, "time/step", f"over {_first_name(first['name'])}", "memory")
    table.add_column(f"{first['unit']}/s", justify="right")
    for row in tables.costs(cost):
        parameters, seconds, memory, speed = (
            _cell(row, key) for key in ("parameters", "seconds", "memory", "throughput")
        )
        ratio = _joined(row, "ratio", "ratio quartiles")
        _add_row(table, row, parameters, seconds, ratio, memory, speed)
    return table


def _tuning_table(tuning: Mapping[str, Any]) -> Table:
    """Return each arm's mean best validation loss at each learning rate, its best one marked."""
    seeds = ", ".join(map(str, tuning["seeds"]))
    caption = (
        f"best validation loss, mean over seeds {seeds} without the lowest and the highest fifth; "
        "(2 lost): diverged or failed; >: chosen"
    )
    table = _empty_table("learning rates", caption)
    rates = [f"{rate:g}" for rate in tuning["grid"]]
    for heading in (*rates, "octaves within 5 %"):
        table.add_column(heading, justify="right")
    for row in tables.rates(tuning):
        _add_row(table, row, *(_cell(row, key) for key in (*rates, "octaves")))
    return table


def _empty_table(title: str, caption: str = "") -> Table:
    """Return a table that stays within 80 columns, with the column of arms."""
    table = Table(
        title=Text(title, "bold"),
        title_justify="left",
        caption=Text(caption, "dim") if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("arm", overflow="fold")  # a long name is broken, and never cut
    return table


def _add_numbers(table: Table, *headings: str) -> None:
    """Add columns of numbers, which are never broken."""
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)


def _add_row(table: Table, row: Row, *cells: str) -> None:
    table.add_row(Text(row.head), *map(Text, cells))


def _first_name(name: str) -> str:
    """Return the first arm's name as a heading can bear it."""
    return name if len(name) <= 16 else "the first"


def _text(cell: Cell | None) -> str:
    return text(cell, _FORMATS)


def _cell(row: Row, key: str) -> str:
    return _text(row.cells.get(key))


def _joined(row: Row, key: str, interval: str) -> str:
    """Return a number, and its interval behind it if it has one."""
    cell = row.cells.get(interval)
    return _cell(row, key) + ("" if cell is None or cell.value is None else f" {_text(cell)}")


def _arrived(value: tuple[int, int], _: int) -> str:
    """Return how many runs arrived, if not all did."""
    return "" if value[0] == value[1] else f" ({value[0]}/{value[1]})"


def _bytes(size: float, _: int) -> str:
    scale, unit = next((pair for pair in BYTES if abs(size) >= pair[0]), BYTES[-1])
    return f"{size / scale:.3g} {unit}"


def _loss(value: tuple[float | None, int, bool], _: int) -> str:
    mean, lost, chosen = value
    words = f"({lost} lost)" if mean is None else f"{mean:.4g}"
    return f"> {words}" if chosen else words


def _ratio_interval(bounds: tuple[float | None, float | None], _: int) -> str:
    low, high = bounds
    return f"[{'0' if low is None else f'{low:.2f}'}, {'inf' if high is None else f'{high:.2f}'}]"


def _speed_up(value: tuple[float | None, int], _: int) -> str:
    ratio, censored = value
    return (NOTHING if ratio is None else f"{ratio:.2f}") + ("*" if censored else "")


_FORMATS: Formats = {
    **FORMATS,
    "arrived": _arrived,
    "bytes": _bytes,
    "loss": _loss,
    "ratio": lambda value, _: f"x {value:.2f}",
    "ratio interval": _ratio_interval,
    "ratio span": lambda value, _: f"[{value[0]:.2f}, {value[1]:.2f}]",
    "runs": lambda value, _: str(value[0]),
    "seconds": lambda value, _: f"{1000 * value:.2f} ms",
    "speed-up": _speed_up,
    "target": lambda value, _: f"{100 * value[1]:g} %: {value[0]:.3g}",
    "throughput": lambda value, _: f"{value[0]:,.0f}",
}
