"""Whether a comparison shows the speed-up that was required of it."""

from collections.abc import Mapping
from typing import Any

from lnrnn.comparison.targets import HEADLINE


def unmet(result: Mapping[str, Any], required: float) -> list[str]:
    """Say of every arm after the first why it does not have the speed-up; nothing if all have it.

    An arm has it if it takes the steps of the baseline divided by ``required``, or fewer, to the
    90 % target, and if the comparison supports that it takes fewer steps at all.

    Args:
        result: What :func:`lnrnn.comparison.compare` returned.
        required: The least ratio of the baseline's steps over the arm's.
    """
    reasons = []
    for pair in result["pairs"]:
        speed = [entry for entry in pair["speed"] if entry["share"] == HEADLINE]
        why = _why_not(speed[0]["steps"], required) if speed else "there is no 90 % target"
        if why:
            reasons.append(f"{pair['arm']} against {pair['baseline']}: {why}")
    return reasons


def _why_not(steps: Mapping[str, Any], required: float) -> str | None:
    ratio = steps["ratio"]
    if ratio is None:
        return "no ratio of steps to the 90 % target can be given"
    if ratio >= required and steps["supported"]:
        return None
    state = "supported" if steps["supported"] else "not supported"
    return f"{ratio:.3g} times fewer steps to the 90 % target, {state} (pairs: {steps['n']})"
