"""Every Python block of the documentation runs and prints what the page shows below it."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from pages import PAGES, ROOT, SERVING, read_fences

import lnrnn


def run_page(page: str, name: str) -> int:
    """Run a page's Python blocks in one namespace and return their number."""
    fences = read_fences(page)
    namespace: dict[str, object] = {"__name__": name}
    for index, fence in enumerate(fences):
        if fence.language != "python":
            continue
        shown = fences[index + 1] if index + 1 < len(fences) else None
        expected = shown.text if shown and shown.follows and shown.language == "text" else ""
        printed = io.StringIO()
        # Blank lines in front make a traceback point into the page.
        code = compile("\n" * fence.line + fence.text, name, "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        assert printed.getvalue() == expected, f"{name}, line {fence.line}, prints something else"
    return sum(fence.language == "python" for fence in fences)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != SERVING], ids=lambda page: page.name
)
def test_page_prints_what_it_shows(page: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # a page may train
    with torch.random.fork_rng():
        run_page(page.read_text(encoding="utf-8"), str(page))


@pytest.mark.parametrize("name", ["layer_normalization.md", "formulas.md"])
def test_page_has_python_blocks(name: str) -> None:
    fences = read_fences((ROOT / "docs" / name).read_text(encoding="utf-8"))
    assert sum(fence.language == "python" for fence in fences) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_block_escapes_the_test(page: Path) -> None:
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        word = line.strip().removeprefix("```")
        escapes = line.strip() != word and "py" in word and line != "```python"
        assert not escapes, f"{page.name}, line {number}: write ```python, not indented"


PAGE = """Two blocks of one namespace.

```python
x = 2
```

```python
print(x + 1)
```

```text
{shown}
```
"""


def test_block_sees_names_of_earlier_blocks() -> None:
    assert run_page(PAGE.format(shown="3"), "page.md") == 2


def test_rotten_output_fails() -> None:
    with pytest.raises(AssertionError, match=r"page\.md, line 7"):
        run_page(PAGE.format(shown="4"), "page.md")


def test_output_that_is_not_shown_fails() -> None:
    page = PAGE.format(shown="3").replace("```text", "In words:\n\n```text")
    with pytest.raises(AssertionError, match=r"page\.md, line 7"):
        run_page(page, "page.md")


def test_block_that_raises_fails_and_names_its_line() -> None:
    with pytest.raises(NameError) as error:
        run_page("# Title\n\n```python\nmissing\n```\n", "page.md")
    assert error.traceback[-1].lineno + 1 == 4


def test_published_settings_build_their_cell() -> None:
    page = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")
    settings = re.findall(r"\| (RNN|LSTM|GRU) \| `(CellNorm\(.*?\))` \| `(\w+)` \|", page)
    assert len(settings) >= 15
    for cell, setting, name in settings:
        norm = eval(setting, {"CellNorm": lnrnn.CellNorm})
        assert getattr(lnrnn, cell).from_preset(name, 3, 5).norm == norm
    assert {name for *_, name in settings} == set(lnrnn.presets) - {"torchaudio_emformer"}


@pytest.mark.parametrize(("page", "least"), [("resume.md", 20), ("scaling.md", 8)])
def test_the_tests_that_a_page_names_exist(page, least):
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "docs" / page).read_text())
    assert len(named) > least
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_the_files_to_open_exist() -> None:
    page = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
    named = 0
    for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE):
        folder = ROOT
        for path in re.findall(r"`([\w/.]+)`", row):
            place = ROOT / path if "/" in path else folder / path
            folder = place.parent if place.suffix else place
            if "NAME" not in path and path not in ("SOURCES", "NOTICE"):
                assert place.exists(), f"adding.md names {path}, which is not there"
                named += 1
    assert named > 40
