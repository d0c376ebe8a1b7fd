from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lnrnn.comparison import Run, read_runs
from lnrnn.comparison.plots import COLORS, learning_curves, png, spread
from lnrnn.comparison.plots.canvas import FAINT


@pytest.fixture
def arms(write_run):
    folders = {
        "rnn": write_run.arm("rnn", [0.9] * 5),
        "rnn_ln": write_run.arm("rnn_ln", [0.9] * 5, gain=0.1),
    }
    return {name: [r for r in read_runs(f) if isinstance(r, Run)] for name, f in folders.items()}


def draw(arms) -> Figure:
    figure = learning_curves(arms)
    assert figure is not None
    return figure


def lines_of(figure, color, width):
    lines = figure.axes[0].get_lines()
    return [line for line in lines if (line.get_color(), line.get_linewidth()) == (color, width)]


def test_lines_are_medians_and_every_seed_is_there(arms):
    figure = draw(arms)
    for runs, color in zip(arms.values(), COLORS, strict=False):
        values = [[value for _, value in run.curve("val/accuracy")] for run in runs]
        (median,) = lines_of(figure, color, 2)
        np.testing.assert_array_equal(median.get_xdata(), [10, 20, 30])
        np.testing.assert_array_equal(median.get_ydata(), np.median(values, axis=0))
        seeds = [np.asarray(line.get_ydata()).tolist() for line in lines_of(figure, color, 0.7)]
        assert seeds == values
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    heights = np.asarray(band)[:, 1]
    values = [[value for _, value in run.curve("val/accuracy")] for run in arms["rnn"]]
    assert heights.max() == np.percentile(values, 75, axis=0).max()


def test_the_figure_says_what_it_shows(arms):
    figure = draw(arms)
    title, subtitle, _ = [text.get_text() for text in figure.texts]
    assert title == "japanese_vowels: validation accuracy while training"
    assert subtitle == "line: median over 5 seeds; band: middle half of them; thin: each seed"
    assert [text.get_text() for text in figure.axes[0].texts] == ["rnn", "rnn_ln"]
    assert figure.axes[0].get_ylabel() == "validation accuracy (higher is better)"


def test_a_run_that_failed_is_dotted_and_outside_the_median(arms, write_run):
    failed = write_run("other", 9, status="failed", curve=(0.1, 0.2), value=None)
    runs = [run for run in read_runs([failed]) if isinstance(run, Run)]
    figure = draw({"rnn": [*arms["rnn"], *runs], "rnn_ln": arms["rnn_ln"][:3]})
    styles = [line.get_linestyle() for line in lines_of(figure, COLORS[0], 0.7)]
    assert styles == ["-"] * 5 + [":"]
    (median,) = lines_of(figure, COLORS[0], 2)
    assert np.asarray(median.get_xdata())[-1] == 30
    assert "dotted: unfinished" in figure.texts[1].get_text()
    assert [text.get_text() for text in figure.axes[0].texts] == ["rnn (n=5)", "rnn_ln (n=3)"]


def test_no_curve_no_figure(write_run):
    runs = [run for run in read_runs([write_run("rnn", 0, curve=())]) if isinstance(run, Run)]
    assert learning_curves({"rnn": runs}) is None


def test_one_value_and_one_arm_without_runs_can_be_drawn(write_run):
    runs = [run for run in read_runs([write_run("rnn", 0, curve=(0.5,))]) if isinstance(run, Run)]
    figure = draw({"rnn": runs, "lstm": []})
    assert [text.get_text() for text in figure.axes[0].texts] == ["rnn (n=1)"]
    assert png(figure).startswith(b"\x89PNG")


def test_more_arms_than_colors_differ_in_style(arms):
    many = {f"arm{place}": arms["rnn"] for place in range(len(COLORS) + 1)}
    figure = draw(many)
    looks = [
        (line.get_color(), line.get_linestyle())
        for line in figure.axes[0].get_lines()
        if line.get_linewidth() == 2
    ]
    assert len(set(looks)) == len(many)


def test_text_stays_inside_the_figure_and_labels_apart(arms):
    long = {f"transformer_nonorm model.eps=1e-{place}": arms["rnn"] for place in range(3)}
    figure = draw(long)
    figure.canvas.draw()
    texts = (*figure.texts, *figure.axes[0].texts)
    boxes = [Text.get_window_extent(text) for text in texts]  # without the leaders
    assert all(box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    heights = sorted((box.y0, box.y1) for box in boxes[2:])
    assert all(top <= bottom for (_, top), (bottom, _) in pairwise(heights))


def test_spread_keeps_order_and_gap():
    moved = spread([0.52, 0.5, 0.99, 0.98, 0.1], 0.1)
    assert moved[4] == 0.1
    ordered = [moved[place] for place in (4, 1, 0, 3, 2)]
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(ordered))
    assert ordered[-1] <= 1


def fake(values, higher=True, step=1, **changes):
    curves = {"val/accuracy": tuple((step * (k + 1), v) for k, v in enumerate(values))}
    return Run("", "finished", "set", "rnn", 0, "accuracy", higher, curves=curves, **changes)


def test_axes_are_logarithmic_where_it_helps_and_say_so():
    early = fake([0.1, 0.7, 0.9, *[0.9 + 0.001 * k for k in range(17)]])
    steady = fake(np.linspace(0.1, 0.9, 20).tolist())
    error = fake(np.geomspace(3.0, 0.01, 20).tolist(), higher=False)
    rising = fake(np.linspace(0.01, 0.9, 20).tolist())
    kinds = []
    for run in (early, steady, error, rising):
        axes = draw({"rnn": [run]}).axes[0]
        kinds.append((axes.get_xscale(), axes.get_yscale()))
        assert (axes.get_xscale() == "log") == ("log scale" in axes.get_xlabel())
        assert (axes.get_yscale() == "log") == ("log scale" in axes.get_ylabel())
    assert kinds == [("log", "linear"), ("linear", "linear"), ("linear", "log"),
                     ("linear", "linear")]  # fmt: skip


def test_targets_are_marked_with_their_values():
    run = fake(np.linspace(0.1, 0.9, 20).tolist())
    figure = learning_curves({"rnn": [run]}, targets=[0.5, 0.82])
    assert figure is not None
    marks = [line for line in figure.axes[0].get_lines() if line.get_color() == FAINT]
    assert [list(line.get_ydata()) for line in marks] == [[0.5, 0.5], [0.82, 0.82]]
    assert {"target 0.5", "target 0.82"} <= {text.get_text() for text in figure.axes[0].texts}


def test_an_arm_without_a_cost_is_left_out_of_the_curves_by_time():
    runs = {"rnn": [fake([0.1, 0.2])], "lstm": [fake([0.1, 0.2])]}
    figure = learning_curves(runs, seconds_per_step={"lstm": 0.5, "rnn": None})
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["lstm"]
    (median,) = lines_of(figure, COLORS[1], 2)  # in its own color all the same
    assert list(median.get_xdata()) == [0.5, 1.0]
    assert learning_curves(runs, seconds_per_step={}) is None
