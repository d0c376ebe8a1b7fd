"""Training one run of many, whose end, whatever it is, must not end the others."""

import traceback
from contextlib import suppress
from dataclasses import dataclass

from lnrnn.runs.files import is_of_the_disk
from lnrnn.runs.lock import InUseError
from lnrnn.runs.record import DIVERGED
from lnrnn.training import (
    CheckpointError,
    ConfigurationError,
    Experiment,
    NonFiniteError,
    RunFolder,
    train,
)


@dataclass(frozen=True)
class Failure:
    """Why a run has no result.

    Args:
        message: What happened, for a person.
        diverged: Whether its numbers became infinite or none: a result, which repeats itself.
        taken: Whether another process trains it.
    """

    message: str
    diverged: bool = False
    taken: bool = False


def attempt(experiment: Experiment, *, shared: bool = False) -> Failure | None:
    """Train a run to its end and return None, or why it has none.

    What nobody expected is printed with its traceback.

    Args:
        experiment: The run's.
        shared: Whether processes of other machines may take it over if this one is lost.

    Raises:
        Interrupted: If a signal asked to stop; the run is saved.
    """
    try:
        train(experiment, leased=shared)
    except NonFiniteError as error:
        return Failure(str(error), diverged=True)
    except InUseError as error:
        return Failure(str(error), taken=True)
    except (ConfigurationError, CheckpointError) as error:
        return Failure(str(error))
    except Exception as error:  # a run's own trouble, such as memory that is used up
        if isinstance(error, OSError) and is_of_the_disk(error):
            return Failure(str(error))
        with suppress(OSError):  # the disk that the output goes to may be full
            traceback.print_exc()
        return Failure(f"{type(error).__name__}: {error}")
    return None


def diverged_before(folder: RunFolder) -> Failure | None:
    """Return how a run diverged when it was trained before; None if it did not.

    It would diverge again at the same step, so it is kept as it is. What failed for a reason
    outside the run (a full disk, a killed process) is tried again.

    Raises:
        ConfigurationError: If its record is not JSON.
    """
    record = folder.read_record()
    if not record.has_diverged:
        return None
    why = (record.error or "").removeprefix(DIVERGED)
    return Failure(
        f"{why} It diverged when it was trained before, and would again; "
        f"to train it again, remove {folder.path}",
        diverged=True,
    )
