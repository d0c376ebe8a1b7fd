"""Tables and texts as people have them: packed, encoded, separated and labeled in other ways."""

import bz2
import gzip
import json
import lzma
from typing import Any
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from lnrnn.data import readers, reading, table_files, tables, text_files
from lnrnn.data.reading import CHUNK

ROWS = [(f"text number {i}", i % 2) for i in range(40)]
TEXT = "To be, or not to be, that is the question. " * 40
NUMBERS = {"num_features": 1, "num_tokens": None}


def write_csv(path, rows=ROWS, header=("text", "label"), separator=",", encoding="utf-8"):
    lines = [separator.join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def read(files, **settings) -> Any:
    return table_files(**{"files": files, "num_classes": 2, **settings})


def same_classes(one, other):
    """Whether every row has the same class, whatever it is called."""
    return all(
        torch.equal(split.targets, other.splits[name].targets)
        and torch.equal(split.values, other.splits[name].values)
        for name, split in one.splits.items()
    )


def zipped(path, content):
    with ZipFile(path, "w") as archive:
        archive.writestr("inside.csv", content)


def test_a_column_that_is_not_used_may_hold_anything(folder):
    """Its first 20,000 cells are empty, as it goes with remarks, and then there is a word."""
    rows = [(f"t{i}", i % 2, "" if i < CHUNK else "late") for i in range(CHUNK + 10)]
    write_csv(folder / "a.csv", rows, header=("text", "label", "note"))
    objects = [{"text": t, "label": y, "note": note or None} for t, y, note in rows]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
    csv, lines = read("a.csv"), read("a.jsonl")
    assert sum(len(split) for split in csv.splits.values()) == CHUNK + 10
    assert csv.fingerprint == lines.fingerprint


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.zip"])
def test_packed_tables_are_unpacked(folder, name):
    write_csv(folder / "a.csv")
    content = (folder / "a.csv").read_bytes()
    packers = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    suffix = name.rsplit(".", 1)[1]
    if suffix == "zip":
        zipped(folder / name, content)
    else:
        (folder / name).write_bytes(packers[suffix](content))
    assert read(name).fingerprint == read("a.csv").fingerprint


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_seen(folder, separator):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", separator=separator)
    assert read("b.csv").fingerprint == read("a.csv").fingerprint
    assert read("b.csv", separator=separator).fingerprint == read("a.csv").fingerprint
    with pytest.raises(ValueError, match=r"data.input_column=text is not a column of b.csv"):
        read("b.csv", separator=",").setup("fit")


def test_spaces_behind_separators_are_not_part_of_what_follows(folder):
    """Of names, cells and cells in quotes alike; a name may be wanted with its space."""
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", header=("text", "label "), separator=", ")
    assert read("b.csv").fingerprint == read("a.csv").fingerprint
    write_csv(folder / "c.csv", [(y, text) for text, y in ROWS], header=("label", " text"))
    assert same_classes(read("c.csv", input_column=" text"), read("a.csv"))
    rows = [(f"{text}, and more", y) for text, y in ROWS]
    (folder / "d.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": y}) for text, y in rows)
    )
    quoted = [(y, f'"{text}"') for text, y in rows]
    write_csv(folder / "d.csv", quoted, header=("label", "text"), separator=", ")
    assert read("d.csv").fingerprint == read("d.jsonl").fingerprint


def test_a_name_that_two_columns_have_is_refused(folder):
    rows = [(text, text, y) for text, y in ROWS]
    write_csv(folder / "a.csv", rows, header=("text", "text", "label"))
    with pytest.raises(ValueError, match=r"input_column=text is the name of 2 columns of a\.csv"):
        read("a.csv").setup("fit")
    with pytest.raises(ValueError, match=r"input_column=text\.1 is not a column of a\.csv"):
        read("a.csv", input_column="text.1").setup("fit")
    twice = [(text, y, "", "") for text, y in ROWS]
    write_csv(folder / "b.csv", twice, header=("text", "label", "note", "note"))  # not used
    assert sum(len(split) for split in read("b.csv").splits.values()) == len(ROWS)


@pytest.mark.parametrize("surplus", [",,", ",,,", ",x"])
def test_surplus_cells_are_refused_by_their_row(surplus, folder):
    """Empty ones too, as spreadsheets write them; a separator at the end of every row is none."""
    write_csv(folder / "a.csv")
    for name, end in (("b.csv", ","), ("c.csv", surplus)):
        lines = [f"{text},{y}{end}" for text, y in ROWS]
        (folder / name).write_text("\n".join(["text,label", *lines]))
    assert read("b.csv").fingerprint == read("a.csv").fingerprint
    with pytest.raises(ValueError, match=r"c\.csv, data row 0 .* has more cells than the header"):
        read("c.csv").setup("fit")


def test_a_column_without_a_name_has_pandas_name_for_it(folder):
    """As the index has that pandas writes."""
    write_csv(folder / "a.csv")
    rows = [(number, text, y) for number, (text, y) in enumerate(ROWS)]
    write_csv(folder / "b.csv", rows, header=("", "text", "label"))
    assert read("b.csv").fingerprint == read("a.csv").fingerprint
    data = read("b.csv", input_column="Unnamed: 0")
    assert sum(len(split) for split in data.splits.values()) == len(ROWS)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_tells_the_encoding(folder, encoding):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", encoding=encoding)
    assert read("b.csv").fingerprint == read("a.csv").fingerprint


def test_latin_1_is_read_when_it_is_named(folder):
    rows = [(f"fürst {i}", i % 2) for i in range(40)]
    write_csv(folder / "a.csv", rows)
    write_csv(folder / "b.csv", rows, encoding="latin-1")
    with pytest.raises(ValueError, match=r"b.csv is not utf-8, line 2: .*data.encoding=latin-1"):
        read("b.csv").setup("fit")
    assert read("b.csv", encoding="latin-1").fingerprint == read("a.csv").fingerprint
    with pytest.raises(ValueError, match=r"data\.encoding=latin-0 is unknown"):
        read("b.csv", encoding="latin-0")


@pytest.mark.parametrize(("low", "high"), [(1, 2), (-1, 1), (3, 7)])
def test_other_numbers_than_0_and_1_are_classes_and_it_is_said(folder, low, high):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", [(text, high if y else low) for text, y in ROWS])
    data = read("b.csv")
    with pytest.warns(UserWarning, match=f"column 'label' are {low}, {high}: .*classes 0 to 1"):
        data.setup("fit")
    assert same_classes(data, read("a.csv"))


def test_labels_with_leading_zeros_are_names(folder):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", [(text, f"0{y + 1}") for text, y in ROWS])
    assert same_classes(read("b.csv"), read("a.csv"))


@pytest.mark.parametrize("written", [("0.0", "1.0"), ("False", "True"), ("no", "yes")])
def test_labels_are_what_they_were(folder, written):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", [(text, written[y]) for text, y in ROWS])
    assert same_classes(read("b.csv"), read("a.csv"))


def test_a_class_that_only_the_test_has_is_named(folder):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", [("a", 0), ("b", 1), ("c", 2)])
    data = read("a.csv", test_files="b.csv", num_classes=3)
    with pytest.warns(UserWarning, match=r"class 2 of column 'label'.*'test'.*cannot be learned"):
        data.setup("fit")


def test_a_very_long_row_is_named(folder):
    rows = [{"text": [1.0] * (12_000 if i == 7 else 3), "label": i % 2} for i in range(20)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = read("a.jsonl", **NUMBERS)
    with pytest.warns(UserWarning, match=r"data row 7 .*12,000 steps.*data.max_length=N"):
        data.setup("fit")
    assert read("a.jsonl", **NUMBERS, max_length=5).splits["train"].lengths.max() == 5


BAD_CELLS = {
    "null in a list": ('{"text": [1, null, 2], "label": 1}', "a number is missing"),
    "a word in a list": ('{"text": [1, "x"], "label": 1}', "of another kind"),
    "infinite": ('{"text": [1e999], "label": 1}', "finite"),
    "beyond float32": ('{"text": [1, 2e39], "label": 1}', "has 2e+39"),
    "no list": ('{"text": null, "label": 1}', "empty"),
    "no label": ('{"text": [1]}', "empty"),
    "half a class": ('{"text": [1], "label": 0.5}', ""),
}


@pytest.mark.parametrize("case", BAD_CELLS)
def test_a_bad_cell_of_json_is_named(folder, case):
    line, message = BAD_CELLS[case]
    good = ['{"text": [1, 2.5], "label": 0}', '{"text": [3], "label": 1}'] * 5
    (folder / "a.jsonl").write_text("\n".join(good))
    (folder / "b.jsonl").write_text("\n".join([*good, line, *good]))
    with pytest.raises(ValueError, match=r"b.jsonl, data row 10 \(counted from 0\).*column") as got:
        read("*.jsonl", **NUMBERS).setup("fit")
    assert message in str(got.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('"1,,2"', "has [nan]"),
        ('"1,nan"', "has [nan]"),
        ("1 -1e300", "float32, which ends at 3.4e38"),
        ('"0,5 0,7"', "decimal commas"),
        ('"0,5;0,7"', "decimal commas"),
        ('"[0,5 ; -0,7]"', "decimal commas"),
        ("1 x 2", "could not convert string to float: 'x'"),
        ('""', "empty"),
    ],
)
def test_a_bad_cell_of_csv_is_named(folder, cell, message):
    (folder / "a.csv").write_text("text,label\n1 2,0\n3,1\n" + f"{cell},1\n" + "1 2,0\n" * 9)
    with pytest.raises(ValueError, match=r"a.csv, data row 2 \(counted from 0\)") as got:
        read("a.csv", **NUMBERS).setup("fit")
    assert message in str(got.value)


def test_missing_numbers_are_masked_when_asked(folder):
    (folder / "a.csv").write_text("text,label\n" + '"1,,3",0\n"2,4,6",1\n' * 10)
    data = read("a.csv", num_features=2, num_tokens=None, missing="mask", standardize=False)
    batch = next(iter(data.train_dataloader()))
    with_gap = batch.inputs[batch.targets == 0][0]
    assert with_gap.tolist() == [[1, 0], [0, 1], [3, 0]]
    assert batch.inputs[batch.targets == 1][0].tolist() == [[2, 0], [4, 0], [6, 0]]
    scaled = read("a.csv", num_features=2, num_tokens=None, missing="mask").splits["train"].values
    known = scaled[scaled[:, 1] == 0, 0]
    assert abs(known.mean()) < 1e-6, "the mean is of what is known"
    assert abs(known.std(correction=0) - 1) < 1e-6


def test_a_cell_that_ends_in_a_comma_lacks_its_last_number_where_numbers_may_miss(folder):
    (folder / "a.csv").write_text("text,label\n" + '"1,2,",0\n"2,4,6",1\n' * 10)
    data = read("a.csv", num_features=2, num_tokens=None, missing="mask", standardize=False)
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs[batch.targets == 0][0].tolist() == [[1, 0], [2, 0], [0, 1]]
    assert read("a.csv", **NUMBERS).splits["train"].lengths.tolist().count(2), "[1, 2] else"


def test_semicolons_may_part_frames_of_two_numbers(folder):
    (folder / "a.csv").write_text("text,label\n" + '"0,31;0,29",0\n"1,2;3,4",1\n' * 10)
    split = read("a.csv", num_features=2, num_tokens=None, standardize=False).splits["test"]
    assert split[[0]].inputs.shape == (1, 2, 2)


def test_names_in_one_split_and_numbers_in_another_are_one_list_of_labels(folder):
    rows = [{"text": f"t{i}", "label": ("1", "one")[i % 2]} for i in range(40)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    others = [{"text": f"u{i}", "label": 1} for i in range(4)]
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, others)))
    splits = read("a.jsonl", test_files="b.jsonl").splits
    assert splits["test"].targets.tolist() == [0] * 4
    assert splits["test"].labels == ("1", "one")


def test_a_part_of_a_table_without_any_number_is_all_missing(folder, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 5)
    rows = [{"x": None if i < 5 else i, "y": i} for i in range(40)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"task": "regression", "num_classes": None, "per_step": True, "target_column": "y"}
    data = read(
        "a.jsonl",
        input_columns=["x"],
        num_features=2,
        num_tokens=None,
        missing="mask",
        standardize=False,
        **settings,
    )
    assert data.splits["train"].values[:6].tolist() == [[0, 1]] * 5 + [[5, 0]]


def test_a_mask_is_advised_only_where_it_helps(folder):
    (folder / "a.csv").write_text("text,label\n" + "1 2,0.5\n3,NA\n" * 9)
    numbers = {"task": "regression", "num_classes": None, "missing": "mask"}
    with pytest.raises(ValueError, match=r"a number is missing in .*: fill it in$"):
        read("a.csv", **{**NUMBERS, **numbers, "num_features": 2}).setup("fit")


def test_a_parquet_table_in_several_groups_of_rows(folder):
    table = pa.table(
        {"text": [t for t, _ in ROWS], "label": [y for _, y in ROWS], "x": [None] * 40}
    )
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=7)
    write_csv(folder / "a.csv")
    assert read("a.parquet").fingerprint == read("a.csv").fingerprint


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_long_rows_are_read_in_smaller_pieces(folder, name, monkeypatch):
    write_csv(folder / "a.csv")
    objects = [{"text": text, "label": label} for text, label in ROWS]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
    table = pa.table({"text": [t for t, _ in ROWS], "label": [y for _, y in ROWS]})
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    whole = read(name).fingerprint
    pieces = []
    monkeypatch.setattr(reading, "CHUNK_BYTES", 100)
    monkeypatch.setattr(
        tables, "read_chunks", lambda *given: pieces.extend(readers.read_chunks(*given)) or pieces
    )
    assert read(name).fingerprint == whole
    assert 5 < len(pieces) <= 40
    assert [piece.first for piece in pieces][:2] == [0, len(pieces[0])]


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_texts_are_unpacked(folder, packer):
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt.packed").write_bytes(packer(TEXT.encode()))
    plain, packed = (text_files(files=f, batch_size=2, window=5) for f in ("a.txt", "b.txt.packed"))
    assert packed.fingerprint == plain.fingerprint


def test_a_text_in_utf_16_is_named_and_read_when_told(folder):
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text(TEXT, encoding="utf-16")
    (folder / "c.txt").write_text("fürst", encoding="latin-1")
    common: dict[str, Any] = {"batch_size": 2, "window": 5}
    with pytest.raises(ValueError, match=r"b.txt is in utf-16.*set data.encoding=utf-16"):
        text_files(files="b.txt", **common).setup("fit")
    told, plain = (
        text_files(files="b.txt", encoding="utf-16", **common),
        text_files(files="a.txt", **common),
    )
    assert told.fingerprint == plain.fingerprint
    with pytest.raises(ValueError, match=r"c.txt is not utf-8 near byte 1"):
        text_files(files="c.txt", encoding="utf-8", **common).setup("fit")


def test_what_is_no_text_is_said_to_be_none(folder):
    pyarrow.parquet.write_table(pa.table({"text": [TEXT]}), folder / "a.parquet")
    with ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("1.txt", TEXT)
        archive.writestr("2.txt", TEXT)
    (folder / "c.txt").write_bytes(gzip.compress(TEXT.encode())[:-20])
    for name, message in {
        "a.parquet": "a.parquet is a parquet table: data=table_files",
        "b.zip": "b.zip is a zip archive of 2 files: unpack it first",
        "c.txt": "c.txt is damaged, it cannot be unpacked",
    }.items():
        with pytest.raises(ValueError, match=message):
            text_files(files=name, batch_size=2, window=5).setup("fit")


@pytest.mark.parametrize(
    "rows", [[(1, 2, 3), (4, 5, 6)], [(1, 2), (4, 5, 6)], [("1", 2, ""), (4, 5, 6)]]
)
def test_rows_longer_than_the_header_are_refused(folder, rows):
    """Which of their cells is the surplus one cannot be known, so no column may move."""
    write_csv(folder / "a.csv", [*rows, *rows], header=("x", "y"))
    settings = {"num_classes": None, "task": "regression", "target_column": "y"}
    with pytest.raises(ValueError, match=r"a\.csv.*(row 0|row 1|line 3)"):
        read("a.csv", input_columns=["x"], per_step=True, **NUMBERS, **settings).setup("fit")


def test_commas_at_the_ends_of_rows_add_no_column(folder):
    write_csv(folder / "a.csv")
    write_csv(folder / "b.csv", [(*row, "") for row in ROWS])
    assert read("b.csv").fingerprint == read("a.csv").fingerprint


def test_a_zip_that_is_cut_is_said_to_be_damaged(folder):
    write_csv(folder / "a.csv")
    zipped(folder / "a.zip", (folder / "a.csv").read_bytes())
    (folder / "a.zip").write_bytes((folder / "a.zip").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a\.zip is damaged"):
        read("a.zip").setup("fit")


@pytest.mark.parametrize("name", ["hex", "rot13", "klingon"])
def test_an_encoding_that_is_not_of_text_is_refused(folder, name):
    write_csv(folder / "a.csv")
    with pytest.raises(ValueError, match=f"data.encoding={name} is unknown"):
        read("a.csv", encoding=name)
