"""Training from Python, in a notebook or a script of one's own: no command line, nothing global."""

import hashlib
import inspect
import re
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer

from lnrnn.config.allowed_names import ALLOWED
from lnrnn.config.allowed_targets import locate
from lnrnn.config.compose import compose_experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.own_files import FOLDER, has_own_folder
from lnrnn.models import SequenceModel
from lnrnn.runs.files import replace_text
from lnrnn.runs.folder import RunFolder, folder_of
from lnrnn.runs.interruption import Interrupted
from lnrnn.runs.metrics import read_metrics
from lnrnn.runs.record import RunRecord
from lnrnn.runs.weights import check_fits, read_weights
from lnrnn.runs.weights import locate as locate_weights
from lnrnn.training.build import build_data, build_task
from lnrnn.training.run import train

GROUPS = ("model", "optimizer")  # what may be given as a class or function
SIZES = ("num_features", "num_tokens")  # which a model takes from its data unless they are given

KNOWN = ("lnrnn", "torch")  # packages whose version a run notes
# Words which an override reads as something else, or refuses.
NOT_TEXTS = ("true", "false", "null", "none", "nan", "inf")


@dataclass(frozen=True)
class FittedRun:
    """A finished run.

    Args:
        folder: Its files.
        record: The content of its ``run.json``.
        config: What it was made with, the resolved configuration.
    """

    folder: RunFolder
    record: RunRecord
    config: DictConfig

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics by name, such as ``test/accuracy``."""
        return self.record.metrics

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Return every metric's optimizer steps and values: ``plt.plot(*run.curves()[name])``."""
        found: dict[str, tuple[list[int], list[float]]] = {}
        for entry in read_metrics(self.folder.metrics):
            steps, values = found.setdefault(entry.name, ([], []))
            steps.append(entry.step)
            values.append(entry.value)
        return found

    @cached_property
    def model(self) -> SequenceModel:
        """The model with the weights that were tested, on the CPU, in evaluation mode."""
        path, _, _ = locate_weights(self.folder.path, None)
        weights, model = read_weights(path), build_task(self.config, build_data(self.config)).model
        check_fits(weights, model, path)
        model.load_state_dict(weights)
        return model.eval()

    def __repr__(self) -> str:
        found = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"{self.record.model} on {self.record.data}: {found} ({self.folder.path})"


class Source(Callback):
    """Notes in ``run.json`` a hash of the classes that a run was given.

    Args:
        folder: The run's.
        digest: The hash; None for no code of one's own.
    """

    def __init__(self, folder: RunFolder, digest: str | None) -> None:
        self.folder = folder
        self.digest = digest

    def check(self) -> None:
        """Check that the folder's run, if there is one, was made of the same code.

        Raises:
            ConfigurationError: If it was not.
        """
        before = self.folder.read_record().source
        if self.digest and before and before != self.digest:
            raise ConfigurationError(
                f"{self.folder.path} holds a run of a class or function of that name that has been "
                "edited since: give this run a name of its own (name=...), or move that folder away"
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it down."""
        if self.digest and trainer.is_global_zero:
            self.folder.update_record(source=self.digest)


def digest_of(given: Iterable[Callable[..., Any]]) -> str | None:
    """Return a hash of the source of classes and functions; None where no one's own can be read.

    What they call or inherit from is not looked at.
    """
    functions = [entry.func if isinstance(entry, partial) else entry for entry in given]
    functions = [entry for entry in functions if entry.__module__.partition(".")[0] not in KNOWN]
    text = "".join(map(_source, functions))
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _source(given: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(given)
    except (OSError, TypeError):  # a notebook's class, or what was typed at a prompt
        own = [entry for entry in vars(given).values() if inspect.isfunction(entry)]
    with suppress(OSError, TypeError):
        return "".join(map(inspect.getsource, own))
    return ""


def fit(*overrides: str, root: str | Path = "runs", **settings: Any) -> FittedRun:
    """Train a run, resume it, or only read it if it is finished; as ``lnrnn train`` does.

    What a notebook has set is left as it was: Hydra, signals, logging, torch's generators and its
    choice of deterministic algorithms. Generators of other libraries are not looked after: what a
    class of your own draws from ``random`` or NumPy moves them on.

    Args:
        overrides: As on the command line: ``"model=lstm_ln"``, ``"model.eps=1e-3"``.
        root: The folder that holds all runs.
        settings: More of them: ``seed=1``, ``data="mnist1d"``, ``trust=["my_models"]``. ``model``
            may be a class or function, whose arguments ``functools.partial`` binds, and so may
            ``optimizer``: ``model=partial(MyEncoder, hidden_size=32)``. They are part of the run's
            configuration by their names, so whoever reads it must be able to import them.

    Returns:
        The run, with ``.metrics``, ``.curves()`` and ``.model``.

    Raises:
        ConfigurationError: If a key or value does not exist or fit, or something cannot be named;
            or if the folder's run was made of a class that has been edited since.
        NonFiniteError: If a loss or gradient is not finite.
        KeyboardInterrupt: If the kernel was interrupted; the run is saved, and the same call
            resumes it.

    Example:
        >>> run = fit("model=lstm_ln", "data=mnist1d", seed=1)  # doctest: +SKIP
        >>> run.metrics["test/accuracy"]  # doctest: +SKIP
        0.687
    """
    for key, value in settings.items():
        _check_unbuilt(key, value)
    given = {key: settings.pop(key) for key in GROUPS if callable(settings.get(key))}
    words = [*overrides, *(f"{key}={_written(key, value)}" for key, value in settings.items())]
    with tempfile.TemporaryDirectory() as folder, _as_it_was():
        trusted = [_describe(key, value, Path(folder), words) for key, value in given.items()]
        packages = sorted({package for package in trusted if package})
        if packages and not any(word.startswith("trust=") for word in words):
            words.append(f"trust=[{','.join(packages)}]")
        path = []
        if given:
            own = f",file://{FOLDER}" if has_own_folder() else ""
            path = [f"hydra.searchpath=[file://{folder}{own}]"]
        experiment = compose_experiment([*words, *path])
        experiment = replace(experiment, overrides=tuple(words))
        source = Source(folder_of(experiment, Path(root)), digest_of(given.values()))
        source.check()
        try:
            run = train(experiment, Path(root), callbacks=[source])
            return FittedRun(*run, experiment.config)
        except Interrupted as stop:
            if stop.signal != signal.SIGINT:
                raise
            raise KeyboardInterrupt(f"{stop}; the same call resumes it") from None


def _check_unbuilt(key: str, value: Any) -> None:
    """Raise ConfigurationError where an object is given, and not what builds it."""
    if not isinstance(value, nn.Module | Optimizer | LightningDataModule):
        return
    name = type(value).__name__
    way_out = f"{key}=functools.partial({name}, ...), with arguments by their names"
    if key not in GROUPS:
        way_out = f"a file conf/{key}/NAME.yaml that names it, and {key}=NAME (docs/own_data.md)"
    raise ConfigurationError(
        f"{key} is built already ({name}), but a run builds its own: from its seed, and again when "
        f"it is resumed, tested or loaded. Give what builds it: {way_out}"
    )


def _describe(group: str, given: Callable[..., Any], folder: Path, words: list[str]) -> str | None:
    """Write a file that names what was given, and add what chooses it to the overrides.

    Returns:
        The module to be trusted; None for what any configuration may name.
    """
    bound = given if isinstance(given, partial) else partial(given)
    if bound.args:
        raise ConfigurationError(f"{group}: bind arguments by their names, got {bound.args}")
    name = getattr(bound.func, "__name__", None)
    module = getattr(bound.func, "__module__", None)
    if not name or not name.isidentifier() or name != getattr(bound.func, "__qualname__", None):
        raise ConfigurationError(
            f"{group} must be a class or function of a module or a notebook's own, or "
            f"functools.partial of one, so that it can be named; got {given!r}"
        )
    ours = [text for text in ALLOWED if text.rpartition(".")[2] == name]
    target = next((text for text in ours if locate(group, text) is bound.func), f"{module}.{name}")
    node: dict[str, Any] = {"_target_": target}
    if group == "optimizer":
        node["_partial_"] = True
    parameters = inspect.signature(bound.func).parameters
    if group == "model":
        missing = [key for key in SIZES if key in parameters and key not in bound.keywords]
        node |= {key: f"${{data.{key}}}" for key in missing}
    path = folder / group / f"{name}.yaml"
    path.parent.mkdir()
    replace_text(path, OmegaConf.to_yaml(OmegaConf.create(node)))
    words += [f"{group}={name}"]
    words += [f"+{group}.{key}={_written(key, value)}" for key, value in bound.keywords.items()]
    return None if target in ALLOWED else module


def _written(key: str, value: Any) -> str:
    """Return a plain value as an override has it.

    Raises:
        ConfigurationError: If it is no plain value.
    """
    if value is None:
        return "null"
    if isinstance(value, np.generic):
        value = value.item()  # whose repr is not the number alone
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        text = str(value)
        plain = re.fullmatch(r"[A-Za-z_][\w./:-]*", text)
        if plain and text.lower() not in NOT_TEXTS:
            return text
        return "'" + re.sub(r"(\\*)'", r"\1\1\\'", text) + "'"
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(key, entry) for entry in value)}]"
    if is_dataclass(value) and not isinstance(value, type):  # a CellNorm
        name = f"lnrnn.{type(value).__name__}"
        content = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        if name in ALLOWED:
            return _written(key, {"_target_": name, **content})
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_written(key, entry)}" for k, entry in value.items()) + "}"
    raise ConfigurationError(
        f"{key} must be a number, a text, true, false, None, a list or a dictionary of them, or a "
        f"CellNorm, so that it can be recorded; got {value!r}"
    )


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Leave Hydra, torch's generators and its choice of algorithms as a notebook has set them."""
    hydra, version = GlobalHydra.instance().hydra, VersionBase.instance()
    GlobalHydra.instance().hydra = None  # of the notebook's own, which composing would refuse
    base = version.getbase()
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmarks = torch.backends.cudnn.benchmark
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            GlobalHydra.instance().hydra = hydra
            version.version_base = base
            torch.use_deterministic_algorithms(strict, warn_only=warns)
            torch.backends.cudnn.benchmark = benchmarks
