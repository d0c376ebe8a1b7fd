"""The script that corrects over all of docs/results.md reads all of it."""

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import results_page  # pyright: ignore[reportMissingImports]

    return results_page


def test_no_table_is_passed_over(page: Any) -> None:
    """What the page says of all of them is tested in tests/docs/test_results.py."""
    text = page.PAGE.read_text()
    tests = page.differences(text)
    assert all(test.low <= test.value <= test.high for test in tests)
    assert len(tests) == text.count("] | 0.") + text.count("] | 1.0000")


def test_the_procedure_is_that_of_benjamini_and_hochberg(page: Any) -> None:
    """The first example of their paper (1995, section 4): of 15 p-values, four are rejected."""
    p = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
        *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
    ]
    tests = [page.Difference("", str(i), "", 1.0, 0.0, 2.0, v, True, i, v) for i, v in enumerate(p)]
    assert [test.alone for test in page.left_over(tests[::-1])] == p[:4]
    assert page.left_over(tests[9:]) == []
    tests[1] = tests[1]._replace(bold=False)
    assert [test.alone for test in page.left_over(tests)] == [p[0], *p[2:4]]


def test_p_values_before_holms_correction(page: Any) -> None:
    from lnrnn.comparison.statistics import holm

    for p in ([0.01, 0.03, 0.02], [0.001, 0.04, 0.04, 0.5], [0.02]):
        corrected = [value for value in holm(p) if value is not None]
        family = [
            page.Difference("", str(i), "", 0, 0, 0, v, True) for i, v in enumerate(corrected)
        ]
        found = {int(test.arm): test.alone for test in page._before_holm(family)}
        assert all(found[i] >= value - 1e-12 for i, value in enumerate(p))
        assert found[p.index(min(p))] == pytest.approx(min(p))


def test_every_panel_of_the_figure_has_its_table(page: Any, tmp_path: Path) -> None:
    tests = page.differences(page.PAGE.read_text())
    for section in page.PANELS:
        for outcome in ("test ", "mean validation"):
            assert any(t.section == section and t.outcome.startswith(outcome) for t in tests)
    page.draw(tests, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
