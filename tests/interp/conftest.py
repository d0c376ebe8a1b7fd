"""The Triton kernels in Triton's interpreter, on CPU tensors: a process of its own.

`make test-interp` starts it. Triton reads TRITON_INTERPRET once, when it is first imported, which
torch.compile and lightning do too: so it is set here, in the first lines, before anything else.
"""

import os
import sys

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError(
        "tests/interp needs a process of its own, and this one has imported Triton already; "
        "run `make test-interp`"
    )
os.environ["TRITON_INTERPRET"] = "1"

from collections.abc import Callable, Iterator

import pytest
import torch
from interp import strict

from lnrnn.ops import choice, cuda, triton_steps
from lnrnn.ops.triton_steps import Tile

cuda.register("CPU")


@pytest.fixture(autouse=True, scope="session")
def quick_interpreter() -> Iterator[None]:
    """Let the interpreter prepare the language once a launch, not at every call of a helper."""
    with strict.prepared_once():
        yield


@pytest.fixture(autouse=True)
def cpu_tensors_take_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CPU tensors take the way of CUDA's.

    The ops then decide by CUDA's rules, and the operators run, for the dispatch key CPU, the
    functions that are registered for CUDA. Nothing else differs from a GPU: not autograd, autocast,
    the layers, nor the code that launches.
    """
    monkeypatch.setitem(choice.BACKENDS, "cpu", cuda)
    monkeypatch.setattr(cuda, "missing", lambda: None)  # it would look for a GPU


@pytest.fixture(autouse=True)
def rows_of_a_tile(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a program compute four rows, which takes the interpreter as long as one.

    The function returned sets another number.
    """

    def set_rows(rows: int) -> None:
        def tile(hidden: int) -> Tile:
            return Tile(rows, 1 << (hidden - 1).bit_length(), 1)

        monkeypatch.setattr(triton_steps, "tile", tile)

    set_rows(4)
    return set_rows


@pytest.fixture(autouse=True)
def nan_filled_memory() -> Iterator[None]:
    """Fill what torch allocates with NaN, so that no unwritten value passes."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
