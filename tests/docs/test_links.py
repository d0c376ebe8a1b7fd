"""Every link of the documentation leads somewhere, and to a heading that is there."""

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchor, headings, prose

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")


def broken_links(page: Path) -> list[str]:
    text = prose(page.read_text(encoding="utf-8"))
    found = []
    for link in LINK.finditer(text):
        if why := _what_is_wrong(page, link[1]):
            line = text.count("\n", 0, link.end()) + 1
            found.append(f"{page.name}, line {line}: {link[1]}: {why}")
    return found


def _what_is_wrong(page: Path, target: str) -> str | None:
    if re.match(r"\w+:", target):
        return None  # elsewhere; nothing here may ask the network
    path, _, wanted = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists() or not file.is_relative_to(ROOT):
        return "there is no such file"
    if wanted and wanted not in map(anchor, headings(file.read_text(encoding="utf-8"))):
        return "there is no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not broken_links(page)


def test_the_documentation_is_linked() -> None:
    links = [link for page in PAGES for link in LINK.findall(prose(page.read_text()))]
    assert len(links) > 50
    assert any("#" in link for link in links)


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("missing.md", "no such file"),
        ("#elsewhere", "no such heading"),
        ("other.md#a-headings", "no such heading"),
        ("../../outside.md", "no such file"),
        ("#a-heading-with-code", None),
        ("other.md#a-heading", None),
        ("https://example.org/x", None),
    ],
)
def test_a_broken_link_is_seen(link, why, tmp_path, monkeypatch) -> None:
    (tmp_path / "other.md").write_text("# A heading\n\n```\n# A headings\n```\n")
    page = tmp_path / "page.md"
    page.write_text(f"# A heading, with `code`\n\n[x]({link}) and `[y](code.md)`\n")
    monkeypatch.setitem(_what_is_wrong.__globals__, "ROOT", tmp_path)
    found = broken_links(page)
    assert why in found[0] if why else not found, found
