"""Compare models by paired seeds: with and without a norm, or any arms you name.

python scripts/compare.py                                      rnn, rnn_ln, rnn_lncell over 7 seeds
python scripts/compare.py 'arms=[lstm,lstm_lncell]' seeds=10 data=mnist1d
python scripts/compare.py 'arms=["lstm","lstm model.eps=1e-3"]' trainer.max_epochs=5 monitor=true
python scripts/compare.py 'arms=[rnn,rnn_ln]' 'lr=[1e-3,3e-3,1e-2]'    each at its own best rate
python scripts/compare.py 'arms=[rnn,rnn_ln]' require_speedup=1.2      exit code 1 if it is not
python scripts/compare.py 'arms=[old/rnn,new/rnn]' train=false         folders that hold seed0, ...

The first arm is the baseline. Runs that are finished are reused, interrupted ones go on, those that
failed are tried again, and one that diverged is kept and counted: it would diverge again. Every
override that is not of the list below goes to the training of all arms. The result lies in
runs/<data>/compare/<arm>-vs-<arm>, and behind the arms stands what was changed for all of them.

What can be set, with what holds if nothing is said (conf/compare.yaml):
"""

import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

try:
    from comparing.cost import cost_of
    from comparing.folders import are_folders, folders_of
    from comparing.plan import (
        Runs,
        build_once,
        compared_runs,
        result_folder,
        result_name,
        seeds_before,
        tasks_of,
    )
    from comparing.pool import WorkerError
    from comparing.runs import Failures, name_missing, threads_of_one, train_all
    from comparing.settings import CONF, Settings, read_settings
    from comparing.speedup import unmet
    from comparing.tuning import TuningError, tune
    from rich.console import Console

    from lnrnn.comparison import compare, print_table, write
    from lnrnn.training import Interrupted, folder_of
except ModuleNotFoundError as error:
    print(f"{error}. Is the environment active?  make install && . .venv/bin/activate")
    sys.exit(2)

NOT_MET, ERROR = 1, 2  # exit codes; conf/compare.yaml says what they mean
console = Console()


def main() -> None:
    """Train what is missing, then print the comparison and write it."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "compare.yaml").read_text().partition("_self_\n\n")[2])
        return
    for number in (signal.SIGTERM, signal.SIGUSR1):  # between runs; a run listens itself
        signal.signal(number, stop)
    try:
        sys.exit(run(read_settings(sys.argv[1:])))
    except (ValueError, OSError, TuningError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ERROR)
    except Exception:  # Python's own exit code would say that a speed-up is not met
        traceback.print_exc()
        sys.exit(ERROR)
    except (KeyboardInterrupt, Interrupted) as interruption:
        console.print("interrupted; the same command goes on")
        sys.exit(interruption.code if isinstance(interruption, Interrupted) else 130)


def stop(number: int, frame: FrameType | None) -> None:
    """Leave, where no run is under way that would have to be saved."""
    raise Interrupted(signal.Signals(number), 0)


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
        result = compare(folders)
        folder = Path("runs") / result["data"] / "compare" / result_name(settings.arms, "")
        report(result, folders, folder)
        return conclude(settings, result, [], None)
    rates, tuning, failures = tune(settings, console) if settings.rates else ({}, None, [])
    runs = compared_runs(settings, rates)
    tasks = list(tasks_of(runs))
    if settings.train:
        build_once(runs)
        failures += train_all("training", tasks, settings.jobs, console)
    else:
        name_missing(tasks, console)
    folder = result_folder(settings, tasks[0].experiment)
    cost, problem = cost_or_problem(settings, runs, folder)
    folders = {name: [folder_of(run).path for run in members] for name, members in runs.items()}
    result = compare(folders, cost=cost, tuning=tuning)
    report(result, folders, folder)
    return conclude(settings, result, failures, problem)


def report(result: Mapping[str, Any], folders: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Write the comparison, print it, and say where it lies and what it replaces."""
    before = seeds_before(folder)
    written = write(result, folders, folder)
    print_table(result, console)
    if before > len(result["seeds"]):
        console.print(f"the comparison over {before} seeds that lay here is replaced")
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
    lost = [
        f"{task.title}: {failure.message}" for task, failure in failures if not failure.diverged
    ]
    problems = [*lost, *filter(None, [problem])]
    for text in problems:
        print(f"error: {text}", file=sys.stderr)
    if lost:
        print(f"error: {len(lost)} runs failed; the same command tries them again", file=sys.stderr)
    missed = [] if settings.require_speedup is None else unmet(result, settings.require_speedup)
    for text in missed:
        print(f"require_speedup={settings.require_speedup:g} is not met: {text}", file=sys.stderr)
    if problems:
        return ERROR
    return NOT_MET if missed else 0


if __name__ == "__main__":
    main()
