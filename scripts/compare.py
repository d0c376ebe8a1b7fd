"""Compare models by paired seeds: with and without a norm, or any arms you name.

python scripts/compare.py                                      rnn, rnn_ln, rnn_lncell over 6 seeds
python scripts/compare.py 'arms=[lstm,lstm_lncell]' seeds=10 data=mnist1d
python scripts/compare.py 'arms=["lstm","lstm model.eps=1e-3"]' trainer.max_epochs=5

The first arm is the baseline. Runs that are finished are reused, interrupted ones go on. Every
override that is not arms, data or seeds goes to the training of all arms.
"""

import os
import sys
from pathlib import Path

# Threads that wait for work sleep instead of spinning: on a shared machine, small models otherwise
# run several times slower. It must be said before torch starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    from omegaconf import DictConfig
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lnrnn.comparison import compare, print_table, write
    from lnrnn.training import (
        ConfigurationError,
        Experiment,
        NonFiniteError,
        compose_config,
        compose_experiment,
        folder_of,
        train,
    )
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Is the environment active?  make install && . .venv/bin/activate")

CONF = Path(__file__).resolve().parent.parent / "conf"
OWN_KEYS = ("arms", "data", "seeds")
QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
console = Console()


def main() -> None:
    """Train what is missing, then print the comparison and write it."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    try:
        config, arms = plan(sys.argv[1:])
        run_all([experiment for runs in arms.values() for experiment in runs])
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    folders = {name: [folder_of(run).path for run in runs] for name, runs in arms.items()}
    result = compare(folders)
    folder = Path("runs") / config.data / "compare" / "-vs-".join(short(name) for name in arms)
    write(result, folders, folder)
    print_table(result, console)
    console.print(f"written: {folder}", soft_wrap=True)


def plan(arguments: list[str]) -> tuple[DictConfig, dict[str, list[Experiment]]]:
    """Return compare's own configuration, and every arm's experiments, one a seed, all checked."""
    own = [text for text in arguments if text.split("=", 1)[0] in OWN_KEYS]
    passed = [text for text in arguments if text not in own]
    config = compose_config(own, CONF, "compare")
    if config.seeds < 1:
        raise ConfigurationError(f"seeds must be at least 1, got {config.seeds}")
    arms = {}
    for arm in config.arms:
        model, *overrides = str(arm).split()
        common = [f"model={model}", f"data={config.data}", *passed, *QUIET, *overrides]
        arms[str(arm)] = [
            compose_experiment([*common, f"seed={seed}"], CONF) for seed in range(config.seeds)
        ]
    if len(arms) < 2:
        raise ConfigurationError(f"a comparison needs two different arms, got {list(arms)}")
    return config, arms


def run_all(experiments: list[Experiment]) -> None:
    """Train every experiment that is not finished; one that diverges is kept as failed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("training", total=len(experiments))
        for experiment in experiments:
            progress.update(bar, description=f"{experiment.model} seed {experiment.config.seed}")
            try:
                train(experiment)
            except NonFiniteError as error:
                progress.console.print(f"{experiment.model}: {error}")
            progress.advance(bar)


def short(arm: str) -> str:
    """Return an arm's name as a part of a folder's: letters, digits, ``.``, ``-`` and ``_``."""
    return "".join(c if c.isalnum() or c in ".-_" else "_" for c in arm)


if __name__ == "__main__":
    main()
