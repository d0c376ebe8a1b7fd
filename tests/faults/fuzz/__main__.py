"""Interrupt random runs at random moments, and compare each with its undisturbed twin.

make fuzz MINUTES=10 SEED=1      new cases for ten minutes: numbers 1000000, 1000001, ...
make fuzz CASE=1000017           one of them again; with MINUTES=5, again and again for so long

Prints a line a case, and for one that differs the command, its signals with their times, and the
folder that is kept. Exit code 1 if any did.
"""

import argparse
import itertools
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from faults.fuzz.cases import draw_case
from faults.fuzz.play import Played, play, remove
from faults.fuzz.processes import check_threads, import_everything


def main() -> int:
    """Play cases until the time is up, and return the exit code."""
    arguments = read_arguments()
    folder = Path(tempfile.mkdtemp(prefix="lnrnn-fuzz-", dir=arguments.folder)).resolve()
    import_everything(folder / "first")
    begun, all_played = time.monotonic(), []
    for index, number in enumerate(numbers(arguments)):
        place = folder / f"{number}-{index}"
        check_threads()
        played = play(draw_case(number), place)
        all_played.append(played)
        print(line_of(played), flush=True)
        if played.problems:
            print(report_of(played, place), flush=True)
        else:
            remove(place)
        if time.monotonic() - begun > 60 * arguments.minutes:
            break
    remove(folder / "first")
    with suppress(OSError):  # what differs is kept
        folder.rmdir()
    print(summary_of(all_played, time.monotonic() - begun), flush=True)
    return 1 if any(played.problems for played in all_played) else 0


def read_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="how long; one case alone: once")
    parser.add_argument("--seed", type=int, default=1, help="which cases")
    parser.add_argument("--case", type=int, help="the number of a case, to play it alone")
    parser.add_argument("--folder", type=Path, help="where to make a folder for the runs")
    arguments = parser.parse_args()
    if arguments.minutes is None:
        arguments.minutes = 0.0 if arguments.case is not None else 10.0
    return arguments


def numbers(arguments: argparse.Namespace) -> Iterator[int]:
    """Return the numbers of the cases, without an end."""
    if arguments.case is not None:
        return itertools.repeat(arguments.case)
    return itertools.count(1_000_000 * arguments.seed)


def line_of(played: Played) -> str:
    """Say in a line what was done to a case and what came of it."""
    case = played.case
    codes = ", ".join(map(str, played.codes)) or "none in time"
    end = f"{len(played.problems)} DIFFERENCES" if played.problems else "equal"
    return (
        f"CASE={case.number} {case.form}, {case.start}: exit codes when interrupted: {codes}; {end}"
    )


def report_of(played: Played, place: Path) -> str:
    """Say all that is needed to see a difference again."""
    case = played.case
    lines = [f"  lnrnn {shlex.join(case.words)}"]
    lines += [f"  interrupted: {text}" for text in played.tried]
    lines += [f"  - {text}" for text in played.problems[:12]]
    lines += [f"  ... and {len(played.problems) - 12} more"] if played.problems[12:] else []
    lines += [f"  kept in {place}; again: make fuzz CASE={case.number}"]
    return "\n".join(lines)


def summary_of(all_played: list[Played], seconds: float) -> str:
    """Say how much was tried, and which cases differ."""
    forms = Counter(played.case.form for played in all_played)
    codes = Counter(code for played in all_played for code in played.codes)
    differing = [played.case.number for played in all_played if played.problems]
    return "\n".join(
        [
            f"{codes.total()} interruptions of {len(all_played)} cases in {seconds / 60:.1f} min",
            "cases: " + ", ".join(f"{form} {count}" for form, count in forms.most_common()),
            "exit codes: " + ", ".join(f"{code}: {n}" for code, n in sorted(codes.items())),
            f"cases that differ: {', '.join(map(str, differing)) or 'none'}",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
