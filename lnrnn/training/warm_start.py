"""Weights of a trained run as the start of a new one: read as tensors, and as nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from lnrnn.config.errors import ConfigurationError
from lnrnn.config.transfer import names_of
from lnrnn.inference.handed_out import WEIGHTS, is_handed_out
from lnrnn.inference.hub import SCHEME, fetch
from lnrnn.runs.best_files import read_best
from lnrnn.runs.files import open_own
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RunRecord
from lnrnn.runs.weights import BEST, locate, read_weights
from lnrnn.training.parts import select
from lnrnn.training.resume import Start
from lnrnn.training.screen import say

DIGEST = "sha256 of init_from"  # in what a checkpoint notes that a resumed run must have again
SHOWN = 12  # names that a message lists


@dataclass(frozen=True)
class InitialWeights:
    """Tensors to start with.

    Args:
        given: What ``init_from`` says.
        path: The file that they are from.
        sha256: Of the file.
        tensors: By their names in the model.
    """

    given: str
    path: Path
    sha256: str
    tensors: Mapping[str, Tensor]


def read_initial(config: DictConfig) -> InitialWeights | None:
    """Return the weights that a configuration lets a run start with; None for none.

    Args:
        config: With the key ``init_from``: a run's folder, of which the weights are taken that it
            has tested; a file of its ``checkpoints``; a folder that ``lnrnn export
            format=safetensors`` has written; or ``hf://user/name[@revision]``, a repository of the
            Hugging Face hub.

    Raises:
        ConfigurationError: If there is no such thing, or it is damaged or something else.
    """
    given = config.get("init_from")
    if given is None:
        return None
    if given.startswith(SCHEME):
        return _read_from_hub(given)
    source = Path(given).expanduser()
    if source.is_dir() and is_handed_out(source):
        path = source / WEIGHTS
    elif (source / "config.yaml").is_file():
        path = locate(source, None)[0]
    elif source.is_file() and source.suffix in (".ckpt", BEST):
        path = source
    else:
        raise ConfigurationError(
            f"init_from={given}: there is no such run. Give a run's folder such as "
            "runs/japanese_vowels/rnn_ln/seed0, a file in its checkpoints (.ckpt, .safetensors), "
            "a folder of lnrnn export format=safetensors, or hf://user/name"
        )
    return InitialWeights(given, path, _sha256(given, path), read_weights(path))


def _read_from_hub(given: str) -> InitialWeights:
    """Return the weights of a repository of the hub; nothing else of it is read."""
    address, at, revision = given.partition("@")
    if at and not revision:
        raise ConfigurationError(
            f"init_from={given}: behind the @ is a commit, a branch or a tag: {address}@main"
        )
    path = fetch(address, revision or None)[1]
    return InitialWeights(given, path, _sha256(given, path), read_best(path))


def _sha256(given: str, path: Path) -> str:
    try:
        with open_own(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"init_from={given}: {error}") from error


def start_from(initial: InitialWeights, model: nn.Module, config: DictConfig) -> dict[str, Any]:
    """Give a model the weights it starts with, and print which were and which were not taken.

    Args:
        initial: The weights.
        model: Has values of its own, which the other parts keep.
        config: With the key ``init_parts``, what is taken.

    Returns:
        What a run's record says of it.

    Raises:
        ConfigurationError: If something that is to be taken is missing on one of the two sides, or
            has another shape; listing names and shapes.
    """
    own, theirs = model.state_dict(), initial.tensors
    wanted = names_to_take(initial, own, config)
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(theirs[name])
    # What is tied to something that was taken was taken too, by its other name.
    places = {own[name].data_ptr() for name in wanted}
    anew = [name for name, value in own.items() if value.data_ptr() not in places]
    left = [name for name in theirs if name not in wanted]
    lines = [f"{len(wanted)} tensors of {initial.path} are taken: {', '.join(wanted)}"]
    lines += [f"not taken: {_shown(left, theirs)}"] if left else []
    lines += [f"drawn from the seed: {_shown(anew, own)}"] if anew else []
    if is_first_process():
        say("\n".join(f"init_from: {line}" for line in lines))
    return {
        "given": initial.given,
        "file": str(initial.path),
        "sha256": initial.sha256,
        "taken": wanted,
        "left": left,
    }


def names_to_take(
    initial: InitialWeights, own: Mapping[str, Tensor], config: DictConfig
) -> list[str]:
    """Return the names of what is taken.

    Args:
        initial: The weights.
        own: The model's tensors.
        config: With the key ``init_parts``.

    Raises:
        ConfigurationError: As :func:`start_from`.
    """
    theirs = initial.tensors
    patterns = names_of("init_parts", config.get("init_parts")) or ("*",)
    wanted = select([*own, *(name for name in theirs if name not in own)], patterns, "init_parts")
    _check_fit(initial, own, wanted)
    return wanted


def how_it_started(
    before: RunRecord,
    origin: dict[str, Any],
    model: nn.Module,
    start: Start,
    contract: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a run's record says of the values that its model started with.

    Args:
        before: The record that is in the folder.
        origin: From :func:`start_from`; empty for a run that is resumed, or starts from its seed.
        model: Before its first step.
        start: Where the run continues; its initial weights are not read again.
        contract: What its checkpoints note.
    """
    started: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "initial_parameters": _digests(model),
        "init_from": origin,
    }
    if start.checkpoint is None or DIGEST not in contract:
        return started
    known = before if start.continues and before.init_from else RunRecord()
    from_checkpoint = {"given": contract["init_from"], "sha256": contract[DIGEST]}
    return started | {
        "initial_parameters": known.initial_parameters,
        "init_from": known.init_from or from_checkpoint,
    }


def _digests(model: nn.Module) -> dict[str, str]:
    """Return a short digest of every parameter, to show which ones two runs share."""
    return {
        name: hashlib.sha256(parameter.detach().cpu().numpy().tobytes()).hexdigest()[:12]
        for name, parameter in model.named_parameters()
    }


def _check_fit(initial: InitialWeights, own: Mapping[str, Tensor], wanted: Sequence[str]) -> None:
    theirs, problems = initial.tensors, dict[str, str]()
    for name in wanted:
        if name not in theirs:
            problems[name] = f"{tuple(own[name].shape)} in this model, and not in the file"
        elif name not in own:
            problems[name] = f"{tuple(theirs[name].shape)} in the file, and not in this model"
        elif theirs[name].shape != own[name].shape:
            shapes = tuple(theirs[name].shape), tuple(own[name].shape)
            problems[name] = f"{shapes[0]} in the file, {shapes[1]} in this model"
        elif theirs[name].is_floating_point() != own[name].is_floating_point():
            problems[name] = f"{theirs[name].dtype} in the file, {own[name].dtype} in this model"
        elif not bool(torch.isfinite(theirs[name]).all()):
            problems[name] = "NaN or infinite in the file"
    if not problems:
        return
    lines = [f"  {name}: {problem}" for name, problem in problems.items()]
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    only_head = all(name.startswith("head.") for name in problems)
    way_out = (
        "The head is made for other classes or numbers: init_parts=encoder takes the encoder, and "
        "the head starts anew"
        if only_head
        else "init_parts=... names what is taken, such as init_parts=encoder or "
        "'init_parts=[embedding,*weight_hh*]'; what else the model has starts anew"
    )
    shown = "\n".join([*lines[:SHOWN], *more])
    raise ConfigurationError(
        f"init_from={initial.given}: {initial.path} does not fit the model:\n{shown}\n{way_out}."
    )


def _shown(names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in names)
