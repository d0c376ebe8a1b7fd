"""What the check of the Dockerfile reads; what it executes needs root and minutes."""

from pathlib import Path

import dockerfile_check
import pytest
from dockerfile_check import Image, read_steps, take


def test_steps_are_read_over_lines_and_without_comments() -> None:
    text = "# a comment\nFROM a:b\n\nRUN one \\\n# between\n && two\nUSER me\n"
    assert read_steps(text) == [("FROM", "a:b"), ("RUN", "one  && two"), ("USER", "me")]


def test_files_are_copied_without_what_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dockerfile_check, "CONTEXT", tmp_path / "context")
    for name in ("one", "code/runs/a.py", "code/__pycache__/a.pyc", "runs/kept"):
        path = tmp_path / "context" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    image = Image(tmp_path / "image")
    take(image, "WORKDIR", "/opt/lnrnn", [], {})
    for words in ("one ./", "code ./code"):
        take(image, "COPY", words, ["runs", "**/__pycache__"], {})
    copied = [path for path in (tmp_path / "image").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "image")) for path in copied) == [
        "opt/lnrnn/code/runs/a.py",
        "opt/lnrnn/one",
    ]


def test_variables_and_the_command_are_kept_and_unknown_steps_refused(tmp_path: Path) -> None:
    image = Image(tmp_path)
    take(image, "ENV", "A=1 B='two words'", [], {})
    take(image, "ENTRYPOINT", '["lnrnn", "train"]', [], {})
    assert (image.environment["A"], image.environment["B"]) == ("1", "two words")
    assert image.entry == ["lnrnn", "train"]
    with pytest.raises(SystemExit, match="does not know HEALTHCHECK"):
        take(image, "HEALTHCHECK", "NONE", [], {})


def test_every_step_of_the_dockerfile_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that one who edits it learns here that the check has to learn a word."""
    monkeypatch.setattr(Image, "call", lambda *_: "")
    text = (dockerfile_check.CONTEXT / "Dockerfile").read_text()
    (_, base), *steps = read_steps(text)
    assert base.startswith("python:")
    image = Image(tmp_path)
    for instruction, argument in steps:
        take(image, instruction, argument, [".venv", "**/__pycache__"], {})
    assert image.user != "root"
    assert (tmp_path / "opt/lnrnn/conf/train.yaml").exists()
