"""What becomes of loader processes, as an error with the way out."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lnrnn.config.errors import ConfigurationError
from lnrnn.data.loader import LoaderError

# Not what a worker hands on of its data set's own error: "Caught ... in DataLoader worker process".
_LOST = r"DataLoader worker \(pid|DataLoader timed out|/dev/shm|</?torch_|shared memory object"


@contextmanager
def explained_loaders(workers: int) -> Iterator[None]:
    """Turn what becomes of loader processes into a ConfigurationError with the way out.

    Torch says by a RuntimeError's text that one was killed, or has failed; or the connection to it
    ends first.

    Args:
        workers: How many there are.
    """
    try:
        yield
    except LoaderError as error:
        raise ConfigurationError(str(error)) from error
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, RuntimeError):
            lost = re.search(_LOST, str(error)) is not None
        else:
            lost = _comes_from_loaders(error)
        if not workers or not lost:
            raise
        raise ConfigurationError(
            f"a loader process failed ({str(error).strip(' .')}). Perhaps memory, or room in "
            "/dev/shm, has run out. data.num_workers=0 needs neither; with it or without, the same "
            "command resumes."
        ) from error


def _comes_from_loaders(error: BaseException) -> bool:
    """Return whether an error was raised where a process is spoken with, and not by a logger."""
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return any("multiprocessing" in Path(file).parts for file in files)
