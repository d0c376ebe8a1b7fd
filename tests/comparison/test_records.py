import json

import numpy as np
import pytest

from lnrnn.comparison import RecordError, Unreadable, read_run, read_runs


def test_a_run_comes_back_as_it_was_written(write_run):
    run = read_run(write_run("rnn_ln", 3, value=0.96, curve=(0.25, 0.5)))
    assert (run.status, run.data, run.model, run.seed) == (
        "finished",
        "japanese_vowels",
        "rnn_ln",
        3,
    )
    assert run.overrides == ("model=rnn_ln", "seed=3")
    assert (run.parameters, run.seconds_per_step) == (4937, 0.004)
    assert run.metrics == {"test/accuracy": 0.96, "test/loss": 0.2}
    assert run.curve("val/accuracy") == ((10, 0.25), (20, 0.5))
    assert run.curve("val/other") == ()
    assert (run.test_value, run.validation_mean) == (0.96, 0.375)
    assert (run.best, run.final_validation, run.diagnosis) == (0.5, 0.5, None)
    assert run.tested is None


def test_which_weights_were_tested_is_read(write_run):
    folder = write_run("rnn_ln", 3, value=0.96, curve=(0.25, 0.5))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "tested": "best"}))
    assert read_run(folder).tested == "best"


def test_the_mean_over_training_is_the_area_under_the_curve_over_its_length(write_run):
    folder = write_run("rnn", 0)
    points = [(10, 0.2), (20, 0.6), (50, 0.4)]
    lines = [{"step": step, "name": "val/accuracy", "value": value} for step, value in points]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder)
    assert run.validation_mean == pytest.approx((10 * 0.4 + 30 * 0.5) / 40)
    assert run.validation_mean == pytest.approx(np.trapezoid([0.2, 0.6, 0.4], [10, 20, 50]) / 40)
    assert (run.best, run.final_validation) == (0.6, 0.4)
    single = read_run(write_run("rnn", 1, curve=(0.7,)))
    assert (single.validation_mean, single.best, single.final_validation) == (0.7, 0.7, 0.7)
    low = read_run(write_run("rnn", 2, curve=(0.7, 0.3, 0.5), higher_is_better=False))
    assert (low.best, low.final_validation) == (0.3, 0.5)


def test_what_the_monitor_said_is_kept(write_run):
    assert read_run(write_run("rnn", 0, diagnosis="gradients vanish")).diagnosis == (
        "gradients vanish"
    )


def test_an_unfinished_run_may_lack_what_comes_at_the_end(write_run):
    folder = write_run(
        "rnn", 0, status="failed", seconds_per_step=None, parameters=None, error="NaN at step 20"
    )
    run = read_run(folder)
    assert (run.parameters, run.seconds_per_step, run.error) == (None, None, "NaN at step 20")
    assert run.test_value is None  # although the record holds one: the run did not finish
    (folder / "metrics.jsonl").unlink()
    assert read_run(folder).curves == {}


def test_a_torn_last_line_is_left_out_of_an_unfinished_run_only(write_run):
    folder = write_run("rnn", 0, status="interrupted")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "epoch": 3, "na')
    assert [step for step, _ in read_run(folder).curve("val/accuracy")] == [10, 20, 30]
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "finished"}))
    with pytest.raises(RecordError, match=r"metrics\.jsonl, line 4: the last line is cut short"):
        read_run(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: is not valid JSON"),
        ('{\n"status": "finished",\n"da', "line 3: is not valid JSON"),
        ("[1]", "line 1: must hold a JSON object, got list"),
        ('{"status": "done"}', "status must be one of finished, running, failed, interrupted"),
        ('{"status": "failed"}', "the key 'data' is missing"),
        ('{"status": 3}', "the key 'status' must be str, got 3"),
    ],
)
def test_a_broken_run_json_is_named(write_run, text, message):
    folder = write_run("rnn", 0)
    (folder / "run.json").write_text(text)
    with pytest.raises(RecordError, match=r"seed0/run\.json.*" + message):
        read_run(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", True, "the key 'seed' must be int, got True"),
        ("split", 3, "the key 'split' must be dict, got 3"),
        ("split", {"seed": 1}, "split must hold key, seed and fresh"),
        ("split", {"key": "a", "seed": True, "fresh": False}, "split must hold"),
        ("split", {"key": "a", "seed": 1, "fresh": 0}, "split must hold"),
        ("seed", "0", "the key 'seed' must be int"),
        ("metrics", {"test/accuracy": "high"}, "metric 'test/accuracy' must be a number"),
        ("seconds_per_step", "fast", "seconds_per_step must be a number"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(write_run, key, value, message):
    folder = write_run("rnn", 0)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, key: value}))
    with pytest.raises(RecordError, match=message):
        read_run(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 4: is not valid JSON"),
        ("", "line 4: is not valid JSON"),
        ("[1]", "line 4: must hold a JSON object"),
        ('{"step": 40, "name": "val/accuracy"}', "line 4: must hold an integer"),
        ('{"step": "x", "name": "val/accuracy", "value": 1}', "line 4: must hold an integer"),
        ('{"step": 40, "name": "val/accuracy", "value": "x"}', "line 4: must hold an integer"),
        ('{"step": 30, "name": "val/accuracy", "value": 1}', "must increase, got 30 after 30"),
    ],
)
def test_a_broken_line_of_the_metrics_is_named(write_run, line, message):
    folder = write_run("rnn", 0, status="interrupted")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordError, match=r"metrics\.jsonl.*" + message):
        read_run(folder)


def test_missing_files_are_named(write_run, tmp_path):
    with pytest.raises(RecordError, match=r"nowhere/run\.json: a run's folder needs this file"):
        read_run(tmp_path / "nowhere")
    folder = write_run("rnn", 0)
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RecordError, match=r"metrics\.jsonl: a run's folder needs this file"):
        read_run(folder)
    (folder / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match="cannot be read"):
        read_run(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_value_that_is_not_finite_is_no_result(write_run, value):
    folder = write_run("rnn", 0, curve=(0.5, value), metrics={"test/accuracy": value})
    run = read_run(folder)
    assert (run.test_value, run.validation_mean) == (None, None)
    assert (run.best, run.final_validation) == (None, None)


def test_read_runs_keeps_the_broken_and_sorts_by_seed(write_run, tmp_path):
    folders = [tmp_path / "nowhere", write_run("rnn", 2), write_run("rnn", 0)]
    first, second, broken = read_runs(folders)
    assert not isinstance(first, Unreadable)
    assert not isinstance(second, Unreadable)
    assert (first.seed, second.seed) == (0, 2)
    assert isinstance(broken, Unreadable)
    assert "nowhere/run.json" in broken.error
    assert read_runs([second, broken, first]) == [first, second, broken]
