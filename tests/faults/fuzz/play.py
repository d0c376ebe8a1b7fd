"""Playing a case: once undisturbed, once interrupted again and again; both must end the same."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from faults.fuzz.cases import FILES, Case
from faults.fuzz.differences import differences, leftovers, run_folders
from faults.fuzz.processes import OUTPUT, Launch, living_in
from faults.fuzz.stops import Stop

LIMIT = 300.0  # seconds that a session may take before it counts as hanging, and what is left of it
PAUSE = 0.001  # seconds between two looks at a watched file


@dataclass
class Played:
    """What came of a case.

    Args:
        case: The case.
        tried: The interruptions made, with their times and what came of each.
        codes: The exit code of each interrupted session.
        problems: What should not be.
    """

    case: Case
    tried: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Hanging(Exception):
    """A command, or a process that it left, did not end."""


def play(case: Case, folder: Path) -> Played:
    """Play a case in ``folder``, in ``twin`` and ``again``, and return what came of it."""
    played = Played(case)
    twin, again = folder / "twin", folder / "again"
    for place in (twin, again):
        place.mkdir(parents=True)
        for name, text in FILES.items():
            (place / name).write_text(text)
    try:
        with Launch(case.words, twin, case.ranks, "composed") as launch:
            code = wait_for(launch, twin)
        if code != 0 or says_traceback(twin):
            played.problems.append(f"the undisturbed run ends with exit code {code}")
            return played
        interrupt_until_finished(played, again, twin, launch.seconds)
        played.problems += differences(twin, again)
    except Hanging as hanging:
        played.problems.append(str(hanging))
    return played


def interrupt_until_finished(played: Played, place: Path, twin: Path, seconds: float) -> None:
    """Start the command again and again, each time with the next of its stops.

    Args:
        played: Names the case, and takes up what comes of it.
        place: Where it is started.
        twin: Where it has finished undisturbed.
        seconds: How long that took.

    Raises:
        Hanging: If a session does not end.
    """
    case = played.case
    folders = [place / run.relative_to(twin) for run in run_folders(twin)]
    for number, stop in enumerate((*case.stops, None), start=1):
        stale = leftovers(place)  # of a session that was killed
        with Launch(case.words, place, case.ranks, case.start) as launch:
            sent = interrupt(launch, stop, folders, seconds) if stop is not None else []
            if sent:
                times = " and ".join(f"{name} at {when:.3f} s" for name, when in sent)
                played.tried.append(f"session {number}: {times} ({stop})")
            code = wait_for(launch, place)
        if sent:
            played.tried[-1] += f": exit code {code}"
            played.codes.append(code)
        problems = problems_of(case, place, code, [name for name, _ in sent], stale)
        played.problems += [f"session {number}: {text}" for text in problems]
        (place / OUTPUT).rename(place / f"{number}-{OUTPUT}")
        if code == 0:
            return
    played.problems.append("the command does not finish")


def interrupt(
    launch: Launch, stop: Stop, folders: list[Path], seconds: float
) -> list[tuple[str, float]]:
    """Send a stop's signals when its moment has come; return those that met a living process."""
    sent: list[tuple[str, float]] = []
    if not is_reached(launch, stop, folders, seconds):
        return sent
    for index, name in enumerate(stop.signals):
        if index:
            time.sleep(stop.gap)
        if launch.poll() is not None:
            break
        when = launch.seconds
        if launch.send(signal.Signals[name], stop.target):
            sent.append((name, when))
    return sent


def is_reached(launch: Launch, stop: Stop, folders: list[Path], seconds: float) -> bool:
    """Wait for a stop's moment; return False if the session ends before."""
    due = stop.delay * seconds if stop.file is None else None
    before, changes = states(folders, stop.file), 0
    while launch.poll() is None and launch.seconds < LIMIT:
        if due is not None and launch.seconds >= due:
            return True
        now = states(folders, stop.file) if due is None else before
        if now != before:
            before, changes = now, changes + 1
            if changes == stop.change:
                due = launch.seconds + stop.delay
                continue
        time.sleep(PAUSE)
    return False


def states(folders: list[Path], pattern: str | None) -> list[tuple[str, int, int, int]]:
    """Return which files there are of a pattern below the runs' folders, and in which state."""
    if pattern is None:
        return []
    inside, _, name = pattern.rpartition("/")
    found = []
    for folder in folders:
        with suppress(OSError):  # gone in between, or not there yet
            for entry in os.scandir(folder / inside):
                if fnmatchcase(entry.name, name):
                    state = entry.stat()
                    identity = (state.st_ino, state.st_mtime_ns, state.st_size)
                    found.append((entry.path, *identity))
    return sorted(found)


def wait_for(launch: Launch, place: Path) -> int:
    """Wait until a command has ended, and what it has left behind too.

    Raises:
        Hanging: If that takes too long; it is killed.
    """
    while (code := launch.poll()) is None:
        if launch.seconds > LIMIT:
            raise Hanging(f"a session had not ended after {LIMIT:.0f} s")
        time.sleep(PAUSE)
    deadline = time.monotonic() + LIMIT
    while left := living_in(place):
        if time.monotonic() > deadline:
            raise Hanging(f"a session left processes that live on: {left}")
        time.sleep(0.05)
    return code


def problems_of(
    case: Case, place: Path, code: int, sent: list[str], stale: Sequence[str] = ()
) -> Iterator[str]:
    """Yield what is wrong after one session: exit code, traceback, files left, records."""
    several = case.form == "torchrun"  # where one rank is lost, others end as they can
    allowed = {0, *(128 + signal.Signals[name] for name in sent)}
    if case.start == "console" and is_before_main(place):
        return  # Python's own beginning, where nothing of ours can listen
    if (128 - code if code < 0 else code) not in allowed and not (several and sent):
        yield f"exit code {code} after {' and '.join(sent) or 'no signal'}"
    if says_traceback(place) and not several:
        yield "a traceback"
    if code >= 0 and not several:  # it has ended by itself
        left = (name for name in leftovers(place) if name not in stale)
        yield from (f"it has ended by itself and left {name}" for name in left)
    for folder in run_folders(place):
        try:
            record = json.loads((folder / "run.json").read_text())
        except ValueError as error:
            yield f"{folder}/run.json: {error}"
            continue
        # A run that had just finished when the signal came says so; Ctrl-C may come before a run.
        if code > 128 and code != 130 and case.form == "train" and record["status"] != "finished":
            mark = (record["status"], record.get("exit_code"), record.get("signal"))
            expected = ("interrupted", code, signal.Signals(code - 128).name)
            if mark != expected:
                yield f"run.json says {mark}, not {expected}"


def says_traceback(place: Path) -> bool:
    """Return whether a session has printed a traceback."""
    output = place / OUTPUT
    return output.exists() and "Traceback" in output.read_text(errors="replace")


def is_before_main(place: Path) -> bool:
    """Return whether Ctrl-C came before the first line of the console command's own code."""
    text = (place / OUTPUT).read_text(errors="replace")
    ours = "lnrnn/cli/main.py" in text or "Exception ignored" in text
    return text.rstrip().endswith("KeyboardInterrupt") and not ours


def remove(folder: Path) -> None:
    """Remove what a case has left."""
    shutil.rmtree(folder)
