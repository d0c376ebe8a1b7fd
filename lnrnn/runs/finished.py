"""The result of a run that is finished, found without importing what trains."""

import os
from pathlib import Path

from omegaconf import DictConfig

from lnrnn.config.compose import Experiment
from lnrnn.config.errors import ConfigurationError
from lnrnn.runs.folder import RunFolder, check_configuration, folder_of
from lnrnn.runs.lock import remove_stale_lock
from lnrnn.runs.machine import current_commit, installed_versions
from lnrnn.runs.processes import is_first_process
from lnrnn.runs.record import RecordError, RunRecord

# Made by the package itself: the same version makes the same data from the same configuration.
OWN_DATA = tuple(
    f"lnrnn.data.{name}"
    for name in (
        *("japanese_vowels", "digits", "shakespeare", "sunspots"),
        *("mnist1d", "adding", "copying"),
    )
)


def finished_result(
    experiment: Experiment, root: Path = Path("runs")
) -> tuple[RunFolder, RunRecord] | None:
    """Return a finished run's folder and record; None if it must be trained, or its data read.

    Raises:
        ConfigurationError: If the folder holds a run with another configuration.
    """
    config, folder = experiment.config, folder_of(experiment, root)
    if config.resume == "never":
        return None
    check_configuration(folder, config)
    record = folder.read_record()
    if record.status != "finished" or not has_the_same_data(record, config):
        return None
    complete(folder)
    return folder, record


def complete(folder: RunFolder) -> None:
    """Make what a finished run lacks, and remove the lock that it should not have.

    A process may have been killed as it ended, and somebody may have removed the picture.

    Raises:
        ConfigurationError: If there is no picture, and the records are not what a run writes.
    """
    if not is_first_process() or not os.access(folder.path, os.W_OK):
        return
    remove_stale_lock(folder.path)
    if folder.metrics.exists() and not folder.curves.exists():
        from lnrnn.runs.curves import plot_curves  # takes a second to import, and is rarely needed

        try:
            plot_curves(folder.metrics, folder.curves)
        except RecordError as error:
            raise ConfigurationError(
                f"the run is finished, but its curves cannot be drawn again: {error}. Put the file "
                "back, or move the run's folder away and start from scratch"
            ) from error


def has_the_same_data(record: RunRecord, config: DictConfig) -> bool:
    """Return whether a run's data are known to be unchanged without a look at them."""
    commit = current_commit()
    return (
        config.data._target_ in OWN_DATA
        and record.versions.get("lnrnn") == installed_versions()["lnrnn"] != "unknown"
        and record.commit == commit
        and not (commit or "").endswith("+")
    )
