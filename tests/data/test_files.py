"""Text and tables of one's own."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from lnrnn.data import table_files, text_files

REVIEWS = [(f"review number {i}", "good" if i % 3 else "bad") for i in range(30)]


def text_of(split):
    return bytes(split.text.numpy())


def write_reviews(path, rows=REVIEWS):
    """The same table in the format of the suffix."""
    separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix)
    if separator:
        lines = [separator.join(row) for row in [("text", "label"), *rows]]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".parquet":
        texts, labels = zip(*rows, strict=True)
        pyarrow.parquet.write_table(pa.table({"text": texts, "label": labels}), path)
    else:
        objects = [{"text": text, "label": label} for text, label in rows]
        lines = "\n".join(json.dumps(o) for o in objects)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(objects))
    return path


def rows_of(split):
    texts = split.values.split(split.lengths.tolist())
    return [(bytes(t.tolist()).decode(), int(y)) for t, y in zip(texts, split.targets, strict=True)]


def test_text_is_read_byte_for_byte_and_held_out_at_its_end(folder):
    (folder / "b.txt").write_bytes(b"second\r\n" + bytes(range(256)))
    (folder / "a.txt").write_bytes("füürst\n".encode() * 20)
    whole = (folder / "a.txt").read_bytes() + (folder / "b.txt").read_bytes()
    datamodule = text_files(files="*.txt", validation=0.1, test=0.2, batch_size=2, window=5)
    parts = [text_of(datamodule.splits[name]) for name in ("train", "validation", "test")]
    assert b"".join(parts) == whole
    assert len(parts[1]) == round(0.1 * len(whole))
    assert len(parts[2]) == round(0.2 * len(whole))


def test_files_of_their_own_for_validation_and_test(folder):
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text(name * 30)
    both = text_files(
        files=["train.txt"],
        validation_files="valid*.txt",
        test_files="test.txt",
        batch_size=2,
        window=5,
    )
    assert [text_of(both.splits[name]) for name in ("train", "validation", "test")] == [
        name.encode() * 30 for name in ("train", "validation", "test")
    ]
    one = text_files(files="train.txt", test_files="test.txt", test=0.5, batch_size=2, window=5)
    train, validation = text_of(one.splits["train"]), text_of(one.splits["validation"])
    assert train + validation == b"train" * 30
    assert len(validation) == round(0.05 * 150)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"files": "missing.txt"}, FileNotFoundError, "data.files must name files.*missing.txt"),
        ({"files": "*.md"}, FileNotFoundError, r"nothing matches \*.md"),
        ({"files": "sub"}, FileNotFoundError, r"that is a folder, try 'sub/\*'"),
        ({"files": []}, ValueError, "data.files names no file"),
        (
            {"files": None},
            TypeError,
            "data.files must be a path, a glob or a list of them, got None",
        ),
        ({"files": 5}, TypeError, "data.files must be a path, .*got 5"),
        ({"files": ["line.txt", 5]}, TypeError, r"data.files must be .*got \['line.txt', 5\]"),
        ({"files": "line.txt", "test_files": 5}, TypeError, "data.test_files must be a path"),
        ({"files": "line.txt", "test": "abc"}, TypeError, "test share must be a number, got 'abc'"),
        ({"files": "empty.txt"}, ValueError, "data.files has an empty file: empty.txt"),
        ({"files": "line.txt"}, ValueError, "split 'train' has 10 symbols.*largest that fits"),
        ({"files": "*.txt", "test_files": "line.txt"}, ValueError, "empty file"),
        ({"files": "l*.txt", "test_files": "line.txt"}, ValueError, "belongs to one split"),
        ({"files": "line.txt", "validation": 0.0}, ValueError, "validation share must be between"),
        ({"files": "line.txt", "test": 0.99}, ValueError, "validation and test share must be"),
        ({"files": "line.txt", "batch_size": 0}, ValueError, "data.batch_size must be at least 1"),
    ],
)
def test_bad_text(folder, settings, error, message):
    (folder / "empty.txt").touch()
    (folder / "line.txt").write_text("one line.\n")
    (folder / "sub").mkdir()
    with pytest.raises(error, match=message):
        text_files(**settings).setup("fit")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_tables_of_every_format_give_the_same_data(folder, suffix):
    path = write_reviews(folder / f"reviews[1]{suffix}")
    datamodule = table_files(files=str(path), num_classes=2, validation=0.1, test=0.2)
    splits: Any = datamodule.splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 22,
        "validation": 2,
        "test": 6,
    }
    rows = [row for split in splits.values() for row in rows_of(split)]
    assert sorted(rows) == sorted((text, int(label == "good")) for text, label in REVIEWS)
    assert splits["test"].targets.sum() == 4, "two thirds are good in every part"
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.inputs.shape[0] == 22


def test_a_table_leaves_nothing_behind(folder, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    path = write_reviews(folder / "reviews.csv")
    first = table_files(files=str(path), num_classes=2).fingerprint
    assert list(folder.iterdir()) == [path]
    write_reviews(path, [(text + "!", label) for text, label in REVIEWS])
    assert table_files(files=str(path), num_classes=2).fingerprint != first


def test_splits_of_their_own(folder):
    for name, rows in (("a", REVIEWS[:10]), ("b", REVIEWS[10:14]), ("c", REVIEWS[14:])):
        write_reviews(folder / f"{name}.csv", rows)
    splits = table_files(
        files="a.csv", validation_files="b.csv", test_files="c.csv", num_classes=2
    ).splits
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [10, 4, 16]
    assert rows_of(splits["validation"])[0][0] == "review number 10"


def test_words_that_look_like_something_else_stay_words(folder):
    rows = [("null", "0"), ("12", "1"), ("NA", "0"), ("1e5", "1")]
    write_reviews(folder / "words.csv", rows)
    write_reviews(folder / "more.csv", rows)
    splits = table_files(
        files="words.csv", validation_files="more.csv", test=0.25, num_classes=2
    ).splits
    assert rows_of(splits["validation"]) == [(text, int(label)) for text, label in rows]


def test_numbers_in_cells_and_in_lists(folder):
    (folder / "a.csv").write_text(
        "series,kind\n" + "0.5 1 2 -3,0\n1;2;3;4;5;6,1\n" * 4 + '"[7, 8, 9, 1e1]",1\n'
    )
    lists = [[0.5, 1, 2, -3], [1, 2, 3, 4, 5, 6]] * 4 + [[7, 8, 9, 10]]
    (folder / "b.jsonl").write_text(
        "\n".join(json.dumps({"series": s, "kind": i % 2}) for i, s in enumerate(lists))
    )
    common = {
        "num_classes": 2,
        "num_tokens": None,
        "input_column": "series",
        "target_column": "kind",
        "standardize": False,
    }

    def train(**settings) -> Any:
        return table_files(**{**common, **settings}).splits["train"]

    cells = train(files="a.csv", num_features=1)
    given = train(files="b.jsonl", num_features=1)
    assert cells.values.shape[1] == 1
    assert set(cells.values.flatten().tolist()) <= {0.5, 1, 2, -3, 3, 4, 5, 6, 7, 8, 9, 10}
    assert given.values.dtype == cells.values.dtype
    frames = train(files="a.csv", num_features=2)
    assert set(frames.lengths.tolist()) == {2, 3}
    scaled = train(files="a.csv", num_features=2, standardize=True)
    assert scaled.values.mean(0).abs().max() < 1e-6


@pytest.mark.parametrize("own_test_files", [False, True])
@pytest.mark.parametrize("place", range(6))
def test_a_bad_row_is_named_as_it_stands_in_the_files(folder, place, own_test_files):
    """Whichever split it fell into, and in whichever file it is."""
    labels = ["0", "1"] * 3
    labels[place] = "7"
    rows = [(f"text {i}", label) for i, label in enumerate(labels)]
    write_reviews(folder / "a1.csv", rows[:2])
    write_reviews(folder / "a2.csv", rows[2:])
    write_reviews(folder / "test.csv", [("good", "0"), ("bad", "1")])
    datamodule = table_files(
        files="a*.csv",
        test_files="test.csv" if own_test_files else None,
        num_classes=2,
        validation=0.4,
        test=0.4,
    )
    file, row = ("a1.csv", place) if place < 2 else ("a2.csv", place - 2)
    message = rf"{file}, data row {row} \(counted from 0\), column 'label' has 7"
    with pytest.raises(ValueError, match=message):
        datamodule.setup("fit")


def test_a_bad_cell_is_named_as_it_stands_in_the_file(folder):
    cells = ["1 2", "3 4", "5 nan", "7 8"]
    (folder / "a.csv").write_text(
        "text,label\n" + "".join(f"{c},{i % 2}\n" for i, c in enumerate(cells))
    )
    for seed in range(4):
        datamodule = table_files(
            files="a.csv", num_classes=2, num_features=1, num_tokens=None, split_seed=seed
        )
        with pytest.raises(ValueError, match=r"a.csv, data row 2 .*column 'text' has \[nan\]"):
            datamodule.setup("fit")


BAD_TABLES = {
    "input column": ({"input_column": "body"}, "data.input_column=body .*there are text, label"),
    "target column": ({"target_column": "y"}, "data.target_column=y .*there are text, label"),
    "classes": ({"num_classes": 3}, "num_classes=3, but column 'label' has 2.*: bad, good"),
    "no classes": ({"num_classes": None}, "classification cannot have data.num_classes=None"),
    "numbers": (
        {"num_features": 1, "num_tokens": None},
        r"reviews.csv, data row 0 \(counted from 0\), column 'text': could not convert",
    ),
    "share": ({"test": 1.0}, "test share must be between 0 and 1"),
    "max_length": ({"max_length": 0}, "data.max_length must be at least 1"),
    "length": ({"length": 4}, "data.length=4 says"),
    "format": ({"files": "notes.txt"}, "one of the formats .csv, .tsv.*got notes.txt"),
    "header only": ({"files": "header.csv"}, "could not find rows in header.csv"),
    "label missing": (
        {"files": "hole.csv"},
        r"hole.csv, data row 1 \(counted from 0\), column 'label' is empty",
    ),
    "text missing": ({"files": "blank.csv"}, r"blank.csv, data row 0 .*, column 'text' is empty"),
    "label outside": (
        {"files": "outside.csv", "num_classes": 2},
        "allows labels 0 to 1, but outside.csv, data row 2",
    ),
    "one row": ({"files": "one.csv", "num_classes": 1}, "at least two rows"),
    "broken": (
        {"files": "broken.jsonl"},
        "could not find rows in broken.jsonl, read as jsonl: line 2",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(folder, case):
    write_reviews(folder / "reviews.csv")
    (folder / "notes.txt").write_text("text")
    (folder / "header.csv").write_text("text,label\n")
    (folder / "hole.csv").write_text("text,label\na,x\nb,\nc,y\n")
    (folder / "blank.csv").write_text("text,label\n,x\n,y\n,x\n,y\n")
    (folder / "outside.csv").write_text("text,label\na,0\nb,1\nc,7\nd,0\n")
    (folder / "one.csv").write_text("text,label\na,x\n")
    (folder / "broken.jsonl").write_text('{"text": "a", "label": 1}\n{"text"\n')
    settings, message = BAD_TABLES[case]
    with pytest.raises(ValueError, match=message):
        table_files(**{"files": "reviews.csv", "num_classes": 2, **settings}).setup("fit")
