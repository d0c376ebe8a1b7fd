"""Test a trained model again, from nothing but its run's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnrnn.config.compose import instantiate
from lnrnn.config.lightning_nodes import check_trainer
from lnrnn.config.values import check_keys, check_nodes
from lnrnn.runs.confusion import ConfusionTable, table_of
from lnrnn.runs.weights import BEST, check_fits, locate, read_weights, settle_trust
from lnrnn.training.build import build_data, build_task, quiet_lightning
from lnrnn.training.other_data import build_other_data


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        checkpoint: The file whose weights were tested.
        weights: ``best``, those of the best validation, or ``last``.
        metrics: Test metrics by name.
        recorded: The test metrics in the run's ``run.json``; empty if it never finished.
        same_data: Whether the data of the run are those that it was trained on.
        changes: What was said of the data that it was tested on, by key; empty: they are its own.
        confusion: Which class was taken for which; None where there are no classes, or too many.
    """

    checkpoint: Path
    weights: str
    metrics: dict[str, float]
    recorded: dict[str, float]
    same_data: bool
    changes: dict[str, Any] = field(default_factory=dict)
    confusion: ConfusionTable | None = None


def evaluate(
    run: Path,
    trust: Sequence[str] = (),
    weights: str | None = None,
    *,
    data: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Rebuild the model from a run's folder and test it. Nothing is written.

    Args:
        run: A run's folder, or one of the checkpoints inside it.
        trust: Packages that its configuration may name beside our own list. The folder may have
            come from somebody else, so what it says of trust counts for nothing.
        weights: Which: ``best``, ``last``, or None for those that the run itself has tested.
        data: Tests on other data of the same shape, such as ``{"files": "other.csv"}``; see
            ``lnrnn.config.other_data`` for what can be said.

    Raises:
        ConfigurationError: If folder, configuration or checkpoint is missing, or they do not fit.
    """
    checkpoint, folder, config = locate(run, weights)
    settle_trust(config, trust)
    check_nodes(config, ("data", "head", "model", "trainer"), ())
    check_keys(config, trust=trust)
    check_trainer(config.trainer)
    own = build_data(config)
    datamodule = build_other_data(config, data, own) if data else own
    task = build_task(config, datamodule)
    state = read_weights(checkpoint)
    check_fits(state, task.model, checkpoint)
    with quiet_lightning():
        trainer = instantiate(
            config.trainer,
            accelerator="auto",  # where a run was trained does not matter here
            devices=1,
            num_nodes=1,
            strategy="auto",
            logger=False,
            profiler=None,  # one may write files
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
        )
        task = trainer.precision_plugin.convert_module(task)  # before its weights are loaded
        task.model.load_state_dict(state)
        trainer.test(task, datamodule=datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    record = folder.read_record()
    same_data = record.data_fingerprint in (None, own.fingerprint)
    tested = "best" if checkpoint.suffix == BEST else "last"
    table = None
    if task.confusion is not None:
        table = table_of(task.confusion.tolist(), datamodule.preparation.class_names)
    changes = dict(data or {})
    return Evaluation(checkpoint, tested, metrics, record.metrics, same_data, changes, table)
