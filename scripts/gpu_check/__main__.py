"""Run the parts one after another, each within its limit, and end with a report to be pasted."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from gpu_check.parts import Part, parts
from gpu_check.report import write_report

LEAST = 5  # seconds: a part that has less is not begun
# Seconds that a part has to leave: pytest prints what failed so far when it is interrupted.
GRACE = {signal.SIGINT: 8, signal.SIGTERM: 4, signal.SIGKILL: 4}


class Outcome(NamedTuple):
    """What became of a part, in words, and after how many seconds."""

    state: str
    seconds: float


def main() -> None:
    """Make one pass."""
    options = _parser().parse_args()
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    every = parts()
    wanted = [part for part in every if not options.only or part.name in options.only]
    unknown = set(options.only) - {part.name for part in every}
    if unknown:
        names = ", ".join(part.name for part in every)
        sys.exit(f"error: --only takes {names}; got {', '.join(sorted(unknown))}")
    deadline = time.monotonic() + options.seconds
    outcomes: dict[str, Outcome] = {}
    aside: list[tuple[Part, subprocess.Popen[bytes], float]] = []
    for i, part in enumerate(wanted):
        if part.timed:
            outcomes |= _finish(aside)
        left = deadline - time.monotonic() - sum(later.promised for later in wanted[i + 1 :])
        limit = min(part.seconds, left)
        if limit < LEAST:
            outcomes[part.name] = Outcome("left out, no time", 0.0)
            continue
        print(f"{part.name}: at most {limit:.0f} s", flush=True)
        started = time.monotonic()
        process = _start(part, folder)
        if part.beside:
            aside.append((part, process, started))
            continue
        outcomes[part.name] = Outcome(_wait(part, process, limit), time.monotonic() - started)
        print(
            f"  {outcomes[part.name].state} after {outcomes[part.name].seconds:.0f} s", flush=True
        )
    outcomes |= _finish(aside)
    ended = {name: f"{end.state}, {end.seconds:.0f} s" for name, end in outcomes.items()}
    print(write_report(folder, ended))
    sys.exit(any(outcome.state != "ok" for outcome in outcomes.values()))


def _start(part: Part, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a part in a process group of its own, so that all of it can be killed.

    It hears SIGINT, on which pytest says what failed, also where a shell has started all this in
    the background and ignores that signal.
    """
    with (folder / f"{part.name}.txt").open("wb") as log:
        command = ["nice", *part.command] if part.beside else part.command
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder if part.apart else None,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )


def _wait(part: Part, process: "subprocess.Popen[bytes]", limit: float) -> str:
    """Wait for a part, end it when its time is over, and return what became of it."""
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        for how, seconds in GRACE.items():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return "STOPPED at its limit"
        return "STUCK, and not to be killed"
    return "ok" if code in part.right else f"FAILED with {code}"


def _finish(aside: list[tuple[Part, "subprocess.Popen[bytes]", float]]) -> dict[str, Outcome]:
    """Wait for what runs beside, as far as its limit goes, and forget it."""
    found = {}
    for part, process, started in aside:
        state = _wait(part, process, max(1.0, started + part.seconds - time.monotonic()))
        found[part.name] = Outcome(state, time.monotonic() - started)
    aside.clear()
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.sh", description=__doc__)
    add = parser.add_argument
    add("--cpu", action="store_true", help="rehearse on a CPU, at tiny sizes")
    add("--seconds", type=float, default=460, help="in all")
    add("--out", default="gpu-check", help="folder of the logs and report.md")
    add("--only", nargs="+", default=[], metavar="PART", help="some parts only")
    return parser


if __name__ == "__main__":
    main()
