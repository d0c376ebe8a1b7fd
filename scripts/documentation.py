"""What MkDocs asks while it builds the site: a page of every configuration key, and links.

``mkdocs.yml`` names this file among its hooks; the functions ``on_...`` are called by MkDocs.
"""

import inspect
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lnrnn.config import CONF
from lnrnn.config.allowed_targets import locate

ROOT = Path(__file__).resolve().parents[1]
BESIDE_DOCS = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")  # pages of the site too
MARKER = "<!-- every key -->"
COMMANDS = {
    "train": "Keys of a run, for `lnrnn train` and for the runs of `lnrnn compare`:",
    "compare": "Keys of `lnrnn compare`, beside those of its runs:",
    "tune": "Keys of `lnrnn tune`, beside those of its trials:",
    "find_lr": "Keys of `lnrnn find-lr`, beside those of a run:",
    "evaluate": "Keys of `lnrnn evaluate`:",
    "predict": "Keys of `lnrnn predict`:",
    "generate": "Keys of `lnrnn generate`:",
    "export": "Keys of `lnrnn export`:",
    "push": "Keys of `lnrnn push`:",
}


class Key(NamedTuple):
    """One key of a file.

    Attributes:
        path: With dots between its parts.
        value: As written in the file.
        comment: What the file says of it.
    """

    path: str
    value: str
    comment: str


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in ``docs/``."""
    from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]

    for name in BESIDE_DOCS:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in the keys, and turn links into the repository into what the site has."""
    source = page.file.src_uri
    folder = "" if source in BESIDE_DOCS else "docs"
    return site_links(markdown.replace(MARKER, configuration()), folder)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Show what docstrings write for Sphinx: a role as its text, mathematics as LaTeX."""
    html = re.sub(r":(?:func|class|meth|mod):(?=<code>)", "", html)
    return re.sub(r"<p>\.\. math::\s*(.*?)</p>", r"<pre>\1</pre>", html, flags=re.DOTALL)


def site_links(markdown: str, folder: str) -> str:
    """Return a page with the links that the site has; of others, the text alone.

    Args:
        markdown: A page of the repository.
        folder: The folder it is in, from the top.
    """

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path, mark, anchor = target.partition("#")
        if re.match(r"\w+:", target) or not path:
            return link[0]
        place = posixpath.normpath(posixpath.join(folder, path))
        if place.startswith("docs/") or place in BESIDE_DOCS:
            return f"[{text}]({place.removeprefix('docs/')}{mark}{anchor})"
        return text

    return re.sub(r"(?<!!)\[([^]]*)\]\(([^)\s]+)\)", replaced, markdown)


def configuration() -> str:
    """Return a table of the keys of every file in ``conf/``, in Markdown."""
    groups = sorted(path for path in CONF.iterdir() if path.is_dir() and path.name[0] != "_")
    parts = []
    for name, text in COMMANDS.items():
        parts += [f"## lnrnn {name}", text, _table(read_keys(CONF / f"{name}.yaml", ""))]
    for group in groups:
        parts.append(f"## {group.name}=")
        for file in sorted(group.glob("*.yaml")):
            parts += [f"### {group.name}={file.stem}", *_file(file, group.name)]
    return "\n\n".join(filter(None, parts))


def _file(file: Path, group: str) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    about = re.match(r"(?:#.*\n)*", text)
    assert about is not None
    lines = [line[1:].strip() for line in about[0].splitlines() if "@package" not in line]
    yield " ".join(line for line in lines if not line.startswith("torchrun"))
    node = yaml.safe_load(text) or {}
    bases = [base for base in node.get("defaults", ()) if isinstance(base, str)]
    yield from (f"As `{group}={base}`, but:" for base in bases)
    is_whole = "@package _global_" in text
    keys = read_keys(file, "" if is_whole else f"{group}.")
    yield _table(keys)
    target = (node.get(group) or {} if is_whole else node).get("_target_")
    if target:
        given = {key.path.split(".")[-1] for key in keys}
        more = ", ".join(_further_arguments(target, given))
        yield f"Built by `{target}`."
        yield f"With a `+` in front it also takes: {more}." if more else ""


def _further_arguments(target: str, given: set[str]) -> Iterator[str]:
    for name, parameter in inspect.signature(locate("", target)).parameters.items():
        if name in given or name in ("self", "params", "input_size", "bidirectional"):
            continue
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            has_default = parameter.default is not parameter.empty
            yield f"`{name}={parameter.default!r}`" if has_default else f"`{name}`"


def read_keys(file: Path, prefix: str) -> list[Key]:
    """Return a file's keys with the comments beside them.

    Args:
        file: YAML, with a comment behind a key and, where that is long, on the lines below it.
        prefix: What precedes every path.
    """
    text = file.read_text(encoding="utf-8")
    root = yaml.compose(text, yaml.SafeLoader)
    found = []
    if isinstance(root, yaml.MappingNode):
        for path, node in _leaves(root, prefix):
            value = text[node.start_mark.index : node.end_mark.index].strip()
            found.append(Key(path, value, _comment(text.splitlines(), node.end_mark.line)))
    return found


def _leaves(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, yaml.Node]]:
    for key, value in node.value:
        if key.value in ("hydra", "_target_", "_partial_"):
            continue
        if key.value == "defaults":
            yield from _choices(value)
        elif isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _leaves(value, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", value


def _choices(defaults: yaml.SequenceNode) -> Iterator[tuple[str, yaml.Node]]:
    """Yield the groups that a file chooses from."""
    for entry in defaults.value:
        for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
            if "hydra" not in key.value:
                yield key.value.removeprefix("override ").lstrip("/"), value


def _comment(lines: Sequence[str], number: int) -> str:
    behind = re.search(r"(?:^|\s)#\s*(.*)$", lines[number])
    if behind is None:
        return ""
    parts = [behind[1]]
    for line in lines[number + 1 :]:
        below = re.match(r"\s{2,}#\s*(.*)$", line)
        if below is None:
            break
        parts.append(below[1])
    return " ".join(parts)


def _table(keys: Sequence[Key]) -> str:
    if not keys:
        return ""
    lines = ["| key | value | |", "| --- | --- | --- |"]
    for path, value, comment in keys:
        lines.append(f"| `{path}` | `{value}` | " + comment.replace("|", "\\|") + " |")
    return "\n".join(lines)
