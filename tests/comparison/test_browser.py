"""The page as a real browser shows it: by day, by night, on a phone, and with hostile names."""

import io
import os
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from comparison.browser import NAMES, Browser, find_browser, open_browser
from comparison.sample import sample_result, sample_runs
from comparison.test_html import EVIL

from lnrnn.comparison.html import page
from lnrnn.comparison.plots import draw

EXECUTABLE = find_browser()
PHONE, DESK = 360, 1200
PAPER = 718  # A4 within its margins
# What sticks out of the window, unless it lies in a box of its own that scrolls.
OUTSIDE = """[...document.querySelectorAll("body *")].filter(element =>
  element.getBoundingClientRect().right > document.documentElement.clientWidth + 1 &&
  !element.closest(".scroll")).map(element => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if EXECUTABLE is None:
        reason = f"no browser is installed: {', '.join(NAMES)}"
        # Continuous integration installs one (.ci/run); elsewhere people may do without.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with open_browser(EXECUTABLE, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    runs = sample_runs()
    result = sample_result(runs)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(result, draw(result, runs)), encoding="utf-8")
    return path


def pixels(browser: Browser) -> np.ndarray:
    """Return what the window shows, (height, width, 3), 0 to 1."""
    image = matplotlib.image.imread(io.BytesIO(browser.screenshot(whole=False)), format="png")
    return np.asarray(image)[..., :3]


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_silent_alone_and_inside_the_window(browser, report, width, scheme):
    browser.open(report, width=width, scheme=scheme)
    assert browser.complaints == []
    assert browser.requests == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(OUTSIDE) == []
    titles = browser.evaluate("[...document.querySelectorAll('h1, h2')].map(h => h.innerText)")
    assert titles[:2] == ["lstm_ln, lstm_lncell against lstm", "Verdict"]
    assert len(titles) == 13


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_figures_have_a_size_and_text_is_not_cut(browser, report, width):
    browser.open(report, width=width)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) == 13
    assert all(across >= min(500, 0.8 * width) and up >= 60 for across, up in sizes)
    cut = browser.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, p, dt, dd, li, figcaption, td, th')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline')"
        ".map(e => e.innerText)"
    )
    assert cut == []


def test_on_a_phone_figures_shrink_and_tables_scroll_in_their_own_box(browser, report):
    browser.open(report, width=PHONE)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert browser.evaluate("document.querySelectorAll('.scroll svg').length") == 0
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth, "
        "getComputedStyle(b).overflowX, b.tabIndex])"
    )
    assert len(boxes) == 4
    assert any(inner > outer for inner, outer, *_ in boxes)
    assert all(outer <= PHONE and rule == "auto" for _, outer, rule, _ in boxes)
    assert all(index == 0 for *_, index in boxes)  # reached by the keyboard
    size = browser.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)")
    assert size >= 16
    shown = browser.evaluate("getComputedStyle(document.querySelector('.names')).display")
    assert shown == "flex"


def test_day_and_night_differ_and_drawings_follow(browser, report):
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(report, width=DESK, scheme=scheme)
        fills = browser.evaluate(
            "[...new Set([...document.querySelectorAll('svg *')]"
            ".map(e => getComputedStyle(e).stroke))]"
        )
        seen[scheme] = (pixels(browser), set(fills))
    (day, strokes_by_day), (night, strokes_by_night) = seen["light"], seen["dark"]
    assert np.median(day) > 0.9
    assert np.median(night) < 0.2
    assert "rgb(0, 114, 178)" in strokes_by_day - strokes_by_night
    assert len(strokes_by_night) >= 4
    assert day.std() > 0.02
    assert night.std() > 0.02


def test_a_printed_page_is_light_and_shows_everything(browser, report):
    browser.open(report, width=PAPER, scheme="dark")
    browser.command("Emulation.setEmulatedMedia", media="print",
                    features=[{"name": "prefers-color-scheme", "value": "dark"}])  # fmt: skip
    color = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert color == "rgb(255, 255, 255)"
    rules = browser.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => getComputedStyle(b).overflowX)"
    )
    assert set(rules) == {"visible"}
    full = "[...document.querySelectorAll('details > p')].every(p => p.checkVisibility())"
    assert browser.evaluate(full)
    assert browser.evaluate(OUTSIDE) == []
    browser.command("Emulation.setEmulatedMedia", media="")
    assert len(browser.command("Page.printToPDF")["data"]) > 100_000


def test_hostile_names_are_shown_and_do_nothing(browser, tmp_path):
    runs = sample_runs(("lstm", EVIL), seeds=2)
    runs[EVIL][0] = replace(runs[EVIL][0], status="failed", error=EVIL, diagnosis=EVIL)
    result = sample_result(runs, whole=False)
    path = tmp_path / "report.html"
    path.write_text(page(result, draw(result, runs)), encoding="utf-8")
    browser.open(path, width=PHONE)
    assert browser.complaints == []
    assert browser.requests == []
    assert not [e for e in browser.events if e["method"] == "Page.javascriptDialogOpening"]
    assert browser.evaluate("document.querySelectorAll('script, img, [onerror]').length") == 0
    assert browser.evaluate("document.querySelector('h1').textContent") == f"{EVIL} against lstm"
    assert browser.evaluate("document.documentElement.scrollWidth") == PHONE
    assert browser.evaluate(OUTSIDE) == []


def test_the_checks_notice_what_they_are_for(browser, report, tmp_path):
    bad = report.read_text(encoding="utf-8").replace(
        "<main>",
        '<main><div style="width:2000px">wide</div><script>1</script><img src="http://127.0.0.1:9/x">',
    )
    path = tmp_path / "bad.html"
    path.write_text(bad, encoding="utf-8")
    browser.open(path, width=PHONE)
    assert any("wide" in found for found in browser.evaluate(OUTSIDE))
    assert any("script" in found.lower() for found in browser.complaints)
    loose = bad.replace("Content-Security-Policy", "nothing")
    path.write_text(loose, encoding="utf-8")
    browser.open(path, width=PHONE)
    assert browser.requests == ["http://127.0.0.1:9/x"]
