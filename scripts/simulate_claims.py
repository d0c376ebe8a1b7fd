"""How often do the rules of a comparison claim what is not there, and how often what is?

Simulates comparisons whose truth is known and decides them with the project's own functions. Prints
the tables of docs/comparing.md.

python scripts/simulate_claims.py                  about four minutes on one idle core
python scripts/simulate_claims.py --trials 200     a rough look
python scripts/simulate_claims.py --keep FILE      what is in FILE is not simulated again

Outcomes are in units of about one standard deviation of a run; every cell has seeds of its own.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lnrnn.comparison.choice import Exchanges, choose
from lnrnn.comparison.claims import claim, supported
from lnrnn.comparison.examples import crossed_interval
from lnrnn.comparison.failures import exact_p
from lnrnn.comparison.speed import Race, speed_up
from lnrnn.comparison.splits import judge
from lnrnn.comparison.statistics import ALPHA, alpha_of, holm, paired_t_interval
from lnrnn.runs.files import replace_text

Array = NDArray[np.float64]
Random = np.random.Generator
Trial = Callable[[Random], Mapping[str, bool]]

SEEDS = 10
# The outcome at each of four rates, over the best, and how often a run is stuck there.
CURVES = {
    "flat": ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]),
    "sloped": ([-1.5, -0.5, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]),
    "peaked": ([-9.0, -3.0, 0.0, -1.5], [0.0, 0.0, 0.0, 0.0]),
    "stuck seeds": ([-3.0, -1.0, 0.0, 0.3], [0.0, 0.0, 0.1, 0.3]),
    "unlike": ([-35.0, -12.0, 0.0, -3.0], [0.0, 0.0, 0.0, 0.0]),
}
# The second arm's, where its best rate is elsewhere: mirrored, or this.
ELSEWHERE = {"unlike": ([0.0, 0.0, -3.0, -60.0], [0.0, 0.0, 0.3, 0.0])}
LOWER = {"stuck seeds": 8.0, "unlike": 60.0}  # where a run is stuck
PAIRED = 0.5  # sd of what two arms share within a seed
SHARED = 0.85  # correlation of a run's validation loss with its outcome


def draw(
    random: Random, curve: str, n: int, *, better: float = 0.0, noise: float = 1.0, moved=False
) -> tuple[Array, Array]:
    """Return the validation losses and the outcomes of n seeds at every rate, each (n, R)."""
    means, stuck = (np.array(row) for row in CURVES[curve])
    if moved:
        mirrored = (means[::-1], stuck[::-1])
        means, stuck = (np.array(row) for row in ELSEWHERE.get(curve, mirrored))
    of_run = SHARED * noise * random.normal(size=(n, len(means)))
    lower = LOWER.get(curve, 0.0)
    quality = means + better + of_run - lower * (random.random((n, len(means))) < stuck)
    rest = math.sqrt(1 - SHARED**2) * noise
    loss = -quality + rest * random.normal(size=quality.shape)
    return loss, quality + rest * random.normal(size=quality.shape)


def claims(baseline: Array, arm: Array, p_choice: float | None = None) -> bool:
    """Return whether the project's rule claims a difference between two arms' outcomes, (n,)."""
    values = dict(enumerate(baseline.tolist())), dict(enumerate(arm.tolist()))
    choices = None if p_choice is None else [lambda left_out: p_choice]
    found = claim(values[0], [values[1]], higher_is_better=True, choices=choices)
    return found[0].supported


def choosing(random: Random, curve: str, **difference: Any) -> dict[str, bool]:
    """Decide one comparison in which both arms choose a learning rate, in every way."""
    first = draw(random, curve, SEEDS)
    second = draw(random, curve, SEEDS, **difference)
    luck = PAIRED * random.normal(size=(SEEDS, 1))
    losses, outcomes = (first[0], second[0]), (first[1] + luck, second[1] + luck)
    rows = np.arange(SEEDS)

    def tuned(n: int) -> list[Array]:
        return [draw(random, curve, n)[0], draw(random, curve, n, **difference)[0]]

    def at(places: list[Any]) -> tuple[Array, Array]:
        return outcomes[0][rows, places[0]], outcomes[1][rows, places[1]]

    chosen = at([choose(loss) for loss in losses])
    return {
        "one tuning seed": claims(*at([choose(loss) for loss in tuned(1)])),
        "three tuning seeds": claims(*at([choose(loss) for loss in tuned(3)])),
        "a tuning seed for each seed": claims(*at([loss.argmin(1) for loss in tuned(SEEDS)])),
        "each seed's own best run": claims(*at([loss.argmin(1) for loss in losses])),
        "grid on every seed, plain tests": claims(*chosen),
        "grid on every seed, bootstrap": bootstrap_claims(random, losses, outcomes),
        "**grid on every seed, choice anew**": claims(*chosen, Exchanges(*losses).p(*outcomes)),
        "mean over all rates": claims(outcomes[0].mean(1), outcomes[1].mean(1)),
    }


def bootstrap_claims(random: Random, losses: tuple[Array, ...], outcomes: tuple[Array, ...]):
    """Return whether a percentile interval without zero comes of resampled seeds and choices."""
    drawn = random.integers(0, SEEDS, (400, SEEDS))
    means = [
        outcome[drawn, choose(loss[drawn])[:, None]].mean(axis=1)
        for loss, outcome in zip(losses, outcomes, strict=True)
    ]
    low, high = np.quantile(means[1] - means[0], [0.025, 0.975])
    return not low <= 0 <= high


def failing(random: Random, *, rate: float, equal_means: bool) -> dict[str, bool]:
    """Decide one comparison in which runs of the baseline alone fail, 20 below the others."""
    lost = random.random(SEEDS) < rate
    baseline = random.normal(size=SEEDS) + (20 * rate if equal_means else 0.0) - 20.0 * lost
    arm = random.normal(size=SEEDS)
    gaps = arm - baseline
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = gaps[random.integers(0, SEEDS, (400, SEEDS))] - gaps.mean()
        scores = resampled.mean(1) / resampled.std(1, ddof=1)
        score = gaps.mean() / gaps.std(ddof=1)
    ranks: Any = stats.wilcoxon(gaps)
    return {
        "mean of all pairs, sign flips": claims(baseline, arm),
        "mean of all pairs, bootstrap of t": bool(np.mean(np.abs(scores) >= abs(score)) < ALPHA),
        "Wilcoxon's signed ranks": bool(ranks.pvalue < ALPHA),
        "sign test": bool(stats.binomtest(int((gaps > 0).sum()), SEEDS).pvalue < ALPHA),
        "**how often runs fail**": below(exact_p(int(lost.sum()), 0)),
        "**where neither fails**": claims(baseline[~lost], arm[~lost]),
    }


def below(p: float | None) -> bool:
    """Return whether a p-value supports a claim at the first look."""
    return p is not None and p < alpha_of(1)


def racing(random: Random, n: int, ratio: float) -> dict[str, bool]:
    """Decide one comparison of two arms' speed: in a ladder of four targets, and primary."""
    pairs = math.log(ratio) + random.normal(0, 0.25, (2, n))  # of logarithms of ratios
    found = []
    for logs in pairs:
        targets = logs + random.normal(0, 0.1, (4, n))
        targets[2] = logs  # the 90 % target
        found.append([speed_up([Race(x, x, x) for x in row]) for row in targets.tolist()])
    ladder = holm([one.p for rungs in found for one in rungs])
    alone = holm([rungs[2].p for rungs in found])

    def claimed(arm: int, p: float | None) -> bool:
        return supported(n, found[arm][2].interval, p)

    return {
        "one of four targets, corrected over all": claimed(0, ladder[2]),
        "**primary, corrected over arms**": claimed(0, alone[0]),
    }


def looking(random: Random, looks: tuple[int, ...]) -> dict[str, bool]:
    """Add seeds to a comparison of equal arms until something is claimed."""
    gaps = random.normal(size=max(looks))
    said = {"looked at once": False, "each look as if it were the first": False}
    said["**each look spends its part**"] = False
    for number, n in enumerate(looks, start=1):
        zero = dict.fromkeys(range(n), 0.0)
        values = dict(enumerate(gaps[:n].tolist()))
        for name, look in zip(said, (1, 1, number), strict=True):
            (found,) = claim(zero, [values], higher_is_better=True, look=look)
            said[name] |= found.supported and (name != "looked at once" or number == 1)
    return said


def testing(random: Random, examples: int, apart: float) -> dict[str, bool]:
    """Tell which interval misses 0, where arms are equal over all examples that there could be.

    Args:
        random: Where numbers come from.
        examples: How many are in the test set.
        apart: Standard deviation of how much an example suits one arm more, in log odds.
    """
    easy, suits = random.normal(2.5, 2, examples), random.normal(0, apart, examples)
    luck = random.normal(0, 0.3, (2, SEEDS, 1))
    odds = [easy + side * suits / 2 + luck[arm] for arm, side in ((0, -1), (1, 1))]
    right = [random.random((SEEDS, examples)) < 1 / (1 + np.exp(-odds[arm])) for arm in (0, 1)]
    gains = right[1].astype(float) - right[0]
    intervals = {
        "paired t over seeds": paired_t_interval(gains.mean(1)),
        "**seeds and examples**": crossed_interval(gains),
    }
    return {name: ends is None or not ends[0] <= 0 <= ends[1] for name, ends in intervals.items()}


def learned(inputs: Array, labels: Array, features: Array) -> Callable[..., Array]:
    """Return what one arm's seeds get right, by which rows are to learn from and which the test.

    A seed is a set of random features, on which a ridge regression learns the labels.

    Args:
        inputs: (n, 6).
        labels: 1 or -1, (n,).
        features: Every seed's, (S, 6, 8).
    """
    hidden = np.maximum(np.einsum("np,spq->snq", inputs, features), 0)

    def right(train: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
        known = hidden[:, train]
        gram = np.einsum("snq,snr->sqr", known, known) + np.eye(known.shape[2])
        moments = np.einsum("snq,n->sq", known, labels[train])
        weights = np.linalg.solve(gram, moments[..., None])[..., 0]
        answers = np.einsum("snq,sq->sn", hidden[:, test], weights) > 0
        return (answers == (labels[test] > 0)).mean(axis=1)

    return right


def splitting(
    random: Random, n: int, *, splits: int, fresh: bool = False, gain: float = 0.0
) -> dict[str, bool]:
    """Decide one comparison of two learners that see different, equally good inputs.

    On the same examples one of them is better by luck; on other data of the same kind it is not.

    Args:
        random: Where numbers come from.
        n: How many examples there are; a fifth of them is the test, 16 % are validation.
        splits: On how many splits each of seven seeds is run.
        fresh: Whether every split has examples of its own.
        gain: Added to what the second gets right.
    """
    features = random.normal(size=(2, 7, 6, 8))
    gains = np.empty((7, splits))
    arms: list[Callable[..., Array]] = []
    for split in range(splits):
        if fresh or not split:
            labels = random.choice([-1.0, 1.0], n)
            inputs = random.normal(size=(2, n, 6)) + 0.35 * labels[:, None]
            arms = [learned(inputs[arm], labels, features[arm]) for arm in (0, 1)]
        order, test, rest = random.permutation(n), round(0.2 * n), round(0.36 * n)
        first, second = (right(order[rest:], order[:test]) for right in arms)
        gains[:, split] = second - first + gain
    seeds, means, correction = gains.mean(1), gains.mean(0), 0.0 if fresh else 0.25
    error = math.sqrt(means.var(ddof=1) * (1 / splits + correction))
    judged = [lambda places, level: judge(gains[[*places]], correction, level)]
    zero = dict.fromkeys(range(7), 0.0)
    (found,) = claim(zero, [dict(enumerate(seeds.tolist()))], higher_is_better=True, judges=judged)
    every: Any = stats.ttest_1samp(gains.ravel(), 0)
    alone: Any = stats.ttest_1samp(means, 0)
    return {
        "seeds of one split": claims(np.zeros(7), gains[:, 0]),
        "seeds, each a mean over splits": claims(np.zeros(7), seeds),
        "every pair for itself": below(every.pvalue),
        "splits as if independent": below(alone.pvalue),
        "splits, corrected": bool(
            2 * stats.t.sf(abs(means.mean()) / error, splits - 1) < alpha_of(1)
        ),
        "**seeds and splits, corrected**": found.supported,
    }


def cells() -> dict[str, dict[str, Trial]]:
    """Return every table, its rows, and how one comparison of a row is simulated."""
    level: dict[str, Trial] = {
        f"identical, {curve}": partial(choosing, curve=curve)
        for curve in CURVES
        if curve not in ELSEWHERE
    }
    level |= {
        f"best rate elsewhere, {curve}": partial(choosing, curve=curve, moved=True)
        for curve in ("sloped", "peaked", "stuck seeds", "unlike")
    }
    level["twice the noise, sloped"] = partial(choosing, curve="sloped", noise=2.0)
    power: dict[str, Trial] = {
        f"better by 1, {curve}": partial(choosing, curve=curve, better=1.0)
        for curve in CURVES
        if curve not in ELSEWHERE
    }
    power["better by 3, best rate elsewhere, unlike"] = partial(
        choosing, curve="unlike", better=3.0, moved=True
    )
    return {
        "Claims where there is no difference at the best rates": level,
        "Claims where there is one": power,
        "Runs of the baseline fail": {
            "10 % fail, equal means": partial(failing, rate=0.1, equal_means=True),
            "10 % fail, the others equal": partial(failing, rate=0.1, equal_means=False),
            "40 % fail, the others equal": partial(failing, rate=0.4, equal_means=False),
        },
        "A speed-up to 90 %, two arms": {
            "1.35x, 7 seeds": partial(racing, n=7, ratio=1.35),
            "1.35x, 10 seeds": partial(racing, n=10, ratio=1.35),
            "none, 10 seeds": partial(racing, n=10, ratio=1.0),
        },
        "Intervals without 0, equal arms": {
            f"{examples} examples, {words}": partial(testing, examples=examples, apart=apart)
            for examples in (50, 370, 1000)
            for words, apart in (("alike", 0.0), ("suit one arm", 1.5))
        },
        "Equal arms on several splits": {
            "300 examples, 5 splits": partial(splitting, n=300, splits=5),
            "1,500 examples, 5 splits": partial(splitting, n=1500, splits=5),
            "300 examples, 10 splits": partial(splitting, n=300, splits=10),
            "new data in each of 5": partial(splitting, n=240, splits=5, fresh=True),
        },
        "An arm that is better by 5 points": {
            "300 examples, 5 splits": partial(splitting, n=300, splits=5, gain=0.05),
            "1,500 examples, 5 splits": partial(splitting, n=1500, splits=5, gain=0.05),
            "1,500 examples, 10 splits": partial(splitting, n=1500, splits=10, gain=0.05),
            "new data in each of 5": partial(splitting, n=240, splits=5, fresh=True, gain=0.05),
        },
        "Equal arms, looked at again and again": {
            f"{', '.join(map(str, looks))} seeds": partial(looking, looks=looks)
            for looks in ((7, 10), (7, 10, 15, 20))
        },
    }


def simulate(trial: Trial, trials: int, name: str) -> dict[str, float]:
    """Return each procedure's share of claims."""
    random = np.random.default_rng(list(name.encode()))
    rows = [trial(random) for _ in range(trials)]
    return {key: sum(row[key] for row in rows) / trials for key in rows[0]}


def markdown(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table: situations in columns, procedures in rows."""
    lines = [f"| {title} | {' | '.join(rows)} |", "| --- " * (len(rows) + 1) + "|"]
    for name in next(iter(rows.values())):
        shares = " | ".join(f"{row[name]:.3f}" for row in rows.values())
        lines += [f"| {name} | {shares} |"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate what is not known yet, and print every table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000, help="comparisons in each cell")
    parser.add_argument("--keep", type=Path, help="a file that keeps what was simulated")
    arguments = parser.parse_args()
    known: dict[str, dict[str, float]] = {}
    if arguments.keep and arguments.keep.exists():
        known = json.loads(arguments.keep.read_text())
    print(f"{arguments.trials} comparisons in each cell, {SEEDS} seeds unless said otherwise.\n")
    for title, rows in cells().items():
        found = {}
        for name, trial in rows.items():
            key = f"{title}, {name}, {arguments.trials}"
            if key not in known:
                known[key] = simulate(trial, arguments.trials, key)
                if arguments.keep:
                    replace_text(arguments.keep, json.dumps(known, indent=1) + "\n")
            found[name] = known[key]
        print(markdown(title, found), flush=True)


if __name__ == "__main__":
    main()
