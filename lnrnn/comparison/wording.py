"""Results in words, never stronger than the numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.claims import Outcome
from lnrnn.comparison.statistics import CLAIM_PAIRS, LEVEL
from lnrnn.comparison.targets import HEADLINE

PARTS = {"same_runs": "", "over_training": "over training, ", "speed": "", "at_end": "at the end, "}
"""What a verdict says besides its title, in its order, and how the sentence begins."""


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
        return f"{name} cannot be compared, no seed has it in both arms"
    if paired.probability_better == 0.5 and paired.interval in (None, (0.0, 0.0)):
        return f"no difference in {name}, which is equal in {_pairs(n)}, so no test was run"
    size = f"{abs(difference):.{digits}f} {'higher' if difference > 0 else 'lower'}"
    evidence = f"{size} ({_evidence(outcome, digits)}{_pairs(n)})"
    if n < CLAIM_PAIRS:
        return f"smoke, no claim: {name} {evidence}"
    hangs = _hangs(outcome.fragile, n, outcome.supported)
    if not outcome.supported:
        return f"no supported difference in {name}, {evidence}{hangs}"
    better = (difference > 0) == higher_is_better
    return f"{'better' if better else 'worse'} {name}, {evidence}{hangs}"


def sentences(parts: Mapping[str, str | None]) -> str:
    """Return the parts of a verdict as sentences, without its title.

    Args:
        parts: The entry ``"verdict_parts"`` of a pair, what is said by ``PARTS``.

    Example:
        >>> sentences({"speed": None, "over_training": "better", "at_end": "no difference"})
        'over training, better. At the end, no difference.'
    """
    said = [f"{start}{parts[part]}." for part, start in PARTS.items() if parts.get(part)]
    return " ".join([said[0], *(f"{text[0].upper()}{text[1:]}" for text in said[1:])])


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


def _hangs(seeds: Sequence[int], n: int, supported: bool) -> str:
    """Name the seeds that alone decide about a claim, in a clause behind it."""
    if not seeds:
        return ""
    other = "the claim falls" if supported else "a difference is supported"
    if len(seeds) == 1:
        return f"; this hangs on seed {seeds[0]}: without it, {other}"
    if len(seeds) > 3:
        return f"; this hangs on single seeds: without any one of {len(seeds)} of the {n}, {other}"
    listed = f"{', '.join(map(str, seeds[:-1]))} and {seeds[-1]}"
    return f"; this hangs on seeds {listed}: without any one of them, {other}"


def speed_verdict(rungs: Sequence[Mapping[str, Any]]) -> str | None:
    """Say in words how much sooner an arm gets 90 % of the baseline's way; None without targets.

    Args:
        rungs: An entry ``"speed"`` of a pair.
    """
    rung = next((rung for rung in rungs if rung["share"] == HEADLINE), None)
    if rung is None:
        return None
    words = [_sooner(rung["steps"], "steps", "fewer", "more", "as many")]
    if rung["seconds"] is not None:
        words.append(_sooner(rung["seconds"], "time", "less", "more", "as much"))
    place = f"for {100 * HEADLINE:g} % of the baseline's way (to {rung['target']:.3g})"
    return f"{place}, {' and '.join(words)}{_arrived(rung)}"


def _sooner(entry: Mapping[str, Any], what: str, less: str, more: str, size: str) -> str:
    """Say what the arm needs of one thing, in shares of what the baseline needs."""
    n, interval = entry["n"], entry["interval"]
    if not n:
        return f"{what} cannot be compared, no seed ended in both arms"
    if entry["ratio"] == 1 and entry["p"] is None and not entry["censored"]:
        return f"no difference in {what}, equal in {_pairs(n)}, so no test was run"
    share = "" if entry["ratio"] is None else f", {_share(entry['ratio'])} times {size}"
    words = f"{what}{share} ({_share_evidence(entry)}{_pairs(n)})"
    if n < CLAIM_PAIRS:
        return f"smoke, no claim: {words}"
    if not entry["supported"]:
        return f"no supported difference in {words}"
    low, _ = interval
    return f"{less if low is not None and low > 1 else more} {words}"


def _share_evidence(entry: Mapping[str, Any]) -> str:
    """Return the interval of what the arm needs, one over the speed-up, and the p-value."""
    if entry["interval"] is None:
        return ""
    low, high = entry["interval"]
    least = "0" if high is None else _share(high)
    most = "any number" if low is None else _share(low)
    return f"{100 * LEVEL:g} % interval {least} to {most}, {_holm(entry['p_holm'])}, "


def _share(ratio: float) -> str:
    """Return what the arm needs of what the baseline needs, with two digits or more."""
    return f"{1 / ratio:.2f}" if ratio < 10 else f"{1 / ratio:.2g}"


def _arrived(rung: Mapping[str, Any]) -> str:
    """Say how many runs get there, if not all do."""
    first, second, total = rung["reached"]["baseline"], rung["reached"]["arm"], rung["of"]
    if first == second == total:
        return ""
    return (
        f"; {first} of {total} runs of the baseline and {second} of {total} of this arm get there"
    )
