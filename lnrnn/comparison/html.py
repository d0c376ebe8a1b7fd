"""``report.html``: the whole comparison in one file that asks nothing of any network.

The page holds no script, and its content security policy forbids all. Everything that comes from
runs (names, errors, settings) goes through the template engine, which escapes it.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from lnrnn.comparison import html_tables as tables
from lnrnn.comparison.plots.canvas import caption_of
from lnrnn.comparison.svg import inline_svg
from lnrnn.comparison.wording import HEADLINE, decimals

TEMPLATE = "report.html.jinja"
FEW_SEEDS = 12  # up to here they are listed, beyond there are only the first and the last
STREAMS = {
    True: "asserted: data order and dropout stream are equal in every pair",
    False: "broken: data order or dropout stream differ, see the warnings",
    None: "not known: a run recorded no data order or dropout stream",
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
    """What the pairs say of one arm."""

    arm: str
    place: int
    words: str
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
        outcomes=tables.outcomes(result),
        ladders=tables.ladders(result),
        seeds=tables.seeds(result),
        cost=tables.cost(result),
        differences=tables.differences(result),
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
    return f"{result['data']}, {metric} ({better} is better), {word} {listed}"


def _verdicts(result: Mapping[str, Any]) -> list[Verdict]:
    places = {arm["name"]: place for place, arm in enumerate(result["arms"])}
    return [
        Verdict(pair["arm"], places[pair["arm"]], _words(pair), _facts(result, pair))
        for pair in result["pairs"]
    ]


def _words(pair: Mapping[str, Any]) -> str:
    """Return the verdict without the names, which stand above it."""
    words = pair["verdict"].removeprefix(f"{pair['arm']} against {pair['baseline']}: ")
    return words[:1].upper() + words[1:]


def _facts(result: Mapping[str, Any], pair: Mapping[str, Any]) -> list[Fact]:
    """Return the differences, and the speed-up to the target that verdicts speak of."""
    metric = result["metric"].replace("_", " ")
    arms = result["arms"]
    at_end = decimals([arm["sd"] for arm in arms])
    over_training = decimals([arm["validation_mean"]["sd"] for arm in arms])
    facts = [
        _difference(f"test {metric} at the end", pair, at_end),
        _difference(
            f"validation {metric} over training", pair["validation_difference"], over_training
        ),
    ]
    for rung in pair["speed"]:
        if rung["share"] == HEADLINE:
            facts += [_speed(rung, kind) for kind in tables.UNITS if rung[kind] is not None]
    return [fact for fact in facts if fact.value != tables.NOTHING or fact.interval]


def _difference(label: str, outcome: Mapping[str, Any], digits: int) -> Fact:
    bounds = outcome["interval"]
    shown = "" if bounds is None else tables.interval(bounds, digits)
    return Fact(label, tables.signed(outcome["difference"], digits), shown, outcome["supported"])


def _speed(rung: Mapping[str, Any], kind: str) -> Fact:
    ratio = rung[kind]
    label = f"speed-up in {tables.UNITS[kind]} to {rung['target']:.3g}"
    bounds = "" if ratio["interval"] is None else tables.ratio_interval(ratio["interval"])
    return Fact(label, tables.times(ratio["ratio"]), bounds, ratio["supported"])


def _diagnoses(result: Mapping[str, Any]) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """Return each arm's diagnoses: its place, its name, and seeds with what is said of them."""
    return [
        (place, arm["name"], _by_text(arm["diagnosis"]))
        for place, arm in enumerate(result["arms"])
        if arm["diagnosis"]
    ]


def _by_text(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return what is said, once, with the seeds of which it is said.

    Example:
        >>> _by_text(["seed 0: fine", "seed 1: clipped", "seed 2: fine"])
        [('seeds 0, 2', 'fine'), ('seed 1', 'clipped')]
        >>> _by_text(["seed 0: fine", "seed 1: fine"])
        [('all 2 seeds', 'fine')]
    """
    seeds: dict[str, list[str]] = {}
    for line in lines:
        seed, _, text = line.removeprefix("seed ").partition(": ")
        seeds.setdefault(text, []).append(seed)
    if len(seeds) == 1 < len(lines):
        return [(f"all {len(lines)} seeds", next(iter(seeds)))]
    return [
        (f"{'seed' if len(members) == 1 else 'seeds'} {', '.join(members)}", text)
        for text, members in seeds.items()
    ]


def _validity(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what was the same for all runs, and what was not."""
    validity = result["validity"]
    commits = [str(commit) for commit in validity["commits"]] or ["not known"]
    fingerprints = validity["data_fingerprints"] or ["not known"]
    rows = [
        ("pairing", [_pairing(validity), STREAMS[validity["paired_streams"]]]),
        ("commit" if len(commits) == 1 else "commits", commits),
        ("data fingerprint", fingerprints),
        ("versions", [tables.pairs_text(result["versions"]) or "not known"]),
        ("machine", [tables.pairs_text(result["machine"]) or "not known"]),
    ]
    failed = [str(line) for line in validity["failed_runs"]]
    rows.append(("failed runs", failed or ["none"]))
    return rows


def _pairing(validity: Mapping[str, Any]) -> str:
    checked = validity["checked_parameters"]
    if not checked:
        return "not known: no parameter that two arms share was recorded"
    if validity["paired_initial_values"]:
        return f"asserted: the {checked} shared parameters start from equal values in every pair"
    return f"broken: of {checked} shared parameters some start from other values, see the warnings"
