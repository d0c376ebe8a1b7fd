"""Evaluating on other data of the same shape, and refusing what evaluate would not act on."""

import random
import sys

import pytest
import torch
from experiments import compose

from lnrnn.cli import evaluate as command
from lnrnn.config.compose import compose_config
from lnrnn.training import ConfigurationError, evaluate, train

TABLE = (
    *("data=table_files", "data.num_classes=2", "data.input_column=values"),
    *("data.target_column=state", "data.num_features=1", "data.num_tokens=null"),
    *("model=gru", "model.hidden_size=8", "trainer.max_epochs=2", "name=table"),
)


def write_table(path, rows, shift=0.0, seed=0):
    """Two states whose values lie around 4 and 6, and all of them shifted."""
    draw = random.Random(seed)
    lines = ["values,state"]
    for row in range(rows):
        center = 5 + shift + (1 if row % 2 else -1)
        values = " ".join(f"{draw.gauss(center, 1):.3f}" for _ in range(draw.randint(4, 8)))
        lines.append(f"{values},{'walk' if row % 2 else 'idle'}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write_table(folder / "learned.csv", 60)
    write_table(folder / "other.csv", 30, shift=4, seed=1)
    run, record = train(compose(*TABLE, f"data.files={folder}/learned.csv"), folder / "runs")
    return folder, run, record


@pytest.mark.parametrize("key", ["files", "test_files"])
def test_other_files_are_tested_by_what_the_run_has_learned(table, key):
    folder, run, record = table
    evaluation = evaluate(run.path, data={key: str(folder / "other.csv")})
    assert evaluation.recorded == record.metrics != evaluation.metrics
    assert evaluation.changes == {key: str(folder / "other.csv")}
    assert evaluation.same_data
    # All 30 rows, of which 8 units above what was learned nearly all look like "walk".
    assert evaluation.metrics["test/accuracy"] == pytest.approx(0.5, abs=0.1)
    assert (evaluation.metrics["test/accuracy"] * 30) % 1 == pytest.approx(0, abs=1e-4)


def test_other_rows_are_scaled_as_the_runs_own_test_was(table):
    """The same rows from another file give the same numbers: statistics are of the same rows."""
    folder, run, record = table
    config = run.read_config()
    from lnrnn.training.build import build_data

    rows = build_data(config).splits["test"]
    raw = compose(*TABLE, f"data.files={folder}/learned.csv", "data.standardize=false")
    values = iter(build_data(raw.config).splits["test"].values.flatten().tolist())
    lines = ["values,state"]
    for length, target in zip(rows.lengths.tolist(), rows.targets.tolist(), strict=True):
        cells = " ".join(str(next(values)) for _ in range(length))
        lines.append(f"{cells},{('idle', 'walk')[target]}")
    (folder / "again.csv").write_text("\n".join(lines) + "\n")
    assert evaluate(run.path, data={"files": f"{folder}/again.csv"}).metrics == record.metrics


def test_generated_data_can_be_generated_anew_and_batches_be_smaller(tmp_path):
    adding = ("data=adding", "data.length=12", "data.num_train=64", "model=gru", "name=adding")
    sizes = ("data.num_validation=32", "data.num_test=32", "model.hidden_size=8")
    run, record = train(compose(*adding, *sizes, "trainer.max_epochs=1"), tmp_path)
    assert evaluate(run.path, data={"data_seed": 5}).metrics != record.metrics
    longer = evaluate(run.path, data={"length": 20, "num_test": 16, "batch_size": 4})
    assert longer.metrics != record.metrics
    assert longer.changes == {"length": 20, "num_test": 16, "batch_size": 4}
    smaller = evaluate(run.path, data={"batch_size": 5})
    assert smaller.metrics == pytest.approx(record.metrics, rel=1e-5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"split_seed": 1}, r"data\.split_seed cannot be changed .*only: data\.files"),
        ({"flies": "x.csv"}, r"data\.flies cannot be changed"),
        ({"data_seed": 1}, r"data\.data_seed cannot be changed"),
        ({"files": "nothing.csv"}, r"nothing matches nothing\.csv"),
        ({"files": "a.csv", "test_files": "b.csv"}, "give one of them"),
    ],
)
def test_what_would_not_be_a_test_of_this_run_is_refused(table, data, words):
    _, run, _ = table
    with pytest.raises(ConfigurationError, match=words):
        evaluate(run.path, data=data)


def test_the_files_that_were_learned_are_no_test(table):
    folder, run, _ = table
    with pytest.raises(ConfigurationError, match="a file belongs to one split"):
        evaluate(run.path, data={"files": str(folder / "learned.csv")})


def test_other_data_of_another_shape_are_refused(table):
    folder, run, _ = table
    (folder / "three.csv").write_text("values,state\n1 2,idle\n2 3,walk\n3 4,run\n")
    with pytest.raises(ConfigurationError, match="not learned: run; its classes are idle, walk"):
        evaluate(run.path, data={"files": str(folder / "three.csv")})


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_the_command_tests_other_files_and_says_which(table, sign, monkeypatch, capsys):
    folder, run, record = table
    words = [f"run={run.path}", f"{sign}data.files={folder}/other.csv"]
    monkeypatch.setattr(sys, "argv", ["lnrnn evaluate", *words])
    command.main()
    shown = capsys.readouterr().out
    assert f"now: data.files={folder}/other.csv" in shown
    loss = evaluate(run.path, data={"files": f"{folder}/other.csv"}).metrics["test/loss"]
    assert f"{loss:.6f}" in shown
    assert f"{record.metrics['test/loss']:.6f}" in shown
    assert torch.isfinite(torch.tensor(loss))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("+seed=3", "there is no key seed"),
        ("++model.eps=1", "there is no key model"),
        ("hydra.verbose=true", "has no effect"),
        ("+hydra.x=1", "has no effect"),
        ("data.files=a.csv,b.csv", "one set at a time"),
    ],
)
def test_what_evaluate_does_not_know_is_refused(word, reason, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lnrnn evaluate", "run=somewhere", word])
    with pytest.raises(SystemExit, match=reason):
        command.main()


def test_no_configuration_takes_keys_that_nothing_reads():
    with pytest.raises(ConfigurationError, match="there is no key sead"):
        compose_config(["+sead=3"], "compare")


@pytest.mark.filterwarnings("ignore:no row to learn from has class")
def test_labels_of_other_files_have_the_classes_of_the_run(tmp_path):
    """The third is in the run's test alone, and another third name would have its number."""
    for name, labels in (
        ("learned", "ab"),
        ("tested", ("a", "b", "d")),
        ("known", "bd"),
        ("new", "bc"),
    ):
        lines = [f"{row % 9} {row % 4},{labels[row % len(labels)]}" for row in range(40)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["values,state", *lines]) + "\n")
    table = [*TABLE, "data.num_classes=3", f"data.files={tmp_path}/learned.csv"]
    run, _ = train(compose(*table, f"data.test_files={tmp_path}/tested.csv"), tmp_path / "runs")
    known = evaluate(run.path, data={"files": f"{tmp_path}/known.csv"})
    assert known.metrics["test/accuracy"] <= 0.5, "d was never learned"
    with pytest.raises(ConfigurationError, match="has not learned: c; its classes are a, b, d"):
        evaluate(run.path, data={"files": f"{tmp_path}/new.csv"})


def test_a_series_may_be_tested_on_later_steps(tmp_path):
    for name, first in (("learned", 0), ("next_week", 10)):
        rows = [f"{k},{t},{t % 3},{k % 2}" for k in range(20) for t in range(first, first + 10)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,time,x,kind", *rows]) + "\n")
    table = ["data.input_column=null", "data.input_columns=[x]", "data.target_column=kind"]
    table += ["data.group_by=id", "data.order_by=time", f"data.files={tmp_path}/learned.csv"]
    start = [word for word in TABLE if "column" not in word]
    run, _ = train(compose(*start, *table, "trainer.max_epochs=1"), tmp_path / "runs")
    evaluation = evaluate(run.path, data={"files": f"{tmp_path}/next_week.csv"})
    assert (evaluation.metrics["test/accuracy"] * 20) % 1 == pytest.approx(0, abs=1e-4)
