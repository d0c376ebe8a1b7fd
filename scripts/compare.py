"""Compare models by paired seeds: with and without a norm, or any arms you name.

python scripts/compare.py                                      rnn, rnn_ln, rnn_lncell over 7 seeds
python scripts/compare.py 'arms=[lstm,lstm_lncell]' seeds=10 data=mnist1d
python scripts/compare.py 'arms=["lstm","lstm model.eps=1e-3"]' trainer.max_epochs=5

The first arm is the baseline. Runs that are finished are reused, interrupted ones go on. Every
override that is not arms, data or seeds goes to the training of all arms. The result lies in
runs/<data>/compare/<arm>-vs-<arm>, and behind the arms stands what was changed for all of them.
"""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

try:
    from omegaconf import DictConfig, ListConfig
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lnrnn.comparison import compare, print_table, write
    from lnrnn.training import (
        CheckpointError,
        ConfigurationError,
        Experiment,
        Interrupted,
        NonFiniteError,
        compose_config,
        compose_experiment,
        folder_of,
        train,
    )
    from lnrnn.training.build import build_data, build_task
    from lnrnn.training.run import check_configuration, derive_name
except ModuleNotFoundError as error:
    sys.exit(f"{error}. Is the environment active?  make install && . .venv/bin/activate")

CONF = Path(__file__).resolve().parent.parent / "conf"
OWN_KEYS = ("arms", "data", "seeds")
NOT_FOR_RUNS = {
    "data": "all arms share the data, which data=... chooses for the whole comparison",
    "model": "the first word of an arm is its model: 'arms=[rnn,\"rnn model.eps=1e-3\"]'",
    "seed": "every arm has the same seeds, and seeds=7 takes 0 to 6",
    "name": "a run's folder is named after the overrides",
    "resume": "runs that were interrupted go on, and finished ones are reused",
}
QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
console = Console()


def main() -> None:
    """Train what is missing, then print the comparison and write it."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    try:
        folder, arms = plan(sys.argv[1:])
        build_once(arms)
        run_all([experiment for runs in arms.values() for experiment in runs])
    except (ConfigurationError, CheckpointError) as error:
        sys.exit(f"error: {error}")
    except (KeyboardInterrupt, Interrupted) as stop:
        console.print("interrupted; the same command goes on")
        sys.exit(stop.code if isinstance(stop, Interrupted) else 130)
    folders = {name: [folder_of(run).path for run in runs] for name, runs in arms.items()}
    try:
        result = compare(folders)
        write(result, folders, folder)
    except ValueError as error:  # RecordError is one
        sys.exit(f"error: {error}")
    print_table(result, console)
    console.print(f"written: {folder}", soft_wrap=True)


def plan(arguments: Sequence[str]) -> tuple[Path, dict[str, list[Experiment]]]:
    """Return the result's folder, and every arm's experiments, one a seed, all checked.

    Raises:
        ConfigurationError: If an override is not allowed or does not fit, or arms share runs.
    """
    own = [text for text in arguments if text.split("=", 1)[0] in OWN_KEYS]
    passed = [text for text in arguments if text not in own]
    config = compose_config(own, CONF, "compare")
    check_own(config)
    check_keys(passed, "on the command line of compare.py")
    arms = {}
    for arm in config.arms:
        model, *overrides = arm.split()
        check_keys(overrides, f"in the arm {arm!r}")
        check_arm(arm, overrides)
        common = [f"model={model}", f"data={config.data}", *passed, *QUIET, *overrides]
        arms[arm] = [
            compose_experiment([*common, f"seed={seed}"], CONF) for seed in range(config.seeds)
        ]
    check_folders(config.arms, arms)
    # What all arms share; the first arm tells which keys need their whole path.
    shared = derive_name(replace(arms[config.arms[0]][0], overrides=tuple(passed)))
    return Path("runs") / config.data / "compare" / result_name(config.arms, shared), arms


def check_own(config: DictConfig) -> None:
    """Raise ConfigurationError unless ``arms`` and ``seeds`` are what they must be."""
    if not isinstance(config.arms, ListConfig):
        raise ConfigurationError(
            f"arms must be a list, got {config.arms}: write 'arms=[rnn,rnn_ln]', with the quotes"
        )
    for arm in config.arms:
        if not isinstance(arm, str) or not arm.strip():
            raise ConfigurationError(
                f'an arm is a model, and overrides behind it: "lstm model.eps=1e-3"; got {arm!r}'
            )
    if len(config.arms) < 2:
        raise ConfigurationError(f"a comparison needs two different arms, got {config.arms}")
    if isinstance(config.seeds, bool) or not isinstance(config.seeds, int) or config.seeds < 1:
        raise ConfigurationError(
            f"seeds must be at least 1, and a whole number: how many; got {config.seeds}"
        )


def check_keys(overrides: Sequence[str], place: str) -> None:
    """Raise ConfigurationError at an override that would break what makes runs comparable."""
    for text in overrides:
        key = text.split("=", 1)[0].lstrip("+~")
        if key in NOT_FOR_RUNS:
            raise ConfigurationError(f"{text} cannot be given {place}: {NOT_FOR_RUNS[key]}")


def check_arm(arm: str, overrides: Sequence[str]) -> None:
    """Raise ConfigurationError where an arm, which may stand in a file, decides about trust."""
    for text in overrides:
        if re.match(r"[+~]*(trust|hydra)\b", text):
            raise ConfigurationError(
                f"{text} cannot be given in the arm {arm!r}: only the command line of compare.py "
                "decides what is trusted and what Hydra does"
            )


def check_folders(names: Sequence[str], arms: Mapping[str, Sequence[Experiment]]) -> None:
    """Check that no two arms are the same runs, and no run's folder holds another's.

    Raises:
        ConfigurationError: If so.
    """
    owner: dict[Path, str] = {}
    for name in names:
        folder = folder_of(arms[name][0])
        if folder.path in owner:
            raise ConfigurationError(
                f"a comparison needs two different arms, but {owner[folder.path]!r} and {name!r} "
                f"are the same runs, {folder.path}"
            )
        owner[folder.path] = name
    for run in (run for runs in arms.values() for run in runs):
        check_configuration(folder_of(run), run.config)


def build_once(arms: Mapping[str, Sequence[Experiment]]) -> None:
    """Build each arm's data and model, so that none fails after others were trained for hours.

    Raises:
        ConfigurationError: If an arm cannot be built; the message names it.
    """
    for arm, (first, *_) in arms.items():
        try:
            build_task(first.config, build_data(first.config))
        except ConfigurationError as error:
            raise ConfigurationError(f"the arm {arm!r}: {error}") from error


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


def result_name(arms: Sequence[str], shared: str) -> str:
    """Return the name of a comparison's folder; ``shared`` names what was changed for all arms."""
    return short("-".join(["-vs-".join(short(arm) for arm in arms), *([shared] if shared else [])]))


def short(text: str) -> str:
    """Return at most 100 letters, digits, ``.``, ``-`` and ``_``; two texts never share them.

    Where something was replaced or cut off, a hash of the text stands at the end.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text)
    if plain == text and len(text) <= 100:
        return text
    return f"{plain[:91]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


if __name__ == "__main__":
    main()
