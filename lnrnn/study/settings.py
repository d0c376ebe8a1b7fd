"""What may be asked of a comparison: its own keys, checked before anything is composed."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from lnrnn.checks import is_whole
from lnrnn.config import CONF
from lnrnn.config.compose import compose_config
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import suggest
from lnrnn.runs.processes import is_first_process, is_only_process
from lnrnn.study.launcher_options import KINDS, LauncherOptions, read_options

FIRST_TUNING_SEED = 1000
NOT_FOR_RUNS = {
    "data": "all arms share the data, which data=... chooses for the whole comparison",
    "model": "the first word of an arm is its model: 'arms=[rnn,\"rnn model.eps=1e-3\"]'",
    "seed": "every arm has the same seeds, and seeds=7 takes 0 to 6",
    "name": "a run's folder is named after the overrides",
    "resume": "interrupted runs are resumed, and finished ones are reused",
}


@dataclass(frozen=True)
class Settings:
    """What a comparison was asked for.

    Args:
        arms: As typed, with single spaces; the first is the baseline.
        data: A file in ``conf/data``.
        seeds: How many seeds, from 0 up.
        splits: On how many splits of the data every seed is run.
        jobs: How many runs are trained at a time.
        train: Whether what is missing is trained.
        worker: Whether other processes train runs of the same comparison.
        rates: The learning rates that every arm is tuned over, ascending; empty: no tuning.
        tuning_seeds: How many seeds tune, from ``FIRST_TUNING_SEED`` up; None: every seed of the
            comparison runs every rate.
        primary: The endpoint that the comparison is about.
        cost: Whether the cost of a step is measured.
        require_speedup: The speed-up below which the exit code is 1; None for none.
        passed: The overrides for the training of all arms.
        command: What was typed, as a shell takes it.
        launcher: What starts workers on other machines; None: nothing.
    """

    arms: tuple[str, ...]
    data: str
    seeds: int
    splits: int
    jobs: int
    train: bool
    worker: bool
    rates: tuple[float, ...]
    tuning_seeds: int | None
    primary: str
    cost: bool
    require_speedup: float | None
    passed: tuple[str, ...]
    command: str
    launcher: LauncherOptions | None = None


def read_settings(arguments: Sequence[str]) -> Settings:
    """Return what the command line asks for; what is not said is in ``conf/compare.yaml``.

    Raises:
        ConfigurationError: If neither a comparison nor a run has a key, or a value does not fit.
    """
    known = [str(key) for key in OmegaConf.load(CONF / "compare.yaml") if key != "defaults"]
    own = [text for text in arguments if text.split("=", 1)[0] in known or _is_launchers(text)]
    passed = tuple(text for text in arguments if text not in own)
    for text in passed:
        check_is_known(text, known)
    # conf/data is a group, of which a comparison has no file to replace: it only hands the name on.
    data = [text.partition("=")[2] for text in own if text.startswith("data=")]
    _check_launcher_chosen(own)
    config = compose_config([text for text in own if text[:5] != "data="], "compare")
    rates = _rates(config.lr)
    launcher = _launcher(own, config)
    check_overrides(passed, "on the command line of lnrnn compare", tuned=bool(rates))
    if not rates and any(text.startswith("tuning_seeds=") for text in own):
        raise ConfigurationError("tuning_seeds has no effect without rates: 'lr=[1e-3,3e-3,1e-2]'")
    settings = Settings(
        arms=_arms(config.arms, tuned=bool(rates)),
        data=data[-1] if data else config.data,
        seeds=_count(config, "seeds", "how many, from 0 up"),
        splits=_count(config, "splits", "on how many splits of the data every seed is run"),
        # A launcher's workers are what runs side by side.
        jobs=1
        if launcher is not None and not any(text.startswith("jobs=") for text in own)
        else _count(config, "jobs", "how many runs are trained at a time"),
        train=_switch(config, "train"),
        worker=_switch(config, "worker"),
        rates=rates,
        tuning_seeds=_tuning_seeds(config),
        primary=_primary(config.primary),
        cost=_switch(config, "cost"),
        require_speedup=_speedup(config.require_speedup),
        passed=passed,
        command=shlex.join(["lnrnn", "compare", *arguments]),
        launcher=launcher,
    )
    _check_splits(settings)
    if settings.tuning_seeds and rates and settings.seeds > FIRST_TUNING_SEED:
        raise ConfigurationError(
            f"with tuning_seeds=... seeds must be at most {FIRST_TUNING_SEED}, where the tuning "
            f"seeds begin, got {settings.seeds}"
        )
    if settings.worker or settings.launcher is not None:
        check_worker(settings)
    return settings


def without_launcher(settings: Settings) -> list[str]:
    """Return the arguments of a command that had a launcher, for its workers."""
    arguments = shlex.split(settings.command)[2:]
    return [
        text for text in arguments if not _is_launchers(text) and text.split("=", 1)[0] != "worker"
    ]


def _is_launchers(text: str) -> bool:
    return text.lstrip("+~").split("=", 1)[0].split(".", 1)[0] == "launcher"


def _check_launcher_chosen(own: Sequence[str]) -> None:
    """Raise ConfigurationError where something is asked of no launcher."""
    asked = [text for text in own if _is_launchers(text)]
    if asked and not any(text.startswith("launcher=") for text in asked):
        raise ConfigurationError(
            f"{asked[0]} has no effect without a launcher: add one of "
            f"{', '.join(f'launcher={kind}' for kind in KINDS)}"
        )


def _launcher(own: Sequence[str], config: DictConfig) -> LauncherOptions | None:
    if config.launcher is None:
        return None
    kind = [text.partition("=")[2] for text in own if text.startswith("launcher=")][-1]
    if kind not in KINDS:  # Hydra would also take "'ray'", and a dictionary
        raise ConfigurationError(
            f"launcher must be {' or '.join(KINDS)}, without quotes, got {kind}; what is asked of "
            "it is launcher.KEY=VALUE"
        )
    if config.worker is True:
        raise ConfigurationError(
            f"launcher={kind} starts workers, and worker=true makes this process one: leave one of "
            "the two out"
        )
    return read_options(kind, config.launcher)


def _check_splits(settings: Settings) -> None:
    """Raise ConfigurationError at what no test over several splits accounts for."""
    if settings.splits == 1:
        return
    if settings.splits == 2:
        raise ConfigurationError(
            "splits=2 says next to nothing of how much splits differ: take splits=5, or at least 3"
        )
    if settings.rates:
        raise ConfigurationError(
            "splits=... cannot be given beside lr=[...], because no test accounts for both: choose "
            "the rates first, with lr=[...] alone, and give them to the arms, "
            '\'arms=["rnn optimizer.lr=1e-2","rnn_ln optimizer.lr=3e-2"]\''
        )
    if settings.primary == "steps_to_90":
        raise ConfigurationError(
            "primary=steps_to_90 is not compared over several splits, each of which has targets of "
            "its own: take primary=area, which is higher for faster learning, or splits=1"
        )


def check_worker(settings: Settings) -> None:
    """Raise ConfigurationError where a process cannot be one of those that share a comparison."""
    if not settings.train and settings.launcher is not None:
        raise ConfigurationError(
            "a launcher's workers train, and train=false trains nothing: leave one of the two out"
        )
    if not settings.train:
        raise ConfigurationError(
            "worker=true trains runs that no other process is training, and train=false trains "
            "nothing: leave one of the two out"
        )
    if not is_first_process() or not is_only_process():
        raise ConfigurationError(
            "every worker is a process by itself, and these were started as parts of one (by srun, "
            "torchrun or mpirun): start each alone, such as by sbatch --array=1-8 "
            "--wrap='lnrnn compare ... worker=true'"
        )


def check_is_known(text: str, own: Sequence[str]) -> None:
    """Raise ConfigurationError at an argument whose key neither a comparison nor a run has."""
    if text.startswith("-"):
        raise ConfigurationError(
            f"lnrnn compare takes KEY=VALUE and --help, got {text}; what can be set is in "
            "conf/compare.yaml and, for the runs, in conf/train.yaml"
        )
    key, dot, _ = text.split("=", 1)[0].lstrip("+~").partition(".")
    if "@" in key or "/" in key:  # a file of a group, which Hydra looks for
        return
    if key in own and not (key == "data" and dot):  # data.length=50 is the runs'
        raise ConfigurationError(f"{text}: a comparison's own keys are set as they are: {key}=...")
    primary = OmegaConf.load(CONF / "train.yaml")
    groups = [str(key) for entry in primary.defaults if entry != "_self_" for key in entry]
    runs = ["head", "trust", *groups, *(str(name) for name in primary if name != "defaults")]
    runs = sorted(name for name in runs if " " not in name)
    if key not in runs and text.strip():
        raise ConfigurationError(
            f"there is no key {key}. {suggest(key, [*own, *runs])}Keys of a comparison: "
            f"{', '.join(own)}; of its runs: {', '.join(runs)}."
        )


def check_overrides(overrides: Sequence[str], place: str, *, tuned: bool) -> None:
    """Check that no override breaks what makes runs comparable.

    Args:
        overrides: Overrides of runs.
        place: Where they were given.
        tuned: Whether the learning rate is chosen by tuning.

    Raises:
        ConfigurationError: Naming the override and the way out.
    """
    for text in overrides:
        key = text.split("=", 1)[0].lstrip("+~")
        if key in NOT_FOR_RUNS:
            raise ConfigurationError(f"{text} cannot be given {place}: {NOT_FOR_RUNS[key]}")
        if tuned and key == "optimizer.lr":
            raise ConfigurationError(
                f"{text} cannot be given {place} beside lr=[...], which chooses every arm's "
                "learning rate: leave one of the two out"
            )


def check_arm(arm: str, overrides: Sequence[str]) -> None:
    """Raise ConfigurationError where an arm, which may be in a file, decides about trust."""
    for text in overrides:
        if re.match(r"[+~]*(trust|hydra)\b", text):
            raise ConfigurationError(
                f"{text} cannot be given in the arm {arm!r}: only the command line "
                "decides what is trusted and what Hydra does"
            )


def _arms(arms: Any, *, tuned: bool) -> tuple[str, ...]:
    if not isinstance(arms, ListConfig):
        raise ConfigurationError(
            f"arms must be a list, got {arms}: write 'arms=[rnn,rnn_ln]', with the quotes"
        )
    for arm in arms:
        if not isinstance(arm, str) or not arm.strip():
            raise ConfigurationError(
                f'an arm is a model, and overrides behind it: "lstm model.eps=1e-3"; got {arm!r}'
            )
    if len(arms) < 2:
        raise ConfigurationError(f"a comparison needs at least two arms, got {arms}")
    for arm in arms:
        _, *overrides = arm.split()
        check_overrides(overrides, f"in the arm {arm!r}", tuned=tuned)
        check_arm(arm, overrides)
    return tuple(" ".join(arm.split()) for arm in arms)


def _count(config: DictConfig, key: str, meaning: str) -> int:
    value = config[key]
    if not is_whole(value, least=1):
        raise ConfigurationError(
            f"{key} must be at least 1, and a whole number: {meaning}; got {value}"
        )
    return value


def _tuning_seeds(config: DictConfig) -> int | None:
    meaning = f"how many, from {FIRST_TUNING_SEED} up"
    return None if config.tuning_seeds is None else _count(config, "tuning_seeds", meaning)


def _primary(value: Any) -> str:
    from lnrnn.comparison.endpoints import check_endpoint  # here: its package imports scipy

    try:
        check_endpoint(value)
    except ValueError as error:
        raise ConfigurationError(f"primary={value}: {error}") from error
    return value


def _switch(config: DictConfig, key: str) -> bool:
    if not isinstance(config[key], bool):
        raise ConfigurationError(f"{key} must be true or false, got {config[key]}")
    return config[key]


def _rates(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    rates = list(value) if isinstance(value, ListConfig) else []
    numbers = [rate for rate in rates if _is_positive(rate)]
    if len(numbers) < len(rates) or len({*map(float, numbers)}) < max(len(rates), 2):
        raise ConfigurationError(
            "lr must be a list of two or more different positive numbers, 'lr=[1e-3,3e-3,1e-2]', "
            f"got {value}. One rate for all arms is optimizer.lr=3e-3"
        )
    return tuple(sorted(map(float, numbers)))


def _speedup(value: Any) -> float | None:
    if value is not None and not _is_positive(value):
        raise ConfigurationError(
            "require_speedup must be null or a positive number: steps of the baseline over steps "
            f"of the arm, such as 1.2; got {value}"
        )
    return None if value is None else float(value)


def _is_positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value < float("inf")
