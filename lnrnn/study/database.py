"""A database that holds studies, for processes that share no disk, or are many."""

import re
import time

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

    shown = re.sub(r"(?<=:)[^:/@]+(?=@)", "***", url)
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
