"""A trained model from a run's folder, or from a folder that was handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lnrnn.config.compose import instantiate
from lnrnn.config.errors import ConfigurationError
from lnrnn.config.values import check_keys, check_nodes
from lnrnn.inference.build import build_model, explained
from lnrnn.inference.compared import comparisons_of
from lnrnn.inference.handed_out import CONFIG, WEIGHTS, is_handed_out, read_handed_out
from lnrnn.inference.hub import SCHEME, fetch
from lnrnn.inference.trained_model import TrainedModel
from lnrnn.models import SequenceModel
from lnrnn.models.heads import RegressionHead
from lnrnn.preparation import Preparation
from lnrnn.runs.checkpoint_files import order_of
from lnrnn.runs.folder import RunFolder
from lnrnn.runs.model_file import read_model, with_settings
from lnrnn.runs.record import RecordError, RunRecord
from lnrnn.runs.weights import BEST, check_fits, locate, read_weights, settle_trust


def load(
    source: str | PathLike[str],
    *,
    weights: str | None = None,
    revision: str | None = None,
    trust: Sequence[str] = (),
) -> TrainedModel:
    """Load a trained model: two lines from a run to its answers.

    Nothing that is read is executed: weights are tensors, and a configuration names what is in a
    list (SECURITY.md).

    Args:
        source: A run's folder, such as ``runs/japanese_vowels/rnn_ln/seed0``; a file in its
            ``checkpoints``; a folder that ``lnrnn export format=safetensors`` has written; or
            ``hf://user/name``, a repository of the Hugging Face hub, fetched once.
        weights: Which of a run: ``best``, those of the best validation, ``last``, or None for those
            that the run has tested at its end.
        revision: Of a repository of the hub: a commit, which stays what it is, a branch or a tag;
            None for the newest.
        trust: Packages that the configuration may name beside our own list.

    Returns:
        The model on the CPU, in the numbers of its weights.

    Raises:
        lnrnn.training.ConfigurationError: A ``ValueError``, if something is missing, damaged, or
            does not fit together.

    Example:
        >>> import lnrnn
        >>> model = lnrnn.load("runs/shakespeare/lstm_ln/seed0")  # doctest: +SKIP
        >>> print(model.generate("To be"))  # doctest: +SKIP
    """
    path, of_hub = Path(source).expanduser(), str(source).startswith(SCHEME)
    if revision is not None and not of_hub:
        raise ConfigurationError(f"revision={revision} is for hf://user/name, got {source}")
    if of_hub or is_handed_out(path):
        if weights is not None:
            raise ConfigurationError(f"{source} holds one file of weights: leave out weights=")
        files = fetch(str(source), revision) if of_hub else (path / CONFIG, path / WEIGHTS)
        config, preparation, about, tensors = read_handed_out(*files)
        settle_trust(config, trust)
        return assemble(config, preparation, about, tensors, Path(source))
    file, folder, config = locate(path, weights)
    settle_trust(config, trust)
    preparation = preparation_of(folder, config)
    about = describe(folder.read_record(), file)
    about["compared"] = comparisons_of(folder.path, about["metrics"])
    return assemble(config, preparation, about, read_weights(file), file)


def assemble(
    config: DictConfig,
    preparation: Preparation,
    about: dict[str, Any],
    weights: Mapping[str, Tensor],
    path: Path,
) -> TrainedModel:
    """Build the model that a configuration describes and give it its weights.

    Args:
        config: With the nodes ``model`` and ``head``.
        preparation: How the training data were treated.
        about: What else is known.
        weights: The model's tensors by name.
        path: Where they are from, for messages.

    Raises:
        ConfigurationError: If they do not fit together.
    """
    check_nodes(config, ("head", "model"), ())
    own = DictConfig({key: config[key] for key in ("head", "model")})
    check_keys(own, trust=list(config.get("trust") or []))
    model = build_model(config)
    check_fits(weights, model, path)
    _check_prepared(preparation, model, path)
    dtypes = [value.dtype for value in weights.values() if value.is_floating_point()]
    model.to(dtypes[0] if dtypes else None)
    model.load_state_dict(dict(weights))
    trust = {"trust": list(config.get("trust") or [])}
    nodes = cast(dict[str, Any], OmegaConf.to_container(own, resolve=True)) | trust
    return TrainedModel(model, preparation, about, nodes)


def _check_prepared(known: Preparation, model: SequenceModel, path: Path) -> None:
    """Check that what a model is said to read and answer is what it reads and answers.

    Raises:
        ConfigurationError: Naming the first size that is not the model's.
    """
    encoder, head = model.encoder, model.head
    outputs = head.linear.out_features
    sizes = {"num_classes": None if isinstance(head, RegressionHead) else outputs}
    if isinstance(head, RegressionHead):
        sizes["horizon"] = head.num_outputs
    # An encoder of one's own need not say what it reads.
    if hasattr(encoder, "num_features"):
        sizes["num_features"] = getattr(encoder, "num_features", None)
    if isinstance(encoder.embedding, nn.Embedding):
        sizes["num_tokens"] = encoder.embedding.num_embeddings
    for key, size in sizes.items():
        if getattr(known, key) != size:
            raise ConfigurationError(
                f"{path}: the model has {key}={size}, but how its data were treated says "
                f"{key}={getattr(known, key)}: the two are not of one run"
            )


def preparation_of(folder: RunFolder, config: DictConfig) -> Preparation:
    """Return how a run's data were treated; of an older run, from the data themselves.

    Raises:
        ConfigurationError: If ``model.json`` is not what a run writes; or there is none, and the
            data cannot be read, or are not those of the run.
    """
    if folder.model.exists():
        try:
            known = read_model(folder.model)
        except RecordError as error:
            raise ConfigurationError(str(error)) from error
        if known.table is None:  # of a run that has kept it in its configuration alone
            with explained(f"{folder.config}: data"):
                return replace(known, table=with_settings(known, config).table)
        return known
    check_nodes(config, ("data",), ())
    datamodule = instantiate(config.data)
    with explained(f"{folder.path} has no model.json, and its data"):
        datamodule.setup("fit")
        if folder.read_record().data_fingerprint not in (None, datamodule.fingerprint):
            raise ConfigurationError(
                f"{folder.path} has no model.json, and its data have changed since it was trained"
            )
        return with_settings(datamodule.preparation, config)


def describe(record: RunRecord, file: Path) -> dict[str, Any]:
    """Return what is told of a model beside how to use it.

    Args:
        record: Of its run.
        file: The weights, one of the files in the run's ``checkpoints``. The metrics are told only
            if these are what the run tested.
    """
    steps, is_best = order_of(file)[0], file.suffix == BEST
    if steps != (record.best.get("step") if is_best else record.steps):
        weights = file.name  # older than the last, or of a run that has not ended
    else:
        weights = "best" if is_best else "last"
    return {
        "data": record.data,
        "model": record.model,
        "seed": record.seed,
        "steps": steps,
        "weights": weights,
        "metrics": record.metrics if weights == (record.tested or "last") else {},
        "best": record.best,
        "init_from": record.init_from.get("sha256"),  # the path is of one machine
        "versions": record.versions,
        "commit": record.commit,
        "parameters": record.parameters,
    }
