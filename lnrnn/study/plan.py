"""From what is asked of a comparison to its runs, checked before any is trained."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lnrnn.comparison.endpoints import check_endpoint
from lnrnn.comparison.looks import Look, as_look
from lnrnn.config.compose import Experiment, compose_experiment, instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.variants import compose_variants
from lnrnn.data.datamodule import UNNAMED, DataModule
from lnrnn.runs.files import open_own, replace_text
from lnrnn.runs.folder import check_configuration, derive_name, folder_of
from lnrnn.runs.names import cut, plain, with_hash
from lnrnn.runs.record import RecordError, parse_json
from lnrnn.study.settings import FIRST_TUNING_SEED, Settings
from lnrnn.training.build import build_data, build_task
from lnrnn.training.freezing import frozen_parameters, unfreezing_step
from lnrnn.training.warm_start import names_to_take, read_initial

QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
Runs = dict[str, list[Experiment]]  # an arm's name -> its runs, one a seed and split


@dataclass(frozen=True)
class Task:
    """One run of a comparison.

    Args:
        title: What a person calls it: ``rnn model.eps=1e-3, seed 3``.
        experiment: What is trained.
    """

    title: str
    experiment: Experiment

    @property
    def folder(self) -> Path:
        """Where it is."""
        return folder_of(self.experiment).path


def tuning_runs(settings: Settings) -> dict[str, dict[float, list[Experiment]]]:
    """Return every arm's runs at every learning rate: on every seed, or on the tuning seeds.

    Raises:
        ConfigurationError: As :func:`compared_runs`.
    """
    seeds = range(settings.seeds)
    if settings.tuning_seeds:
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + settings.tuning_seeds)
    arms = name_arms(settings.arms)
    found = {
        name: {rate: _compose(settings, arm, seeds, rate) for rate in settings.rates}
        for name, arm in arms.items()
    }
    for rate in settings.rates:
        _check_folders({name: rates[rate] for name, rates in found.items()}, arms)
    return found


def compared_runs(settings: Settings, rates: Mapping[str, float]) -> Runs:
    """Return every arm's runs on the seeds that are compared, each on every split.

    Args:
        settings: What was asked for.
        rates: The learning rate of each arm; empty where they were not tuned.

    Raises:
        ConfigurationError: If an override is not allowed or does not fit, two arms that were typed
            differently are the same runs, or a folder holds another run.
    """
    arms = name_arms(settings.arms)
    seeds = range(settings.seeds)
    runs = {name: _compose(settings, arm, seeds, rates.get(name)) for name, arm in arms.items()}
    _check_folders(runs, arms)
    if settings.splits > 1:
        _check_splits(runs)
    return runs


def name_arms(arms: Sequence[str]) -> dict[str, str]:
    """Return what each arm is called, and the arm; one that is given again is counted.

    Example:
        >>> name_arms(["rnn", "rnn_ln", "rnn"])
        {'rnn': 'rnn', 'rnn_ln': 'rnn_ln', 'rnn (2)': 'rnn'}
    """
    seen: Counter[str] = Counter()
    named = {}
    for arm in arms:
        seen[arm] += 1
        named[arm if seen[arm] == 1 else f"{arm} ({seen[arm]})"] = arm
    return named


def _compose(
    settings: Settings, arm: str, seeds: Iterable[int], rate: float | None
) -> list[Experiment]:
    model, *overrides = arm.split()
    tuned = [] if rate is None else [f"optimizer.lr={rate!r}"]
    common = [f"model={model}", f"data={settings.data}", *settings.passed, *QUIET, *overrides]
    splits = _splits(settings, compose_experiment(common)) if settings.splits > 1 else [[]]
    variants = [[*tuned, *split, f"seed={seed}"] for seed in seeds for split in splits]
    return compose_variants(common, variants)


def _splits(settings: Settings, arm: Experiment) -> list[list[str]]:
    """Return what makes every split; the first is the arm's own, whose runs may be there.

    Raises:
        ConfigurationError: If the test of its data is fixed.
    """
    data = instantiate(arm.config.data)
    split = data.split if isinstance(data, DataModule) else UNNAMED
    if isinstance(split, str):
        raise ConfigurationError(
            f"splits={settings.splits} needs data that can be split in several ways, but the test "
            f"of data={settings.data} is fixed: {split}"
        )
    others = range(split.seed + 1, split.seed + settings.splits)
    return [[], *([f"data.{split.key}={seed}"] for seed in others)]


def _check_folders(runs: Runs, arms: Mapping[str, str]) -> None:
    """Raise ConfigurationError if other arms are the same runs, or a folder holds another run."""
    owner: dict[Path, str] = {}
    for name, (first, *_) in runs.items():
        path, arm = folder_of(first).path, arms[name]
        if owner.setdefault(path, arm) != arm:
            raise ConfigurationError(
                f"the arms {owner[path]!r} and {arm!r} are the same runs, {path}: what they differ "
                "in changes no result. To compare an arm with itself, write it twice in one way"
            )
    for run in (run for members in runs.values() for run in members):
        check_configuration(folder_of(run), run.config)


def _check_splits(runs: Runs) -> None:
    """Raise ConfigurationError if the arms' splits are not the same."""
    (first, base), *others = runs.items()
    for name, members in others:
        pairs = zip(base, members, strict=True)
        if any(one.config.data != other.config.data for one, other in pairs):
            raise ConfigurationError(
                f"several splits are shared by all arms, but the data of {name!r} are not those of "
                f"{first!r}: give what belongs to the data for all arms, outside of arms=[...]"
            )


def build_once(runs: Runs) -> None:
    """Build each arm's data and model, so that none fails after others were trained for hours.

    Initial weights are looked at where a run has yet to begin: one that has begun needs them no
    more, and they may be gone.

    Raises:
        ConfigurationError: If an arm cannot be built, or its initial weights or frozen parts do not
            fit; the message names it.
    """
    for arm, (first, *others) in runs.items():
        try:
            data = build_data(first.config)
            model = build_task(first.config, data).model
            frozen_parameters(first.config, model)
            limit = first.config.trainer.get("limit_train_batches")
            unfreezing_step(first.config, data.batches_per_epoch(limit))
            if not all(map(_has_a_checkpoint, (first, *others))):
                initial = read_initial(first.config)
                if initial is not None:
                    names_to_take(initial, model.state_dict(), first.config)
        except ConfigurationError as error:
            raise ConfigurationError(f"the arm {arm!r}: {error}") from error


def _has_a_checkpoint(run: Experiment) -> bool:
    return any(folder_of(run).checkpoints.glob("step-*"))


def tasks_of(runs: Runs, note: str = "") -> Iterator[Task]:
    """Yield every run once, seed by seed, so that a comparison that is cut short has pairs."""
    seen = set()
    earlier: Counter[tuple[str, int]] = Counter()
    several = any(len({run.config.seed for run in part}) < len(part) for part in runs.values())
    for same_seed in zip(*runs.values(), strict=True):
        for arm, run in zip(runs, same_seed, strict=True):
            seed = run.config.seed
            earlier[arm, seed] += 1
            split = f", split {earlier[arm, seed]}" if several else ""
            task = Task(f"{arm}{note}, seed {seed}{split}", run)
            if task.folder not in seen:
                seen.add(task.folder)
                yield task


def result_folder(settings: Settings, first: Experiment) -> Path:
    """Return where the result goes: named after the arms, and what was changed for all of them.

    The number of seeds is no part of it, nor that of splits where there are several: more of them
    are the same comparison, known better.

    Args:
        settings: What was asked for.
        first: A run of the first arm, which tells the keys that need their whole path.
    """
    same = replace(first, overrides=settings.passed)
    rates = ""
    if settings.rates:
        word = "tuned" if settings.tuning_seeds else "grid"
        rates = "-".join([word, *(f"{rate:g}" for rate in settings.rates)])
    extra = [rates, "splits" if settings.splits > 1 else ""]
    home = Path("runs") / settings.data / "compare"
    # The second is what an older version made of a long name: a comparison keeps its folder.
    paths = [
        home / result_name(settings.arms, "-".join(filter(None, [shared, *extra])))
        for shared in (derive_name(same), derive_name(same, cut))
    ]
    return next((path for path in paths if path.exists()), paths[0])


def result_name(arms: Sequence[str], shared: str) -> str:
    """Return the name of a comparison's folder; ``shared`` names what was changed for all arms."""
    return short("-".join(["-vs-".join(short(arm) for arm in arms), *([shared] if shared else [])]))


def short(text: str) -> str:
    """Return at most 100 letters, digits, ``.``, ``-`` and ``_``; two texts never share them.

    Where something was replaced or cut off, a hash of the text stands at the end.
    """
    kept = plain(text)
    return text if kept == text and len(text) <= 100 else with_hash(kept[:91], text)


def looks_before(folder: Path) -> list[Look]:
    """Return what each result went over that was in a folder, the last one there; or nothing."""
    try:
        with open_own(folder / "compare.json") as file:
            found = parse_json(file.read(), "compare.json")
        here = Look(len(found["seeds"]), max(1, len(found.get("splits", []))))
        return [*map(as_look, found.get("primary", {}).get("looks", [])), here]
    except (OSError, RecordError, LookupError, TypeError, AttributeError):
        return []  # none yet, or damaged, and then it is written again


def named_primary(folder: Path, settings: Settings) -> str | None:
    """Return the primary endpoint that was named for a comparison before its runs; None if unknown.

    The first call writes it down, in ``plan.json``, with what else was planned, unless there are
    results or runs already.

    Args:
        folder: The comparison's.
        settings: What was asked for.
    """
    path = folder / "plan.json"
    try:
        with open_own(path) as file:
            named = parse_json(file.read(), path)["primary"]
        check_endpoint(named)
        return named
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError):  # damaged: what it said is not known
        return None
    if not settings.train or (folder / "compare.json").exists() or _has_begun(settings):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    plan = {
        "primary": settings.primary,
        "arms": list(settings.arms),
        "seeds": settings.seeds,
        "splits": settings.splits,
        "rates": list(settings.rates),
        "tuning_seeds": settings.tuning_seeds,
    }
    replace_text(path, json.dumps(plan, indent=2) + "\n")
    return settings.primary


def _has_begun(settings: Settings) -> bool:
    """Return whether a run of any arm is there, on whichever seed."""
    one = replace(settings, seeds=1, splits=1)
    runs = [members[0] for members in compared_runs(one, {}).values()]
    if settings.rates:
        runs += [run[0] for rates in tuning_runs(one).values() for run in rates.values()]
    arms = {folder_of(run).path.parent for run in runs}
    return any(record for arm in arms for record in arm.glob("seed*/run.json"))
