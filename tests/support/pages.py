"""The pages that people read, and what is in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Its blocks compile and start processes: tests/builds/test_serving.py runs them.
SERVING = ROOT / "docs/serving.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


class Fence(NamedTuple):
    language: str
    line: int  # of the opening fence, from 1
    text: str
    follows: bool  # nothing but blank lines is between this fence and the one before


def read_fences(page: str) -> list[Fence]:
    fences: list[Fence] = []
    opened: tuple[str, int] | None = None
    body: list[str] = []
    follows = False
    for number, line in enumerate(page.splitlines(), start=1):
        if opened and line.strip() == "```":
            fences.append(Fence(*opened, "".join(f"{text}\n" for text in body), follows))
            opened, follows = None, True
        elif opened:
            body.append(line)
        elif line.startswith("```"):
            opened, body = (line[3:].strip(), number), []
        elif line.strip():
            follows = False
    assert opened is None, f"the fence {opened} is not closed"
    return fences


def prose(page: str) -> str:
    """The page with its fences and code spans blanked, lines kept."""
    blank = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    without = blank.sub(lambda fence: "\n" * fence.group().count("\n"), page)
    return re.sub(r"`[^`\n]*`", "", without)


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)


def anchor(heading: str) -> str:
    """What a heading is linked by, as GitHub and MkDocs make it of plain words."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
    return text.strip().replace(" ", "-")
