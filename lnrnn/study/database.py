"""A database that holds studies, for processes that share no disk, or are many."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.storages import RDBStorage

from lnrnn.config.errors import ConfigurationError

STARTS = 10  # times that its tables are looked for or made
PAUSE = 0.5  # seconds between two of them


def open_database(url: str) -> RDBStorage:
    """Connect to a database, and make Optuna's tables if they are not there.

    Several processes may do so at the same time, of which one makes them; what the others meet
    meanwhile is passed over.

    Args:
        url: As SQLAlchemy writes it, ``postgresql+psycopg://user:password@host/database``.

    Raises:
        ConfigurationError: If it cannot be reached, is none, or its driver is not installed. No
            password is shown.
    """
    from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError

    shown = _without_secrets(url)
    for start in range(STARTS):
        try:
            # A connection that idled for a whole trial may have been closed by the other side.
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        except ImportError as error:
            raise ConfigurationError(
                f"storage={shown} needs the driver of its database, such as pip install "
                f"'psycopg[binary]' for postgresql+psycopg://: {_first_line(error)}"
            ) from error
        except (ArgumentError, DBAPIError, ValueError, RuntimeError) as error:
            meanwhile = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not meanwhile or start == STARTS - 1:
                raise ConfigurationError(f"storage={shown}: {_first_line(error)}") from error
            time.sleep(PAUSE)
    raise AssertionError("the last of so many starts returns or raises")


def loss_of(error: BaseException | None) -> str | None:
    """Return in words that an error is of a database that no longer answers; None if it is not."""
    from sqlalchemy.exc import DBAPIError

    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    if error is None:
        return None
    return (
        f"the study's database cannot be used any more: {_first_line(error)}\nOnce it can, the "
        "same command goes on with the study, and with the run from its last checkpoint"
    )


@contextmanager
def answering() -> Iterator[None]:
    """Say in words that a database no longer answers.

    Raises:
        ConfigurationError: In place of its error.
    """
    try:
        yield
    except Exception as error:
        text = loss_of(error)
        if text is None:
            raise
        raise ConfigurationError(text) from error


def _without_secrets(url: str) -> str:
    """Return an address without user, password and options, however they are written.

    Example:
        >>> _without_secrets("postgresql+psycopg://me:a:b/c@d@host/studies?password=e")
        'postgresql+psycopg://***@host/studies?***'
    """
    shown = re.sub(r"^(\w[\w+.-]*://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", shown, flags=re.DOTALL)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
