"""Correct over all that docs/results.md prints, and draw the figure it begins with.

python scripts/results_page.py                                  what is left at 5 %
python scripts/results_page.py --figure docs/figures/results.png

Every difference of a table of arms counts as one test. Benjamini and Hochberg's procedure over all
of them decides which of the claims are left, by their p-values before Holm's correction within a
table: after it they would be corrected twice.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
RATE = 0.05  # share of false claims among the claims, at most, on average
DIFFERENCE = re.compile(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]")
PANELS = {  # section of the page to the panel's title, and whether more is better
    "Japanese vowels: speaker classification": ("Japanese vowels, accuracy", True),
    "Shakespeare: the next character": ("Shakespeare, bits per character", False),
    "Adding: remember two numbers of a sequence of 50": ("Adding, squared error", False),
    "MNIST-1D: one digit, 40 values": ("MNIST-1D, accuracy", True),
    "Digits by rows": ("Digits by rows, accuracy", True),
    "Digits pixel by pixel": ("Digits pixel by pixel, accuracy", True),
    "Digits with their pixels permuted": ("Digits with pixels permuted, accuracy", True),
}
COLORS = {"_ln": "#1f77b4", "_lncell": "#d95f02", "": "#555555"}
NORMS = {
    "_ln": "norm after the layer",
    "_lncell": "norm inside the step",
    "": "a transformer's norms",
}


class Difference(NamedTuple):
    """An arm minus the first of its table.

    Attributes:
        section: Heading above the table.
        arm: Its name.
        outcome: What is compared, as the table's column says.
        value: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: With Holm's correction within the table.
        bold: Whether the table's own rules call it supported.
        family: Number of the first arm that it is compared with.
        alone: The most that the p-value can be without that correction.
    """

    section: str
    arm: str
    outcome: str
    value: float
    low: float
    high: float
    p: float
    bold: bool
    family: int = 0
    alone: float = 1.0


def differences(text: str) -> list[Difference]:
    """Return what the tables of arms print."""
    families: dict[tuple[int, str], list[Difference]] = {}
    for test in _printed(text):
        families.setdefault((test.family, test.outcome), []).append(test)
    return [test for family in families.values() for test in _before_holm(family)]


def _before_holm(family: Sequence[Difference]) -> Iterator[Difference]:
    """Yield a family's tests with what Holm's procedure multiplied their p-values by taken out.

    It multiplies the smallest of m by m, the next by m - 1, and lets none be below one before it:
    so the quotient is the p-value or more. Of equal ones, each may have been the last.
    """
    for test in family:
        below = sum(other.p <= test.p for other in family) - 1
        yield test._replace(alone=test.p / (len(family) - below))


def _printed(text: str) -> Iterator[Difference]:
    section, head, family = "", [], 0
    for line in text.splitlines():
        if line.startswith("#"):
            section = line.strip("# ")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| arm |"):
            head = cells
        elif not line.startswith("|"):
            head = []
        elif len(cells) == len(head):
            family += not DIFFERENCE.search(line)  # the first arm of one
            for place, name in enumerate(head):
                found = DIFFERENCE.fullmatch(cells[place])
                if name.startswith("minus the first") and found and cells[place + 1]:
                    value, low, high = map(float, found.groups())
                    p, bold = float(cells[place + 1]), cells[place - 1].startswith("**")
                    outcome = head[place - 1]
                    arm = cells[0].strip("`")
                    yield Difference(section, arm, outcome, value, low, high, p, bold, family)


def left_over(tests: Sequence[Difference], rate: float = RATE) -> list[Difference]:
    """Return the claims that Benjamini and Hochberg's procedure leaves, the smallest p first."""
    ordered = sorted(tests, key=lambda test: test.alone)
    passing = [i for i, test in enumerate(ordered, 1) if test.alone <= rate * i / len(ordered)]
    return [test for test in ordered[: max(passing, default=0)] if test.bold]


def draw(tests: Sequence[Difference], path: Path) -> None:
    """Draw the differences of the panels, in the direction in which a norm is better."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    left = {id(test) for test in left_over(tests)}
    columns = {"test ": "At the end, on the test", "mean validation": "Over training, validation"}
    arms = {section: len({t.arm for t in tests if t.section == section}) for section in PANELS}
    heights = [arms[section] + 3 for section in PANELS]  # three for titles and numbers
    figure, axes = plt.subplots(
        len(PANELS),
        len(columns),
        figsize=(9, 0.22 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    for row, (section, (title, more)) in enumerate(PANELS.items()):
        for column, (outcome, head) in enumerate(columns.items()):
            ax = axes[row, column]
            chosen = [t for t in tests if t.section == section and t.outcome.startswith(outcome)]
            for place, test in enumerate(chosen):
                sign = 1 if more else -1
                suffix = next(s for s in ("_lncell", "_ln", "") if test.arm.endswith(s))
                ends = sorted((sign * test.low, sign * test.high))
                ax.plot(ends, [place, place], color=COLORS[suffix], lw=1.5)
                face = COLORS[suffix] if id(test) in left else "white"
                ax.plot(sign * test.value, place, "o", color=COLORS[suffix], mfc=face, ms=5)
            ax.set_xlabel("← worse     better →", fontsize=8)
            ax.axvline(0, color="black", lw=0.8)
            names = [test.arm if column == 0 else "" for test in chosen]
            ax.set_yticks(range(len(chosen)), names, fontsize=8)
            ax.set_ylim(len(chosen) - 0.4, -0.6)
            ax.tick_params(axis="x", labelsize=8)
            ax.set_title(title if column == 0 else "", fontsize=9, loc="left")
            if "squared error" in title:
                ax.set_xscale("symlog", linthresh=1e-3 if column == 0 else 1e-2)
            if row == 0:
                ax.annotate(head, (0.5, 1.22), xycoords="axes fraction", ha="center", fontsize=10)
    marks = [
        Line2D([], [], color=COLORS[suffix], marker="o", label=label)
        for suffix, label in NORMS.items()
    ]
    marks.append(
        Line2D([], [], color="black", marker="o", mfc="white", lw=0, label="gone after correction")
    )
    figure.legend(handles=marks, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print what is left, and draw it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path, help="a PNG to write")
    options = parser.parse_args()
    tests = differences(PAGE.read_text())
    left = left_over(tests)
    print(f"{len(tests)} tests, {sum(test.bold for test in tests)} bold, {len(left)} left")
    for test in left:
        print(f"{test.section}: {test.arm}, {test.outcome}, {test.value:+g}, p {test.alone:.2g}")
    if options.figure:
        draw(tests, options.figure)


if __name__ == "__main__":
    main()
