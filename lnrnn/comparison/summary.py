"""A verdict in two sentences: what the primary endpoint says, and what the others add."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lnrnn.comparison.statistics import CLAIM_PAIRS
from lnrnn.comparison.targets import HEADLINE
from lnrnn.comparison.wording import decimals, ratio_text, when


class Finding(NamedTuple):
    """What one endpoint says of an arm.

    Args:
        what: What was measured, in words.
        n: Pairs of seeds that have it in both arms.
        claim: What is supported of the arm, in words that follow its name; None if nothing is.
        values: What both arms reached, in words; "" where that does not fit in a sentence.
    """

    what: str
    n: int
    claim: str | None
    values: str


def summary(result: Mapping[str, Any], place: int) -> str:
    """Return two sentences on an arm, or one where there is nothing to add.

    Args:
        result: What ``compare`` returned.
        place: The arm's place among the arms, from 1 up.
    """
    pair, first = result["pairs"][place - 1], result["arms"][0]["name"]
    if (same := pair["verdict_parts"]["same_runs"]) is not None:
        return f"{same[0].upper()}{same[1:]}."
    found = {
        "final": _difference(result, place, "value", f"test {{}} {when(result)}"),
        "area": _difference(result, place, "validation_mean", "mean validation {} over training"),
        "steps_to_90": _speed(pair),
    }
    main = found.pop(result["primary"]["endpoint"])
    others = [*found.values(), _failures(pair)]
    return " ".join(filter(None, [_primary(main, pair["arm"], first), _secondary(others)]))


def _difference(result: Mapping[str, Any], place: int, key: str, name: str) -> Finding:
    what = name.format(result["metric"].replace("_", " "))
    pair, arms = result["pairs"][place - 1], [result["arms"][0], result["arms"][place]]
    outcome = pair if key == "value" else pair["validation_difference"]
    spreads = [arm if key == "value" else arm[key] for arm in arms]
    means = [spread["mean"] for spread in spreads]
    values = ""
    if None not in means:
        digits = decimals([spread["sd"] for spread in spreads])
        values = f"{means[1]:.{digits}f} against {means[0]:.{digits}f} on average"
    claim = None
    if outcome["supported"]:
        better = (outcome["difference"] > 0) == result["higher_is_better"]
        claim = f"has the {'better' if better else 'worse'} {what}"
    return Finding(what, outcome["n"], claim, values)


def _speed(pair: Mapping[str, Any]) -> Finding:
    """Say in how many steps, and in how much time, an arm comes to the target of verdicts."""
    of = f"to {100 * HEADLINE:g} % of the baseline's improvement"
    what = f"steps {of}"
    rung = next((rung for rung in pair["speed"] if rung["share"] == HEADLINE), None)
    if rung is None:
        return Finding(what, 0, None, "")
    claims = [
        claim
        for kind, words in (("steps", ("fewer steps", "as many steps")), ("seconds", _TIME))
        if (claim := _ratio(rung[kind], *words)) is not None
    ]
    claim = f"needs {' and '.join(claims)} {of}" if claims else None
    return Finding(what, rung["steps"]["n"], claim, "")


_TIME = ("less time", "as much time")


def _ratio(entry: Mapping[str, Any] | None, less: str, as_much: str) -> str | None:
    """Say a supported speed-up in words; one whose size has no number is said without."""
    if entry is None or not entry["supported"]:
        return None
    low, _ = entry["interval"]
    faster = low is not None and low > 1
    if entry["ratio"] is None:
        return less if faster else f"more {less.split()[1]}"
    ratio = entry["ratio"] if faster else 1 / entry["ratio"]
    return f"{ratio_text(ratio)} {less if faster else as_much}"


def _failures(pair: Mapping[str, Any]) -> Finding:
    failures = pair["failures"]
    first, second, of = failures["baseline"], failures["arm"], failures["of"]
    claim = None
    if failures["supported"]:
        claim = f"fails {'less' if second < first else 'more'} often"
    what = f"how often runs fail ({second} of {of} against {first} of {of})"
    return Finding(what, of if first + second else 0, claim, "")


def _primary(found: Finding, arm: str, first: str) -> str:
    values = f": {found.values}" if found.values else ""
    if not found.n:
        return f"{arm} and {first} cannot be compared in {found.what}."
    if found.n < CLAIM_PAIRS:
        pairs = "1 pair of runs is" if found.n == 1 else f"{found.n} pairs of runs are"
        return f"{pairs} too few to conclude about {found.what}{values}."
    if found.claim is None:
        return f"These {found.n} pairs do not support a difference in {found.what}{values}."
    return f"{arm} {found.claim}{values}, in {found.n} pairs."


def _secondary(others: Sequence[Finding]) -> str | None:
    """Return what is supported of the other endpoints, and of which nothing is."""
    testable = [found for found in others if found.n >= CLAIM_PAIRS]
    if not testable:
        return None
    claims = [found.claim for found in testable if found.claim is not None]
    rest = [found.what for found in testable if found.claim is None]
    said = [f"it {_listed(claims, 'and')}"] if claims else []
    if rest:
        said.append(f"no difference is supported in {_listed(rest, 'or')}")
    return f"Secondary: {'; '.join(said)}."


def _listed(words: Sequence[str], last: str) -> str:
    """Return words as a list in a sentence.

    Example:
        >>> _listed(["a"], "and"), _listed(["a", "b", "c"], "or")
        ('a', 'a, b or c')
    """
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end
