"""Every figure but the learning curves: it shows the result's numbers, where there are any."""

from itertools import combinations

import numpy as np
import pytest
from comparison.sample import ARMS, COST, LAGS, RATES, sample_result, sample_runs
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from lnrnn.comparison.plots import COLORS, draw, png
from lnrnn.comparison.plots.canvas import (
    FAINT,
    PAPER,
    TEXT_COLORS,
    caption_of,
    looks,
    pack_names,
    wrap,
)

MONITOR = {
    "monitor_gradient",
    "monitor_recurrent_gradient",
    "monitor_saturation",
    "monitor_variance",
    "monitor_near_eps",
    "monitor_drift",
    "monitor_state_norm",
    "monitor_clipped",
}
PLAIN = {"learning_curves", "speed", "pairs"}


@pytest.fixture(scope="module")
def runs():
    return sample_runs()


@pytest.fixture(scope="module")
def result(runs):
    return sample_result(runs)


@pytest.fixture(scope="module")
def figures(result, runs) -> dict[str, Figure]:
    return draw(result, runs)


def lines(axes, color, marker=None):
    return [
        line
        for line in axes.get_lines()
        if line.get_color() == color and (marker is None or line.get_marker() == marker)
    ]


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_everything_is_drawn_that_has_data(figures):
    assert set(figures) == PLAIN | MONITOR | {"learning_curves_seconds", "learning_rates"}
    assert list(figures)[:2] == ["learning_curves", "learning_curves_seconds"]


def test_nothing_is_drawn_that_has_none():
    bare = sample_runs(monitor=False)
    assert set(draw(sample_result(bare, whole=False), bare)) == PLAIN
    alone = {"lstm": bare["lstm"]}
    assert set(draw(sample_result(alone, whole=False), alone)) == {"learning_curves"}
    pointless = sample_runs(points=0, monitor=False)
    assert set(draw(sample_result(pointless, whole=False), pointless)) == {"pairs"}


def test_one_seed_can_be_drawn():
    runs = sample_runs(seeds=1)
    figures = draw(sample_result(runs), runs)
    assert {"pairs", "speed", "monitor_gradient"} <= set(figures)
    assert png(figures["monitor_gradient"]).startswith(b"\x89PNG")


def test_speed_shows_every_ratio_with_its_interval(result, figures):
    axes = figures["speed"].axes
    assert [panel.get_title(loc="left") for panel in axes] == [
        "speed-up in steps",
        "speed-up in time",
    ]
    for panel, kind in zip(axes, ("steps", "seconds"), strict=True):
        for place, pair in enumerate(result["pairs"], start=1):
            marks = lines(panel, COLORS[place], looks(ARMS)[ARMS[place]].marker)
            ratios = [rung[kind]["ratio"] for rung in pair["speed"]]
            assert [mark.get_xdata()[0] for mark in marks] == ratios
            bars = [bar for bar in lines(panel, COLORS[place], "None") if len(bar.get_xdata()) == 2]
            low, high = panel.get_xlim()
            expected = [
                [low if rung[kind]["interval"][0] is None else rung[kind]["interval"][0],
                 high if rung[kind]["interval"][1] is None else rung[kind]["interval"][1]]
                for rung in pair["speed"]
            ]  # fmt: skip
            assert [list(bar.get_xdata()) for bar in bars] == expected
        assert panel.get_xscale() == "log"
        assert [list(line.get_xdata()) for line in lines(panel, FAINT)] == [[1, 1]]


def test_speed_marks_what_is_supported_and_writes_who_arrived(result, figures):
    panel = figures["speed"].axes[0]
    for place, pair in enumerate(result["pairs"], start=1):
        marks = lines(panel, COLORS[place], looks(ARMS)[ARMS[place]].marker)
        filled = [mark.get_markerfacecolor() == COLORS[place] for mark in marks]
        assert filled == [rung["steps"]["supported"] for rung in pair["speed"]]
    counts = [
        f"{rung['reached']['arm']} of {rung['of']}, first arm {rung['reached']['baseline']}"
        for rungs in zip(*(pair["speed"] for pair in result["pairs"]), strict=True)
        for rung in rungs
    ]
    assert [text for text in words(figures["speed"]) if ", first arm " in text] == counts
    assert len(set(counts)) > 1  # of the last target, some runs of the first arm fall short


def test_an_interval_without_an_end_is_an_arrow(result):
    ratio = {"n": 9, "ratio": None, "interval": [1.4, None], "p": None, "p_holm": None,
             "supported": True, "censored": 9}  # fmt: skip
    changed = {**result, "pairs": [{**pair} for pair in result["pairs"]]}
    for pair in changed["pairs"]:
        pair["speed"] = [{**rung, "steps": ratio, "seconds": None} for rung in pair["speed"]]
    figure = draw(changed, {arm: [] for arm in ARMS})["speed"]
    (panel,) = figure.axes
    assert len(lines(panel, COLORS[1], ">")) == len(result["steps_to_target"])
    assert not lines(panel, COLORS[1], "<")
    assert not lines(panel, COLORS[1], "s")
    assert "no ratio" not in words(figure)
    nothing = {**ratio, "interval": None}
    for pair in changed["pairs"]:
        pair["speed"][0]["steps"] = nothing
    assert words(draw(changed, {arm: [] for arm in ARMS})["speed"]).count("  no ratio") == 2


def test_pairs_shows_every_seed_and_the_interval(result, figures):
    axes = figures["pairs"].axes
    assert len(axes) == 8  # two arms, two outcomes, values beside differences
    arms = {arm["name"]: arm for arm in result["arms"]}
    for row, pair in enumerate(result["pairs"]):
        outcomes = (("value", pair), ("validation_mean", pair["validation_difference"]))
        for column, (key, outcome) in enumerate(outcomes):
            slopes, differences = axes[4 * row + 2 * column : 4 * row + 2 * column + 2]
            values = [[run[key] for run in arms[name]["runs"]] for name in ("lstm", pair["arm"])]
            drawn = [list(line.get_ydata()) for line in slopes.get_lines()]
            assert drawn == [list(both) for both in zip(*values, strict=True)]
            dots, bar, mean = lines(differences, COLORS[row + 1])
            found = [arm - first for first, arm in zip(*values, strict=True)]
            assert list(dots.get_ydata()) == sorted(found)
            assert list(bar.get_ydata()) == outcome["interval"]
            assert list(mean.get_ydata()) == [outcome["difference"]]


def test_pairs_shows_in_gray_where_the_arm_is_not_better():
    runs = sample_runs(("lstm", "lstm_ln"), seeds=4, monitor=False)
    swapped = {"lstm": runs["lstm_ln"], "lstm_ln": runs["lstm"]}
    figure = draw(sample_result(swapped, whole=False), swapped)["pairs"]
    assert {line.get_color() for line in figure.axes[2].get_lines()} == {FAINT}


def test_learning_rates_shows_runs_means_crosses_and_choices(result, figures):
    (axes,) = figures["learning_rates"].axes
    assert axes.get_xscale() == "log"
    for place, arm in enumerate(result["tuning"]["arms"]):
        drawn = lines(axes, COLORS[place])
        dots = [line for line in drawn if line.get_markersize() == 3.5]
        values = [[v for v in rate["values"] if v is not None] for rate in arm["rates"]]
        assert [list(line.get_ydata()) for line in dots] == values
        (mean,) = (line for line in drawn if line.get_linewidth() == 2)
        np.testing.assert_allclose(mean.get_ydata(), [np.mean(v) for v in values if v])
        (ring,) = (line for line in drawn if line.get_markersize() == 14)
        chosen = [rate["mean"] for rate in arm["rates"] if rate["rate"] == arm["best"]]
        assert list(ring.get_ydata()) == chosen
        lost = [rate["rate"] for rate in arm["rates"] if rate["diverged"]]
        assert [line.get_xdata()[0] for line in lines(axes, COLORS[place], "x")] == lost
    diverged = [arm["rates"][-1]["diverged"] for arm in result["tuning"]["arms"]]
    assert diverged == [2, 1, 0]
    assert words(figures["learning_rates"])[:2] == ["2", "1"]
    assert axes.get_xlim()[0] < RATES[0] < RATES[-1] < axes.get_xlim()[1]


def test_learning_rates_of_runs_that_all_failed_cannot_be_drawn(result):
    lost = [
        {**arm, "best": None, "rates": [{**rate, "values": [None]} for rate in arm["rates"]]}
        for arm in result["tuning"]["arms"]
    ]
    broken = {**result, "tuning": {**result["tuning"], "arms": lost}}
    assert "learning_rates" not in draw(broken, {arm: [] for arm in ARMS})


def test_the_gradient_is_drawn_by_lag_early_and_late(figures, runs):
    early, late = figures["monitor_gradient"].axes
    assert [panel.get_title(loc="left") for panel in (early, late)] == ["early", "late"]
    for panel, sample in ((early, 0), (late, -1)):  # a tenth of ten samples is one
        for place, arm in enumerate(ARMS):
            (line,) = (line for line in panel.get_lines() if line.get_color() == COLORS[place])
            names = [f"monitor/state_gradient/l0/lag{lag}" for lag in LAGS]
            values = [[run.curve(name)[sample][1] for run in runs[arm]] for name in names]
            np.testing.assert_array_equal(line.get_xdata(), LAGS)
            np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=1))
    assert early.get_yscale() == "log"
    assert early.get_ylim() == late.get_ylim()


def test_a_gradient_that_is_zero_ends_its_line():
    runs = sample_runs(seeds=2)
    for run in runs["lstm"]:
        vanished = {"monitor/state_gradient/l0/lag64": ((100, 0.0), (500, 0.0))}
        object.__setattr__(run, "curves", {**run.curves, **vanished})
    figure = draw(sample_result(runs, whole=False), runs)["monitor_gradient"]
    line = next(line for line in figure.axes[0].get_lines() if line.get_color() == COLORS[0])
    np.testing.assert_array_equal(line.get_xdata(), LAGS[:-1])


def test_a_panel_for_each_part_of_each_layer(figures):
    titles = {
        stem: [panel.get_title(loc="left") for panel in figures[stem].axes] for stem in MONITOR
    }
    assert titles["monitor_saturation"] == ["gate i", "gate f", "gate g", "gate o"]
    assert titles["monitor_variance"] == ["norm ih", "norm hh", "norm cell"]
    assert titles["monitor_drift"] == ["gain ih", "shift ih", "gain hh", "shift hh", "gain cell",
                                       "shift cell"]  # fmt: skip
    assert titles["monitor_clipped"] == [""]
    runs = sample_runs(("lstm",), seeds=2)
    for run in runs["lstm"]:
        again = {name.replace("/l0", "/l1"): curve for name, curve in run.curves.items()}
        object.__setattr__(run, "curves", {**run.curves, **again})
    deep = draw(sample_result(runs, whole=False), runs)
    titles = [panel.get_title(loc="left") for panel in deep["monitor_gradient"].axes]
    assert titles == ["l0, early", "l0, late", "l1, early", "l1, late"]
    assert deep["monitor_saturation"].axes[4].get_title(loc="left") == "l1, gate i"


def test_a_monitor_line_is_the_median_over_runs(figures, runs):
    panel = figures["monitor_saturation"].axes[1]
    name = "monitor/saturation/l0/f"
    for line, arm in zip(panel.get_lines(), ARMS, strict=True):
        values = [[value for _, value in run.curve(name)] for run in runs[arm]]
        np.testing.assert_allclose(line.get_ydata(), np.median(values, axis=0))


def test_time_is_steps_times_what_a_step_costs(figures, runs):
    axes = figures["learning_curves_seconds"].axes[0]
    for place, arm in enumerate(COST["arms"]):
        (median,) = (line for line in lines(axes, COLORS[place]) if line.get_linewidth() == 2)
        steps = [step for step, _ in runs[arm["name"]][0].curve("val/accuracy")]
        np.testing.assert_allclose(median.get_xdata(), np.multiply(steps, arm["seconds_per_step"]))
    assert axes.get_xlabel() == "seconds of training steps"


def test_every_figure_says_in_numbers_what_it_shows(result, figures):
    for stem, figure in figures.items():
        headline, notes, description = caption_of(figure)
        assert headline, stem
        assert notes, stem
        assert any(letter.isdigit() for letter in description), stem
    pair = result["pairs"][0]
    assert f"mean difference {pair['difference']:+.4g}" in caption_of(figures["pairs"]).description


@pytest.mark.parametrize(
    "names", [ARMS, ("a$b$_{", "transformer_nonorm model.eps=1e-3 optimizer.lr=0.003", "x\ty")]
)
def test_text_stays_inside_and_names_apart(names):
    runs = sample_runs(names, seeds=3)
    for stem, figure in draw(sample_result(runs, whole=False), runs).items():
        figure.canvas.draw()
        drawn = figure.get_tightbbox()  # inches, of all that is visible
        width, height = figure.get_size_inches()
        assert drawn.x0 >= 0, stem
        assert drawn.y0 >= 0, stem
        assert drawn.x1 <= width, stem
        assert drawn.y1 <= height, stem
        named = [text for text in figure.findobj(Annotation) if text.get_fontweight() == "bold"]
        boxes = [Text.get_window_extent(text) for text in named]  # without the leaders
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2)), stem


def test_names_are_wrapped_and_packed():
    assert wrap("lstm") == "lstm"
    assert wrap("a\nb\x00c") == "a b c"
    assert wrap("") == " "
    assert max(map(len, wrap("x" * 90).split("\n"))) == 24
    rows = pack_names(["a" * 30, "b", "c" * 30], width=4.5)
    assert rows == [["a" * 30, "b"], ["c" * 30]]


def test_looks_differ_and_names_can_be_read_on_paper():
    many = looks(f"arm{place}" for place in range(15))
    assert len({(look.color, look.line) for look in many.values()}) == 15
    for color in (*TEXT_COLORS, FAINT):
        assert contrast(color, PAPER) >= 4.5, color


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors as WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_equal_input_gives_equal_bytes(result, runs, figures):
    again = draw(result, runs)
    assert all(png(figure) == png(again[stem]) for stem, figure in figures.items())
