"""What docs/results.md says of all its claims together follows from its tables."""

import re
from pathlib import Path

import numpy as np
from scipy import stats

from lnrnn.comparison.statistics import holm

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
HEADINGS = ("test", "mean validation over training")


def rows_of(page):
    """Yield the family, whether it is bold, and the Holm p of every test on the page."""
    header, family = [], 0
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if "minus the first [95 %]" in cells:
            header = cells
        elif not cells:
            header = []
        elif header and cells[0].startswith("`"):
            family += not any(cells[k] for k, cell in enumerate(header) if cell == "Holm p")
            for place in [place for place, cell in enumerate(header) if cell == "Holm p"]:
                if cells[place]:
                    bold = cells[place - 2].startswith("**")
                    yield (family, place), bold, float(cells[place])


def before_holm(families, p):
    """Return the most that p-values can be before Holm's correction within families."""
    found = p.copy()
    for family in set(families):
        inside = np.array([other == family for other in families])
        greater = [(p[inside] > value).sum() for value in p]  # times one more, at least
        found = np.where(inside, p / (np.array(greater) + 1), found)
    return found


def test_the_page_says_what_is_left_after_a_correction_over_the_whole_page():
    page = PAGE.read_text(encoding="utf-8")
    rows = list(rows_of(page))
    bold = np.array([row[1] for row in rows])
    p = before_holm([row[0] for row in rows], np.array([row[2] for row in rows]))
    by_rate = stats.false_discovery_control(p) <= 0.05
    by_family = np.array(holm(p.tolist())) < 0.05
    found = re.search(
        r"(\d+) tests of differences,\s+(\d+) of them bold"
        r".*?Benjamini-Hochberg (\d+).*?Holm (\d+|none)",
        page,
        re.DOTALL,
    )
    assert found is not None
    said = [0 if word == "none" else int(word) for word in found.groups()]
    assert said == [len(p), bold.sum(), (bold & by_rate).sum(), (bold & by_family).sum()]
