"""The second source of luck where data can be split again: which examples are the test.

Every seed is run on every split, in all arms. The pairs make a table of gains, seeds by splits,
whose mean varies with both. Where every split has data of its own, splits are independent. Where
all of them share out the same examples, what two of them learn from overlaps, and so do their
tests: then their means differ less than those of independent splits would, and the variance between
splits is taken for more than it looks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lnrnn.comparison.records import Run, Unreadable
from lnrnn.comparison.statistics import LEVEL, crossed_error
from lnrnn.comparison.tuning import Measure

Array = NDArray[np.float64]


class Crossed(NamedTuple):
    """What a table of gains says of its mean, for other seeds and other splits.

    Args:
        interval: The interval (low, high).
        p: Two-sided; None where every gain is zero.
        splits: How many there are.
    """

    interval: tuple[float, float]
    p: float | None
    splits: int


Judge = Callable[[Sequence[int], float], Crossed | None]
"""Returns what the gains of some seeds say, at a level of the interval."""


def overlap(run: Run) -> float:
    """Return what the variance between splits lacks for a mean over them: 0 for data made anew.

    Two random splits of the same examples have gains with a correlation r of about the test's share
    of all. The mean of k of them has a variance of (1/k + r/(1 - r)) times what is seen between
    them, and r/(1 - r) is the size of the test over that of the rest.

    Args:
        run: Any of the runs.

    Reference:
        Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52 (2003).
    """
    if run.split_fresh:
        return 0.0
    test = run.split_sizes.get("test", 0)
    rest = run.split_sizes.get("train", 0) + run.split_sizes.get("validation", 0)
    return test / rest if rest else 0.0


def judge(gains: Array, correction: float, level: float = LEVEL) -> Crossed | None:
    """Return the interval of the mean of a table whose rows and columns are both samples.

    The test and the interval are those of t, with as many degrees as the smaller number of rows and
    columns less one.

    Args:
        gains: Arm minus baseline, (seeds, splits).
        correction: As ``overlap`` has it.
        level: Coverage of the interval.

    Returns:
        None below two rows or columns.
    """
    seeds, splits = gains.shape
    if min(seeds, splits) < 2:
        return None
    mean = float(gains.mean())
    error, degrees = crossed_error(gains, correction), min(seeds, splits) - 1
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * error
    p = None
    if gains.any():
        p = float(2 * stats.t.sf(abs(mean) / error, degrees)) if error else float(mean == 0)
    return Crossed((mean - half, mean + half), p, splits)


class SplitPair:
    """Two arms whose every seed was run on several splits.

    Args:
        baseline: The baseline's readable runs.
        arm: The arm's.
    """

    def __init__(self, baseline: Sequence[Run], arm: Sequence[Run]) -> None:
        self._runs = [{run.pair: run for run in runs} for runs in (baseline, arm)]
        self.splits = sorted({split for pairs in self._runs for _, split in pairs})
        self.correction = overlap(next(iter(baseline)))

    def gains(self, measure: Measure, seeds: Sequence[int]) -> Array:
        """Return an outcome of the arm minus that of the baseline, (seeds, splits).

        Args:
            measure: The outcome, which all these runs have.
            seeds: Seeds with a result on every split in both arms.
        """
        first, second = (
            [[measure(runs[seed, split]) for split in self.splits] for seed in seeds]
            for runs in self._runs
        )
        return np.array(second, dtype=np.float64) - np.array(first, dtype=np.float64)

    def judge(self, measure: Measure, seeds: Sequence[int], level: float) -> Crossed | None:
        """Return what some seeds say about an outcome, as :func:`judge`."""
        return judge(self.gains(measure, seeds), self.correction, level) if seeds else None


def check_splits(arms: Mapping[str, Sequence[Run]]) -> None:
    """Raise ValueError if arms were not run on the same splits."""
    (first, base), *others = arms.items()
    asked = {run.split for run in base}
    for name, runs in others:
        if runs and base and {run.split for run in runs} != asked:
            listed = [_listed({run.split for run in members}) for members in (base, runs)]
            raise ValueError(
                "the arms of a comparison share their splits (the seed that chooses the test), but "
                f"{first} has {listed[0]} and {name} has {listed[1]}"
            )


def on_shared_splits(
    arms: Mapping[str, Sequence[Run | Unreadable]],
) -> tuple[dict[str, list[Run | Unreadable]], list[str]]:
    """Leave out splits on which all runs of an arm are missing, and say so.

    An arm of which every run can be read is as it was meant to be, and nothing is left out for it.

    Args:
        arms: All runs of every arm.

    Returns:
        The runs that are compared, and warnings.
    """
    asked = {run.split for runs in arms.values() for run in runs if isinstance(run, Run)}
    lacking = {}
    for name, runs in arms.items():
        there = {run.split for run in runs if isinstance(run, Run)}
        if there and len(there) < len(asked) and any(isinstance(run, Unreadable) for run in runs):
            lacking[name] = asked - there
    left_out = set().union(*lacking.values())
    warnings = [
        f"{name} has no run that can be read on some splits ({_listed(splits)}), so no arm is "
        "compared on them"
        for name, splits in lacking.items()
    ]
    kept = {
        name: [run for run in runs if isinstance(run, Unreadable) or run.split not in left_out]
        for name, runs in arms.items()
    }
    return kept, warnings


def check_data(runs: Sequence[Run]) -> list[str]:
    """Say if runs on one split saw different data, or runs on two splits the same.

    Args:
        runs: Every readable run of every arm.
    """
    seen: dict[int | None, set[str | None]] = {}
    for run in runs:
        seen.setdefault(run.split, set()).add(run.data_fingerprint)
    if any(len(prints) > 1 for prints in seen.values()):
        return ["the runs saw different data: their data fingerprints differ"]
    if len(set.union(*seen.values())) < len(seen):
        return [
            "several splits have the same data fingerprint, so they are one split counted several "
            "times, and intervals are too narrow"
        ]
    return []


def check_sources(name: str, runs: Sequence[Run]) -> list[str]:
    """Say if an arm starts with trained weights that may have seen tests of other splits.

    Args:
        name: The arm.
        runs: Its readable runs.
    """
    shared = [run for run in runs if run.split is not None and not run.split_fresh]
    sources = sorted({run.init_from for run in shared if run.init_from is not None})
    if not sources or len({run.split for run in shared}) < 2:
        return []
    return [
        f"{name}: its runs on all splits start with the weights of {', '.join(sources)}. If these "
        "were trained on any of the same examples, they have seen some that are tests here, and "
        "the results flatter the arm"
    ]


def describe_splits(
    pair: SplitPair | None, measure: Measure, seeds: Sequence[int]
) -> dict[str, Any] | None:
    """Return the entry ``"splits"`` of a pair in ``compare.json``; None where there is one split.

    Args:
        pair: The two arms.
        measure: The outcome.
        seeds: Seeds with a result on every split in both arms.
    """
    if pair is None:
        return None
    gains = pair.gains(measure, seeds) if seeds else np.empty((0, len(pair.splits)))
    means = gains.mean(0).tolist() if len(gains) else [None] * len(pair.splits)
    return {
        "n": len(pair.splits),
        "seeds": [*pair.splits],
        "differences": means,
        "correction": pair.correction,
    }


def is_several(runs: Sequence[Run | Unreadable]) -> bool:
    """Return whether runs are on more than one split."""
    return len({run.split for run in runs if isinstance(run, Run)}) > 1


def _listed(splits: set[int | None]) -> str:
    return ", ".join(sorted("an unknown one" if split is None else str(split) for split in splits))
