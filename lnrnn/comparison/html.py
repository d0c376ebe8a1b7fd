"""``report.html``: the whole comparison in one file that asks nothing of any network.

The page holds no script, and its content security policy forbids all. Everything that comes from
runs (names, errors, settings) goes through the template engine, which escapes it.
"""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lnrnn.comparison import html_tables, tables
from lnrnn.comparison.cells import NOTHING
from lnrnn.comparison.html_setup import setup
from lnrnn.comparison.plots.canvas import caption_of
from lnrnn.comparison.summary import summary
from lnrnn.comparison.svg import inline_svg
from lnrnn.comparison.targets import HEADLINE
from lnrnn.comparison.wording import sentences, when

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")  # not that in h_0 or 3x
TEMPLATE = "report.html.jinja"
FEW_SEEDS = 12  # up to here they are listed, beyond there are only the first and the last
STREAMS = {
    True: "checked: data order and dropout stream are equal in every pair",
    False: "broken: data order or dropout stream differ in some pair; see the warnings",
    None: "unknown: a run did not record its data order or dropout stream",
}


class Picture(NamedTuple):
    """A figure as the page shows it: its words as text, and the drawing."""

    headline: str
    notes: str
    description: str
    drawing: Markup


class Fact(NamedTuple):
    """One number of a verdict, with its interval, and whether it is supported."""

    label: str
    value: str
    interval: str
    supported: bool


class Verdict(NamedTuple):
    """What the pairs say of one arm: in two sentences, in numbers, and in full."""

    arm: str
    place: int
    words: str
    in_full: str
    facts: Sequence[Fact]


def page(result: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page; equal input gives equal text.

    Args:
        result: What ``compare`` returned.
        figures: What ``plots.draw`` made of it. A section without data is left out.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = files("lnrnn.comparison").joinpath(TEMPLATE).read_text(encoding="utf-8")
    pictures = {stem: _picture(stem, figure) for stem, figure in figures.items()}
    html = environment.from_string(text).render(
        result=result,
        title=_title(result),
        subtitle=_subtitle(result),
        pictures=pictures,
        monitor=[picture for stem, picture in pictures.items() if stem.startswith("monitor_")],
        verdicts=_verdicts(result),
        percent=html_tables.percent(result),
        outcomes=html_tables.outcomes(result),
        ladder=html_tables.ladder(result),
        seeds=html_tables.seeds(result),
        cost=html_tables.cost(result),
        setup=setup(result),
        differences=html_tables.differences(result),
        shared=html_tables.shared(result),
        diagnoses=_diagnoses(result),
        validity=_validity(result),
    )
    return html + "\n"


def _picture(stem: str, figure: Figure) -> Picture:
    headline, notes, description = caption_of(figure)
    # A Markup of our own making: a drawing holds outlines, and its attributes are escaped.
    drawing = Markup(inline_svg(figure, stem))
    return Picture(headline, notes, description or headline or stem, drawing)


def _title(result: Mapping[str, Any]) -> str:
    first, *others = [arm["name"] for arm in result["arms"]]
    return f"{', '.join(others)} against {first}" if others else first


def _subtitle(result: Mapping[str, Any]) -> str:
    seeds = result["seeds"]
    listed = ", ".join(map(str, seeds))
    if len(seeds) > FEW_SEEDS:
        listed = f"{len(seeds)} from {seeds[0]} to {seeds[-1]}"
    better = "higher" if result["higher_is_better"] else "lower"
    metric = result["metric"].replace("_", " ")
    word = "seed" if len(seeds) == 1 else "seeds"
    several = f" on {len(result['splits'])} splits" if len(result["splits"]) > 1 else ""
    return f"{result['data']}, {metric} ({better} is better), {word} {listed}{several}"


def _verdicts(result: Mapping[str, Any]) -> list[Verdict]:
    return [
        Verdict(pair["arm"], place, summary(result, place), _in_full(pair), _facts(result, place))
        for place, pair in enumerate(result["pairs"], start=1)
    ]


def _in_full(pair: Mapping[str, Any]) -> str:
    """Return the verdict without its title, which stands above it."""
    words = sentences(pair["verdict_parts"])
    return words[:1].upper() + words[1:]


def _facts(result: Mapping[str, Any], place: int) -> list[Fact]:
    """Return the differences, and the speed-up to the target that verdicts speak of."""
    metric = result["metric"].replace("_", " ")
    outcomes = tables.outcomes(result)
    facts = [
        _fact(title, outcomes[key].rows[place].cells, "difference")
        for key, title in (
            ("value", f"test {metric} {when(result)}"),
            ("validation_mean", f"validation {metric} over training"),
        )
    ]
    for group in tables.targets(result):
        target, share = group.title.value
        cells = group.rows[place].cells
        for kind, unit in html_tables.UNITS.items():
            if share == HEADLINE and cells[f"{kind} ratio"].value is not None:
                label = f"speed-up in {unit} to {target:.3g}"
                facts.append(_fact(label, cells, f"{kind} ratio", f"{kind} "))
    return [fact for fact in facts if fact.value != NOTHING or fact.interval]


def _fact(label: str, cells: tables.Cells, value: str, of: str = "") -> Fact:
    interval, supported = cells[f"{of}interval"], cells[f"{of}supported"]
    bounds = "" if interval.value is None else html_tables.shown(interval)
    return Fact(label, html_tables.shown(cells[value]), bounds, supported.value)


def _diagnoses(result: Mapping[str, Any]) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """Return each arm's diagnoses: its place, its name, and seeds with what is said of them."""
    return [
        (place, arm["name"], _by_text(arm["diagnoses"]))
        for place, arm in enumerate(result["arms"])
        if arm["diagnoses"]
    ]


def _by_text(diagnoses: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return what is said, once, with the seeds of which it is said.

    What differs in numbers alone is said with the range of each.

    Example:
        >>> said = [(0, "fine"), (1, "85 % of 9 steps clipped"), (2, "7 % of 9 steps clipped")]
        >>> _by_text([{"seed": seed, "text": text} for seed, text in said])
        [('seed 0', 'fine'), ('seeds 1, 2', '7 to 85 % of 9 steps clipped')]
        >>> _by_text([{"seed": seed, "text": "fine"} for seed in (0, 1)])
        [('all 2 seeds', 'fine')]
    """
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for entry in diagnoses:
        alike.setdefault(NUMBER.sub("#", entry["text"]), []).append(entry)
    said = []
    for members in alike.values():
        listed = ", ".join(str(entry["seed"]) for entry in members)
        seeds = f"{'seed' if len(members) == 1 else 'seeds'} {listed}"
        if len(members) == len(diagnoses) > 1:
            seeds = f"all {len(members)} seeds"
        said.append((seeds, _with_ranges([entry["text"] for entry in members])))
    return said


def _with_ranges(texts: Sequence[str]) -> str:
    """Return texts that differ in numbers alone as one, from the least of each to the largest."""
    columns = zip(*(NUMBER.findall(text) for text in texts), strict=True)
    ends = ((min(numbers, key=float), max(numbers, key=float)) for numbers in columns)
    return NUMBER.sub(lambda _: " to ".join(dict.fromkeys(next(ends))), texts[0])


def _validity(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what was the same for all runs, and what was not."""
    validity = result["validity"]
    commits = [str(commit) for commit in validity["commits"]] or ["unknown"]
    fingerprints = validity["data_fingerprints"] or ["unknown"]
    rows = [
        ("pairing", [_pairing(validity), STREAMS[validity["paired_streams"]]]),
        ("commit" if len(commits) == 1 else "commits", commits),
        ("data fingerprint", fingerprints),
        ("versions", [html_tables.pairs_text(result["versions"]) or "unknown"]),
        ("machine", [html_tables.pairs_text(result["machine"]) or "unknown"]),
    ]
    failed = [str(line) for line in validity["failed_runs"]]
    rows.append(("failed runs", failed or ["none"]))
    return rows


def _pairing(validity: Mapping[str, Any]) -> str:
    checked = validity["checked_parameters"]
    if not checked:
        return "unknown: no parameter that two arms share was recorded"
    one = checked == 1
    if validity["paired_initial_values"]:
        shared = "the shared parameter starts" if one else f"all {checked} shared parameters start"
        return f"checked: {shared} from equal values in every pair"
    some = "the shared parameter starts" if one else f"some of {checked} shared parameters start"
    return f"broken: {some} from different values; see the warnings"
