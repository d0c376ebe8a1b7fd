"""Every arm at its own best learning rate: which one that is, and how much the choice matters.

An arm is tuned on validation data alone, and every arm tries the same rates: on every seed of the
comparison, so that the tests can make the choice anew (``choice``), or on seeds of their own, of
which the tests know nothing. A rate that lost runs comes after all that lost fewer.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lnrnn.comparison.choice import Array, Exchanges, choose, robust_mean, table
from lnrnn.comparison.records import Run, RunOrFolder, Unreadable, read_runs

CLOSE = 1.05  # a loss up to this many times the best one is close to it

OWN_SEEDS = "seeds of their own"
EVERY_SEED = "every seed"

Tuning = Mapping[str, Mapping[float, Sequence[RunOrFolder]]]
Measure = Callable[[Run], float | None]


def choose_rates(tuning: Tuning) -> dict[str, float]:
    """Return each arm's best learning rate.

    The best rate lost the fewest runs and has, among those, the lowest mean over the seeds of a
    run's best validation loss, without the lowest and the highest fifth (one of three or four, none
    of fewer). Among equals it is the smaller rate: there is always a choice, and ``compare`` warns
    of one that is worth little.

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


def describe_tuning(tuning: Tuning, procedure: str = OWN_SEEDS) -> dict[str, Any]:
    """Return the entry ``"tuning"`` of ``compare.json``.

    Args:
        tuning: As for ``choose_rates``.
        procedure: On which seeds the rates were tried, ``OWN_SEEDS`` or ``EVERY_SEED``.

    Raises:
        ValueError: If an arm has no rate.
    """
    read = read_grid(tuning)
    runs = [run for rates in read.values() for members in rates.values() for run in members]
    seeds = sorted({run.seed for run in runs if isinstance(run, Run)})
    return {
        "procedure": procedure,
        "grid": sorted({rate for rates in read.values() for rate in rates}),
        "seeds": seeds,
        "arms": [_describe_arm(name, rates, seeds) for name, rates in read.items()],
    }


def read_grid(tuning: Tuning) -> dict[str, dict[float, list[Run | Unreadable]]]:
    """Return the runs of every arm at every rate, the lowest rate first."""
    return {
        name: {float(rate): read_runs(rates[rate]) for rate in sorted(rates)}
        for name, rates in tuning.items()
    }


class GridPair:
    """Two arms that both ran every rate on every seed: tests that make the choice of rates anew.

    Args:
        baseline: The first arm's runs by rate; both arms have the same rates.
        arm: The second arm's.
    """

    def __init__(
        self,
        baseline: Mapping[float, Sequence[Run | Unreadable]],
        arm: Mapping[float, Sequence[Run | Unreadable]],
    ) -> None:
        self._arms = [_by_seed_and_rate(rates) for rates in (baseline, arm)]
        first, second = [{seed for runs in arm for seed in runs} for arm in self._arms]
        self._seeds = sorted(first & second)
        self._exchanges: dict[tuple[int, ...], Exchanges] = {}

    def p(
        self, measure: Measure, left_out: int | None = None, *, shift: float = 0.0
    ) -> float | None:
        """Return the p-value of the mean difference in an outcome, by exchange of whole grids.

        Args:
            measure: The outcome of a run; None for a run without one.
            left_out: A seed whose grids do not take part.
            shift: Added to every outcome of the second arm.
        """
        seeds = tuple(seed for seed in self._seeds if seed != left_out)
        if not seeds:
            return None
        baseline, arm = (_of(arm, seeds, measure, math.nan) for arm in self._arms)
        return self._made(seeds).p(baseline, arm + shift)

    def _made(self, seeds: tuple[int, ...]) -> Exchanges:
        if seeds not in self._exchanges:
            losses = [_of(arm, seeds, best_loss, math.inf) for arm in self._arms]
            self._exchanges[seeds] = Exchanges(*losses)
        return self._exchanges[seeds]


def _by_seed_and_rate(
    rates: Mapping[float, Sequence[Run | Unreadable]],
) -> list[dict[int, Run]]:
    return [{run.seed: run for run in runs if isinstance(run, Run)} for runs in rates.values()]


def _of(
    arm: Sequence[Mapping[int, Run]], seeds: Sequence[int], measure: Measure, missing: float
) -> Array:
    """Return a measure of every seed's runs, (n, R)."""
    runs = [[at_rate.get(seed) for at_rate in arm] for seed in seeds]
    return table([[run and measure(run) for run in row] for row in runs], missing)


def _describe_arm(
    name: str, rates: Mapping[float, Sequence[Run | Unreadable]], seeds: Sequence[int]
) -> dict[str, Any]:
    if not rates:
        raise ValueError(f"an arm needs at least one learning rate to choose from, {name} has none")
    entries = [_describe_rate(rate, runs, seeds) for rate, runs in rates.items()]
    # Runs in rows and rates in columns; without any readable run, the lowest rate.
    columns = [entry["values"] for entry in entries]
    losses = table([*zip(*columns, strict=True)] or [[None] * len(entries)], math.inf)
    place = int(choose(losses))
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
        "robust_mean": float(robust_mean(np.array([known]).T)[0]) if whole else None,
        "diverged": len(values) - len(known),
    }


def best_loss(run: Run) -> float | None:
    """Return a finished run's lowest validation loss; None if it is not finite everywhere."""
    values = [value for _, value in run.curve("val/loss")]
    good = run.status == "finished" and bool(values) and all(map(math.isfinite, values))
    return min(values) if good else None


def _octaves(entries: Sequence[Mapping[str, Any]], place: int) -> float:
    """Return how many doublings of the rate are in the unbroken stretch close to the best.

    Rates between those tried are not guessed: if no neighbor is close, the stretch is one rate.
    """
    best = entries[place]["robust_mean"]
    if best is None:
        return 0.0

    def close(entry: Mapping[str, Any]) -> bool:
        mean = entry["robust_mean"]
        return mean is not None and mean <= best + (CLOSE - 1) * abs(best)

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
    every_seed = described["procedure"] == EVERY_SEED
    both = sorted(set(described["seeds"]) & set(test_seeds))
    if not every_seed:
        n = len(described["seeds"])
        found.append(
            f"the learning rates were chosen once, on {n} {'seed' if n == 1 else 'seeds'} of their "
            "own, and no test knows of that choice: arms that do not differ then claim a "
            "difference too often (docs/comparing.md has the numbers); without tuning_seeds every "
            "seed runs the whole grid, and the tests make the choice anew"
        )
    if both and not every_seed:
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
