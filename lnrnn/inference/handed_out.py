"""A folder to hand out: ``model.safetensors`` and ``config.json``, tensors and plain values.

``config.json`` holds the nodes ``model`` and ``head`` of the run's configuration, how its data were
treated, and what else is known of it. Whoever reads it checks it as any configuration.
"""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from lnrnn.config.allowed_targets import resolve
from lnrnn.config.errors import ConfigurationError
from lnrnn.inference.trained_model import TrainedModel
from lnrnn.preparation import Preparation, from_plain, to_plain
from lnrnn.runs.files import replacing
from lnrnn.runs.record import RecordError, parse_json, read_text
from lnrnn.runs.tensor_files import read_tensors, write_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "lnrnn 1"


def is_handed_out(path: Path) -> bool:
    """Return whether a folder is one of these, and no run's."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def hand_out(model: TrainedModel, folder: Path) -> None:
    """Write a model into a folder, which is made if need be, and read it back.

    Args:
        model: The model.
        folder: Where to; what else is in it stays.

    Raises:
        ConfigurationError: If what is read back is something else.
        OSError: If the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        **model.nodes,
        "preparation": to_plain(model.preparation),
        "about": model.about,
    }
    with replacing(folder / WEIGHTS) as file:
        write_tensors(file, model.module.state_dict(), {"format": "pt"})
    with replacing(folder / CONFIG) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    _, preparation, _, weights = read_handed_out(folder / CONFIG, folder / WEIGHTS)
    for name, value in model.module.state_dict().items():
        if not torch.equal(weights[name], value.cpu()):
            raise ConfigurationError(f"{folder / WEIGHTS}: {name} is not what was written")
    if preparation != model.preparation:
        raise ConfigurationError(f"{folder / CONFIG} is not what was written")


def read_handed_out(
    path: Path, weights: Path
) -> tuple[DictConfig, Preparation, dict[str, Any], dict[str, Tensor]]:
    """Return the configuration, how data were treated, what else is known, and the weights.

    Args:
        path: The configuration; a link is not followed.
        weights: The weights, likewise.

    Raises:
        ConfigurationError: If a file is not what :func:`hand_out` writes.
    """
    try:
        content = parse_json(read_text(path), path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise RecordError(f"{path} is not a model of lnrnn, whose format is {FORMAT!r}")
        about = content.get("about")
        preparation = from_plain(content.get("preparation"))
        nodes = {key: content.get(key) for key in ("model", "head", "trust")}
        config = OmegaConf.create(nodes)
        resolve(config)
    except (RecordError, ConfigurationError) as error:
        raise ConfigurationError(str(error)) from error
    except (ValueError, RecursionError, OmegaConfBaseException) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    tensors = read_tensors(weights)[0]
    return config, preparation, about if isinstance(about, dict) else {}, tensors
