"""The second source of luck: which examples happen to be in the test set.

Pairs of seeds say how far a difference would move if both arms were trained again, and tested on
the same examples. Where runs recorded which of them they classified rightly, there is an interval
for other examples from the same source, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lnrnn.comparison.records import Run
from lnrnn.comparison.splits import is_several
from lnrnn.comparison.statistics import LEVEL, crossed_error


def compare_examples(
    baseline: Sequence[Run], arm: Sequence[Run], level: float = LEVEL
) -> dict[str, Any] | None:
    """Return the entry ``"examples"`` of a pair: the difference, over other test sets as well.

    Args:
        baseline: The baseline's readable runs.
        arm: The arm's.
        level: Coverage of the interval.

    Returns:
        How many examples there are, and the interval of the difference in accuracy when seeds and
        examples are both drawn anew (None below two pairs). None if fewer than two examples, or not
        the same number in all, were recorded: regressions and language models record none. None
        for several splits, whose own interval is for other examples, too.
    """
    if is_several([*baseline, *arm]):
        return None
    first, second = ({run.seed: run.test_correct for run in runs} for runs in (baseline, arm))
    both = sorted(seed for seed in first.keys() & second.keys() if first[seed] and second[seed])
    sizes = {len(table[seed]) for table in (first, second) for seed in both}
    if len(sizes) != 1 or min(sizes) < 2:
        return None
    gains = np.array([second[seed] for seed in both], dtype=np.float64)
    gains -= np.array([first[seed] for seed in both], dtype=np.float64)  # (pairs, examples)
    interval = crossed_interval(gains, level)
    return {
        "n": gains.shape[1],
        "pairs": len(both),
        "interval": None if interval is None else list(interval),
    }


def crossed_interval(
    gains: NDArray[np.float64], level: float = LEVEL
) -> tuple[float, float] | None:
    """Return the interval of the mean of a table whose rows and columns are both samples.

    Quantiles are those of t with as many degrees as rows less one, so the interval holds the
    paired-t one over seeds, which is what it is where examples do not vary.

    Args:
        gains: Arm minus baseline, (pairs, examples).
        level: Coverage.

    Returns:
        The interval (low, high); None below two pairs or examples.
    """
    pairs, examples = gains.shape
    if min(pairs, examples) < 2:
        return None
    mean = float(gains.mean())
    half = float(stats.t.ppf((1 + level) / 2, pairs - 1)) * crossed_error(gains)
    return mean - half, mean + half


def check_examples(titles: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warn of claims that hold over seeds, and perhaps not over other test examples.

    Args:
        titles: What each pair is called.
        pairs: The entries ``"pairs"`` of ``compare.json``.
    """
    found = []
    for title, pair in zip(titles, pairs, strict=True):
        examples = pair["examples"]
        if not pair["supported"] or not examples or not examples["interval"]:
            continue
        low, high = examples["interval"]
        if low <= 0 <= high:
            found.append(
                f"{title}: supported over seeds on these {examples['n']} test examples alone; with "
                f"examples drawn anew as well, the {100 * pair['level']:.4g} % interval of the "
                "difference includes zero "
                f"({low:+.4f} to {high:+.4f}), so on another test set it may be gone"
            )
    return found
