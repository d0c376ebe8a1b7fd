"""Choose settings by trials, each an ordinary run: with Optuna, in any number of processes.

lnrnn tune model=lstm_lncell data=mnist1d 'optimizer.lr=log(1e-4,1e-1)' trials=40 jobs=2
lnrnn tune 'model.eps=choice(1e-5,1e-3)' 'model.hidden_size=int(16,128)'
lnrnn tune 'model.dropout=uniform(0,0.5)' trainer.max_epochs=5 study=dropout

What is made small is the last val/loss; no test is looked at. A trial that does worse than the
others at the same step is ended early. The same command goes on with the study, also at the same
time and on other machines that share the disk, or a database: storage=postgresql://...

What can be set, with what holds if nothing is said (conf/tune.yaml):
"""

import subprocess
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

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
    words = [word for word in sys.argv[1:] if word != WORKS_ONLY]
    try:
        search = read_search(words)
        if not is_only_process():
            raise ConfigurationError("a trial is trained by one process: start it without torchrun")
        try:
            import optuna  # noqa: F401
        except ImportError as error:
            raise ConfigurationError("lnrnn tune needs pip install 'lnrnn[tune]'") from error
        from lnrnn.study.trials import open_study, work, write_results

        study = open_study(search)
        others = [] if WORKS_ONLY in sys.argv else start_others(search, words)
        try:
            work(search, study)
        except BaseException:
            for process in others:
                process.terminate()  # each saves its run
            raise
        finally:
            for process in others:
                process.wait()
        if WORKS_ONLY not in sys.argv:
            print_best(search, study)
            for path in write_results(search, study):
                Console().print(f"written: {path}", soft_wrap=True, markup=False, highlight=False)
    except (ConfigurationError, OSError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, Interrupted) as stop:
        print("interrupted; the same command goes on with the study")
        sys.exit(stop.code if isinstance(stop, Interrupted) else 130)


def start_others(search: Search, words: list[str]) -> list["subprocess.Popen[bytes]"]:
    """Start the processes that this one is to have beside it."""
    command = [sys.executable, "-m", "lnrnn", "tune", *words, WORKS_ONLY]
    return [subprocess.Popen(command) for _ in range(search.jobs - 1)]


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
