"""The tables as the page shows them: their columns, notes, and values as text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lnrnn.comparison import tables
from lnrnn.comparison.cells import FORMATS, NOTHING, Cell, Formats, text
from lnrnn.comparison.statistics import LEVEL
from lnrnn.comparison.tables import Group, Row
from lnrnn.comparison.wording import when

UNITS = {"steps": "steps", "seconds": "time"}  # the kinds of speed-up, in words
OUTCOMES = ("value", "best", "validation_mean")  # in the order in which they are shown

Columns = Sequence[tuple[str, str]]  # heading and key of each


class ShownRow(NamedTuple):
    """A row as text, and the place of the arm whose color its head carries."""

    head: str
    cells: Sequence[str]
    arm: int | None


class ShownGroup(NamedTuple):
    """Rows under a heading of their own; without a title they are all there is."""

    title: str
    rows: Sequence[ShownRow]


class Table(NamedTuple):
    """A table: what it shows, its columns, its rows, and what a reader must know of them."""

    caption: str
    columns: Sequence[str]
    groups: Sequence[ShownGroup]
    notes: str = ""
    words: bool = False  # cells are words, not numbers


def shown(cell: Cell | None) -> str:
    """Return a cell as the page shows it."""
    return text(cell, _FORMATS)


def _table(
    caption: str,
    head: str,
    columns: Columns,
    groups: Sequence[Group],
    notes: str = "",
    *,
    words: bool = False,
) -> Table:
    """Return a table as text.

    Args:
        caption: What it shows.
        head: The heading of the rows' heads.
        columns: The other columns.
        groups: Its rows.
        notes: What a reader must know.
        words: Whether cells are words.
    """
    written = []
    for group in groups:
        rows = [
            ShownRow(row.head, [shown(row.cells.get(key)) for _, key in columns], row.arm)
            for row in group.rows
        ]
        written.append(ShownGroup(shown(group.title), rows))
    return Table(caption, [head, *(heading for heading, _ in columns)], written, notes, words)


def _alone(rows: Sequence[Row]) -> list[Group]:
    """Return rows as a group without a title."""
    return [Group(Cell("text", ""), rows)]


def outcomes(result: Mapping[str, Any]) -> Table:
    """Return every outcome of every arm, and what the pairs say of it."""
    notes = (
        "sd: standard deviation over seeds. Difference: mean over pairs. t: paired-t interval; "
        "BCa: bootstrap interval, as a second view. Holm p: p-value of the exact sign-flip test, "
        "corrected for the number of arms within each outcome; the intervals are not corrected. "
        "Mean over training: area under the validation curve divided by its length."
    ) + _fragile(result)
    if len(result["splits"]) > 1:
        notes += (
            f" A seed's value is its mean over {len(result['splits'])} splits; t: interval over "
            "seeds and splits; BCa: over seeds alone; Holm p: of the larger p-value of two, the "
            "sign-flip test over seeds and the t-test over seeds and splits."
        )
    examples = {pair["examples"]["n"] for pair in result["pairs"] if pair["examples"]}
    level = percent(result)
    by_examples = [(f"{level} interval (seeds and examples)", "examples")] if examples else []
    if examples:
        notes += (
            " Seeds and examples: for other test sets, too, of "
            f"{' or '.join(map(str, sorted(examples)))} examples; supported speaks of seeds alone."
        )
    columns = (
        ("runs", "runs"),
        ("mean ± sd", "mean"),
        (f"minus {result['arms'][0]['name']}", "difference"),
        (f"{level} interval (t)", "interval"),
        (f"{level} interval (BCa)", "bootstrap"),
        *by_examples,
        ("P(better)", "better"),
        ("Holm p", "p_holm"),
        ("supported", "supported"),
    )
    better = "higher" if result["higher_is_better"] else "lower"
    caption = f"{result['metric'].replace('_', ' ')}: {better} is better"
    groups = tables.outcomes(result)
    return _table(caption, "arm", columns, [groups[key] for key in OUTCOMES], notes)


def _fragile(result: Mapping[str, Any]) -> str:
    """Name the claims that a single seed decides about."""
    found = []
    for pair in result["pairs"]:
        for title, _, pair_key in tables.measured(result):
            seeds = (pair if pair_key is None else pair[pair_key])["fragile"]
            if seeds:
                listed = (
                    f"seed {seeds[0]}"
                    if len(seeds) == 1
                    else (f"any one of the seeds {', '.join(map(str, seeds))}")
                )
                found.append(f"{pair['arm']}, {title}: the answer changes without {listed}.")
    return f" Claims that depend on single seeds: {' '.join(found)}" if found else ""


def ladder(result: Mapping[str, Any]) -> Table | None:
    """Return how fast every arm reaches every target: in steps, and in time if it was measured."""
    groups = tables.targets(result)
    if not groups:
        return None
    first = result["arms"][0]["name"]
    kinds = ("steps",) if result["cost"] is None else ("steps", "seconds")
    notes = (
        f"Targets are shares of the improvement that the median curve of {first} makes, from its "
        f"first to its best value. Speed-up: steps of {first} divided by steps of the arm, over "
        "pairs of seeds; above 1 the arm is faster. A run that never reaches a target counts as "
        "slower than any other, and can leave an interval unbounded. Holm p: corrected for all "
        "arms and targets, in steps and in time apart."
    )
    if "seconds" in kinds:
        notes += " Time: steps times the time per step, measured with the arms taking turns."
    level = percent(result)
    speeds = [column for kind in kinds for column in _speeds(kind, level)]
    columns = [("runs that arrive", "arrived"), *speeds]
    return _table(f"The way to each target, against {first}", "arm", columns, groups, notes)


def _speeds(kind: str, level: str) -> Columns:
    return (
        (f"median {UNITS[kind]}", kind),
        (f"speed-up in {UNITS[kind]}", f"{kind} ratio"),
        (f"{level} interval", f"{kind} interval"),
        ("Holm p", f"{kind} p_holm"),
        ("supported", f"{kind} supported"),
    )


def seeds(result: Mapping[str, Any]) -> Table:
    """Return the test value of every run, and its difference from the first arm's."""
    first, *others = (arm["name"] for arm in result["arms"])
    columns = [(first, "value 0")]
    for place, name in enumerate(others, start=1):
        columns += [(name, f"value {place}"), (f"minus {first}", f"difference {place}")]
    caption = f"Each seed: test {result['metric'].replace('_', ' ')} {when(result)}"
    return _table(caption, "seed", columns, _alone(tables.seeds(result)))


def cost(result: Mapping[str, Any]) -> Table:
    """Return what a step costs: measured with the arms in turn, or else as the runs happened."""
    measured = result["cost"]
    columns = [("parameters", "parameters"), ("time per step", "seconds")]
    if measured is None:
        notes = (
            "Time per step: median while training. The runs may have shared the machine with "
            "others, so these times cannot be used to compare the arms."
        )
        return _table("Cost", "arm", columns, _alone(tables.step_times(result)), notes)
    columns += [
        ("middle half", "quartiles"),
        ("ratio", "ratio"),
        ("middle half", "ratio quartiles"),
        ("memory per step", "memory"),
        ("throughput", "throughput"),
    ]
    threads = "1 thread" if measured["threads"] == 1 else f"{measured['threads']} threads"
    notes = (
        f"Medians of {measured['rounds']} rounds in one process, the arms taking turns, {threads}, "
        f"{pairs_text(measured['machine'])}. "
        "Ratio: of the medians; its middle half: of ratios within a round."
    )
    return _table("Cost of a training step", "arm", columns, _alone(tables.costs(measured)), notes)


def differences(result: Mapping[str, Any]) -> Table | None:
    """Return what the arms were configured differently in; None if nothing is known to differ."""
    rows = tables.differences(result)
    columns = (
        ("setting", "key"),
        (f"in {result['arms'][0]['name']}", "baseline"),
        ("in the arm", "arm"),
    )
    caption = "Settings that differ between the arms"
    return _table(caption, "arm", columns, _alone(rows), words=True) if rows else None


def shared(result: Mapping[str, Any]) -> Table | None:
    """Return every setting that all runs share; None if none is known."""
    known = result["validity"]["shared_configuration"]
    rows = [Row(key, {"value": Cell("setting", (value,))}) for key, value in known.items()]
    caption = "Settings that all runs share"
    columns = [("value", "value")]
    return _table(caption, "setting", columns, _alone(rows), words=True) if rows else None


def percent(result: Mapping[str, Any]) -> str:
    """Return what the intervals cover: 95 %, and more where a result was looked at before."""
    levels = {pair["level"] for pair in result["pairs"]}
    return f"{100 * max(levels, default=LEVEL):.4g} %"


def pairs_text(table: Mapping[str, Any]) -> str:
    """Return keys and values in a line; None means that the runs differ."""
    return ", ".join(
        f"{key} {'differs' if value is None else value}" for key, value in table.items()
    )


def ratio_interval(low: float | None, high: float | None) -> str:
    """Return an interval of ratios; without a bound it is open on that side.

    Example:
        >>> ratio_interval(1.5, 2.0), ratio_interval(1.5, None), ratio_interval(None, None)
        ('[1.50, 2.00]', '1.50 or more', 'unbounded')
    """
    if low is None:
        return "unbounded" if high is None else f"{high:.2f} or less"
    return f"{low:.2f} or more" if high is None else f"[{low:.2f}, {high:.2f}]"


def times(ratio: float | None) -> str:
    """Return a ratio."""
    return NOTHING if ratio is None else f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def seconds(value: float) -> str:
    """Return a time with three digits, in a unit that fits it.

    Example:
        >>> seconds(0.004), seconds(12.34), seconds(4321.0)
        ('4.00 ms', '12.3 s', '4321 s')
    """
    number, unit = (1000 * value, "ms") if value < 1 else (value, "s")
    digits = f"{number:.0f}" if number >= 100 else f"{number:#.3g}"
    return f"{digits} {unit}"


def _setting(value: tuple[object], _: int) -> str:
    """Return a setting as YAML would show it."""
    if value[0] is None:
        return "null"
    return str(value[0]).lower() if isinstance(value[0], bool) else str(value[0])


_FORMATS: Formats = {
    **FORMATS,
    "arrived": lambda value, _: f"{value[0]} of {value[1]}",
    "bytes": lambda value, _: f"{value / 1e6:.1f} MB",
    "ratio": lambda value, _: times(value),
    "ratio interval": lambda value, _: ratio_interval(*value),
    "ratio span": lambda value, _: f"{value[0]:.2f} to {value[1]:.2f}",
    "runs": lambda value, _: str(value[0]) if value[0] == value[1] else f"{value[0]} of {value[1]}",
    "seconds": lambda value, _: seconds(value),
    "seconds span": lambda value, _: " to ".join(map(seconds, value)),
    "setting": _setting,
    "speed-up": lambda value, _: times(value[0]),
    "target": lambda value, _: f"to {value[0]:.3g} ({100 * value[1]:.0f} % of the improvement)",
    "throughput": lambda value, _: f"{value[0]:,.0f} {value[1]}/s",
}
