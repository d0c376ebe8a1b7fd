"""The report at the end of a pass: what ran, what failed, and every table, to be pasted."""

import re
import time
from pathlib import Path

TESTS = ("graphs", "parity")
SHOWN = 12  # failed tests, or last lines of a log


def write_report(folder: Path, states: dict[str, str]) -> str:
    """Write ``report.md`` from the parts' logs and return it.

    Args:
        folder: Of the logs, one a part.
        states: By part: what became of it.
    """
    sections = [f"# GPU check, {time.strftime('%Y-%m-%d')}"]
    sections.append(_read(folder, "needs"))
    sections.append("\n".join(f"* {name}: {state}" for name, state in states.items()))
    for name in states:
        text = tests(_read(folder, name)) if name in TESTS else _read(folder, name)
        if name in ("train", "warm"):
            text = "\n".join(text.splitlines()[-SHOWN:])
        body = text if text.lstrip().startswith("|") or "\n|" in text else f"```text\n{text}\n```"
        sections.append(f"## {name}\n\n{body}")
    report = "\n\n".join(section for section in sections if section)
    (folder / "report.md").write_text(report + "\n", encoding="utf-8")
    return report


def tests(log: str) -> str:
    """Return how many tests passed, and which failed."""
    last = log.splitlines()[-1] if log else "nothing ran"
    failed = sorted(set(re.findall(r"^(?:FAILED|ERROR) .*", log, re.M)))
    reasons = sorted(set(re.findall(r"^E  +.*", log, re.M)))
    return "\n".join(line[:160] for line in [last.strip("= "), *failed[:SHOWN], *reasons[:SHOWN]])


def _read(folder: Path, name: str) -> str:
    path = folder / f"{name}.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return re.sub(r"^USDT:.*\n", "", text, flags=re.M).strip()  # torch's profiler says so much
