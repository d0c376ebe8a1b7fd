"""The site's hooks: every key of every file is on the page, and links fit the site."""

from pathlib import Path
from types import SimpleNamespace

import documentation
import pytest
import yaml
from omegaconf import OmegaConf

from lnrnn.config import CONF

FILES = sorted(path for path in CONF.rglob("*.yaml"))


@pytest.fixture(scope="module")
def page() -> str:
    return documentation.configuration()


def leaves(node: object, path: str) -> list[str]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in leaves(value, f"{path}.{key}")]
    return [path.lstrip(".")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_every_key_of_every_file_is_on_the_page(file: Path, page: str) -> None:
    text = file.read_text(encoding="utf-8")
    content = OmegaConf.to_container(OmegaConf.create(yaml.safe_load(text) or {}))
    assert isinstance(content, dict)
    group = "" if file.parent == CONF or "@package _global_" in text else file.parent.name
    heading = f"### {group or file.parent.name}={file.stem}"
    heading = f"## lnrnn {file.stem}" if file.parent == CONF else heading
    section = page.split(f"{heading}\n", 1)[1].split("\n### ")[0].split("\n## ")[0]
    for key in leaves(content, f".{group}"):
        last = key.split(".")[-1]
        if last != "defaults" and last[0] != "_" and not key.startswith("hydra."):
            assert f"| `{key}` |" in section


def test_a_comment_and_what_continues_it_are_beside_their_key(page: str) -> None:
    assert "| `model.num_layers` | `1` | layers, one reading the other |" in page
    assert "missing runs are counted and named. An arm may then be a folder, '[old/rnn" in page
    assert "| `data` | `japanese_vowels` | brings its head" in page


def test_a_file_that_builds_on_another_says_so(page: str) -> None:
    section = page.split("### model=lstm_ln\n")[1].split("###")[0]
    assert "As `model=lstm`, but:" in section
    assert "| `model.norm` | `output` |" in section


def test_arguments_that_no_file_sets_are_named(page: str) -> None:
    assert "`max_time=None`" in page  # Lightning's
    assert "`betas=(0.9, 0.999)`" in page  # torch's


@pytest.mark.parametrize(
    ("folder", "link", "on_the_site"),
    [
        ("docs", "[a](formulas.md#x)", "[a](formulas.md#x)"),
        ("docs", "[a](../SECURITY.md#x)", "[a](SECURITY.md#x)"),
        ("docs", "[`a`](../conf/model/rnn.yaml)", "`a`"),
        ("docs", "[a](#x)", "[a](#x)"),
        ("docs", "![a](figures/a.png)", "![a](figures/a.png)"),
        ("", "[a](docs/formulas.md)", "[a](formulas.md)"),
        ("", "[a](tests/security)", "a"),
        ("", "[a](https://pytorch.org)", "[a](https://pytorch.org)"),
    ],
)
def test_links_fit_the_site(folder: str, link: str, on_the_site: str) -> None:
    assert documentation.site_links(link, folder) == on_the_site


def test_the_marker_is_on_the_page_and_replaced() -> None:
    source = (documentation.ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert source.count(documentation.MARKER) == 1
    page = SimpleNamespace(file=SimpleNamespace(src_uri="configuration.md"))
    assert "## lnrnn train" in documentation.on_page_markdown(source, page, None, None)


def test_every_page_is_in_the_navigation() -> None:
    text = (documentation.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (documentation.ROOT / "docs").glob("*.md"):
        assert page.name in text
