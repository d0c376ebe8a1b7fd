"""Choose settings by trials, each an ordinary run: with Optuna, in any number of processes.

lnrnn tune model=lstm_lncell data=mnist1d 'optimizer.lr=log(1e-4,1e-1)' trials=40 jobs=2
lnrnn tune 'model.eps=choice(1e-5,1e-3)' 'model.hidden_size=int(16,128)'
lnrnn tune 'model.dropout=uniform(0,0.5)' trainer.max_epochs=5 study=dropout

What is made small is the last val/loss (with test=best or early_stopping, that of the best
validation); no test is looked at. A trial that does worse than the
others at the same step is ended early. The same command goes on with the study, also at the same
time and on other machines that share the disk, or a database: storage=postgresql://...

What can be set, with what holds if nothing is said (conf/tune.yaml):
"""

import os
import signal
import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from lnrnn.cli.compare import stop
from lnrnn.config import CONF
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.processes import is_only_process
from lnrnn.study.search import OBJECTIVE, Search, read_search

SHOWN = 10  # trials in the table
WORKS_ONLY = "--work"  # of a process that another one has started


def main() -> None:
    """Make trials until there are enough, then print the best and write all."""
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n" + (CONF / "tune.yaml").read_text().partition("_self_\n\n")[2])
        return
    for number in (signal.SIGTERM, signal.SIGUSR1):  # between runs; a run listens itself
        signal.signal(number, stop)
    words = [word for word in sys.argv[1:] if word != WORKS_ONLY]
    try:
        search = read_search(words)
        if not is_only_process():
            raise ConfigurationError("a trial is trained by one process: start it without torchrun")
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ConfigurationError("lnrnn tune needs pip install 'lnrnn[tune]'") from error
        from lnrnn.runs.checkpoint_files import CheckpointError
        from lnrnn.study.database import answering
        from lnrnn.study.missing import share_of_threads, threads_of_one
        from lnrnn.study.trials import open_study, work, write_results

        study = open_study(search)
        alone = WORKS_ONLY in sys.argv
        if search.own_files and not alone:
            print(f"files of your own: {', '.join(map(str, search.own_files))}")
        others = [] if alone else start_others(search, words, share_of_threads(search.jobs))
        try:
            with answering(), threads_of_one(1 if alone else search.jobs):
                work(search, study)
        except CheckpointError as error:
            for process in others:
                process.terminate()
            raise ConfigurationError(str(error)) from error
        except BaseException:
            for process in others:
                process.terminate()  # each saves its run
            raise
        finally:
            for process in others:
                process.wait()
        if WORKS_ONLY not in sys.argv:
            with answering():
                print_best(search, study)
                paths = write_results(search, study)
            for path in paths:
                Console().print(f"written: {path}", soft_wrap=True, markup=False, highlight=False)
            check_end(study, [process.returncode for process in others])
    except (ConfigurationError, OSError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, Interrupted) as interruption:
        print("interrupted; the same command goes on with the study")
        sys.exit(interruption.code if isinstance(interruption, Interrupted) else 130)


def start_others(search: Search, words: list[str], threads: int) -> list["subprocess.Popen[bytes]"]:
    """Start the processes that this one is to have beside it, each with so many threads."""
    command = [sys.executable, "-m", "lnrnn", "tune", *words, WORKS_ONLY]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return [subprocess.Popen(command, env=environment) for _ in range(search.jobs - 1)]


def check_end(study: Any, codes: list[int]) -> None:
    """Check that a search has a result.

    Args:
        study: Optuna's.
        codes: How the processes beside this one ended.

    Raises:
        ConfigurationError: If no trial was completed, or a process ended with an error.
    """
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise ConfigurationError("no trial was completed: trials.csv says what each ended with")
    if any(codes):
        raise ConfigurationError(
            f"{sum(map(bool, codes))} of {len(codes)} other processes ended with an error, which "
            "stands above"
        )


def print_best(search: Search, study: Any) -> None:
    """Print the trials with the lowest loss."""
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    done.sort(key=lambda trial: trial.value)
    table = Table("trial", OBJECTIVE, *search.spaces)
    for trial in done[:SHOWN]:
        values = [space.written(trial.params[key]) for key, space in search.spaces.items()]
        table.add_row(str(trial.number), f"{trial.value:.4f}", *values)
    Console().print(table)
    if done:
        best = f"best run: {done[0].user_attrs['folder']}"
        Console().print(best, soft_wrap=True, markup=False, highlight=False)
