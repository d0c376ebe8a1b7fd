"""Triton's own launcher hands each kernel the arguments that it was compiled for.

The launcher is compiled as it is on a machine with a GPU, against a library that stands for the
driver and only listens (libcuda.c).
"""

# Triton is not there where the types are checked, and parts of it are private.
# pyright: reportMissingImports=false

import ctypes
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import triton
from aot.compiled import AbsentGpu
from norm_cases import FEW, Case
from recurrences import arguments, op
from torch import Tensor
from triton import knobs
from triton.runtime.jit import JITFunction

from lnrnn.ops import choice, cuda

WORD = ctypes.POINTER(ctypes.c_uint64)
LISTENER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_void_p)
)
ANSWER = ctypes.CFUNCTYPE(ctypes.c_int)


class Launch(NamedTuple):
    """One launch: what the host code asked for, and what the driver was given."""

    kernel: Any
    asked: dict[str, Any]
    name: str
    grid: list[int]
    threads: int
    given: list[int]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compile the library that stands for the driver, and load it in the driver's place."""
    if shutil.which("gcc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("Triton's launcher needs gcc and Python.h, here as on a GPU")
    folder = tmp_path_factory.mktemp("driver")
    path, source = folder / "libcuda.so.1", Path(__file__).with_name("libcuda.c")
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["gcc", *flags, str(source), "-o", str(path), "-ldl"], check=True)
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    if "libcuda.so" in mapped:
        pytest.skip("this process has loaded a driver already, which launches would go to")
    library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    with knobs.nvidia.scope():
        knobs.nvidia.libcuda_path = str(folder)
        from triton.backends.nvidia.driver import CudaLauncher, CudaUtils

        driver: Any = AbsentGpu("sm_90")
        driver.utils, driver.launcher_cls = CudaUtils(), CudaLauncher
    cuda.register("CPU")
    return library, driver


@pytest.fixture
def launches(listening: Any, monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Launch on the driver that listens, and note it."""
    library, driver = listening
    found: list[Launch] = []
    heard: list[Any] = []
    run = JITFunction.run

    def note(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        asked = expected_arguments(self, kwargs)

        def keep(name: bytes, sizes: Any, parameters: Any) -> None:
            count = len(asked) + 2  # two of Triton's own at the end
            places = [ctypes.cast(parameters[i], WORD) for i in range(count)]
            given = [place[0] for place in places]
            heard.append((name.decode(), list(sizes[:6]), given))

        callback = LISTENER(keep)
        library.listen(callback)
        compiled = run(self, *args, grid=grid, warmup=warmup, **kwargs)
        (name, sizes, given) = heard.pop()
        found.append(Launch(compiled, asked, name, sizes[:3], sizes[3], given))
        return compiled

    triton.runtime.driver.set_active(driver)
    monkeypatch.setattr(JITFunction, "run", note)
    monkeypatch.setitem(choice.BACKENDS, "cpu", cuda)
    monkeypatch.setattr(cuda, "missing", lambda: None)
    return found


def expected_arguments(kernel: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return what must reach the device, in order: no constants, nothing that is None, no 1."""
    named = {p.name: (p, given[p.name]) for p in kernel.params if not p.is_constexpr}
    return {
        name: value
        for name, (parameter, value) in named.items()
        if value is not None
        and (isinstance(value, Tensor) or value != 1 or parameter.do_not_specialize)
    }


def test_the_driver_that_listens_says_that_there_is_no_device(listening: Any) -> None:
    """CUDA's runtime asks it, in a CUDA build of torch, and torch then takes that for an answer."""
    library, _ = listening
    no_device, address = 100, ctypes.c_void_p()
    assert library.cuInit(0) == no_device
    for name in (b"cuDeviceGetCount", b"cuInit"):
        assert library.cuGetProcAddress_v2(name, ctypes.byref(address), 13000, 0, None) == 0
        assert ctypes.cast(address, ANSWER)() == no_device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_argument_arrives(case: Case, dtype: torch.dtype, launches: list[Launch]) -> None:
    args = [a.requires_grad_() for a in arguments(case, steps=2, batch=3, hidden=37, dtype=dtype)]
    output = op(case, fused=True)(*args)[0]
    output.backward(torch.ones_like(output))
    assert [launch.name for launch in launches] == [
        f"{case.cell}_{way}" for way in ("forward", "forward", "backward", "backward")
    ]
    for launch, first in zip(launches, (0, 3, 3, 0), strict=True):
        assert launch.grid == [3, 1, 1]
        assert launch.threads == 32
        assert launch.asked["first"] == first
        entry = re.search(r"\.entry \w+\((.*?)\)", launch.kernel.asm["ptx"], re.S)
        assert entry is not None
        assert len(re.findall(r"\.param ", entry[1])) == len(launch.given)
        for (name, value), given in zip(launch.asked.items(), launch.given, strict=False):
            if isinstance(value, Tensor):
                assert given == value.data_ptr(), name
            else:
                assert given & 0xFFFFFFFF == value, name
