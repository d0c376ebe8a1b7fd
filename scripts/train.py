"""Train one model on one data set, or go on with a run that was interrupted.

python scripts/train.py                                     model=rnn_ln on data=japanese_vowels
python scripts/train.py model=lstm_lncell model.eps=1e-3 data=mnist1d seed=1
python scripts/train.py 'model=rnn,rnn_ln' 'model.eps=1e-5,1e-3' -m
"""

import sys
from pathlib import Path

try:
    import hydra
    from hydra._internal.utils import get_args
    from lightning.fabric.utilities.rank_zero import rank_zero_only
    from omegaconf import DictConfig
    from rich.console import Console
    from rich.table import Table

    from lnrnn.runs.record import RunRecord
    from lnrnn.training import (
        CheckpointError,
        ConfigurationError,
        Interrupted,
        NonFiniteError,
        RunFolder,
        check_overrides,
        current_experiment,
        train,
    )
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Is the environment active?  make install && . .venv/bin/activate")

failures: list[str] = []  # runs of a sweep that diverged; the others go on
NOT_MONITORED = (
    "off when this run was made, which is finished and is not made again; to have it, move the "
    "run's folder away or give another name=..."
)
CONF = Path(__file__).resolve().parent.parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(config: DictConfig) -> None:
    """Train the run that ``config`` describes, and print its result."""
    try:
        experiment = current_experiment(config, CONF, "train")
        folder, record = train(experiment)
    except (ConfigurationError, CheckpointError) as error:
        sys.exit(f"error: {error}")
    except NonFiniteError as error:
        failures.append(f"stopped: {error}")
        print_failure(failures[-1])
        return
    except Interrupted as stop:
        print_stop(stop)
        raise
    except KeyboardInterrupt:  # while it prepares: from the first step on it is an Interrupted
        print("interrupted before the first step")
        sys.exit(130)
    print_result(folder, record, experiment.config.monitor)


@rank_zero_only
def print_failure(failure: str) -> None:
    """Print why a run has failed, when the others of a sweep go on."""
    Console().print(failure)


@rank_zero_only
def print_stop(stop: Interrupted) -> None:
    """Print how an interrupted run goes on."""
    words = f"interrupted: {stop}; it is saved, and the same command goes on from there"
    Console().print(words, soft_wrap=True)


@rank_zero_only
def print_result(folder: RunFolder, record: RunRecord, monitored: bool) -> None:
    """Print what a finished run found, what it cost and where it lies."""
    table = Table(show_header=False, title=f"{record.model} on {record.data}", min_width=44)
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
    Console().print(f"curves: {folder.curves}\nrun:    {folder.path}", soft_wrap=True)


def check_command_line() -> None:
    """Compose and check everything before Hydra acts on it; leave Hydra's harmless flags to it."""
    arguments = get_args()
    for flag in ("config_path", "config_name", "config_dir", "experimental_rerun"):
        if getattr(arguments, flag) is not None:
            sys.exit(
                f"error: --{flag.replace('_', '-')} is refused: what Hydra reads by it is not what "
                "was checked. Files of your own: put them into conf/, or add their folder, "
                "'hydra.searchpath=[file://FOLDER]'"
            )
    try:
        check_overrides(arguments.overrides, CONF, "train", multirun=arguments.multirun)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    # No file has this key, so Hydra must be told to add it; it hands it on to other processes.
    sys.argv[1:] = [f"++{text}" if text.startswith("trust=") else text for text in sys.argv[1:]]


if __name__ == "__main__":
    check_command_line()
    main()
    if failures:
        sys.exit("\n".join(failures))
