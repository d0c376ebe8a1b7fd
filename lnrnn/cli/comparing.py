"""What ``lnrnn compare`` does once it knows what is asked: train, compare, write, print."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lnrnn.cli.launching import launch
from lnrnn.comparison import compare, print_table, write
from lnrnn.comparison.looks import Look
from lnrnn.runs.files import open_own
from lnrnn.runs.folder import check_files, folder_of
from lnrnn.runs.lease import Watch
from lnrnn.runs.lock import InUseError, is_held, locked
from lnrnn.runs.record import RecordError, parse_json, read_record
from lnrnn.study.cost import cost_of
from lnrnn.study.folders import are_folders, folders_of
from lnrnn.study.launcher_options import LauncherOptions
from lnrnn.study.missing import (
    PAUSE,
    Failures,
    lost_runs,
    name_missing,
    sort_out,
    threads_of_one,
    train_all,
)
from lnrnn.study.plan import (
    Runs,
    build_once,
    compared_runs,
    looks_before,
    named_primary,
    result_folder,
    result_name,
    tasks_of,
    tuning_runs,
)
from lnrnn.study.pool import WorkerError
from lnrnn.study.settings import Settings
from lnrnn.study.speedup import unmet
from lnrnn.study.tuning import Folders, TuningError, check_tuned, tune

NOT_MET, ERROR = 1, 2  # exit codes; conf/compare.yaml says what they mean
EXPECTED = (ValueError, OSError, TuningError, WorkerError)  # errors that speak to a person
console = Console()


def run(settings: Settings) -> int:
    """Make the comparison, and return the exit code.

    Raises:
        ValueError: If something asked for cannot be done; ConfigurationError and RecordError are.
        TuningError: If no learning rate can be chosen.
        WorkerError: If no process for training can be started.
        Interrupted: If a signal asked to stop; all runs are saved.
    """
    if are_folders(settings):
        folders = folders_of(settings)
        folder = Path("runs") / data_of(folders) / "compare" / result_name(settings.arms, "")
        check_files(folder)
        result = compare(
            folders,
            primary=settings.primary,
            looks=looks_before(folder),
            command=settings.command,
        )
        report(result, folders, folder)
        return conclude(settings, result, [], None)
    first = next(iter(compared_runs(replace(settings, seeds=1, splits=1), {}).values()))[0]
    folder = result_folder(settings, first)
    check_files(folder)  # before hours of training
    before = _stamp(folder / "compare.json")
    named = named_primary(folder, settings)
    if settings.launcher is not None:
        return run_elsewhere(settings, settings.launcher, folder)
    rates, tuning, failures = tune(settings, console) if settings.rates else ({}, None, [])
    runs = compared_runs(settings, rates)
    tasks = list(tasks_of(runs))
    own = dict.fromkeys(path for task in tasks for path in task.experiment.own_files)
    if own:
        console.print(f"files of your own: {', '.join(map(str, own))}", soft_wrap=True)
    if settings.train:
        build_once(runs)
        failures += train_all("training", tasks, settings.jobs, console, shared=settings.worker)
    else:
        name_missing(tasks, console)
    if not settings.worker:
        return finish(settings, runs, folder, named, tuning, failures)
    watch = Watch()
    while True:
        try:
            with locked(folder, leased=True):
                if not _is_of(folder, runs, before):
                    return finish(settings, runs, folder, named, tuning, failures)
            console.print(f"written by another process: {folder}", soft_wrap=True)
            return ERROR if name_problems(failures, None) else 0
        except InUseError:  # another worker writes it, or dies of it
            time.sleep(PAUSE)
            is_held(folder, watch)


def run_elsewhere(settings: Settings, options: LauncherOptions, folder: Path) -> int:
    """Let a launcher's workers make the comparison, report what came of it, return the exit code.

    Raises:
        ConfigurationError: If a run cannot be made, or no worker be started.
        TuningError: If workers failed, and learning rates cannot be chosen for that.
        Interrupted: If a signal asked to stop.
    """
    if settings.rates:
        arms = {name: rates[settings.rates[0]] for name, rates in tuning_runs(settings).items()}
    else:
        arms = compared_runs(settings, {})
    build_once(arms)  # a mistake is told here, and not by every worker
    if not leaves_work(settings, folder):
        console.print("every run has its result: no worker is started")
        return run(replace(settings, launcher=None))
    problems = launch(settings, options, folder, console)
    if problems is None:
        return 0
    if problems and settings.rates:
        check_tuned(settings)
    code = run(replace(settings, launcher=None, train=False))
    return ERROR if problems else code


def leaves_work(settings: Settings, folder: Path) -> bool:
    """Return whether a run has no result yet, or the cost is not measured.

    Raises:
        ConfigurationError: If the data have changed since a run was finished.
        TuningError: If all tuning runs have diverged.
    """
    rates: dict[str, float] = {}
    if settings.rates:
        by_rate = [
            {name: members[rate] for name, members in tuning_runs(settings).items()}
            for rate in settings.rates
        ]
        if any(sort_out([*tasks_of(runs)])[0] for runs in by_rate):
            return True
        rates, _, _ = tune(replace(settings, train=False), Console(quiet=True))
    runs = compared_runs(settings, rates)
    if sort_out([*tasks_of(runs)])[0]:
        return True
    return (
        settings.cost and cost_or_problem(replace(settings, train=False), runs, folder)[0] is None
    )


def finish(
    settings: Settings,
    runs: Runs,
    folder: Path,
    named: str | None,
    tuning: Folders | None,
    failures: Failures,
) -> int:
    """Measure the cost, compare, write and print, and return the exit code.

    Args:
        settings: What was asked for.
        runs: All runs by arm.
        folder: The comparison's.
        named: The primary endpoint that was named before them.
        tuning: The folders of the tuning runs.
        failures: The runs that failed.
    """
    cost, problem = cost_or_problem(settings, runs, folder)
    folders = {name: [folder_of(run).path for run in members] for name, members in runs.items()}
    try:
        result = compare(
            folders,
            cost=cost,
            tuning=tuning if settings.tuning_seeds else None,
            grid=None if settings.tuning_seeds else tuning,
            primary=settings.primary,
            named=named,
            looks=looks_before(folder),
            command=settings.command,
        )
        report(result, folders, folder)
    except EXPECTED:
        name_problems(failures, problem)  # of the runs, which this error must not hide
        raise
    return conclude(settings, result, failures, problem)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from what is written in its place later; None if it is not there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_of(folder: Path, runs: Runs, before: tuple[int, int] | None) -> bool:
    """Return whether another process has compared these very runs as they are, since ``before``.

    No times are compared: machines that share a disk may have clocks that differ.
    """
    path = folder / "compare.json"
    if _stamp(path) == before:
        return False
    try:
        with open_own(path) as file:
            arms = parse_json(file.read(), path)["arms"]
        compared = {run["folder"]: run["status"] for arm in arms for run in arm["runs"]}
    except (OSError, RecordError, LookupError, TypeError):  # damaged, and then written again
        return False
    paths = [folder_of(run).path for members in runs.values() for run in members]
    return compared == {path.as_posix(): _status(path) for path in paths}


def _status(run: Path) -> str | None:
    try:
        return read_record(run / "run.json").status
    except RecordError:
        return "unreadable"


def data_of(folders: Mapping[str, Sequence[Path]]) -> str:
    """Return what the runs in some folders were trained on, from the first that says so.

    Raises:
        RecordError: If none can be read.
    """
    problem = "no folder is given"
    for path in (path for members in folders.values() for path in members):
        try:
            data = read_record(path / "run.json").data
        except RecordError as error:
            problem = str(error)
            continue
        if data is not None:
            return data
    raise RecordError(problem)


def report(result: Mapping[str, Any], folders: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Write the comparison, print it, and say where it is and what it replaces."""
    print_table(result, console)  # first: the disk may be full, or not ours to write to
    before = looks_before(folder)[-1:]
    written = write(result, folders, folder)
    if not all(look.within(Look(len(result["seeds"]), len(result["splits"]))) for look in before):
        console.print(f"the comparison over {before[0]} that was here is replaced")
    for path in (path for path in written if path.suffix == ".html"):
        console.print(f"report:  {path}", soft_wrap=True)
    console.print(f"written: {folder}", soft_wrap=True)


def cost_or_problem(
    settings: Settings, runs: Runs, folder: Path
) -> tuple[dict[str, Any] | None, str | None]:
    """Return what the arms cost; or None and why, since hours of training must not be lost."""
    if not settings.cost:
        return None, None
    try:
        with threads_of_one(settings.jobs), console.status("measuring what a step costs"):
            arms = {name: members[0] for name, members in runs.items()}
            return cost_of(arms, folder, measure=settings.train), None
    except Exception as error:
        return None, f"the cost cannot be measured: {type(error).__name__}: {error}"


def conclude(
    settings: Settings, result: Mapping[str, Any], failures: Failures, problem: str | None
) -> int:
    """Print what went wrong, loudly and last, and return the exit code."""
    problems = name_problems(failures, problem)
    missed = [] if settings.require_speedup is None else unmet(result, settings.require_speedup)
    for text in missed:
        print(f"require_speedup={settings.require_speedup:g} is not met: {text}", file=sys.stderr)
    if problems:
        return ERROR
    return NOT_MET if missed else 0


def name_problems(failures: Failures, problem: str | None) -> list[str]:
    """Print which runs failed and did not diverge, and why there is no cost; return the lines."""
    problems = [*lost_runs(failures), *filter(None, [problem])]
    for text in problems:
        print(f"error: {text}", file=sys.stderr)
    if lost := sum(not failure.diverged for _, failure in failures):
        count = "1 run" if lost == 1 else f"{lost} runs"
        print(f"error: {count} failed; the same command tries again", file=sys.stderr)
    return problems
