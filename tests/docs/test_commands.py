"""Every shell command of the documentation exists, and its overrides compose."""

import dataclasses
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import benchmark
import pytest
from pages import PAGES, ROOT, read_fences

from lnrnn.cli import main as cli
from lnrnn.cli.arguments import read_arguments
from lnrnn.cli.find_lr import split_words
from lnrnn.cli.predict import main as predict
from lnrnn.config.compose import check_overrides, compose_config, compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.other_data import split_changes
from lnrnn.study.folders import are_folders
from lnrnn.study.plan import compared_runs
from lnrnn.study.search import read_search
from lnrnn.study.settings import read_settings
from lnrnn.training import train

FREE = (
    "git",
    "cd",
    "export",
    ".",
    "docker",
    "tensorboard",
    "pip-audit",
    "c++",
)  # not ours to check
SCRIPTS = {"benchmark.py": benchmark._parser}
COMPOSED = ("train", "evaluate", "compare")
USING = ("predict", "generate", "export", "push")


class Command(NamedTuple):
    page: str
    line: int
    words: tuple[str, ...]


def read_commands(page: Path) -> Iterator[Command]:
    """The commands of a page's bash fences, without comments and with lines put together."""
    for fence in read_fences(page.read_text(encoding="utf-8")):
        if fence.language not in ("bash", "sh", "shell", "console"):
            continue
        lines = fence.text.splitlines()
        for start in range(len(lines)):
            if start and lines[start - 1].endswith("\\"):
                continue
            end = start
            while lines[end].endswith("\\"):
                end += 1
            text = " ".join(part.removesuffix("\\") for part in lines[start : end + 1])
            for part in re.split(r"\s+&&\s+", text):
                words = shlex.split(part, comments=True)
                if words:
                    yield Command(page.name, fence.line + 1 + start, tuple(words))


def written_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows: fences that begin with a comment with a path."""
    for fence in read_fences(page.read_text(encoding="utf-8")):
        if path := re.match(r"(?:# @.*\n)?# (\w[\w/.]*\.(?:yaml|py))\b", fence.text):
            file = folder / path[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(fence.text)


COMMANDS = [command for page in PAGES for command in read_commands(page)]


def check(words: Sequence[str]) -> None:
    """Raise or fail unless the command can be given.

    Raises:
        ConfigurationError: If its overrides are refused.
    """
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]  # the environment
    if not words or words[0] in FREE:
        return
    match words:
        case ["make", *rest]:
            _check_make(rest)
        case ["exec", *rest]:
            check(rest)
        case ["pip", "install", *rest]:
            _check_extras(rest)
        case ["torchrun" | "srun", *rest]:
            place = next(n for n, word in enumerate(rest) if word in ("-m", "lnrnn"))
            check(rest[place + (rest[place] == "-m") :])
        case ["lnrnn", command, *rest] | ["python", "-m", "lnrnn", command, *rest]:
            assert command in (*cli.COMMANDS, "--help", "--version")
            _check_ours(command, rest)
        case ["python", "-m", module, *rest]:
            assert not rest
            assert find_spec(module), f"there is no module {module}"
        case ["bash", script, *_] | [script] if script.startswith("scripts/"):
            assert (ROOT / script).is_file(), f"there is no {script}"
        case ["python", script, *rest] if script.startswith("scripts/"):
            assert (ROOT / script).is_file(), f"there is no {script}"
            if Path(script).stem in COMPOSED:
                _check_ours(Path(script).stem, rest)
            elif rest:
                SCRIPTS[Path(script).name]().parse_args(rest)
        case _:
            pytest.fail(f"this test does not know how to check {shlex.join(words)}")


def _check_make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words
    for word in words:
        assert word in targets, f"the Makefile has no target {word}"


def _check_extras(words: Sequence[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        for named in re.findall(r"^(?:\.|lnrnn)\[([\w,]+)\]", word):
            assert {*named.split(",")} <= extras["optional-dependencies"].keys()


def _check_ours(command: str, words: Sequence[str]) -> None:
    if command == "compare":
        settings = read_settings(words)
        if not are_folders(settings):
            compared_runs(dataclasses.replace(settings, seeds=1), {})
    elif command == "tune":
        read_search(words)
    elif command == "evaluate":
        compose_config(split_changes(words)[0], "evaluate")
    elif command == "find-lr":
        own, passed = split_words(list(words))
        compose_config(own, "find_lr")
        compose_experiment(passed)
    elif command in USING:
        read_arguments(words, command)
    elif command == "train":
        many = {"-m", "--multirun"} & {*words}
        overrides = [word for word in words if word not in ("-m", "--multirun", "--help")]
        check_overrides(_without_plugins(overrides), multirun=bool(many))
    else:
        assert not words


def _without_plugins(overrides: Sequence[str]) -> list[str]:
    """Leave out a launcher that is a package of its own, with its settings."""
    return [text for text in overrides if not re.match(r"hydra[/.]launcher", text)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}:{command.line}")
def test_a_command_can_be_given(command, tmp_path, monkeypatch) -> None:
    page = next(page for page in PAGES if page.name == command.page)
    written_files(page, tmp_path)
    # Its classes are counted while the command is read.
    (tmp_path / "reviews.csv").write_text("text,label\na quiet film,for\ntwo hours,against\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    check(command.words)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        *(
            ("own_model.md", f"model={m}")
            for m in ("small_lstm", "lstm_rms", "convolved", "averages")
        ),
        ("own_data.md", "data=waves"),
    ],
)
def test_what_a_page_makes_trains(name, choice, tmp_path, monkeypatch) -> None:
    page = ROOT / "docs" / name
    written_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    commands = [command.words for command in read_commands(page)]
    (words,) = [words for words in commands if choice in words]
    assert words[:2] == ("lnrnn", "train")
    small = ("trainer=debug", "trainer.enable_progress_bar=false")
    _, record = train(compose_experiment([*words[2:], *small]))
    assert record.status == "finished"


def test_the_page_on_using_a_run_shows_what_it_does(tmp_path, monkeypatch, capsys) -> None:
    """Its Python blocks and those of its commands whose output is shown, one after the other."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")
    fences = read_fences(page)
    namespace: dict[str, object] = {}
    shown = 0
    for fence, then in itertools.pairwise(fences):
        if fence.language == "python":
            exec(fence.text, namespace)
            capsys.readouterr()
        if fence.language == "bash" and then.language == "text" and then.follows:
            command, name, *words = shlex.split(fence.text)
            assert (command, name) == ("lnrnn", "predict")
            monkeypatch.setattr("sys.argv", [command, *words])
            predict()
            assert capsys.readouterr().out == then.text
            shown += 1
    assert shown == 1
    (columns,) = re.findall(r"^Its columns are (.*)", page, re.MULTILINE)
    header = Path("states.csv").read_text().splitlines()[0]
    assert re.findall(r"`(.*?)`", columns) == header.split(",")


@pytest.mark.parametrize("kind", ["classification", "tagging", "regression", "forecasting"])
def test_the_experiments_of_a_page_train_on_a_small_file(kind, tmp_path, monkeypatch) -> None:
    page = ROOT / "docs" / "own_data.md"
    written_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    steps = [
        f"w{k},{t},{k / 9},{t / 7},{'still' if t % 2 else 'moving'},{'ab'[k % 2]},{2.5 * k}"
        for k in range(24)
        for t in range(6 + k % 3)
    ]
    Path("walks.csv").write_text("\n".join(["id,second,x,y,state,kind,distance", *steps]))
    hours = [f"2026-01-{1 + t // 24:02} {t % 24:02}:00,{400 + t % 24},{t % 7}" for t in range(300)]
    Path("load.csv").write_text("\n".join(["hour,load,temperature", *hours]))
    commands = [command.words for command in read_commands(page)]
    (words,) = [words for words in commands if f"experiment=own_{kind}" in words]
    small = ("trainer=debug", "trainer.enable_progress_bar=false")
    _, record = train(compose_experiment([*words[2:], *small]))
    assert record.status == "finished"
    assert f"test/{record.metric}" in record.metrics


def test_commands_are_found_and_ours_are_among_them() -> None:
    assert len(COMMANDS) > 30
    assert {command.words[1] for command in COMMANDS if command.words[0] == "lnrnn"} >= {
        "train",
        "compare",
    }


@pytest.mark.parametrize(
    "command",
    [
        "lnrnn train model=rnn_lm",
        "lnrnn train model.epsilon=1",
        "lnrnn train model=rnn,lstm",  # no -m
        "lnrnn compare 'arms=[rnn,rnn_lm]'",
        "lnrnn compare seds=3",
        "lnrnn evaluate rnu=x",
        "lnrnn predict run=x",
        "lnrnn generate run=x prefix=y",
        "lnrnn export run=x out=y formet=onnx",
        "torchrun --nproc-per-node=2 -m lnrnn train trainer=dpp",
        "srun lnrnn train trainer=dpp",
        "python scripts/train.py data=text_files",  # its files are not given
    ],
)
def test_overrides_that_are_refused_are_seen(command) -> None:
    with pytest.raises(ConfigurationError):
        check(shlex.split(command))


@pytest.mark.parametrize(
    "command",
    [
        "make trane",
        "lnrnn trane",
        "python scripts/trane.py",
        "python -m lnrnn.ops.gpu",
        "pip install 'lnrnn[tensorbord]'",
        "conda install lnrnn",
    ],
)
def test_commands_that_do_not_exist_are_seen(command) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(shlex.split(command))


def test_lines_are_put_together_and_comments_left_out(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nmake train  # so\n\nmake \\\n  test && make lint\n```\n")
    assert [(command.line, *command.words) for command in read_commands(page)] == [
        (2, "make", "train"),
        (4, "make", "test"),
        (4, "make", "lint"),
    ]
