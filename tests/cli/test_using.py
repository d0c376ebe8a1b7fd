"""``lnrnn predict``, ``generate`` and ``export``: what is typed, printed and written."""

import csv
import io
import sys

import pytest
from experiments import compose

import lnrnn
from lnrnn.cli import evaluate, export, generate, predict, push
from lnrnn.cli.arguments import read_arguments
from lnrnn.training import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    (root / "text.txt").write_text("the quick brown fox jumps over the lazy dog; " * 20)
    rows = "".join(f"{['fine', 'bad'][n % 2]} {n},{n % 2}\n" for n in range(60))
    (root / "table.csv").write_text("text,label\n" + rows)
    short = ("trainer.max_steps=4", "model.hidden_size=8")
    table = ("data=table_files", f"data.files={root / 'table.csv'}", "data.num_classes=2")
    text = ("data=text_files", f"data.files={root / 'text.txt'}", "data.batch_size=3")
    return {
        "table": train(compose(*short, *table, "name=t"), root)[0].path,
        "text": train(compose(*short, *text, "data.window=12", "name=l"), root)[0].path,
    }


@pytest.fixture
def call(monkeypatch, capfdbinary):
    def call(module, *words: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["lnrnn", *map(str, words)])
        code: object = 0
        try:
            module.main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        return code, capfdbinary.readouterr().out.decode()

    return call


def test_predict_prints_or_writes(call, runs, tmp_path):
    new = tmp_path / "a=b, 'c'.txt"
    new.write_text("fine\nbad\n")
    code, printed = call(predict, f"run={runs['table']}", f"files={new}")
    assert code == 0
    rows = [*csv.DictReader(io.StringIO(printed))]
    assert [row["row"] for row in rows] == ["0", "1"]
    assert rows[0]["file"] == str(new)
    out = tmp_path / "answers, all.csv"
    code, printed = call(predict, f"run={runs['table']}", f"files={new}", f"out={out}")
    assert (code, printed) == (0, f"2 sequences: {out}\n")
    assert [*csv.DictReader(io.StringIO(out.read_text()))] == rows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["files=nothing.csv"], "nothing matches nothing.csv"),
        (["files='a, b.csv'"], "Here quotes are part of the name: leave out '"),
        (["files={new}", "out={new}"], "is one of the files to be read"),
        (["files={new}", "out=x.xlsx"], "answers are written as"),
        (["files={new}", "batch_size=0"], "batch_size must be a whole number from 1 up"),
        (["files={new}", "weights=first"], "weights must be best, last or null"),
        (["files={new}", "weight=best"], "Did you mean weights"),
        (["files=nothing.csv"], "error: files must name files"),
        (["files=[1]"], "error: files must be a path, a glob or a list"),
        (["files={empty}"], "empty.csv: there is no row"),
        ([], "files must be given"),
    ],
)
def test_predict_refuses(call, runs, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    new = tmp_path / "new.txt"
    new.write_text("fine\n")
    empty = tmp_path / "empty.csv"
    empty.write_text("text,label\n")
    given = [word.format(new=new, empty=empty) for word in words]
    out = [] if "out=" in " ".join(words) else ["out=answers.parquet"]
    code, _ = call(predict, f"run={runs['table']}", *given, *out)
    assert said in str(code)
    assert {*tmp_path.iterdir()} == {new, empty}
    assert new.read_text() == "fine\n"


@pytest.mark.parametrize("module", [evaluate, predict, generate, export, push])
@pytest.mark.parametrize("word", ["run=", "run=  "])
def test_a_run_that_is_not_named_is_said(call, module, word):
    """Such as by a variable of the shell that is empty: it is not the current folder."""
    others = {generate: ["prompt=x"], predict: ["files=x"], push: ["repo=me/x"]}
    others |= {export: ["format=onnx", "out=x.onnx"]}
    code, _ = call(module, word, *others.get(module, []))
    assert "run= is empty: give a run's folder" in str(code)


def test_a_language_model_is_refused_before_a_file_is_made(call, runs, tmp_path):
    (tmp_path / "new.txt").write_text("x\n")
    words = (f"run={runs['text']}", f"files={tmp_path / 'new.txt'}", f"out={tmp_path / 'o.csv'}")
    code, _ = call(predict, *words)
    assert "lnrnn generate" in str(code)
    assert not (tmp_path / "o.csv").exists()


def test_generate_prints_or_writes(call, runs, tmp_path):
    prompt = "To be, or not: 'that' is ${a} [question]="
    how = ("length=30", "temperature=0.7", "seed=3")
    code, printed = call(generate, f"run={runs['text']}", f"prompt={prompt}", *how)
    model = lnrnn.load(runs["text"])
    assert code == 0
    assert printed == model.generate(prompt, length=30, temperature=0.7, seed=3) + "\n"
    out = tmp_path / "text.txt"
    code, _ = call(generate, f"run={runs['text']}", f"prompt={prompt}", *how, f"out={out}")
    expected = model.generate_bytes(prompt.encode(), length=30, temperature=0.7, seed=3)
    assert (code, out.read_bytes()) == (0, expected)
    code, printed = call(generate, f"run={runs['text']}", "length=5", "prompt=")
    assert code == 0


@pytest.mark.parametrize("prompt", ["[Enter a king]", "[Enter KING", "null", "", "[]", "'"])
def test_a_prompt_is_what_was_typed(prompt):
    assert read_arguments(["run=x", f"prompt={prompt}"], "generate")["prompt"] == prompt


def test_files_alone_are_a_list():
    words = ["run=[x]", "files=[a.csv,b.csv]", "out=[b].csv"]
    read = read_arguments(words, "predict")
    assert (read["run"], read["files"], read["out"]) == ("[x]", ["a.csv", "b.csv"], "[b].csv")
    assert read_arguments(["run=x", "files=[a].csv"], "predict")["files"] == "[a].csv"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["length=-1"], "length must"),
        (["temperature=-1"], "temperature must"),
        (["temperature=hot"], "temperature must be a number from 0 up, got 'hot'"),
        (["temperature=true"], "temperature must be a number from 0 up, got True"),
        (["seed=hot"], "seed must be a whole number, got 'hot'"),
    ],
)
def test_generate_refuses(call, runs, words, said):
    assert said in str(call(generate, f"run={runs['text']}", *words)[0])
    assert "only a language model" in str(call(generate, f"run={runs['table']}")[0])


def test_export_writes_and_says_how_near_it_is(call, runs, tmp_path):
    out = tmp_path / "model"
    code, printed = call(export, f"run={runs['table']}", "format=safetensors", f"out={out}")
    assert (code, "bit for bit" in printed) == (0, True)
    labels = [lnrnn.load(place).predict("fine").labels for place in (out, runs["table"])]
    assert labels[0] == labels[1]
    words = (f"run={runs['table']}", "format=torch_export", f"out={tmp_path / 'm.pt2'}")
    code, printed = call(export, *words)
    assert (code, "scores differ by at most" in printed) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=tflite", "out=x"], "format must be one of onnx, torch_export, aoti, safetensors"),
        (["format=onnx", "out=x.pt2"], "a file of onnx ends in .onnx"),
        (["format=onnx"], "out must be given"),
    ],
)
def test_export_refuses(call, runs, words, said):
    assert said in str(call(export, f"run={runs['table']}", *words)[0])


@pytest.mark.parametrize("module", [predict, generate, export])
def test_help_lists_the_keys(call, module):
    code, printed = call(module, "--help")
    assert code == 0
    assert "run: ???" in printed
