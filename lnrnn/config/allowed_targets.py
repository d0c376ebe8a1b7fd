"""What a configuration may name: which classes and functions, and which other keys.

A configuration may come from somebody else: a file, or the folder of a run. So a name is looked up
without calling anything on the way, and no module is imported for one that is not allowed.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lnrnn.config.allowed_names import ALLOWED
from lnrnn.config.errors import ConfigurationError

NAMES_OF_CODE = ("_instantiator", "_class_path", "_target_")  # Lightning's and Hydra's keys


def locate(path: str, target: Any, trust: Sequence[str] = ()) -> Any:
    """Return the class or function that ``target`` names, if a configuration may name it.

    It may name what is in our list, spelled as there. Of a package that is trusted it may name
    every class and function; but a path alone proves nothing, since ``my_models.os.unlink`` begins
    well too: so it must be a module's path and a name in it, and what it finds must be defined in
    that module or below.

    Args:
        path: Where in the configuration it is, for the message.
        target: The value of a ``_target_``.
        trust: Packages that are allowed beside our own list.

    Raises:
        ConfigurationError: If it may not be named, or does not exist.
    """
    if not isinstance(target, str):
        raise _refusal(path, target, "which is not a name", trust)
    module, _, name = target.rpartition(".")
    trusted = _lies_in(module, trust)
    if target not in ALLOWED and not trusted:
        raise _refusal(path, target, "which is not in the list", trust)
    parts = target.removeprefix("__main__.").split(".")  # the module of a notebook or a script
    if not all(part.isidentifier() and part[0] != "_" for part in parts):
        raise _refusal(path, target, "which is private", trust)
    try:
        found = vars(import_module(module))[name]
        same = get_object(target) is found  # Hydra follows attributes; it must end there too
    except KeyError as error:
        raise _refusal(path, target, f"but {module} has no {name}", trust) from error
    except Exception as error:
        way_out = "; install it, or add its folder to PYTHONPATH" * trusted
        why = f"which cannot be imported ({error}{way_out})"
        raise _refusal(path, target, why, trust) from error
    if not same or not (target in ALLOWED or _is_defined_in(found, module)):
        raise _refusal(path, target, "which is no class or function defined there", trust)
    return found


def _is_defined_in(found: Any, module: str) -> bool:
    named = isinstance(found, type) or inspect.isfunction(found)
    return named and _lies_in(found.__module__, [module])


def _refusal(path: str, target: Any, why: str, trust: Sequence[str]) -> ConfigurationError:
    key = f"{path}._target_".lstrip(".")
    leaf = str(target).rpartition(".")[2]
    same = sorted(name for name in ALLOWED if name.rpartition(".")[2] == leaf)
    hint = f" Did you mean {same[0]}?" if same and target not in ALLOWED else ""
    also = f", and what is in {', '.join(trust)}" if trust else ""
    return ConfigurationError(
        f"{key} is {target!r}, {why}.{hint} A configuration may only name lnrnn's models, norms, "
        "heads and data, optimizers of torch.optim, layers and losses of torch.nn, metrics of "
        "torchmetrics, Lightning's Trainer and loggers, as lnrnn/config/allowed_names.py lists "
        f"them{also}. To let it name what another package has, say so on the command line: "
        "'trust=[package]'."
    )


def _lies_in(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def check_targets(plain: Any, trust: Sequence[str] = ()) -> None:
    """Check every ``_target_`` in a plain container, in lists too.

    Raises:
        ConfigurationError: Naming the first that is not allowed.
    """
    for path, node in target_nodes(plain, ""):
        locate(path, node["_target_"], trust)


def target_nodes(node: Any, path: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield every dictionary that has a ``_target_``, with its dotted path."""
    if isinstance(node, dict) and "_target_" in node:
        yield path, node
    for key, value in _items(node):
        yield from target_nodes(value, f"{path}.{key}" if path else str(key))


def _items(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list):
        yield from enumerate(node)


def check_data_only(name: str, saved: Any) -> None:
    """Check that nothing in a loaded checkpoint names code, though nothing here would run it.

    Args:
        name: The file, for the message.
        saved: What was loaded.

    Raises:
        ConfigurationError: Naming the entry.
    """
    for key, value in entries_of(saved):
        if key in NAMES_OF_CODE:
            raise ConfigurationError(
                f"{name} holds {key} = {value!r}, the name of code to run, which no checkpoint of "
                "lnrnn has. Do not open it with other programs before you know who made it."
            )


def entries_of(saved: Any) -> Iterator[tuple[Any, Any]]:
    """Yield key and value of every entry in dictionaries, lists and tuples, however deep.

    Each of those is looked into once: a few bytes can hold a list that holds itself, or lists of
    the same lists whose entries nobody would live to count.
    """
    seen: set[int] = set()
    waiting = [saved]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for key, value in _items([*node] if isinstance(node, tuple) else node):
            yield key, value
            if isinstance(value, (dict, list, tuple)):
                waiting.append(value)


def check_references(config: DictConfig) -> None:
    """Check that references such as ``${data.num_features}`` lead to other keys, and no further.

    Resolvers read the environment (``${oc.env:TOKEN}``, into files that are kept and logged) or the
    clock, and can give one thing when checked and another when used.

    Raises:
        ConfigurationError: If there is one.
    """
    for path, text in _texts(OmegaConf.to_container(config), ""):
        if "${" in re.sub(r"\$\{[\w.\[\]]+\}", "", text):
            raise ConfigurationError(
                f"{path} is {text!r}, but only references to other keys are allowed, such as "
                "${data.num_features}: write the value itself, on the command line with the "
                "shell's $NAME"
            )


def resolve(config: DictConfig) -> None:
    """Put values in the places of references.

    Raises:
        ConfigurationError: If there is another kind of reference, or one leads nowhere.
    """
    check_references(config)
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise ConfigurationError(f"cannot resolve the configuration: {error}") from error
    check_resolved(OmegaConf.to_container(config))


def check_resolved(plain: Any) -> None:
    """Check that no reference is left: two texts that are joined could make a new one.

    Raises:
        ConfigurationError: Naming the key.
    """
    for path, text in _texts(plain, ""):
        if "${" in text:
            raise ConfigurationError(f"{path} must not be a reference once resolved, got {text!r}")


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    for key, value in _items(node):
        yield from _texts(value, f"{path}.{key}" if path else str(key))
