"""Results in words, never stronger than the numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.claims import Outcome
from lnrnn.comparison.statistics import CLAIM_PAIRS, LEVEL
from lnrnn.comparison.targets import HEADLINE

TOO_FEW = "too few pairs to conclude"
WHEN = {"last": "at the end", "best": "with the best weights"}  # by the weights that were tested
PARTS = {
    "same_runs": "",
    "at_end": "{}, ",
    "over_training": "over training, ",
    "speed": "",
    "failures": "",
}
"""What a verdict says besides its title, in its order, and how its sentence begins; the primary
part comes before the others."""


def when(tested: Mapping[str, Any]) -> str:
    """Return what the test was of, in words.

    Args:
        tested: A result, or the parts of a verdict, with the key ``"tested"``.

    Example:
        >>> when({"tested": "best"}), when({"tested": "last"}), when({})
        ('with the best weights', 'at the end', 'at the end')
    """
    return WHEN[tested.get("tested") or "last"]


def decimals(spreads: Sequence[float | None]) -> int:
    """Return how many decimals show two digits of the smallest spread, between 2 and 6.

    Example:
        >>> decimals([0.0123, 0.4]), decimals([]), decimals([0.0, 12.0])
        (3, 4, 2)
    """
    positive = [spread for spread in spreads if spread]
    if not positive:
        return 4
    return min(6, max(2, 1 - math.floor(math.log10(min(positive)))))


def p_text(p: float | None) -> str:
    """Return a p-value as it is printed; a dash where no test was run."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def verdict(name: str, outcome: Outcome, *, higher_is_better: bool, digits: int) -> str:
    """Say in words what the pairs say about one outcome.

    Args:
        name: What was measured, such as ``"test accuracy"``.
        outcome: What was found, arm minus baseline.
        higher_is_better: The outcome's direction.
        digits: Decimals to print.
    """
    paired = outcome.paired
    difference, n = paired.difference, paired.n
    if difference is None:
        return f"{name} cannot be compared: no seed has it in both arms"
    if paired.probability_better == 0.5 and paired.interval in (None, (0.0, 0.0)):
        return f"no difference in {name}, which is equal in {_pairs(n)}, so no test was run"
    size = f"{abs(difference):.{digits}f} {'higher' if difference > 0 else 'lower'}"
    where = f" on each of {outcome.splits} splits" if outcome.splits > 1 else ""
    evidence = f"{size} ({_evidence(outcome, digits)}{_pairs(n)}{where})"
    if n < CLAIM_PAIRS:
        return f"{TOO_FEW} about {name}, {evidence}"
    condition = _condition(outcome.fragile, n, outcome.supported)
    if not outcome.supported:
        return f"no supported difference in {name}, {evidence}{condition}"
    better = (difference > 0) == higher_is_better
    return f"{'better' if better else 'worse'} {name}, {evidence}{condition}"


def sentences(parts: Mapping[str, str | None]) -> str:
    """Return the parts of a verdict as sentences, without its title.

    Args:
        parts: The entry ``"verdict_parts"`` of a pair, what is said by ``PARTS``.

    Example:
        >>> sentences({"at_end": "no difference", "over_training": "better"})
        'at the end, no difference. Over training, better.'
        >>> sentences({"at_end": "no difference", "over_training": "b", "primary": "over_training"})
        'over training, b. Secondary: at the end, no difference.'
    """
    primary = parts.get("primary")
    test = when(parts)
    said = {
        part: f"{start.format(test)}{parts[part]}."
        for part, start in PARTS.items()
        if parts.get(part)
    }
    if primary in said:
        (first, *others) = [said.pop(primary), *said.values()]
        if others:
            others[0] = f"secondary: {others[0]}"
    else:
        first, *others = said.values()
    return " ".join([first, *(f"{text[0].upper()}{text[1:]}" for text in others)])


def failure_verdict(failures: Mapping[str, Any], others: str) -> str:
    """Say how many runs failed, and what the pairs say in which none did.

    Args:
        failures: The entry ``"failures"`` of a pair.
        others: The verdict about the pairs in which neither run failed.
    """
    first, second, of = failures["baseline"], failures["arm"], failures["of"]
    counts = f"{first} of {of} runs of the baseline and {second} of {of} of this arm fail"
    if failures["counted"] == "seeds":
        counts = f"runs of the baseline fail with {first} of {of} seeds, of this arm with {second}"
    claim = "no supported difference in how often"
    if failures["supported"]:
        claim = f"it fails {'less' if second < first else 'more'} often"
    p = "" if failures["p_holm"] is None else f", {_holm(failures['p_holm'])}"
    return f"{counts} ({claim}{p}); where neither does, {others}"


def _pairs(n: int) -> str:
    return "1 pair" if n == 1 else f"{n} pairs"


def _evidence(outcome: Outcome, digits: int) -> str:
    if outcome.paired.interval is None:
        return ""
    low, high = outcome.paired.interval
    interval = f"{100 * LEVEL:g} % interval {low:+.{digits}f} to {high:+.{digits}f}"
    return f"{interval}, {_holm(outcome.p_holm)}, "


def _holm(p: float | None) -> str:
    text = p_text(p)
    return f"Holm p {text}" if text.startswith("<") else f"Holm p = {text}"


def _condition(seeds: Sequence[int], n: int, supported: bool) -> str:
    """Name the seeds that alone decide about a claim, in a clause behind it."""
    if not seeds:
        return ""
    other = "the claim no longer holds" if supported else "a difference would be supported"
    if len(seeds) == 1:
        return f"; this depends on seed {seeds[0]} alone: without it, {other}"
    which = f"{len(seeds)} of the {n}"
    if len(seeds) <= 3:
        which = f"seeds {', '.join(map(str, seeds[:-1]))} and {seeds[-1]}"
    return f"; this depends on single seeds: without any one of {which}, {other}"


def speed_verdict(rungs: Sequence[Mapping[str, Any]]) -> str | None:
    """Say how much faster an arm gets 90 % of the baseline's improvement; None without targets.

    Args:
        rungs: An entry ``"speed"`` of a pair.
    """
    rung = next((rung for rung in rungs if rung["share"] == HEADLINE), None)
    if rung is None:
        return None
    words = [_faster(rung["steps"], "steps", "fewer", "more", "as many")]
    if rung["seconds"] is not None:
        words.append(_faster(rung["seconds"], "time", "less", "more", "as much"))
    place = f"to reach {100 * HEADLINE:g} % of the baseline's improvement ({rung['target']:.3g})"
    return f"{place}, {' and '.join(words)}{_arrived(rung)}"


def _faster(entry: Mapping[str, Any], what: str, less: str, more: str, as_much: str) -> str:
    """Say how many times less or more the arm needs of one thing."""
    n, ratio, interval = entry["n"], entry["ratio"], entry["interval"]
    if not n:
        return f"{what} cannot be compared: no seed ended in both arms"
    if ratio == 1 and entry["p"] is None and not entry["censored"]:
        return f"no difference in {what}, equal in {_pairs(n)}, so no test was run"
    if n >= CLAIM_PAIRS and entry["supported"]:
        low, high = interval
        if low is not None and low > 1:
            size = less if ratio is None else f"{ratio_text(ratio)} {less}"
            return f"{size} {what} ({_ratio_evidence(entry, low, high)})"
        # Slower: what the arm needs over what the baseline needs, so that numbers are above 1.
        size = more if ratio is None else f"{ratio_text(1 / ratio)} {as_much}"
        least, most = (None if bound is None else 1 / bound for bound in (high, low))
        return f"{size} {what} ({_ratio_evidence(entry, least, most)})"
    claim = TOO_FEW + " about" if n < CLAIM_PAIRS else "no supported difference in"
    size = "" if ratio is None else f"speed-up {ratio_text(ratio)}, "
    return f"{claim} {what} ({size}{_ratio_evidence(entry, *(interval or (None, None)))})"


def _ratio_evidence(entry: Mapping[str, Any], low: float | None, high: float | None) -> str:
    """Return the interval of a ratio, its p-value and the number of pairs."""
    if entry["interval"] is None:
        return _pairs(entry["n"])
    bounds = "unbounded"
    if low is not None:
        bounds = (
            f"{ratio_text(low)} or more"
            if high is None
            else f"{ratio_text(low)} to {ratio_text(high)}"
        )
    elif high is not None:
        bounds = f"{ratio_text(high)} or less"
    return f"{100 * LEVEL:g} % interval {bounds}, {_holm(entry['p_holm'])}, {_pairs(entry['n'])}"


def ratio_text(ratio: float) -> str:
    """Return a ratio with two digits or more."""
    return f"{ratio:.2f}x" if ratio >= 0.1 else f"{ratio:.2g}x"


def _arrived(rung: Mapping[str, Any]) -> str:
    """Say how many runs get there, if not all do."""
    first, second, total = rung["reached"]["baseline"], rung["reached"]["arm"], rung["of"]
    if first == second == total:
        return ""
    return (
        f"; {first} of {total} runs of the baseline and {second} of {total} of this arm get there"
    )
