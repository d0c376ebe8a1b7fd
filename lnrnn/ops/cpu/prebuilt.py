"""CPU kernels that came compiled, in a wheel made for one version of torch (``make wheel``).

Such a wheel has a library for each capability beside the sources, under the name that a build here
would have: it says what the library depends on, so one for another torch is never taken.
"""

import sys
from pathlib import Path

import torch


def load(sources: Path, name: str) -> Path | None:
    """Load the library ``name`` if it came with the sources.

    Returns:
        The library, or None if none fits or the one that does cannot be loaded, on a system older
        than the one that compiled it; that is said, and the sources are built instead.
    """
    library = sources / f"{name}.so"
    if not library.exists():
        return None
    try:
        torch.ops.load_library(library)
    except OSError as error:
        sys.stderr.write(f"lnrnn: the CPU kernels that came compiled do not load here: {error}\n")
        return None
    return library
