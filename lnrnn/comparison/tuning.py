"""Every arm at its own best learning rate: which one that is, and how much the choice matters.

An arm is tuned on validation data alone, on seeds that the comparison does not use afterwards, and
every arm tries the same rates. A run that diverged or failed counts as infinitely bad.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lnrnn.comparison.records import Run, RunOrFolder, Unreadable, read_runs

CLOSE = 1.05  # a loss up to this many times the best one is close to it

Tuning = Mapping[str, Mapping[float, Sequence[RunOrFolder]]]


def choose_rates(tuning: Tuning) -> dict[str, float]:
    """Return each arm's best learning rate.

    The best rate has the lowest mean, over the tuning seeds, of a run's best validation loss. If
    every rate lost a run, fewer lost runs decide, then the mean of the others, then the smaller
    rate: there is always a choice, and ``compare`` warns of one that is worth little.

    Args:
        tuning: Arm -> learning rate -> its runs, one a tuning seed: folders, or runs read before.

    Returns:
        Arm -> rate, one of the rates given.

    Raises:
        ValueError: If an arm has no rate to choose from.

    Example:
        >>> from lnrnn.comparison import Run
        >>> def run(seed, loss):
        ...     curve = {"val/loss": ((10, loss),)}
        ...     return Run("", "finished", "d", "m", seed, "accuracy", True, curves=curve)
        >>> choose_rates({"lstm": {1e-3: [run(1000, 0.9)], 1e-2: [run(1000, 0.4)]}})
        {'lstm': 0.01}
    """
    return {arm["name"]: arm["best"] for arm in describe_tuning(tuning)["arms"]}


def describe_tuning(tuning: Tuning) -> dict[str, Any]:
    """Return the entry ``"tuning"`` of ``compare.json``.

    Args:
        tuning: As for ``choose_rates``.

    Raises:
        ValueError: If an arm has no rate.
    """
    read = {
        name: {float(rate): read_runs(rates[rate]) for rate in sorted(rates)}
        for name, rates in tuning.items()
    }
    runs = [run for rates in read.values() for members in rates.values() for run in members]
    seeds = sorted({run.seed for run in runs if isinstance(run, Run)})
    return {
        "grid": sorted({rate for rates in read.values() for rate in rates}),
        "seeds": seeds,
        "arms": [_describe_arm(name, rates, seeds) for name, rates in read.items()],
    }


def _describe_arm(
    name: str, rates: Mapping[float, Sequence[Run | Unreadable]], seeds: Sequence[int]
) -> dict[str, Any]:
    if not rates:
        raise ValueError(f"an arm needs at least one learning rate to choose from, {name} has none")
    entries = [_describe_rate(rate, runs, seeds) for rate, runs in rates.items()]
    place = min(range(len(entries)), key=lambda place: _badness(entries[place]))
    return {
        "name": name,
        "best": entries[place]["rate"],
        "rates": entries,
        "octaves_within_5_percent": _octaves(entries, place),
    }


def _describe_rate(
    rate: float, runs: Sequence[Run | Unreadable], seeds: Sequence[int]
) -> dict[str, Any]:
    losses = {run.seed: best_loss(run) for run in runs if isinstance(run, Run)}
    values = [losses.get(seed) for seed in seeds]
    known = [value for value in values if value is not None]
    whole = bool(known) and len(known) == len(values)
    return {
        "rate": rate,
        "values": values,
        "mean": math.fsum(known) / len(known) if whole else None,
        "diverged": len(values) - len(known),
    }


def best_loss(run: Run) -> float | None:
    """Return a finished run's lowest validation loss; None if it is not finite everywhere."""
    values = [value for _, value in run.curve("val/loss")]
    good = run.status == "finished" and bool(values) and all(map(math.isfinite, values))
    return min(values) if good else None


def _badness(entry: Mapping[str, Any]) -> tuple[float, int, float, float]:
    """Return what rates are ordered by, the best first."""
    known = [value for value in entry["values"] if value is not None]
    mean = math.fsum(known) / len(known) if known else math.inf
    return (mean if entry["mean"] is not None else math.inf, entry["diverged"], mean, entry["rate"])


def _octaves(entries: Sequence[Mapping[str, Any]], place: int) -> float:
    """Return how many doublings of the rate are in the unbroken stretch close to the best.

    Rates between those tried are not guessed: if no neighbor is close, the stretch is one rate.
    """
    best = entries[place]["mean"]
    if best is None:
        return 0.0

    def close(entry: Mapping[str, Any]) -> bool:
        return entry["mean"] is not None and entry["mean"] <= best + (CLOSE - 1) * abs(best)

    low = high = place
    while low > 0 and close(entries[low - 1]):
        low -= 1
    while high + 1 < len(entries) and close(entries[high + 1]):
        high += 1
    return math.log2(entries[high]["rate"] / entries[low]["rate"])


def check_tuning(described: Mapping[str, Any], test_seeds: Sequence[int]) -> list[str]:
    """Say what makes a tuned comparison less fair or less sure than it looks.

    Args:
        described: What ``describe_tuning`` returned.
        test_seeds: The seeds of the comparison itself.
    """
    found = []
    both = sorted(set(described["seeds"]) & set(test_seeds))
    if both:
        listed = ", ".join(map(str, both))
        text = "tuning and comparison share seeds, so the results look better than they are"
        found.append(f"{text}: {listed}")
    for arm in described["arms"]:
        found += [f"{arm['name']}: {text}" for text in _weaknesses(arm, described["grid"])]
    return found


def _weaknesses(arm: Mapping[str, Any], grid: Sequence[float]) -> list[str]:
    rates = [entry["rate"] for entry in arm["rates"]]
    best = next(entry for entry in arm["rates"] if entry["rate"] == arm["best"])
    found = []
    if rates != [*grid]:
        missing = ", ".join(f"{rate:g}" for rate in grid if rate not in rates)
        found.append(f"tuned on a smaller grid than other arms, without the rates {missing}")
    if best["mean"] is None:
        found.append(
            f"no learning rate finished on all tuning seeds; {arm['best']:g} was chosen, which "
            f"lost {'every run' if best['diverged'] == len(best['values']) else 'the fewest runs'}"
        )
    elif len(rates) > 1 and arm["best"] in (rates[0], rates[-1]):
        edge = "lowest" if arm["best"] == rates[0] else "highest"
        found.append(
            f"its best learning rate, {arm['best']:g}, is the {edge} one tried, so a better one "
            "may be outside the grid"
        )
    return found
