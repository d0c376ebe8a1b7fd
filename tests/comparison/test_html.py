"""The page: what it shows, in which order, what it leaves out, and that nothing in it is alive."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from comparison.sample import COST, sample_result, sample_runs, sample_tuning
from comparison.test_plots import contrast

from lnrnn.comparison import Unreadable, compare, write
from lnrnn.comparison.cells import NOTHING, Cell
from lnrnn.comparison.html import page
from lnrnn.comparison.html_tables import ratio_interval, seconds, shown, times
from lnrnn.comparison.plots import draw
from lnrnn.comparison.wording import p_text, sentences

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> javascript:alert(3) {{ 7*7 }}"
SECTIONS = ["verdict", "warnings", "setup", "curves", "speed", "seeds", "numbers", "cost", "rates",
            "why", "validity", "reading"]  # fmt: skip


WITHOUT_CURVES = [s for s in SECTIONS if s not in ("curves", "speed", "rates", "why")]


class Page(HTMLParser):
    """What a browser would find: elements in order, and the text that is shown."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._hidden = "", False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        self.text += "" if self._hidden else data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str | None]:
        return [section["id"] for section in self.all("section")]


def render(runs, **more) -> str:
    result = compare(runs, **more)
    return page(result, draw(result, runs))


@pytest.fixture(scope="module")
def runs():
    return sample_runs()


@pytest.fixture(scope="module")
def result(runs):
    return sample_result(runs)


@pytest.fixture(scope="module")
def html(result, runs) -> str:
    return page(result, draw(result, runs))


@pytest.fixture(scope="module")
def parsed(html) -> Page:
    return Page(html)


def test_sections_come_in_the_readers_order(parsed):
    assert parsed.sections == SECTIONS
    links = [str(link["href"]) for link in parsed.all("a")]
    assert links[: len(SECTIONS)] == [f"#{name}" for name in SECTIONS]
    ids = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
    assert all(link[1:] in ids for link in links)


def test_every_figure_is_there_once_with_words_for_those_who_cannot_see_it(parsed, runs, result):
    figures = draw(result, runs)
    drawn = [box for box in parsed.all("div") if box.get("role") == "img"]
    assert len(drawn) == len(parsed.all("svg")) == len(figures) == 13
    assert all(any(c.isdigit() for c in box["aria-label"] or "") for box in drawn)
    assert all(svg["aria-hidden"] == "true" for svg in parsed.all("svg"))


def test_the_verdict_has_numbers_intervals_and_whether_they_are_supported(parsed, result):
    for pair in result["pairs"]:
        parts = {key: text for key, text in pair["verdict_parts"].items() if text}
        assert list(parts) == ["title", "at_end", "over_training", "speed", "primary", "tested"]
        assert parts.pop("primary") == "at_end"
        assert parts.pop("tested") == "last"
        assert parts.pop("title") == f"{pair['arm']} against lstm"
        assert all(text[1:] in parsed.text for text in parts.values())
    place = parsed.text.index("Verdict")
    assert place < parsed.text.index("test accuracy at the end") < parsed.text.index("Seed by seed")
    rung = next(rung for rung in result["pairs"][0]["speed"] if rung["share"] == 0.9)
    assert f"speed-up in steps to {rung['target']:.3g}" in parsed.text
    assert times(rung["seconds"]["ratio"]) in parsed.text
    assert ratio_interval(*rung["seconds"]["interval"]) in parsed.text


def test_numbers_are_those_of_the_terminal(parsed, result):
    digits = 4
    for pair in result["pairs"]:
        low, high = pair["interval"]
        shown = f"{pair['difference']:+.{digits}f}[{low:+.{digits}f}, {high:+.{digits}f}]"
        assert shown in parsed.text
        low, high = pair["bootstrap"]
        assert f"[{low:+.{digits}f}, {high:+.{digits}f}]" in parsed.text
        assert p_text(pair["best_difference"]["p_holm"]) in parsed.text
        assert f"{pair['probability_better']:.2f}" in parsed.text
    for arm in result["arms"]:
        assert f"{arm['mean']:.{digits}f} ± {arm['sd']:.{digits}f}" in parsed.text
        for run in arm["runs"]:
            assert f"{run['value']:.{digits}f}" in parsed.text
    for arm in COST["arms"]:
        assert seconds(arm["seconds_per_step"]) in parsed.text
        assert f"{arm['parameters']:,}" in parsed.text


def test_headings_go_down_one_level_at_a_time_and_tables_have_heads(parsed):
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table")) == 4
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("title")) == 1


def test_the_page_holds_nothing_that_loads_or_runs(html, parsed):
    policy = next(meta for meta in parsed.all("meta") if "http-equiv" in meta)
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert str(policy["content"]).startswith("default-src 'none'; ")
    assert "script" not in str(policy["content"])
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "input", "base", "img"}
    assert [link["href"] for link in parsed.all("link")] == ["data:,"]
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"' <]*", html)) <= {"http://www.w3.org/2000/svg"}


def test_what_runs_say_is_shown_and_never_understood():
    runs = sample_runs(("lstm", EVIL), seeds=2, monitor=False)
    first = runs["lstm"][0]
    runs["lstm"][0] = replace(first, status="failed", error=EVIL, diagnosis=EVIL, commit=EVIL,
                              versions={"torch": EVIL}, machine={EVIL: EVIL})  # fmt: skip
    arms = {**runs, "lstm": [*runs["lstm"], Unreadable(EVIL, EVIL)]}
    result = compare(arms, tuning=sample_tuning(("lstm", EVIL)))
    difference = {"arm": EVIL, "baseline_value": EVIL, "key": EVIL, "value": [EVIL, None]}
    result["validity"]["configuration_differences"] = [difference]
    parsed = Page(page(result, draw(result, runs)))
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"script", "img"}
    assert not [key for _, found in parsed.elements for key in found if key.startswith("on")]
    hrefs = [found["href"] for _, found in parsed.elements if "href" in found]
    assert all(str(href).startswith(("#", "data:,")) for href in hrefs)
    assert parsed.text.count(EVIL) > 12
    assert "49" not in re.findall(r"javascript:alert\(3\) (\S+)", parsed.text)
    assert "{{ 7*7 }}" in parsed.text


def test_sections_without_data_are_left_out():
    bare = sample_runs(monitor=False)
    assert Page(render(bare)).sections == [s for s in SECTIONS if s not in ("rates", "why")]
    pointless = sample_runs(points=0, monitor=False)
    assert Page(render(pointless)).sections == WITHOUT_CURVES
    alone = Page(render({"lstm": bare["lstm"]}))
    assert "There is one arm, and nothing to compare it with." in alone.text
    assert alone.all("h1")


def test_without_a_measured_cost_it_says_what_the_times_are_worth():
    parsed = Page(render(sample_runs(monitor=False)))
    assert "these times cannot be used to compare the arms" in parsed.text
    assert "speed-up in time" not in parsed.text


def test_one_seed_concludes_nothing():
    parsed = Page(render(sample_runs(seeds=1), cost=COST))
    assert "too few pairs to conclude" in parsed.text.lower()
    assert "not supported" in parsed.text
    assert parsed.sections == [name for name in SECTIONS if name != "rates"]


def test_when_every_run_of_an_arm_failed_the_page_says_so():
    runs = sample_runs(monitor=False)
    runs["lstm_ln"] = [
        replace(run, status="failed", error="the loss is nan at step 12", metrics={})
        for run in runs["lstm_ln"]
    ]
    parsed = Page(render(runs))
    assert "0 of 10" in parsed.text
    assert "the loss is nan at step 12" in parsed.text
    assert "cannot be compared" in parsed.text
    assert parsed.text.count("failed") >= 10
    everything = {name: [replace(run, status="failed", error="no", metrics={}, curves={})
                         for run in members] for name, members in runs.items()}  # fmt: skip
    nothing = Page(render(everything))
    assert nothing.sections == WITHOUT_CURVES


def test_validity_names_what_is_equal_and_what_failed(result):
    validity = {**result["validity"], "paired_initial_values": False, "checked_parameters": 3,
                "configuration_differences": [{"arm": "lstm_ln", "baseline_value": None,
                                               "key": "model.norm", "value": True}],
                "failed_runs": ["lstm: seed 3 failed"]}  # fmt: skip
    parsed = Page(page({**result, "validity": validity}, {}))
    assert "some of 3 shared parameters start from different values" in parsed.text
    assert "lstm_lnmodel.normnulltrue" in parsed.text.replace("\n", "")
    assert "lstm: seed 3 failed" in parsed.text
    assert result["commit"] in parsed.text
    assert f"torch {result['versions']['torch']}" in parsed.text
    assert all(warning in parsed.text for warning in result["warnings"])


@pytest.mark.parametrize(
    ("paired", "words"),
    [
        (True, "checked: data order and dropout stream are equal in every pair"),
        (False, "broken: data order or dropout stream differ"),
        (None, "unknown: a run did not record its data order"),
    ],
)
def test_validity_says_whether_the_pairs_share_their_streams(result, paired, words):
    validity = {**result["validity"], "paired_streams": paired}
    assert words in Page(page({**result, "validity": validity}, {})).text


def test_diagnoses_that_are_equal_are_said_once(parsed):
    assert parsed.text.count("64 steps back 1e-6 of it is left") == 1
    assert "(all 10 seeds)" in parsed.text


def test_a_diagnosis_is_not_taken_apart(result):
    said = [{"seed": 3, "text": "seed 4: a colon"}, {"seed": 5, "text": "fine: it is"}]
    arms = [{**arm, "diagnoses": said if place == 0 else []}
            for place, arm in enumerate(result["arms"])]  # fmt: skip
    parsed = Page(page({**result, "arms": arms}, {}))
    assert "seed 4: a colon (seed 3)" in parsed.text
    assert "fine: it is (seed 5)" in parsed.text


def test_a_verdict_needs_no_names_taken_from_it(result):
    """An arm's name may look like what stands between the parts of a verdict."""
    runs = sample_runs(("lstm", "a against lstm: b"), seeds=2, monitor=False)
    compared = compare(runs)
    (pair,) = compared["pairs"]
    assert pair["verdict"] == f"a against lstm: b against lstm: {sentences(pair['verdict_parts'])}"
    words = sentences(pair["verdict_parts"])
    assert f"<p>{words[0].upper()}{words[1:]}".replace("'", "&#39;") in page(compared, {})


def test_seeds_that_turn_a_claim_are_named(result):
    pairs = [{**result["pairs"][0], "fragile": [3]}, {**result["pairs"][1], "fragile": [1, 7]}]
    parsed = Page(page({**result, "pairs": pairs}, {}))
    assert "lstm_ln, test accuracy at the end: the answer changes without seed 3." in parsed.text
    assert "end: the answer changes without any one of the seeds 1, 7." in parsed.text
    assert "Claims that depend on single seeds" not in Page(page(result, {})).text


def test_equal_input_gives_equal_bytes_of_bearable_size(html):
    runs = sample_runs()
    result = sample_result(runs)
    assert page(result, draw(result, runs)) == html
    assert len(html.encode()) < 1_200_000
    long = sample_runs(points=2000)
    result = sample_result(long)
    assert len(page(result, draw(result, long)).encode()) < 2_000_000


def test_the_report_is_written_beside_the_numbers(tmp_path, runs, result, html):
    files = write(result, runs, tmp_path)
    assert files[-1] == tmp_path / "report.html"
    assert files[-1].read_text(encoding="utf-8") == html
    assert (tmp_path / "speed.png").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_colors(html, scheme):
    blocks = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", blocks[scheme == "dark"]))
    texts = ["ink", "faint", "yes", "link", *(f"text{place}" for place in range(7))]
    for paper in ("paper", "soft"):
        for name in texts:
            assert contrast(colors[name], colors[paper]) >= 4.5, (name, paper)
    if scheme == "dark":  # by day the lines have the colors of the figures, chosen to differ
        assert all(contrast(colors[f"line{k}"], colors["paper"]) >= 3 for k in range(7))


def test_numbers_that_are_not_there():
    kinds = ("ratio", "seconds", "ratio interval", "spread", "bytes", "count")
    assert {shown(Cell(kind, None)) for kind in kinds} == {NOTHING}
    assert (times(None), shown(None)) == (NOTHING, "")
    assert ratio_interval(None, 1.234) == "1.23 or less"
    assert [seconds(value) for value in (0.99, 1, 99.94, 100)] == ["990 ms", "1.00 s", "99.9 s",
                                                                   "100 s"]  # fmt: skip


def test_an_arm_with_itself_shows_no_difference():
    runs = sample_runs(("lstm",), monitor=False)["lstm"]
    parsed = Page(render({"lstm": runs, "lstm again": runs}, cost=None))
    assert "no difference" in parsed.text.lower()
    assert "1.00\N{MULTIPLICATION SIGN}[1.00, 1.00]" in parsed.text
    assert "+0.0000[+0.0000, +0.0000]" in parsed.text
