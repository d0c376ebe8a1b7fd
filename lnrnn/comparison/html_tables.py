"""The tables of the page: what ``compare`` returned, as text in rows and columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lnrnn.comparison.wording import decimals, p_text

NOTHING = "-"
UNITS = {"steps": "steps", "seconds": "time"}  # the kinds of speed-up, in words


class Row(NamedTuple):
    """A row: the text of its head, its cells, and the place of the arm whose color it carries."""

    head: str
    cells: Sequence[str]
    arm: int | None = None


class Group(NamedTuple):
    """Rows under a heading of their own; without a title they are all there is."""

    title: str
    rows: Sequence[Row]


class Table(NamedTuple):
    """A table: what it shows, its columns, its rows, and what a reader must know of them."""

    caption: str
    columns: Sequence[str]
    groups: Sequence[Group]
    notes: str = ""
    words: bool = False  # cells are words, not numbers


def outcomes(result: Mapping[str, Any]) -> Table:
    """Return every outcome of every arm, and what the pairs say of it."""
    metric = result["metric"].replace("_", " ")
    measured = (
        (f"test {metric} at the end", "value", None),
        (f"best validation {metric}", "best", "best_difference"),
        (f"mean validation {metric} over training", "validation_mean", "validation_difference"),
    )
    groups = [
        Group(title, list(_outcome_rows(result, key, pair_key)))
        for title, key, pair_key in measured
    ]
    notes = (
        "sd: standard deviation over seeds. Difference: mean over pairs. t: paired-t interval; "
        "BCa: bootstrap, a second view. p: exact sign-flip test; Holm p: corrected for the arms of "
        "each outcome; the intervals are not. Mean over training: area under the validation curve "
        "over its length."
    )
    first = result["arms"][0]["name"]
    columns = ("arm", "runs", "mean ± sd", f"minus {first}", "95 % interval (t)",
               "95 % interval (BCa)", "P(better)", "p", "Holm p", "supported")  # fmt: skip
    better = "higher" if result["higher_is_better"] else "lower"
    return Table(f"{metric}: {better} is better", columns, groups, notes)


def _outcome_rows(result: Mapping[str, Any], key: str, pair_key: str | None) -> Iterable[Row]:
    summaries = [_summary(arm, key) for arm in result["arms"]]
    digits = decimals([sd for _, sd in summaries])
    pairs = [None, *result["pairs"]]
    for place, (arm, pair) in enumerate(zip(result["arms"], pairs, strict=True)):
        mean, sd = summaries[place]
        spread = "" if sd is None else f" ± {sd:.{digits}f}"
        known = sum(run[key] is not None for run in arm["runs"])
        runs = str(known) if known == len(arm["runs"]) else f"{known} of {len(arm['runs'])}"
        value = NOTHING if mean is None else f"{mean:.{digits}f}{spread}"
        outcome = pair if pair is None or pair_key is None else pair[pair_key]
        yield Row(arm["name"], (runs, value, *_difference(outcome, digits)), place)


def _summary(arm: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    entry = arm if key == "value" else arm[key]
    return entry["mean"], entry["sd"]


def _difference(outcome: Mapping[str, Any] | None, digits: int) -> tuple[str, ...]:
    """Return the cells of a comparison; the first arm's are empty."""
    if outcome is None:
        return ("",) * 7
    better = outcome["probability_better"]
    return (
        signed(outcome["difference"], digits),
        interval(outcome["interval"], digits),
        interval(outcome["bootstrap"], digits),
        NOTHING if better is None else f"{better:.2f}",
        p_text(outcome["p_sign_flip"]),
        p_text(outcome["p_holm"]),
        _support(outcome),
    )


def _support(outcome: Mapping[str, Any]) -> str:
    """Say whether a difference is supported, and which single seeds turn that."""
    answer = "yes" if outcome["supported"] else "no"
    seeds = outcome["fragile"]
    if not seeds:
        return answer
    listed = ", ".join(map(str, seeds))
    return (
        f"{answer}; turns without seed {listed}"
        if len(seeds) == 1
        else (f"{answer}; turns without any of the seeds {listed}")
    )


def signed(value: float | None, digits: int) -> str:
    """Return a difference with its sign."""
    return NOTHING if value is None else f"{value:+.{digits}f}"


def interval(bounds: Sequence[float] | None, digits: int) -> str:
    """Return an interval of differences."""
    if bounds is None:
        return NOTHING
    low, high = bounds
    return f"[{low:+.{digits}f}, {high:+.{digits}f}]"


def ratio_interval(bounds: Sequence[float | None] | None) -> str:
    """Return an interval of ratios; a bound that is not there has no end.

    Example:
        >>> ratio_interval([1.5, 2.0]), ratio_interval([1.5, None]), ratio_interval([None, None])
        ('[1.50, 2.00]', '1.50 or more', 'no end')
    """
    if bounds is None:
        return NOTHING
    low, high = bounds
    if low is None and high is None:
        return "no end"
    if high is None:
        return f"{low:.2f} or more"
    return f"{high:.2f} or less" if low is None else f"[{low:.2f}, {high:.2f}]"


def times(ratio: float | None) -> str:
    """Return a ratio."""
    return NOTHING if ratio is None else f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def seconds(value: float | None) -> str:
    """Return a time with three digits, in a unit that fits it.

    Example:
        >>> seconds(0.004), seconds(12.34), seconds(4321.0)
        ('4.00 ms', '12.3 s', '4321 s')
    """
    if value is None:
        return NOTHING
    number, unit = (1000 * value, "ms") if value < 1 else (value, "s")
    digits = f"{number:.0f}" if number >= 100 else f"{number:#.3g}"
    return f"{digits} {unit}"


def ladders(result: Mapping[str, Any]) -> list[Table]:
    """Return how fast every arm reaches every target: in steps, and in time if it was measured."""
    if not result["steps_to_target"]:
        return []
    first = result["arms"][0]["name"]
    notes = (
        f"Targets are shares of the way that the median curve of {first} makes. Speed-up: steps of "
        f"{first} over steps of the arm, over pairs of seeds; above 1 the arm is faster. A run "
        "that never arrives counts as slower than any other, and can leave an interval without an "
        "end. Holm p: corrected for all arms and targets of the table."
    )
    tables = [_ladder(result, "steps", f"Steps to each target, against {first}", notes)]
    if result["cost"] is not None:
        notes = "Time: steps times the time per step that was measured with the arms in turn."
        tables.append(_ladder(result, "seconds", f"Time to each target, against {first}", notes))
    return tables


def _ladder(result: Mapping[str, Any], kind: str, caption: str, notes: str) -> Table:
    columns = ("arm", "arrived", f"median {UNITS[kind]}", "speed-up",
               "95 % interval", "p", "Holm p", "supported")  # fmt: skip
    groups = [
        Group(_target(entry), list(_target_rows(result, entry, place, kind)))
        for place, entry in enumerate(result["steps_to_target"])
    ]
    return Table(caption, columns, groups, notes)


def _target(entry: Mapping[str, Any]) -> str:
    return f"to {entry['target']:.3g} ({100 * entry['share']:.0f} % of the way)"


def _target_rows(
    result: Mapping[str, Any], target: Mapping[str, Any], place: int, kind: str
) -> Iterable[Row]:
    speeds = [None, *(pair["speed"][place] for pair in result["pairs"])]
    for number, (arm, speed) in enumerate(zip(target["arms"], speeds, strict=True)):
        median = seconds(arm["seconds"]) if kind == "seconds" else _steps(arm["median"])
        cells = ("",) * 5 if speed is None else _ratio_cells(speed[kind])
        yield Row(arm["name"], (f"{arm['reached']} of {len(arm['runs'])}", median, *cells), number)


def _steps(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def _ratio_cells(ratio: Mapping[str, Any] | None) -> Sequence[str]:
    if ratio is None:
        return (NOTHING,) * 5
    return (
        times(ratio["ratio"]),
        ratio_interval(ratio["interval"]),
        p_text(ratio["p"]),
        p_text(ratio["p_holm"]),
        "yes" if ratio["supported"] else "no",
    )


def seeds(result: Mapping[str, Any]) -> Table:
    """Return the test value of every run, and its difference from the first arm's."""
    arms = result["arms"]
    digits = decimals([arm["sd"] for arm in arms])
    values = [{run["seed"]: run for run in arm["runs"] if run["seed"] is not None} for arm in arms]
    rows = []
    for seed in result["seeds"]:
        first = values[0].get(seed, {}).get("value")
        cells = [_value(values[0].get(seed), digits)]
        for runs in values[1:]:
            cells.append(_value(runs.get(seed), digits))
            other = runs.get(seed, {}).get("value")
            both = first is not None and other is not None
            cells.append(signed(other - first, digits) if both else NOTHING)
        rows.append(Row(str(seed), cells))
    columns = ["seed", arms[0]["name"]]
    for arm in arms[1:]:
        columns += [arm["name"], f"minus {arms[0]['name']}"]
    metric = result["metric"].replace("_", " ")
    return Table(f"Each seed: test {metric} at the end", columns, [Group("", rows)])


def _value(run: Mapping[str, Any] | None, digits: int) -> str:
    """Return a run's value, or what became of the run."""
    if run is None:
        return "no run"
    if run["value"] is None:
        return "no value" if run["status"] == "finished" else run["status"]
    return f"{run['value']:.{digits}f}"


def cost(result: Mapping[str, Any]) -> Table:
    """Return what a step costs: measured with the arms in turn, or else as the runs happened."""
    if result["cost"] is None:
        rows = [
            Row(arm["name"], (_count(arm["parameters"]), seconds(arm["seconds_per_step"])), place)
            for place, arm in enumerate(result["arms"])
        ]
        notes = (
            "Time per step: median while training. The runs may have shared the machine with "
            "others, so these times do not compare the arms."
        )
        return Table("Cost", ("arm", "parameters", "time per step"), [Group("", rows)], notes)
    measured = result["cost"]
    rows = [_cost_row(arm, place) for place, arm in enumerate(measured["arms"])]
    columns = ("arm", "parameters", "time per step", "middle half", "ratio", "middle half",
               "memory of a step", "throughput")  # fmt: skip
    threads = "1 thread" if measured["threads"] == 1 else f"{measured['threads']} threads"
    notes = (
        f"Medians of {measured['rounds']} rounds in one process, the arms in turn, {threads}, "
        f"{pairs_text(measured['machine'])}. Ratio: to the first arm in the same round."
    )
    return Table("Cost of a training step", columns, [Group("", rows)], notes)


def _cost_row(arm: Mapping[str, Any], place: int) -> Row:
    quartiles, ratios = arm["quartiles"], arm["ratio_quartiles"]
    memory, speed = arm["peak_memory"], arm["items_per_second"]
    cells = (
        _count(arm["parameters"]),
        seconds(arm["seconds_per_step"]),
        NOTHING if quartiles is None else " to ".join(map(seconds, quartiles)),
        times(arm["ratio"]) if place else "",
        "" if ratios is None else " to ".join(f"{ratio:.2f}" for ratio in ratios),
        NOTHING if memory is None else f"{memory / 1e6:.1f} MB",
        NOTHING if speed is None else f"{speed:,.0f} {arm['unit']}/s",
    )
    return Row(arm["name"], cells, place)


def _count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def differences(result: Mapping[str, Any]) -> Table | None:
    """Return what the arms were configured differently in; None if nothing is known to differ."""
    found = result["validity"]["configuration_differences"]
    if not found:
        return None
    places = {arm["name"]: place for place, arm in enumerate(result["arms"])}
    rows = [
        Row(
            entry["arm"],
            (entry["key"], _plain(entry["baseline_value"]), _plain(entry["value"])),
            places.get(entry["arm"]),
        )
        for entry in found
    ]
    columns = ("arm", "setting", f"of {result['arms'][0]['name']}", "of the arm")
    caption = "What the arms were configured differently in"
    return Table(caption, columns, [Group("", rows)], words=True)


def _plain(value: object) -> str:
    """Return a setting as YAML would show it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def pairs_text(table: Mapping[str, Any]) -> str:
    """Return keys and values in a line; None means that the runs differ."""
    return ", ".join(
        f"{key} {'differs' if value is None else value}" for key, value in table.items()
    )
