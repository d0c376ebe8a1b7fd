"""The one question that a comparison was made to answer, named before its runs.

Every outcome is one more chance of a false claim. One of them is primary: its p-values are
corrected over the arms alone, and it is what a verdict begins with. The others are secondary: each
table is a family of its own, and a claim in one of them is a reason to make another comparison.
"""

from collections.abc import Sequence
from typing import Any

from lnrnn.comparison.claims import largest, supported
from lnrnn.comparison.endpoints import ENDPOINTS
from lnrnn.comparison.looks import Look, as_entry
from lnrnn.comparison.speed import logarithms
from lnrnn.comparison.statistics import alpha_of, holm
from lnrnn.comparison.targets import HEADLINE
from lnrnn.comparison.wording import WHEN

PARTS = {"final": "at_end", "area": "over_training", "steps_to_90": "speed"}  # of a verdict
ENTRIES = {"final": None, "area": "validation_difference"}  # of a pair; None: its own


def describe_primary(
    endpoint: str, named: str | None, looks: Sequence[Look], tested: str
) -> dict[str, Any]:
    """Return the entry ``"primary"`` of ``compare.json``.

    Args:
        endpoint: One of ``ENDPOINTS``.
        named: The one named before the runs; None where nobody knows.
        looks: The looks at this comparison's result, this one the last.
        tested: Whose weights the tests had, ``best`` or ``last``.
    """
    return {
        "endpoint": endpoint,
        "meaning": ENDPOINTS[endpoint].replace(WHEN["last"], WHEN[tested]),
        "named_before_the_runs": named,
        "looks": [as_entry(look) for look in looks],
        "alpha": alpha_of(len(looks)),
    }


def mark_primary(pairs: Sequence[dict[str, Any]], endpoint: str, look: int) -> None:
    """Give every pair its entry ``"primary"``: the endpoint, corrected over the arms alone.

    Args:
        pairs: The entries ``"pairs"`` of ``compare.json``.
        endpoint: One of ``ENDPOINTS``.
        look: As for ``alpha_of``.
    """
    if endpoint in ENTRIES:
        key = ENTRIES[endpoint]
        for pair in pairs:
            entry = pair if key is None else pair[key]
            names = ("n", "difference", "interval", "level", "p_holm", "supported")
            pair["primary"] = {"endpoint": endpoint, **{name: entry[name] for name in names}}
        return
    rungs = [_headline(pair) for pair in pairs]
    corrected = holm([largest(rung["p"], rung["p_choice"]) if rung else None for rung in rungs])
    for pair, rung, p_holm in zip(pairs, rungs, corrected, strict=True):
        pair["primary"] = {
            "endpoint": endpoint,
            "n": rung["n"] if rung else 0,
            "ratio": rung and rung["ratio"],
            "interval": rung and rung["interval"],
            "p_holm": p_holm,
            "supported": bool(rung)
            and supported(rung["n"], logarithms(rung["interval"]), p_holm, look),
        }


def _headline(pair: dict[str, Any]) -> dict[str, Any] | None:
    return next((rung["steps"] for rung in pair["speed"] if rung["share"] == HEADLINE), None)


def check_named(endpoint: str, named: str | None) -> list[str]:
    """Say if another endpoint was named before the runs."""
    if named in (None, endpoint):
        return []
    return [
        f"primary={named} was named before the runs, and primary={endpoint} afterwards: a claim "
        "about it is one of several that could have been made"
    ]
