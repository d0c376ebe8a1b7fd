"""The report at the end of a pass: what ran, what failed, and every table, to be pasted."""

import re
import time
from collections import Counter
from pathlib import Path

TESTS = ("graphs", "parity")
SHOWN = 12  # reasons, or last lines of a log
FAILED = 40  # failed tests


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
    """Return how many tests passed, and which failed, of a pytest that was killed too."""
    last = log.splitlines()[-1].strip("= ") if log else "nothing ran"
    failed = sorted(set(re.findall(r"^(?:FAILED|ERROR) .*", log, re.M)))
    if log and not re.search(r" in [\d.]+s", last):
        last, failed = _without_summary(log)
    reasons = sorted(set(re.findall(r"^E  +.*", log, re.M)))
    return "\n".join(line[:160] for line in [last, *failed[:FAILED], *reasons[:SHOWN]])


def _without_summary(log: str) -> tuple[str, list[str]]:
    """Return counts and what did not pass by the lines of single tests, xdist's or pytest's."""
    by_xdist = re.findall(r"^\[gw\d+\].* (PASSED|FAILED|ERROR|SKIPPED) (\S+::.*?) *$", log, re.M)
    plain = re.findall(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)\b", log, re.M)
    states = dict([(name, state) for state, name in by_xdist] + plain)
    begun = re.findall(r"^(\S+::\S+) *$", log, re.M)
    states = {**dict.fromkeys(begun, "UNFINISHED"), **states}
    counts = Counter(state.lower() for state in states.values())
    bad = [f"{s} {name}" for name, s in states.items() if s not in ("PASSED", "SKIPPED")]
    return ", ".join(f"{n} {state}" for state, n in counts.items()) + ", no summary", sorted(bad)


def _read(folder: Path, name: str) -> str:
    path = folder / f"{name}.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return re.sub(r"^USDT:.*\n", "", text, flags=re.M).strip()  # torch's profiler says so much
