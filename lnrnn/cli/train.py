"""Train one model on one data set, or resume a run that was interrupted.

lnrnn train                                     model=rnn_ln on data=japanese_vowels
lnrnn train model=lstm_lncell model.eps=1e-3 data=mnist1d seed=1
lnrnn train 'model=rnn,rnn_ln' 'model.eps=1e-5,1e-3' -m

A run is in runs/<data>/<model>[-<what you changed>]/seed<k>. The same command resumes it, and
prints the result of one that is finished. Configuration files of your own, such as
my_conf/model/mine.yaml: lnrnn train 'hydra.searchpath=[file://my_conf]' model=mine

In a clone of the repository, python scripts/train.py is the same command.
"""

import sys

import hydra
from hydra._internal.utils import get_args
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lnrnn.config import CONF
from lnrnn.config.compose import Experiment, check_overrides, current_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.files import is_of_the_disk
from lnrnn.runs.finished import finished_result
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RunRecord
from lnrnn.runs.reporting import best_effort

failures: list[str] = []  # runs of a sweep that diverged; the others continue
NOT_MONITORED = (
    "off when this run was made, which is finished and is not made again; to have it, move the "
    "run's folder away or give another name=..."
)


def main() -> None:
    """Check the command line, then train what it asks for."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    check_command_line()
    train_each()
    if failures:
        sys.exit("\n".join(failures))


def check_command_line() -> None:
    """Compose and check everything before Hydra acts on it; leave Hydra's harmless flags to it."""
    arguments = get_args()
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            sys.exit(
                f"error: --{flag.replace('_', '-')} is refused: what Hydra reads by it is not what "
                "was checked. Files of your own: add their folder, "
                "'hydra.searchpath=[file://FOLDER]'"
            )
    try:
        check_overrides(arguments.overrides, multirun=arguments.multirun)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    # No file has this key, so Hydra must be told to add it; it hands it on to other processes.
    sys.argv[1:] = [f"++{text}" if text.startswith("trust=") else text for text in sys.argv[1:]]


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train_each(config: DictConfig) -> None:
    """Train the run that ``config`` describes, and print its result."""
    try:
        experiment = current_experiment(config)
        folder, record = finished_result(experiment) or train(experiment)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a disk that is full or may not be written, which names the file
        if not is_of_the_disk(error):
            raise
        sys.exit(
            f"error: {error}. Checkpoints that were saved are intact: make room or allow writing "
            "there, and start the same command again."
        )
    if record is not None:
        print_result(folder, record, experiment.config.monitor)


def train(experiment: Experiment) -> tuple[RunFolder, RunRecord | None]:
    """Train a run, and print why it ended if it did not finish; the record is None if it diverged.

    Raises:
        ConfigurationError: If configuration, data, folder or checkpoint do not fit together.
        Interrupted: If a signal asked to stop; the run is saved.
    """
    # Here: Lightning takes seconds to import, and a mistake or a finished run needs none of it.
    from lnrnn import training

    try:
        return training.train(experiment)
    except training.CheckpointError as error:
        sys.exit(f"error: {error}")
    except training.NonFiniteError as error:
        failures.append(f"stopped: {error}")
        if is_first_process():  # printed now: the other runs of a sweep continue
            Console().print(failures[-1], markup=False)
        return training.folder_of(experiment), None
    except training.Interrupted as stop:
        if is_first_process():
            saved = "it is saved, and the same command resumes it"
            words = f"interrupted: {stop}; {'the run is finished' if stop.finished else saved}"
            with best_effort(words):
                Console().print(words, soft_wrap=True, markup=False)
        raise


def print_result(folder: RunFolder, record: RunRecord, monitored: bool) -> None:
    """Print what a finished run found, what it cost and where it is."""
    if not is_first_process():
        return
    table = Table(show_header=False, title=escape(f"{record.model} on {record.data}"), min_width=44)
    for name, value in record.metrics.items():
        table.add_row(name, f"{value:.4f}")
    table.add_row("parameters", f"{record.parameters:,}")
    table.add_row("optimizer steps", f"{record.steps:,}")
    if record.seconds_per_step is not None:
        table.add_row("time per step", f"{1000 * record.seconds_per_step:.2f} ms")
    Console().print(table)
    if monitored:
        words = record.diagnosis or NOT_MONITORED
        Console().print(f"monitor: {words}", soft_wrap=True, markup=False)
    where = f"curves: {folder.curves}\nrun:    {folder.path}"
    Console().print(where, soft_wrap=True, markup=False)
