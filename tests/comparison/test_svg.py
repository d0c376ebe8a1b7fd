"""Drawings inside a page: inert, reproducible, in the page's colors, without the heading."""

import re
import xml.etree.ElementTree as ET

import pytest
from comparison.sample import sample_result, sample_runs
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lnrnn.comparison.plots import COLORS, draw
from lnrnn.comparison.plots.canvas import HEADING, INK, TEXT_COLORS, caption_of
from lnrnn.comparison.svg import DRAWN, inline_svg


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    runs = sample_runs(seeds=3)
    return draw(sample_result(runs), runs)


def test_drawings_hold_nothing_but_shapes(figures):
    for stem, figure in figures.items():
        text = inline_svg(figure, stem)
        root = ET.fromstring(text)
        assert {element.tag for element in root.iter()} <= set(DRAWN)
        assert not [key for element in root.iter() for key in element.attrib if key[:2] == "on"]
        assert all(not (element.text or element.tail or "").strip() for element in root.iter())
        assert "<!--" not in text
        references = re.findall(r'href="([^"]*)"', text)
        assert references
        assert all(reference.startswith("#") for reference in references)


def test_ids_are_the_figures_own_and_found(figures):
    for stem in ("speed", "pairs"):
        root = ET.fromstring(inline_svg(figures[stem], stem))
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(set(ids)) == len(ids)
        assert all(str(name).startswith(f"{stem}-") for name in ids)
        used = {str(element.get("href"))[1:] for element in root.iter() if element.get("href")}
        clipped = [element.get("clip-path", "") for element in root.iter()]
        clips = {found for value in clipped for found in re.findall(r"url\(#(.*)\)", value)}
        assert used | clips <= set(ids)
        assert clips


def test_known_colors_become_names_that_the_page_defines(figures):
    text = inline_svg(figures["learning_curves"], "x").lower()
    for place in range(3):
        assert f"var(--line{place})" in text
        assert f"var(--text{place})" in text
        assert COLORS[place].lower() not in text
        assert TEXT_COLORS[place].lower() not in text
    assert "var(--ink)" in text
    assert "var(--paper)" in text
    assert not re.findall(r"#[0-9a-f]{6}\b", text)
    other = Figure()
    other.add_artist(Line2D([0, 1], [0, 1], color="#123456"))
    assert "stroke: #123456" in inline_svg(other, "x")


def test_the_heading_is_left_to_the_page(figures):
    figure = figures["speed"]
    root = ET.fromstring(inline_svg(figure, "x"))
    width, height = (72 * size for size in figure.get_size_inches())
    box = [float(part) for part in root.get("viewBox", "").split()]
    assert box == pytest.approx([0, 72 * HEADING, width, height - 72 * HEADING], abs=1e-3)
    assert not [e for e in root.iter() if e.get("id") in ("x-headline", "x-notes")]
    assert caption_of(figure).headline == "How much faster than lstm"
    assert figure.texts[0].get_visible()  # the figure itself keeps it, for the PNG


def test_the_same_figure_gives_the_same_drawing(figures):
    runs = sample_runs(seeds=3)
    again = draw(sample_result(runs), runs)
    assert all(inline_svg(figures[stem], stem) == inline_svg(again[stem], stem) for stem in again)


def test_an_element_that_is_not_known_is_refused(figures, monkeypatch):
    monkeypatch.setattr("lnrnn.comparison.svg.DRAWN", ("svg", "g"))
    with pytest.raises(ValueError, match="a figure is drawn with svg, g, got "):
        inline_svg(figures["pairs"], "x")


def test_text_without_a_color_of_its_own_is_visible_at_night():
    figure = Figure()
    figure.text(0.5, 0.5, "x", color=INK)
    assert "fill: var(--ink)" in inline_svg(figure, "x")


def test_very_many_points_become_an_image_inside():
    runs = sample_runs(("lstm",), seeds=3, points=7000, monitor=False)
    drawing = inline_svg(draw(sample_result(runs, whole=False), runs)["learning_curves"], "x")
    assert 'href="data:image/png;base64,' in drawing
    assert len(drawing) < 1_000_000
