import csv
import io

import pytest

from lnrnn.comparison import compare, write
from lnrnn.comparison.files import COLUMNS, table_of_values


def rows_of(result):
    return list(csv.DictReader(io.StringIO(table_of_values(result))))


def test_the_csv_has_a_row_for_each_arm_seed_and_outcome(write_run, tmp_path):
    arms = {
        "rnn": write_run.arm("rnn", [0.9, 0.8]),
        "rnn_ln": [*write_run.arm("rnn_ln", [0.95]), tmp_path / "gone"],
    }
    result = compare(arms)
    rows = rows_of(result)
    outcomes = [
        *("test/accuracy", "val/accuracy mean over training", "val/accuracy best"),
        *(f"steps to val/accuracy {target['target']!r}" for target in result["steps_to_target"]),
    ]
    assert [row["outcome"] for row in rows] == outcomes * 4
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert [(r["arm"], r["seed"], r["status"]) for r in rows[:: len(outcomes)]] == [
        ("rnn", "0", "finished"),
        ("rnn", "1", "finished"),
        ("rnn_ln", "0", "finished"),
        ("rnn_ln", "", "unreadable"),
    ]
    for row in rows:
        arm = next(arm for arm in result["arms"] if arm["name"] == row["arm"])
        run = next(run for run in arm["runs"] if run["folder"] == row["folder"])
        if row["outcome"] == "test/accuracy":
            assert row["value"] == ("" if run["value"] is None else repr(run["value"]))
    steps = [row["value"] for row in rows if row["outcome"].startswith("steps") and row["seed"]]
    first = [target["arms"][0]["runs"][0]["step"] for target in result["steps_to_target"]]
    assert None in first  # the median of two lies above one of them
    assert steps[:4] == ["" if step is None else str(step) for step in first]
    written = write(result, arms, tmp_path / "out")
    assert written[1].read_text() == table_of_values(result)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_name_is_no_formula(write_run, start):
    name = f'{start}cmd|" /c calc"!A1'
    run = write_run("a", 0, value=-0.5)
    (row, *_) = rows_of(compare({name: [run]}))
    assert row["arm"] == f"'{name}"
    assert row["value"] == "-0.5"  # a number stays one


def test_a_file_that_cannot_be_put_in_place_leaves_no_draft(write_run, tmp_path):
    arms = {"a": [write_run("a", 0)]}
    folder = tmp_path / "out"
    (folder / "compare.csv").mkdir(parents=True)  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=r"compare\.csv"):
        write(compare(arms), arms, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["compare.csv", "compare.json"]
