"""The tables of what a result costs: steps to targets, speed-ups, time per step, learning rates."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from lnrnn.comparison.wording import p_text

BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))


def plain_table(title: str, caption: str = "") -> Table:
    """Return an empty table that stays within 80 columns."""
    return Table(
        title=Text(title, "bold"),
        title_justify="left",
        caption=Text(caption, "dim") if caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def steps_table(targets: Sequence[Mapping[str, Any]]) -> Table:
    """Return every arm's median steps to each target.

    Args:
        targets: The entry ``"steps_to_target"`` of a result.
    """
    caption = "median; (8/10): so many runs get there; -: half of them do not"
    table = plain_table("steps to validation targets", caption)
    table.add_column("arm")
    for target in targets:
        share = f"{100 * target['share']:g} %: {target['target']:.3g}"
        table.add_column(Text(share), justify="right")
    for place, arm in enumerate(targets[0]["arms"]):
        table.add_row(Text(arm["name"]), *(_reached(target["arms"][place]) for target in targets))
    return table


def _reached(arm: Mapping[str, Any]) -> str:
    """Return the median step, and how many runs got there if not all did."""
    median = "-" if arm["median"] is None else f"{arm['median']:.0f}"
    total = len(arm["runs"])
    return median if arm["reached"] == total else f"{median} ({arm['reached']}/{total})"


def speed_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Return how many times sooner each arm reaches each target.

    Args:
        pairs: The entry ``"pairs"`` of a result.
    """
    timed = any(rung["seconds"] for pair in pairs for rung in pair["speed"])
    caption = "above 1: sooner; *: the median, since some runs never get there"
    table = plain_table(f"times sooner than {pairs[0]['baseline']} [95 % interval]", caption)
    table.add_column("arm")
    table.add_column("target", justify="right", no_wrap=True)
    for what in ("steps", "seconds") if timed else ("steps",):
        table.add_column(f"in {what}", justify="right")
        table.add_column("Holm p", justify="right", no_wrap=True)
    for pair in pairs:
        for place, rung in enumerate(pair["speed"]):
            entries = (rung["steps"], rung["seconds"]) if timed else (rung["steps"],)
            cells = [cell for entry in entries for cell in _speed_cells(entry)]
            name = "" if place else pair["arm"]
            table.add_row(Text(name), f"{100 * rung['share']:g} %", *cells)
    return table


def _speed_cells(entry: Mapping[str, Any] | None) -> tuple[str, str]:
    if entry is None or not entry["n"]:
        return "-", "-"
    ratio = "-" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
    mark = "*" if entry["censored"] else ""
    if entry["interval"] is None:
        return f"{ratio}{mark}", p_text(entry["p_holm"])
    low, high = entry["interval"]
    bounds = f"{'0' if low is None else f'{low:.2f}'}, {'inf' if high is None else f'{high:.2f}'}"
    return f"{ratio}{mark} \\[{bounds}]", p_text(entry["p_holm"])


def step_time_table(arms: Sequence[Mapping[str, Any]]) -> Table:
    """Return what each arm's steps took while it trained.

    Args:
        arms: The entry ``"arms"`` of a result.
    """
    # One run after the other: whatever else the machine did then is in these times.
    table = plain_table("cost", "time/step: median while training, not measured side by side")
    table.add_column("arm")
    table.add_column("parameters", justify="right")
    table.add_column("time/step", justify="right", no_wrap=True)
    for arm in arms:
        base = None if arm is arms[0] else arms[0]["seconds_per_step"]
        time = _step_time(arm["seconds_per_step"], base)
        table.add_row(Text(arm["name"]), _count(arm["parameters"]), time)
    return table


def _step_time(seconds: float | None, base: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.2f} ms" + (f" (x {seconds / base:.2f})" if base else "")


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def cost_table(cost: Mapping[str, Any]) -> Table:
    """Return what a training step of each arm takes, measured side by side.

    Args:
        cost: The entry ``"cost"`` of a result.
    """
    first = cost["arms"][0]
    table = plain_table(
        "cost of a training step",
        f"arms in turn, {cost['rounds']} rounds, threads: {cost['threads']}; median [quartiles]"
        "; memory: what a step adds",
    )
    table.add_column("arm")
    table.add_column("parameters", justify="right")
    table.add_column("time/step", justify="right", no_wrap=True)
    table.add_column(Text(f"over {first['name']}"), justify="right")
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column(f"{first['unit']}/s", justify="right")
    for arm in cost["arms"]:
        table.add_row(
            Text(arm["name"]),
            _count(arm["parameters"]),
            f"{1000 * arm['seconds_per_step']:.2f} ms",
            _over_first(arm),
            _memory(arm["peak_memory"]),
            f"{arm['items_per_second']:,.0f}",
        )
    return table


def _over_first(arm: Mapping[str, Any]) -> str:
    if arm["ratio"] is None:
        return ""
    low, high = arm["ratio_quartiles"]
    return f"x {arm['ratio']:.2f} \\[{low:.2f}, {high:.2f}]"


def _memory(size: float | None) -> str:
    if size is None:
        return "-"
    scale, unit = next((pair for pair in BYTES if abs(size) >= pair[0]), BYTES[-1])
    return f"{size / scale:.3g} {unit}"


def tuning_table(tuning: Mapping[str, Any]) -> Table:
    """Return each arm's mean best validation loss at each learning rate, its best one marked.

    Args:
        tuning: The entry ``"tuning"`` of a result.
    """
    seeds = ", ".join(map(str, tuning["seeds"]))
    caption = f"mean best validation loss, seeds {seeds}; (2 lost): diverged or failed; >: chosen"
    table = plain_table("learning rates", caption)
    table.add_column("arm")
    for rate in tuning["grid"]:
        table.add_column(f"{rate:g}", justify="right")
    table.add_column("octaves within 5 %", justify="right")
    for arm in tuning["arms"]:
        entries = {entry["rate"]: entry for entry in arm["rates"]}
        cells = [_rate_cell(entries.get(rate), rate == arm["best"]) for rate in tuning["grid"]]
        table.add_row(Text(arm["name"]), *cells, f"{arm['octaves_within_5_percent']:.1f}")
    return table


def _rate_cell(entry: Mapping[str, Any] | None, chosen: bool) -> str:
    if entry is None:
        return "-"
    mean = f"({entry['diverged']} lost)" if entry["mean"] is None else f"{entry['mean']:.4g}"
    return f"> {mean}" if chosen else mean
