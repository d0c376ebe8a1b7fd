"""Figures as SVG inside a page: inert, the same bytes every time, in the page's colors."""

import io
import re
import xml.etree.ElementTree as ET

from matplotlib import rc_context
from matplotlib.figure import Figure

from lnrnn.comparison.plots.canvas import (
    COLORS,
    FAINT,
    GRID,
    HEADING,
    INK,
    PAPER,
    TEXT_COLORS,
    Caption,
)

SVG, HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
POINTS = 72  # to the inch
SCREEN = 1.5  # pixels a point at most: text of 10 points is then as large as a page's
DRAWN = ("svg", "g", "defs", "clipPath", "path", "rect", "use", "image")
LONG = re.compile(r"\d+\.\d{3,}")
HEX = re.compile(r"#[0-9a-f]{6}\b")
# The page gives these names a color, one by day and one by night.
NAMES = {
    **{color.lower(): f"--line{place}" for place, color in enumerate(COLORS)},
    **{color.lower(): f"--text{place}" for place, color in enumerate(TEXT_COLORS)},
    INK.lower(): "--ink",
    FAINT.lower(): "--faint",
    GRID.lower(): "--rule",
    PAPER.lower(): "--paper",
}


def inline_svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``svg`` element, without its heading, which the page sets as text.

    Text is drawn as outlines, so that it looks alike where matplotlib's fonts are not installed.

    Args:
        figure: What to draw.
        name: Put before every id in it, so that figures on one page do not meet.

    Raises:
        ValueError: If matplotlib drew with an element that is not known to be inert.
    """
    buffer = io.BytesIO()
    # A fixed salt and no date: matplotlib's ids are hashes, and would be random otherwise.
    with rc_context({"svg.hashsalt": "lnrnn", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="none")
    root = ET.fromstring(buffer.getvalue())
    _prune(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if element.tag not in DRAWN:
            raise ValueError(f"a figure is drawn with {', '.join(DRAWN)}, got {element.tag}")
        element.attrib = {_plain(key): _rewrite(key, value, name) for key, value in element.items()}
        element.text = element.tail = None  # white space: text is drawn as outlines
    _crop(root)
    return ET.tostring(root, encoding="unicode")


def _prune(root: ET.Element) -> None:
    """Take out the heading, and what draws nothing."""
    useless = {f"{SVG}{tag}" for tag in ("metadata", "style", "title")}
    for parent in root.iter():
        for child in list(parent):
            if child.tag in useless or child.get("id") in Caption._fields:
                parent.remove(child)


def _plain(key: str) -> str:
    return "href" if key == HREF else key


def _rewrite(key: str, value: str, name: str) -> str:
    """Return an attribute's value with ids of this figure's own, and the page's colors."""
    if key == "id":
        return f"{name}-{value}"
    if key == HREF:
        return f"#{name}-{value[1:]}" if value.startswith("#") else value
    if key == "d":
        return LONG.sub(lambda found: f"{float(found.group()):.2f}", value)  # of a point: enough
    value = value.replace("url(#", f"url(#{name}-")
    return HEX.sub(_color, value) if key in ("style", "fill", "stroke") else value


def _color(found: re.Match[str]) -> str:
    color = found.group()
    return f"var({NAMES[color]})" if color in NAMES else color


def _crop(root: ET.Element) -> None:
    """Cut the heading's room off, and leave the size to the page."""
    _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
    top = HEADING * POINTS
    root.attrib = {"viewBox": f"0 {top:g} {width:g} {height - top:g}", "class": "drawing"}
    root.set("aria-hidden", "true")
    root.set("style", f"max-width: {width * SCREEN:.0f}px")
