"""The CPU's kernels: what they cover, and how they are built.

The first call that wants them compiles them, which takes up to a minute on two cores;
``python -m lnrnn.ops.cpu`` does it ahead, and a wheel may bring them compiled
(:mod:`lnrnn.ops.cpu.prebuilt`). The library is kept in torch's folder for extensions
(``TORCH_EXTENSIONS_DIR``, or ``~/.cache/torch_extensions``) under a name made of what it depends
on: torch's version, the CPU's capability and the sources. So machines that differ share a home
folder safely, and an upgrade builds anew. A folder into which others may write is not used
(:mod:`lnrnn.trusted`).
"""

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lnrnn.ops import fused, noise, reference, torch_layers
from lnrnn.ops.backend import Prepared
from lnrnn.ops.cpu import prebuilt
from lnrnn.trusted import distrusted

SOURCE_FOLDER = Path(__file__).parent
# What is compiled together, since reading torch's headers takes longer than most of the files: as
# few units as keep two cores busy to the end, the longest first.
UNITS = (
    ("lstm.cpp", "gru.cpp", "rnn.cpp"),
    ("programs.cpp",),
    ("product.cpp",),
    ("sequence.cpp", "masks.cpp"),
)
SOURCES = tuple(itertools.chain.from_iterable(UNITS))
HEADERS = (
    "tensors.hpp",
    "kernels.hpp",
    "vectors.hpp",
    "norm.hpp",
    "matrix.hpp",
    "rounding.hpp",
    "amx.hpp",
    "bfloat16.hpp",
    "team.hpp",
    "product.hpp",
    "inputs.hpp",
    "noise.hpp",
    "resets.hpp",
    "sequence.hpp",
)

# What the kernels store narrowly and compute in float32.
NARROW = {torch.bfloat16, torch.float16}

CELL_STATES = ("c_0", "reset_c?")  # which no product reads, and may be wider

# What torch's vector class is compiled for, by torch's name of the capability. Not -march=native:
# the library may be loaded on another machine of the same capability.
CAPABILITIES = {
    "AVX512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
    "AVX2": ["-mavx2", "-mfma", "-mf16c"],
}
FLAGS = ("-O3", "-std=c++20", "-fopenmp")


class ToolError(RuntimeError):
    """The kernels have to be built, and what builds them is missing."""


def uncovered(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what about a call's tensors no kernel covers, if anything."""
    dtypes = {t.dtype for t in tensors.values()}
    if not (dtypes <= NARROW | {torch.float32} or dtypes == {torch.float64}):
        names = ", ".join(sorted(map(str, dtypes)))
        return (
            f"kernels take torch.float64 throughout, or narrower types, and tensors are in {names}"
        )
    matrices = {t.dtype for name, t in tensors.items() if t.dim() > 1 and name not in CELL_STATES}
    if len(matrices) > 1 and not torch.is_autocast_enabled("cpu"):
        names = ", ".join(sorted(map(str, matrices)))
        return f"states and weights must be of one dtype outside of autocast, and are in {names}"
    return None


def prepare(
    op: fused.Op, tensors: Sequence[Tensor | None], project: Callable[..., Any]
) -> Prepared:
    """Widen what the kernels compute with; they project x themselves."""
    x = tensors[0]
    assert x is not None
    dtype = x.dtype
    if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    wide = [None if t is None else reference.widen(t) for t in tensors]
    return Prepared(wide, dtype, dtype if dtype in NARROW else None)


def run(
    op: fused.Op,
    prepared: Prepared,
    batch_sizes: Tensor | None,
    cuts: Tensor | None,
    random: fused.Random | None,
    options: Sequence[Any],
    again: Callable[..., Any],
) -> Any:
    """Run a kernel and return hidden states in the dtype that the reference would."""
    tensors, dtype, storage = prepared
    results = fused.run(op, tensors, batch_sizes, cuts, random, options, storage, again)
    output, h_n, *c_n = results
    return output.to(dtype), h_n.to(dtype), *c_n


@functools.cache
def missing() -> str | None:
    """Load the kernels, building them if need be, and return why that cannot be, if it cannot.

    A failure is warned of, once a process. Torch's ``ATEN_CPU_CAPABILITY`` applies here too.
    """
    why = None
    try:
        load(SOURCE_FOLDER)
    except ToolError as error:
        why = str(error)
    except (RuntimeError, OSError) as error:
        why = f"building the CPU kernels failed: {error}"
    if why is not None:
        warnings.warn(
            f"lnrnn runs norms inside the step without its fused CPU kernels, which is "
            f"slower, several times for small layers: {why}",
            RuntimeWarning,
            stacklevel=2,
        )
    return why


def load(sources: Path) -> Path:
    """Load the kernels in the folder ``sources``: as they came, as they were built, or built now.

    Processes that come at once wait for the one that builds; one that dies while building leaves
    nothing that the next would take for a library.

    Returns:
        The library.

    Raises:
        ToolError: If they are to be built and there is no compiler; or others may write into every
            folder for them.
        RuntimeError: If the sources do not compile.
        OSError: If the folder for extensions cannot be written.
    """
    name = _name_of(sources)
    if (came := prebuilt.load(sources, name)) is not None:
        return came
    root = _folder_of(name)
    library = root / f"{name}.so"
    if not library.exists():
        if (why := _missing_tool()) is not None:
            raise ToolError(why)
        import fcntl  # Windows has none, and builds nothing

        with (root / "building").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not library.exists():
                _build(sources, library)
    torch.ops.load_library(library)
    return library


def _name_of(sources: Path) -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"lnrnn_{capability.lower().replace(' ', '_')}_{_digest(sources)}"


def _folder_of(name: str) -> Path:
    """Return torch's folder for the library ``name``, or where others may write there, one of ours.

    Raises:
        ToolError: If others may write into both.
    """
    from torch.utils import cpp_extension  # imported when wanted, since it takes a while

    root = Path(cpp_extension._get_build_directory(name, verbose=False)).resolve()
    if (why := distrusted(root)) is None:
        return root
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lnrnn"
    own = cache.resolve() / name
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.mkdir(mode=0o700, exist_ok=True)
        again = distrusted(own)
    except OSError as error:
        again = str(error)
    if again is not None:
        raise ToolError(
            f"a library would be loaded that others may have written: {why}; {again}. Set "
            "TORCH_EXTENSIONS_DIR to a folder into which only you can write"
        )
    _say(f"the CPU kernels are kept in {own}, since {why}")
    return own


def _build(sources: Path, library: Path) -> None:
    """Compile the sources in a folder of this process's, and move what came out to its place.

    A compiler outlives the process that started it, and then writes where nobody looks.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    _say(f"building the CPU kernels for {capability}, which takes up to a minute, once")
    for left in library.parent.glob("build-*"):  # of processes that died: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=library.parent) as folder:
        with _progress(Path(folder)):
            built = _compile(sources, library.stem, Path(folder))
        with built.open("rb") as file:
            os.fsync(file.fileno())
        built.replace(library)
    _say(f"built the CPU kernels in {library.parent}")


def _compile(sources: Path, name: str, folder: Path) -> Path:
    """Compile the sources into the library ``name`` in ``folder``."""
    from torch.utils import cpp_extension

    capability = torch.backends.cpu.get_cpu_capability()
    (folder / "schemas.inc").write_text(_schemas())
    units = []
    for number, files in enumerate(UNITS):
        unit = folder / f"unit_{number}.cpp"
        unit.write_text("".join(f'#include "{sources / file}"\n' for file in files))
        units.append(str(unit))
    flags = [*FLAGS, f"-DCPU_CAPABILITY={capability.replace(' ', '_')}"]
    if capability in CAPABILITIES:
        flags += [f"-DCPU_CAPABILITY_{capability}", *CAPABILITIES[capability]]
    path = os.environ.get("PATH", "")
    # The ninja of an environment that is not activated is beside its Python.
    os.environ["PATH"] = os.pathsep.join([path, sysconfig.get_path("scripts")])
    try:
        cpp_extension.load(
            name,
            units,
            extra_cflags=flags,
            # Without Python's library, which is among those that torch names, C++ programs load it.
            extra_ldflags=["-fopenmp", *(["-Wl,--as-needed"] if sys.platform == "linux" else [])],
            extra_include_paths=[str(folder)],
            build_directory=str(folder),
            is_python_module=False,
        )
    finally:
        os.environ["PATH"] = path
    return folder / f"{name}.so"


def _digest(sources: Path) -> str:
    """Return a hash of everything that the library is made of."""
    surroundings = f"{torch.__version__} {FLAGS} {CAPABILITIES} {UNITS} {sys.version_info[:2]}"
    digest = hashlib.sha256(surroundings.encode())
    digest.update(_schemas().encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((sources / name).read_bytes())
    return digest.hexdigest()[:12]


def _schemas() -> str:
    """Return the operators' declarations as a list of C++ strings."""
    return "".join(
        f'"{schema}",\n' for schema in (*fused.SCHEMAS, torch_layers.SCHEMA, noise.MASK_SCHEMA)
    )


def _missing_tool() -> str | None:
    """Return which tool is missing and how to get it, if one is."""
    if sys.platform == "win32":
        return "they are not built on Windows; use Linux, macOS or WSL"
    compiler = os.environ.get("CXX", "c++")  # as torch chooses; it may be "ccache g++"
    if shutil.which(compiler.split()[0]) is None:
        return f"there is no C++ compiler {compiler!r}; install g++ or clang, or set CXX"
    return None


@contextlib.contextmanager
def _progress(folder: Path) -> Iterator[None]:
    """Show on a terminal how much of what is compiled in ``folder`` is done, on one line."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    started = time.monotonic()

    def show() -> None:
        line = ""
        while not ended.wait(1):
            done = len(list(folder.glob("unit_*.o")))
            seconds = time.monotonic() - started
            line = f"lnrnn: {done} of {len(UNITS)} parts compiled, {seconds:.0f} s"
            sys.stderr.write(f"\r{line}")
            sys.stderr.flush()
        sys.stderr.write(f"\r{' ' * len(line)}\r")

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _say(message: str) -> None:
    sys.stderr.write(f"lnrnn: {message}\n")
    sys.stderr.flush()
