"""Files of new sequences: the same answers from every format, in order; errors name the row."""

import bz2
import csv
import gzip
import json
import lzma
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

import lnrnn
from lnrnn.data import table_files
from lnrnn.data.reading import Reading
from lnrnn.data.sequences import Sequences
from lnrnn.inference.answer_files import answer_files, steps_in, writing
from lnrnn.inference.rows import Row, read_rows

TEXTS = ['fine, lovely "day"', "bad and awful", "null", "  fine ", "007", "ünï ☃"]
FRAMES = [[[1.0, 2.0], [3.0, -4.5]], [[0.25, 1e3]], [[0.0, 0.0]] * 5]


def write_table(path: Path, column: str, values: list) -> Path:
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
            writer.writerow(["id", column])
            for number, value in enumerate(values):
                flat = (
                    value
                    if isinstance(value, str)
                    else " ".join(str(x) for step in value for x in step)
                )
                writer.writerow([number, flat])
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": range(len(values)), column: values}), path)
    elif path.suffix == ".jsonl":
        rows = [{column: value, "id": n} for n, value in enumerate(values)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps([{column: value} for value in values]))
    else:
        path.write_text("".join(value + "\n" for value in values))
    return path


def answers(model, path: Path, column: str | None = None, batch_size: int = 4) -> list[dict]:
    return [line for lines in answer_files(model, [path], column, batch_size) for line in lines]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt"])
def test_texts(made, reviews, tmp_path, suffix):
    model = lnrnn.load(made(*reviews).path)
    path = write_table(tmp_path / f"new{suffix}", "words", TEXTS)
    lines = answers(model, path)
    expected = model.predict(TEXTS)
    assert [line["row"] for line in lines] == [*range(len(TEXTS))]
    assert {line["file"] for line in lines} == {str(path)}
    assert [line["label"] for line in lines] == list(expected.labels)
    for line, chances in zip(lines, expected.probabilities, strict=True):
        found = [line["probability of against"], line["probability of for"]]
        assert found == pytest.approx(chances.tolist(), abs=1e-6)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_numbers(made, numbers, tmp_path, suffix):
    model = lnrnn.load(made(*numbers).path)
    lines = answers(model, write_table(tmp_path / f"new{suffix}", "steps", FRAMES))
    expected = model.predict(FRAMES)
    found = [[line["probability of 0"], line["probability of 1"]] for line in lines]
    for row, chances in zip(found, expected.probabilities, strict=True):
        assert row == pytest.approx(chances.tolist(), abs=1e-6)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[str, ...]:
    """Overrides that train on a packed table in Latin-1, with semicolons between its columns."""
    path = tmp_path_factory.mktemp("packed") / "reviews.csv.gz"
    rows = "".join(f"{n};{('schön, ', 'übel; ')[n % 2]!r}{n};{n % 2}\n" for n in range(120))
    with gzip.open(path, "wt", encoding="latin-1") as file:
        file.write("id;words;label\n" + rows.replace("'", '"'))
    read = ("data.separator=';'", "data.encoding=latin-1", "data.input_column=words")
    return ("data=table_files", f"data.files={path}", "data.num_classes=2", *read, "name=packed")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv.xz", ".jsonl.bz2", ".txt", ".txt.zip"])
def test_files_are_read_as_in_training(made, packed, tmp_path, suffix):
    texts = ["schön", "übel; oh", "ß, ÿ"]
    if ".txt" in suffix:
        content = "".join(f"{text}\n" for text in texts)
    elif "json" in suffix:
        content = "".join(json.dumps({"words": t}, ensure_ascii=False) + "\n" for t in texts)
    else:
        content = "id;words\n" + "".join(f'{n};"{text}"\n' for n, text in enumerate(texts))
    path, raw = tmp_path / f"new{suffix}", content.encode("latin-1")
    if suffix.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("new.txt", raw)
    else:
        pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
        path.write_bytes(pack.get(path.suffix, bytes)(raw))
    model = lnrnn.load(made(*packed).path)
    expected = model.predict(texts)
    lines = answers(model, path)
    assert [line["row"] for line in lines] == [0, 1, 2]
    for line, chances in zip(lines, expected.probabilities, strict=True):
        found = [line["probability of 0"], line["probability of 1"]]
        assert found == pytest.approx(chances.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("new.parquet", {"separator": ";"}, "^separator=; is for csv and tsv"),
        ("new.txt", {"separator": ";"}, "^separator=; is for csv and tsv"),
        ("new.parquet", {"encoding": "latin-1"}, "^encoding=latin-1 is for text"),
    ],
)
def test_what_no_file_is_read_by_is_refused(made, reviews, tmp_path, name, how, words):
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=words):
        answer_files(lnrnn.load(made(*reviews).path), [path], None, 4, **how)


def test_another_column(made, reviews, tmp_path):
    model = lnrnn.load(made(*reviews).path)
    path = write_table(tmp_path / "new.csv", "other", TEXTS)
    assert len(answers(model, path, "other")) == len(TEXTS)
    with pytest.raises(
        ValueError, match=r"column=words is not a column of .*new\.csv; there are id, other"
    ):
        answers(model, path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "words\nfine\n\n", None),  # pandas skips lines that are blank
        ("a.csv", "id,words\n1,fine\n2,\n", r"a\.csv, data row 1 .*'words' is empty"),
        ("a.csv", "id,words\n1,fine\n2,x,y,z\n", r"a\.csv, read as csv: .*line 3"),
        ("a.csv", "id,words\n1,fine,z\n2,x,z\n", r"a\.csv, data row 0 .* has more cells"),
        ("a.csv", "", r"a\.csv, read as csv: No columns to parse"),
        ("a.jsonl", '{"words": "x"}\n{"words": null}\n', r"a\.jsonl, data row 1"),
        ("a.jsonl", '{"words": "x"}\n{"wor', r"a\.jsonl, read as jsonl: line 2: "),
        ("a.jsonl", '{"words": "x"}\n[1]\n', r"a\.jsonl, data row 1 .* is \[1\]"),
        ("a.jsonl", '{"word": "x"}\n', r"column=words is not a column of .*a\.jsonl; .* word$"),
        (
            "a.jsonl",
            '{"words": "x"}\n{"words": [3]}\n',
            r"a\.jsonl, data row 1 .*'words': \[3\] is of another kind than the rows before",
        ),
        ("a.jsonl", '{"words": 3}\n', r"a\.jsonl, data row 0 .*text, got int"),
        ("a.txt", "x\n\ny\n", r"a\.txt, data row 1 .*at least one step"),
        ("a.parquet", "no parquet", r"a\.parquet, read as parquet: Parquet magic bytes"),
        ("a.xlsx", "x", r"a\.xlsx: files must be of the formats"),
    ],
)
def test_errors_name_file_and_row(made, reviews, tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    model = lnrnn.load(made(*reviews).path)
    if words is None:
        assert len(answers(model, tmp_path / name)) == 1
        return
    with pytest.raises(ValueError, match=words):
        answers(model, tmp_path / name)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("1 2 3", "3 numbers are not whole frames"),
        ("1 x", "could not convert"),
        ("1 nan", "finite"),
        ("1,,2", "3 numbers are not whole frames"),
        ("0,31 0,29", "decimal commas"),
    ],
)
def test_cells_of_numbers_are_checked(made, numbers, tmp_path, cell, words):
    (tmp_path / "a.csv").write_text(f'steps\n1 2\n"{cell}"\n')
    with pytest.raises(ValueError, match=f"data row 1 .*{words}"):
        answers(lnrnn.load(made(*numbers).path), tmp_path / "a.csv")


CELLS = ["1,,2", "NA 2", "null;3", "[4, n/a]", "5 ? 6", "7 -8.5 1e-3"]


@pytest.fixture(scope="module")
def cells_with_gaps(tmp_path_factory):
    """A table of cells of one feature, some of which say that a number is missing."""
    rows = "".join(f'"{CELLS[n % len(CELLS)]}",{n // 8 % 2}\n' for n in range(96))
    path = tmp_path_factory.mktemp("cells") / "cells.csv"
    path.write_text("steps,label\n" + rows)
    return path


def test_a_cell_is_what_it_was_in_training(cells_with_gaps):
    own = {"input_column": "steps", "num_classes": 2, "num_features": 2, "num_tokens": None}
    own |= {"files": str(cells_with_gaps), "missing": "mask"}
    data = table_files(**own, batch_size=8, num_workers=0)
    known = data.preparation
    split = data.splits["train"]
    assert isinstance(split, Sequences)
    trained = {
        tuple(part.flatten().tolist()) for part in split.values.split(split.lengths.tolist())
    }
    rows = [*read_rows(cells_with_gaps, "steps", Reading())][: len(CELLS)]
    read = {tuple(steps_in(row, "steps", known).flatten().tolist()) for row in rows}
    assert len(read) == len(CELLS)
    assert read == trained


def test_null_in_a_list_is_missing_where_training_knew_it(cells_with_gaps):
    own = {"input_column": "steps", "num_classes": 2, "num_features": 2, "num_tokens": None}
    own |= {"files": str(cells_with_gaps), "missing": "mask"}
    known = table_files(**own, batch_size=8, num_workers=0).preparation
    written = steps_in(Row(cells_with_gaps, 0, "1,,2"), "steps", known)
    listed = steps_in(Row(cells_with_gaps, 0, [1, None, 2]), "steps", known)
    assert listed.tolist() == written.tolist()
    assert listed[:, 1].tolist() == [0, 1, 0]


def test_bytes_that_are_no_text(made, reviews, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(ValueError, match=r"a\.txt is not in UTF-8"):
        answers(lnrnn.load(made(*reviews).path), tmp_path / "a.txt")


def test_a_model_of_embedded_data_needs_a_column(made, tmp_path):
    model = lnrnn.load(made("data=japanese_vowels", "model=lstm_lncell").path)
    path = write_table(tmp_path / "new.jsonl", "frames", [[[0.1] * 12] * 7])
    with pytest.raises(ValueError, match=r"say which of its columns .* column=NAME"):
        answers(model, path)
    (line,) = answers(model, path, "frames")
    assert line["label"] == model.predict([[[0.1] * 12] * 7]).labels[0]


def test_a_file_is_read_as_it_is_needed(made, reviews, tmp_path):
    path = write_table(tmp_path / "new.csv", "words", TEXTS * 1000)
    with path.open("a") as file:
        file.write("1,2,3,4,5\n")  # breaks the table, after its first thousands of rows
    batches = answer_files(lnrnn.load(made(*reviews).path), [path], None, 4)
    assert len(next(batches)) == 4


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    path = write_table(tmp_path / f"large{suffix}", "words", ["x" * 200] * 60_000)  # 12 MB
    next(read_rows(path, "words", Reading()))  # imports
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path, "words", Reading()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 4e6


LINES = [
    {"file": "a", "row": 0, "label": "for", "probability of for": 0.25},
    {"file": "a", "row": 1, "label": 'a "b", ☃', "probability of for": 1e-17},
]


def test_files_of_answers(tmp_path):
    for suffix in (".csv", ".jsonl", ".parquet"):
        with writing(tmp_path / f"out{suffix}") as writer:
            writer.write(LINES[:1])
            writer.write(LINES[1:])
            assert not (tmp_path / f"out{suffix}").exists()  # not before all is written
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert rows == [{k: str(v) for k, v in line.items()} for line in LINES]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == LINES
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == LINES


def test_many_groups_of_answers(tmp_path):
    lines = [{**LINES[0], "row": n} for n in range(10_000)]
    with writing(tmp_path / "out.parquet") as writer:
        for start in range(0, 10_000, 64):
            writer.write(lines[start : start + 64])
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == lines


def test_what_failed_leaves_no_file(tmp_path):
    def fail():
        with writing(tmp_path / "out.csv") as writer:
            writer.write(LINES)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not [*tmp_path.iterdir()]


def test_another_format_of_answers(tmp_path):
    with (
        pytest.raises(ValueError, match=r"written as \.csv, \.jsonl, \.parquet"),
        writing(tmp_path / "out.xlsx"),
    ):
        pass
