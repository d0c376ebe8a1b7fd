"""Files with a row for every step: the answers of ``predict`` to the same arrays, each in a row."""

import csv
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import lnrnn
from lnrnn.cli.predict import main as predict
from lnrnn.inference.answer_files import answer_files, writing
from lnrnn.inference.handed_out import CONFIG, hand_out
from lnrnn.training import evaluate

HEADER = ("id", "day", "a", "b", "kind", "state", "level")
NEW = HEADER[:4]
SHARED = ("data.batch_size=8", "data.group_by=id", "data.order_by=day", "data.separator=';'",
          "data.encoding=latin-1", "data.input_columns=[a,b]", "data.num_features=2")  # fmt: skip
TASKS = {
    "classification": ("data=table_files", "data.target_column=kind", "data.num_classes=2",
                       "data.num_tokens=null"),
    "tagging": ("data=table_tagging", "data.target_column=state", "data.num_classes=3"),
    "regression": ("data=table_regression", "data.target_column=level"),
    "numbers a step": ("data=table_regression", "data.target_column=b", "data.per_step=true",
                       "head.pooling=none"),
    "forecasting": ("data=table_forecasting", "data.target_column=b", "data.window=4",
                    "data.horizon=2", "data.length=4"),
    "tags in windows": ("data=table_tagging", "data.target_column=state", "data.num_classes=3",
                        "data.window=4", "data.stride=3", "data.length=4"),
    "classes of windows": ("data=table_files", "data.target_column=kind", "data.num_classes=2",
                           "data.num_tokens=null", "data.window=4", "data.length=4"),
}  # fmt: skip
A_STEP = ("tagging", "numbers a step", "tags in windows")


def series(count: int, seed: int, ä: str = "ä") -> dict[str, list[tuple]]:
    """Rows by series, each in the order of its days; the days are not in that of the alphabet."""
    rng = np.random.default_rng(seed)
    made = {}
    for n in range(count):
        name, level = f"w{ä}{n}", f"{rng.normal(5, 2):.3f}"
        made[name] = [
            (name, str(8 + day), f"{rng.normal(50, 9):.3f}", f"{rng.normal(-3, 2):.3f}",
             ("über", "öde")[n % 2], "xyz"[(n + day) % 3], level)
            for day in range(6 + n % 4)
        ]  # fmt: skip
    return made


def shuffled(given: dict[str, list[tuple]]) -> list[tuple]:
    rows = [row for name in given for row in given[name]]
    random.Random(0).shuffle(rows)
    return rows


def write(path: Path, rows: list[tuple], header: tuple[str, ...]) -> Path:
    """Write a table as its name says; csv as those that are trained on: ``;`` and Latin-1."""
    rows = [row[: len(header)] for row in rows]
    kinds = (str, int, float, float, str, str, float)
    typed = [dict(zip(header, (k(v) for k, v in zip(kinds, row, strict=False)), strict=True))
             for row in rows]  # fmt: skip
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(typed), path)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in typed)
        path.write_text(text, encoding="latin-1")
    else:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", encoding="latin-1", newline="") as file:
            csv.writer(file, delimiter=";").writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    """Return what trains a task on a packed table of 36 series."""
    path = tmp_path_factory.mktemp("steps") / "steps.csv.gz"
    write(path, shuffled(series(36, 0)), HEADER)
    return lambda task: made(
        *TASKS[task], *SHARED, f"data.files={path}", f"name={task.replace(' ', '-')}"
    )


def answers(model, *paths: Path, **how) -> list[dict]:
    return [line for lines in answer_files(model, paths, None, 4, **how) for line in lines]


def arrays(model, given: dict[str, list[tuple]]) -> list[tuple[str, int, np.ndarray]]:
    """What is answered: the series, where its first step that is new stands, and the numbers."""
    found = []
    window, stride = model.preparation.window, model.preparation.table.stride
    for name, rows in given.items():
        numbers = np.array([[float(row[2]), float(row[3])] for row in rows])
        if window is None:
            found.append((name, 0, numbers))
            continue
        starts = [*range(0, len(rows) - window, stride), len(rows) - window]
        found += [(name, start, numbers[start : start + window]) for start in starts]
    return found


def expected(model, given: dict[str, list[tuple]], task: str) -> dict[tuple, object]:
    """What ``predict`` says of the same arrays, by series, day and step ahead."""
    pieces = arrays(model, given)
    said = model.predict([numbers for _, _, numbers in pieces])
    found: dict[tuple, object] = {}
    for n, (name, start, numbers) in enumerate(pieces):
        days = [int(row[1]) for row in given[name]][start : start + len(numbers)]
        if task == "forecasting":
            found |= {(name, days[-1], k + 1): v for k, v in enumerate(said.values[n])}
        elif task in A_STEP:
            each = said.values[n] if said.values else said.probabilities[n].tolist()
            for day, answer in zip(days, each, strict=True):
                found.setdefault((name, day, None), answer)
        elif said.values:
            found[name, days[-1], None] = said.values[n]
        else:
            found[name, days[-1], None] = said.probabilities[n].tolist()
    return found


def as_expected(model, lines: list[dict]) -> dict[tuple, object]:
    classes = model.preparation.class_names if model.preparation.num_classes else ()
    found = {}
    for line in lines:
        key = (line["id"], int(line["day"]), line.get("ahead"))
        assert key not in found
        found[key] = line["value"] if "value" in line else [
            line[f"probability of {name}"] for name in classes
        ]  # fmt: skip
        if classes:
            assert line["label"] == classes[int(np.argmax(found[key]))]
    return found


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl"])
@pytest.mark.parametrize("task", TASKS)
def test_answers_are_those_of_predict(trained, tmp_path, task, suffix):
    model = lnrnn.load(trained(task).path)
    given = series(9, 1)
    path = write(tmp_path / f"new{suffix}", shuffled(given), NEW)
    lines = answers(model, path)
    found, wanted = as_expected(model, lines), expected(model, given, task)
    assert found.keys() == wanted.keys()
    for key, answer in wanted.items():
        assert found[key] == pytest.approx(answer, abs=1e-6), key
    rows = shuffled(given)
    for line in lines:  # the row that a line names is that step's
        assert rows[line["row"]][:2] == (line["id"], str(line["day"]))
        assert line["file"] == str(path)


def test_series_go_on_in_the_next_file_where_a_column_tells_them_apart(trained, tmp_path):
    model, given = lnrnn.load(trained("classification").path), series(6, 2)
    rows = shuffled(given)
    one = write(tmp_path / "a.csv", rows[:15], NEW)
    two = write(tmp_path / "b.csv.gz", rows[15:], NEW)
    whole = write(tmp_path / "c.csv", rows, NEW)
    assert as_expected(model, answers(model, one, two)) == as_expected(model, answers(model, whole))


@pytest.mark.parametrize("task", ["classification", "tagging", "regression", "numbers a step"])
def test_answers_are_scored_as_evaluate_scores_them(trained, tmp_path, task):
    folder, given = trained(task), series(12, 3, ä="ö")
    path = write(tmp_path / "other.csv.gz", shuffled(given), HEADER)
    right = {(row[0], int(row[1])): row for rows in given.values() for row in rows}
    column = {"classification": 4, "tagging": 5, "regression": 6, "numbers a step": 3}[task]
    errors = []
    for line in answers(lnrnn.load(folder.path), path):
        truth = right[line["id"], int(line["day"])][column]
        errors.append(
            line["label"] == truth if "label" in line else (line["value"] - float(truth)) ** 2
        )
    metrics = evaluate(folder.path, data={"files": str(path)}).metrics
    name = "test/accuracy" if "test/accuracy" in metrics else "test/mse"
    assert np.mean(errors) == pytest.approx(metrics[name], rel=1e-4)


def test_forecasts_are_scored_as_evaluate_scores_them(trained, tmp_path):
    folder, given = trained("forecasting"), series(12, 3, ä="ö")
    path = write(tmp_path / "other.csv", shuffled(given), HEADER)
    right = {(row[0], int(row[1])): float(row[3]) for rows in given.values() for row in rows}
    errors, unknown = {}, set()
    for line in answers(lnrnn.load(folder.path), path):
        window = (line["id"], int(line["day"]))
        truth = right.get((line["id"], int(line["day"]) + line["ahead"]))
        if truth is None:
            unknown.add(window)
        else:
            errors.setdefault(window, []).append((line["value"] - truth) ** 2)
    assert unknown  # what follows the end of a series is what a forecast is for
    scored = [value for window, each in errors.items() if window not in unknown for value in each]
    metrics = evaluate(folder.path, data={"files": str(path)}).metrics
    assert np.mean(scored) == pytest.approx(metrics["test/mse"], rel=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_files_of_answers_hold_what_tells_the_steps_apart(trained, tmp_path, suffix):
    model = lnrnn.load(trained("forecasting").path)
    path = write(tmp_path / "new.csv", shuffled(series(3, 4)), NEW)
    lines = answers(model, path)
    with writing(tmp_path / f"out{suffix}") as writer:
        writer.write(lines)
    if suffix == ".parquet":
        read = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    elif suffix == ".jsonl":
        read = [*map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())]
    else:
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            read = [*csv.DictReader(file)]
        lines = [{key: str(value) for key, value in line.items()} for line in lines]
    assert read == lines
    assert [*lines[0]] == ["file", "row", "id", "day", "ahead", "value"]


def test_dates_are_text(made, tmp_path):
    days = [f"2026-01-{1 + n:02}" for n in range(31)]
    table = pyarrow.table({
        "day": pyarrow.array(days).cast(pyarrow.timestamp("ns")),
        "file": [float(n % 5) for n in range(31)],
    })  # fmt: skip
    path = tmp_path / "load.parquet"
    pyarrow.parquet.write_table(table, path)
    folder = made("data=table_forecasting", "data.input_columns=[file]", "data.num_features=1",
                  "data.target_column=file", "data.order_by=day", "data.window=3", "data.stride=9",
                  "data.horizon=1", f"data.files={path}", "data.test=0.3", "data.validation=0.3",
                  "name=dates")  # fmt: skip
    lines = answers(lnrnn.load(folder.path), path)
    assert [line["day"][:10] for line in lines] == [days[n] for n in (2, 11, 20, 29, 30)]
    with writing(tmp_path / "out.jsonl") as writer:
        writer.write(lines)


def test_a_column_of_the_name_of_an_answer_stays(made, tmp_path):
    rows = "".join(f"{n % 7},{n},{n % 3}\n" for n in range(140))
    path = tmp_path / "steps.csv"
    path.write_text("value,row,a\n" + rows)
    folder = made("data=table_regression", "data.input_columns=[a]", "data.num_features=1",
                  "data.target_column=a", "data.group_by=value", "data.order_by=row",
                  "data.per_step=true", "head.pooling=none", f"data.files={path}",
                  "data.test=0.3", "data.validation=0.3", "name=names")  # fmt: skip
    line = answers(lnrnn.load(folder.path), path)[1]
    assert [*line] == ["file", "row", "data.value", "data.row", "value"]
    assert (line["row"], line["data.value"], line["data.row"]) == (7, "0", "7")


BAD = {
    "wä1;9;x;1": r"new\.csv, data row 1 \(counted from 0\), column 'a', which has 'x'",
    "wä1;9;;1": r"missing in .*data row 1 .*column 'a': fill it in$",
    "wä1;9;inf;1": r"must be finite: .*data row 1 .*column 'a'",
    ";9;1;1": r"needs a value, but .*data row 1 .*column 'id' is empty",
    "wä1;8;1;1": r"data row 0 .* and .*data row 1 .* have the same 'day'",
    "wä1;soon;1;1": r"data row 1 .*column 'day' has 'soon'",
    "wä1;9;1;1;1": r"new\.csv, read as csv: .*line 3, saw 5",
}


@pytest.mark.parametrize(("row", "words"), BAD.items())
def test_errors_name_file_row_and_column(trained, tmp_path, row, words):
    path = tmp_path / "new.csv"
    path.write_text(f"id;day;a;b\nwä1;8;1;1\n{row}\n", encoding="latin-1")
    with pytest.raises(ValueError, match=words):
        answers(lnrnn.load(trained("classification").path), path)


def test_a_column_that_is_not_there(trained, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("name;day;a;b\nw1;8;1;1\n")
    with pytest.raises(ValueError, match=r"group_by=id is not a column of .*new\.csv; there are "):
        answers(lnrnn.load(trained("classification").path), path)
    with pytest.raises(ValueError, match=r"column=a is for tables with a row for every sequence"):
        answer_files(lnrnn.load(trained("classification").path), [path], "a", 4)


def test_series_that_are_too_short_are_said(trained, tmp_path):
    model, given = lnrnn.load(trained("forecasting").path), series(3, 5)
    short = {name: rows[: 2 if n == 1 else None] for n, (name, rows) in enumerate(given.items())}
    path = write(tmp_path / "new.csv", shuffled(short), NEW)
    with pytest.warns(UserWarning, match=r"1 of 3 series have fewer than 4 steps \(data\.window\)"):
        assert {line["id"] for line in answers(model, path)} == {"wä0", "wä2"}
    path = write(tmp_path / "new.csv", [rows[0] for rows in given.values()], NEW)
    with pytest.raises(ValueError, match=r"new\.csv.*3 of 3 series have fewer than 4 steps"):
        answers(model, path)


def test_other_separators_and_encodings_are_said_anew(trained, tmp_path):
    model, given = lnrnn.load(trained("tagging").path), series(3, 6)
    usual = write(tmp_path / "usual.csv", shuffled(given), NEW)
    text = usual.read_text(encoding="latin-1").replace(";", "|")
    (tmp_path / "other.csv").write_text(text, encoding="utf-16")
    found = answers(model, tmp_path / "other.csv", separator="|", encoding="utf-16")
    assert as_expected(model, found) == as_expected(model, answers(model, usual))
    with pytest.raises(ValueError, match=r"^encoding=utf-99 is unknown"):
        answers(model, usual, encoding="utf-99")
    with pytest.raises(ValueError, match=r"^separator must be one character, got '::'"):
        answers(model, usual, separator="::")
    with pytest.raises(ValueError, match=r"^separator must be one character, got ''"):
        answers(model, usual, separator="")


def test_a_run_from_before_this_was_kept(trained, tmp_path):
    folder, given = trained("tagging"), series(3, 7)
    path = write(tmp_path / "new.csv", shuffled(given), NEW)
    model = lnrnn.load(folder.path)
    wanted, kept = answers(model, path), folder.model.read_text()
    out = tmp_path / "model"
    hand_out(model, out)
    assert answers(lnrnn.load(out), path) == wanted
    try:
        content = json.loads(kept)
        assert content.pop("table")["group_by"] == "id"
        folder.model.write_text(json.dumps(content))
        assert answers(lnrnn.load(folder.path), path) == wanted  # config.yaml has it
    finally:
        folder.model.write_text(kept)
    content = json.loads((out / CONFIG).read_text())
    del content["preparation"]["table"]
    (out / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"data\.group_by.* hand it out again from its run"):
        answers(lnrnn.load(out), path)


@pytest.mark.parametrize(
    ("key", "value"), [("group_by", 3), ("separator", []), ("stride", 0), ("stride", True)]
)
def test_what_was_handed_out_is_checked(trained, tmp_path, key, value):
    hand_out(lnrnn.load(trained("tagging").path), tmp_path)
    content = json.loads((tmp_path / CONFIG).read_text())
    content["preparation"]["table"][key] = value
    (tmp_path / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"config\.json: table\.{key} must be"):
        lnrnn.load(tmp_path)


def test_on_the_command_line(trained, tmp_path, monkeypatch, capsys):
    new = write(tmp_path / "new.csv", shuffled(series(2, 8)), NEW)
    words = [f"run={trained('tagging').path}", f"files={new}", f"out={tmp_path / 'out.csv'}"]
    monkeypatch.setattr("sys.argv", ["lnrnn predict", *words])
    predict()
    assert capsys.readouterr().out == f"13 answers: {tmp_path / 'out.csv'}\n"
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [row["day"] for row in rows[:6]] == [*map(str, range(8, 14))]  # in their order
    assert {row["id"] for row in rows} == {"wä0", "wä1"}
