"""Train one model on one data set, or resume a run that was interrupted.

lnrnn train                                     model=rnn_ln on data=japanese_vowels
lnrnn train model=lstm_lncell model.eps=1e-3 data=mnist1d seed=1
lnrnn train 'model=rnn,rnn_ln' 'model.eps=1e-5,1e-3' -m      a sweep, which goes on if a run fails

A run is in runs/<data>/<model>[-<what you changed>]/seed<k>. The same command resumes it, and
prints the result of one that is finished. Configuration files of your own are found in the folder
conf of the current one, such as conf/model/mine.yaml: lnrnn train model=mine; or in another:
lnrnn train 'hydra.searchpath=[file://my_conf]' model=mine

In a clone of the repository, python scripts/train.py is the same command.
"""

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import hydra
from hydra._internal.utils import get_args
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lnrnn.cli import hydra_parser
from lnrnn.config import CONF
from lnrnn.config.compose import Experiment, check_overrides, current_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.own_files import with_own_folder
from lnrnn.runs.files import is_of_the_disk
from lnrnn.runs.finished import finished_result
from lnrnn.runs.folder import RunFolder, changed_lines, folder_of
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.processes import is_first_process, is_only_process
from lnrnn.runs.record import RunRecord
from lnrnn.runs.reporting import best_effort

failures: list[str] = []  # why runs have none; the others of a sweep continue
NOT_MONITORED = (
    "off when this run was made, which is finished and is not made again; to have it, move the "
    "run's folder away or give another name=..."
)


class JobFailed(CompactHydraException):
    """A run of a sweep failed, which its sweeper is told; the others are made all the same."""


def main() -> None:
    """Check the command line, then train what it asks for."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    hydra_parser.prepare()
    experiments = check_command_line()
    try:
        train_each()
    except SystemExit as stop:  # Hydra has told of the first alone
        launched = any(text.lstrip("+").startswith("hydra/launcher=") for text in sys.argv)
        failed = failures_of(experiments) if launched and not failures else failures
        if stop.code == 1 and len(failed) > 1:
            many = "\n".join(failed)
            sys.exit(f"{len(failed)} runs of the sweep failed; the others were made\n{many}")
        raise
    if failures:
        sys.exit("\n".join(failures))


def failures_of(experiments: Sequence[Experiment]) -> list[str]:
    """Return why runs failed that a launcher made in other processes, as their records say."""
    failed = []
    for folder in dict.fromkeys(map(folder_of, experiments)):
        with suppress(ConfigurationError):  # the record is damaged, which its job has told
            record = folder.read_record()
            if record.status == "failed":
                failed.append(f"{folder.path}: {record.error}")
    return failed


def check_command_line() -> list[Experiment]:
    """Compose and check everything before Hydra acts on it; leave Hydra's harmless flags to it.

    Returns:
        The runs, where the command line names them all.
    """
    arguments = get_args()
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            sys.exit(
                f"error: --{flag.replace('_', '-')} is refused: what Hydra reads by it is not what "
                "was checked. Files of your own: add their folder, "
                "'hydra.searchpath=[file://FOLDER]'"
            )
    if arguments.shell_completion:
        sys.exit(
            "error: --shell-completion is not offered: Hydra completes the arguments of a script, "
            "not those of lnrnn train. lnrnn train model=x lists the choices of a group, and a "
            "misspelt key its neighbors"
        )
    try:
        experiments = check_overrides(arguments.overrides, multirun=arguments.multirun)
        check_folders(experiments)
        own = dict.fromkeys(path for run in experiments for path in run.own_files)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    # No file has this key, so Hydra must be told to add it; it hands it on to other processes.
    sys.argv[1:] = [f"++{text}" if text.startswith("trust=") else text for text in sys.argv[1:]]
    if own:
        if is_first_process():
            print(f"files of your own: {', '.join(map(str, own))}")
        first = arguments.overrides[0]  # overrides must stand together
        place = next(n for n, text in enumerate(sys.argv) if text in (first, f"++{first}"))
        sys.argv[place : place + 1] = with_own_folder([sys.argv[place]])
    return experiments


def check_folders(experiments: Sequence[Experiment]) -> None:
    """Check that no two runs of a sweep that differ would share a folder, as ``name=`` makes them.

    Raises:
        ConfigurationError: Naming the folder, and what differs.
    """
    first: dict[RunFolder, Experiment] = {}
    for experiment in experiments:
        folder = folder_of(experiment)
        other = first.setdefault(folder, experiment)
        if changes := changed_lines(other.config, experiment.config, ("one run", "another")):
            raise ConfigurationError(
                f"runs of this sweep that differ would share the folder {folder.path}:\n{changes}\n"
                "Leave name=... out, and every run is named after what it changes; or give each a "
                "name of its own."
            )


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train_each(config: DictConfig) -> float | None:
    """Train the run that ``config`` describes, as :func:`train_job` does.

    A launcher may send this function to another process, with a copy of all that it names; what it
    calls is there found by its name, with the lists that belong to it.
    """
    return train_job(config)


def train_job(config: DictConfig) -> float | None:
    """Train the run that ``config`` describes, and print its result.

    In a sweep, what goes wrong with one run does not keep the others from being made. With several
    processes it does, unless the run diverged: one of them would leave the others waiting.

    Returns:
        What a sweeper may minimize: the run's last ``val/loss``; None if it never validates.

    Raises:
        JobFailed: If this is a sweep's run and has failed.
    """
    told = len(failures)
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        result = train_one(config)
    except SystemExit as stop:
        if not (sweeps and is_only_process() and isinstance(stop.code, str)):
            raise
        failures.append(stop.code)
        print(stop.code, file=sys.stderr)
    except Exception as error:
        if not (sweeps and is_only_process()):
            raise
        failures.append(f"error: {type(error).__name__}: {error}")
        traceback.print_exc()
    else:
        if len(failures) == told:
            return result
    if sweeps:
        raise JobFailed(failures[-1])
    return None


def train_one(config: DictConfig) -> float | None:
    """Train the run that ``config`` describes, and print its result; return its last val/loss."""
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
    if record is None:
        return None
    print_result(folder, record, experiment.config.monitor)
    losses = [e.value for e in read_metrics(folder.metrics, whole=False) if e.name == "val/loss"]
    return losses[-1] if losses else None


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
    if folder.confusion.exists():
        where = f"classes: {folder.confusion.with_suffix('.png')}\n{where}"
    Console().print(where, soft_wrap=True, markup=False)
