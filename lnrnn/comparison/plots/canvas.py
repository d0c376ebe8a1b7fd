"""What all figures share: colors, axes, captions, names at the ends of lines, files.

Lengths are inches. Text is never read as mathematics, since names may hold a dollar sign.
"""

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's colors, told apart by readers with any kind of color vision; yellow is left out
# because it is too light for a line on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# The same hues for text, dark enough to be read on white (contrast 4.5 or more).
TEXT_COLORS = ("#006BA8", "#B34F00", "#00785A", "#A54C7C", "#8A6000", "#23739F", "#111111")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
TIMES = "\N{MULTIPLICATION SIGN}"
INK, FAINT, GRID, PAPER = "#222222", "#666666", "#DDDDDD", "#FFFFFF"

HEADING = 0.68  # height of the headline and the notes at the top of every figure
LEFT, RIGHT = 0.72, 0.3  # room for tick labels; room right of axes that nothing is written beside
LABEL_GAP = 0.25  # between the names of two arms, for each line of text
FEW_DECADES = 300.0  # up to this ratio an axis has marks between its decades
LABEL_WIDTH = 24  # letters, after which a name is wrapped
# A row of names: its height, the room of a sample with its gaps, and of a bold letter at most.
NAME_LINE, NAME_ROOM, NAME_LETTER = 0.22, 0.6, 0.095


class Look(NamedTuple):
    """How an arm is drawn: in every figure alike."""

    color: str
    text: str
    line: str
    marker: str


class End(NamedTuple):
    """Where an arm's line ends, and the name to be written there."""

    label: str
    look: Look
    x: float
    y: float


class Caption(NamedTuple):
    """A figure's words: its headline, what its marks mean, and what it shows, in numbers."""

    headline: str
    notes: str
    description: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each arm; used up, the colors come again in another style."""
    marks = cycle(zip(COLORS, TEXT_COLORS, MARKERS, strict=True))
    return {
        name: Look(color, text, LINES[place // len(COLORS) % len(LINES)], marker)
        for place, (name, (color, text, marker)) in enumerate(zip(names, marks, strict=False))
    }


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size, the heading's room added on top."""
    figure = Figure(figsize=(width, height + HEADING), dpi=160, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def add_panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes with the ink taken away that says nothing; ``top`` is counted from the heading."""
    across, up = figure.get_size_inches()
    bottom = up - HEADING - top - height
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", colors=FAINT, labelcolor=INK, labelsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, color=INK, fontsize=9.5, parse_math=False)
    axes.set_ylabel(y, color=INK, fontsize=9.5, parse_math=False)


def mark_logarithmic(axis: Axis, low: float, high: float) -> None:
    """Mark a logarithmic axis: at 1, 2 and 5 of each decade if there are few, else at decades."""
    few = high / low < FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=20 if few else 7))
    if few:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def panel_title(axes: Axes, title: str) -> None:
    """Write a title over one panel of several."""
    axes.set_title(title, color=INK, fontsize=9.5, loc="left", parse_math=False)


def caption(figure: Figure, words: Caption, left: float = LEFT) -> None:
    """Write the headline and the notes above the axes, and keep the description unseen."""
    across, up = figure.get_size_inches()
    bold: dict[str, Any] = {"fontsize": 12.5, "fontweight": "bold", "color": INK}
    small: dict[str, Any] = {"fontsize": 8.5, "color": FAINT}
    styles: list[dict[str, Any]] = [bold, small, {"visible": False}]
    for part, text, style, drop in zip(Caption._fields, words, styles, (0.1, 0.37, 0), strict=True):
        figure.text(
            left / across,
            1 - drop / up,
            text,
            gid=part,
            verticalalignment="top",
            parse_math=False,
            **style,
        )


def caption_of(figure: Figure) -> Caption:
    """Return a figure's words; those it lacks are empty."""
    found = {text.get_gid(): text.get_text() for text in figure.texts}
    return Caption(*(found.get(part, "") for part in Caption._fields))


def wrap(name: str) -> str:
    r"""Return a name as it is drawn: printable, and in lines of at most ``LABEL_WIDTH`` letters.

    Example:
        >>> wrap("transformer_nonorm model.eps=1e-3")
        'transformer_nonorm\nmodel.eps=1e-3'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return "\n".join(textwrap.wrap(printable, LABEL_WIDTH)) or " "


def label_room(labels: Iterable[str]) -> float:
    """Return the width that names need right of the axes."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    return 0.4 + 0.1 * max(10, longest)


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write every arm's name right of where its line ends, apart from each other."""
    axes.autoscale_view()  # the limits are those that will be drawn, before any height is taken
    box = axes.get_position()
    figure = axes.get_figure()
    assert figure is not None
    height = box.height * figure.bbox.height / figure.dpi
    lines = max((end.label.count("\n") + 1 for end in ends), default=1)
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((end.x, end.y))[1]) for end in ends]
    for end, place in zip(ends, spread(wanted, LABEL_GAP * lines / height), strict=True):
        axes.annotate(
            end.label,
            xy=(end.x, end.y),
            xytext=(1.045, place),
            textcoords="axes fraction",
            color=end.look.text,
            fontweight="bold",
            fontsize=10,
            verticalalignment="center",
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": end.look.color, "linewidth": 0.7, "shrinkB": 2},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights as far apart as labels need, in their order, within 0 to 1 where they fit.

    Example:
        >>> spread([0.5, 0.9, 0.9], gap=0.25)
        [0.5, 0.75, 1.0]
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = [0.0] * len(heights)
    # Upward first, so that no label touches the one below it; then down from the top.
    floor = 0.0
    for place in order:
        moved[place] = max(heights[place], floor)
        floor = moved[place] + gap
    ceiling = 1.0
    for place in reversed(order):
        moved[place] = min(moved[place], ceiling)
        ceiling = moved[place] - gap
    return moved


def pack_names(names: Iterable[str], width: float) -> list[list[str]]:
    """Return the rows in which names fit a width, one name at least in each.

    Example:
        >>> pack_names(["lstm", "lstm_ln", "transformer_nonorm"], width=3)
        [['lstm', 'lstm_ln'], ['transformer_nonorm']]
    """
    rows: list[list[str]] = []
    left = 0.0
    for name in names:
        needed = NAME_ROOM + NAME_LETTER * len(name)
        if not rows or needed > left:
            rows.append([])
            left = width
        rows[-1].append(name)
        left -= needed
    return rows


def names_height(names: Iterable[str], width: float) -> float:
    """Return the height that ``write_names`` needs."""
    return NAME_LINE * len(pack_names(names, width))


def write_names(
    figure: Figure, arms: Mapping[str, Look], left: float, top: float, width: float
) -> None:
    """Write the arms' names in rows, each after a piece of its line: one for several panels.

    Args:
        figure: Where to write.
        arms: The arms that are drawn.
        left: Where the rows begin.
        top: Height of the first row, counted from the heading.
        width: Where they wrap.
    """
    across, up = figure.get_size_inches()
    for line, names in enumerate(pack_names(arms, width)):
        x, y = left, 1 - (HEADING + top + NAME_LINE * line) / up
        for name in names:
            figure.add_artist(_sample(arms[name], x / across, (x + 0.3) / across, y))
            figure.text(
                (x + 0.38) / across,
                y,
                " ".join(wrap(name).split("\n")),
                color=arms[name].text,
                fontsize=9.5,
                fontweight="bold",
                verticalalignment="center",
                parse_math=False,
            )
            x += NAME_ROOM + NAME_LETTER * len(name)


def _sample(look: Look, start: float, end: float, y: float) -> Line2D:
    return Line2D(
        [start, (start + end) / 2, end],
        [y] * 3,
        color=look.color,
        linestyle=look.line,
        marker=look.marker,
        markevery=[1],
        markersize=5,
        linewidth=2,
    )


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    words = caption_of(figure)
    metadata = {"Software": None, "Title": words.headline, "Description": words.description}
    figure.savefig(buffer, format="png", metadata=metadata)
    return buffer.getvalue()
