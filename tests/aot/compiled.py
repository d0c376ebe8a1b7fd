"""The Triton kernels as a GPU would get them, compiled without a GPU or its driver.

The host code of `lnrnn.ops` runs as it is and launches its kernels on a driver that is not there:
so what is compiled has the signature, the alignments and the constants that a user's call has. The
compilers and disassemblers come with Triton.
"""

# Triton is not there where the types are checked, and parts of it are private.
# pyright: reportMissingImports=false, reportIncompatibleMethodOverride=false

import collections
import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from norm_cases import Case
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.runtime.jit import JITFunction

from lnrnn import CellNorm
from lnrnn.ops import (
    reference,
    triton_gru,
    triton_lstm,
    triton_noise,
    triton_persistent_gru,
    triton_persistent_lstm,
    triton_persistent_rnn,
    triton_rnn,
)
from lnrnn.ops.fused import NOISE
from lnrnn.ops.gates import GATES

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
# What one block may ask for, in bytes: CUDA C programming guide, technical specifications.
SHARED = {"sm_80": 166912, "sm_90": 232448, "sm_100": 232448, "sm_120": 101376}
CELLS: dict[str, Any] = {"rnn": triton_rnn, "lstm": triton_lstm, "gru": triton_gru}
PERSISTENT: dict[str, Any] = {
    "rnn": triton_persistent_rnn,
    "lstm": triton_persistent_lstm,
    "gru": triton_persistent_gru,
}
DEFAULTS = {cell: Case(cell, CellNorm()) for cell in CELLS}
KERNELS = [f"{cell}_{way}" for cell in CELLS for way in ("forward", "backward")]
BATCH = 64

_INSTRUCTION = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)"
_TOOLS = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin"


class AbsentGpu(DriverBase):
    """A driver for a GPU that is not there. Launching raises; compiling does not need it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def is_active(cls) -> bool:
        """Return whether it can be used, as Triton asks."""
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        """Return the type's name in C++."""
        return ty

    def get_current_target(self) -> Any:
        """Return what to compile for."""
        return TARGETS[self.name]

    def get_active_torch_device(self) -> torch.device:
        """Return where tensors are."""
        return torch.device("cpu")

    def get_current_device(self) -> int:
        """Return a number of its own for each target: kernels are kept by it."""
        return list(TARGETS).index(self.name)

    def get_current_stream(self, device: int) -> int:
        """Return the stream that nothing will run on."""
        return 0

    def get_benchmarker(self) -> Any:
        """Refuse to time anything."""
        raise NotImplementedError("nothing runs here")


@contextlib.contextmanager
def launches(target: str, wanted: str) -> Iterator[list[Any]]:
    """Compile launches of the kernel ``wanted`` instead of running any; yield what is compiled."""
    found: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        if self.__name__ == wanted:
            found.append(run(self, *args, grid=grid, warmup=True, **kwargs))

    triton.runtime.driver.set_active(AbsentGpu(target))
    JITFunction.run = compile_only
    try:
        yield found
    finally:
        JITFunction.run = run


def compile_kernel(
    kernel: str,
    target: str,
    dtype: torch.dtype,
    hidden: int,
    case: Case | None = None,
    *,
    resets: bool = False,
    noise: str | None = None,
) -> Any:
    """Return a kernel as a layer's call compiles it.

    Args:
        kernel: One of `KERNELS`, or a cell's over whole sequences, such as "lstm_moments".
        target: One of `TARGETS`.
        dtype: Of weights and hidden states; the rest is as in a layer under autocast.
        hidden: H.
        case: The variant, `CellNorm()` if not given.
        resets: Whether the state is reset inside the sequences, to a given one.
        noise: "masks" or "shares" for all that is random inside the steps, drawn or on average.
    """
    cell = kernel.partition("_")[0]
    case = case or DEFAULTS[cell]
    tensors, options = _call(case, dtype, hidden)
    module, states = (CELLS if kernel in KERNELS else PERSISTENT)[cell], 2 if cell == "lstm" else 1
    cuts = torch.zeros(1, BATCH, dtype=torch.bool)
    last = (cuts, *tensors[1 : 1 + states]) if resets else ()  # shaped as the initial states
    random = {} if noise is None else {"noise": _noise(cell, tensors, noise == "masks")}
    with launches(target, kernel) as found:
        results = module.forward(*tensors, None, False, *options, 1e-5, True, *last, **random)
        if kernel.endswith("backward") or kernel == "sum_gates":
            grads = results[: 1 + states]
            given = (*grads, *tensors, *results, None, False, *options, 1e-5, *last)
            module.backward(*given, **random)
    (compiled,) = found
    return compiled


def _noise(cell: str, tensors: list[Any], masks: bool) -> triton_noise.StepNoise:
    """Return what is random inside the steps of a cell."""
    h_0, of_lstm = tensors[1], cell == "lstm"
    recurrent = torch.zeros(1, BATCH, h_0.shape[1], dtype=torch.bool)
    units = torch.zeros(1, BATCH, tensors[2].shape[1] if of_lstm else h_0.shape[1]).bool()
    drawn: dict[str, Any] = {"fresh_h": recurrent, "seen_h": recurrent[0]}
    drawn |= {"fresh_c": units} if of_lstm else {}
    drawn |= {} if cell == "rnn" else {"kept_candidate": units}
    rates = {NOISE[name]: 0.25 for name in drawn if masks or name.startswith("fresh")}
    return triton_noise.step_noise(h_0, **rates, **(drawn if masks else {}))


def _call(case: Case, dtype: torch.dtype, hidden: int) -> tuple[list[Any], list[Any]]:
    """Return the tensors of an op and its options from ``joint`` to ``centered``."""
    gates, wide = len(GATES[case.cell]) * hidden, torch.promote_types(dtype, torch.float32)
    recurrent = case.proj_size or hidden
    joint, affine = case.cell != "gru" and case.norm.is_joint(case.cell), case.norm.cell is not None
    shapes: dict[str, Any] = {"x": (1, BATCH, gates), "h_0": (BATCH, recurrent)}
    shapes |= {"c_0": (BATCH, hidden)} if case.cell == "lstm" else {}
    shapes |= {"weight_hh": (gates, recurrent), "gain": (gates,)}
    shapes["bias_hh"] = (gates,) if case.bias else None
    if case.cell == "lstm":
        shapes |= {"gain_c": (hidden,) if affine else None}
        shapes |= {"shift_c": (hidden,) if affine else None}
        shapes |= {"weight_hr": (recurrent, hidden) if case.proj_size else None}
    products = {"h_0", "weight_hh", "weight_hr"} | ({"x"} if joint else set())
    tensors = [
        None if shape is None else torch.zeros(shape, dtype=dtype if name in products else wide)
        for name, shape in shapes.items()
    ]
    spans = reference.norm_widths(case.norm.span, len(GATES[case.cell]), 1)
    options: dict[str, list[Any]] = {
        "rnn": [joint, case.nonlinearity == "relu"],
        "lstm": [joint, spans, case.norm.cell],
        "gru": [spans],
    }
    return tensors, [*options[case.cell], case.norm.kind == "layer"]


@dataclass(frozen=True)
class Resources:
    """What a compiled kernel takes, from its machine code.

    Attributes:
        registers: Of a thread.
        spilled: Bytes of a thread's registers that went to memory.
        shared: Bytes of a block.
        instructions: All of them.
        barriers: Instructions that wait for all threads of a block.
        loads: From global memory, by how many bytes a thread loads.
        warps: Of a block.
    """

    registers: int
    spilled: int
    shared: int
    instructions: int
    barriers: int
    loads: dict[int, int]
    warps: int


def resources(kernel: Any) -> Resources:
    """Return what a kernel for an NVIDIA GPU takes."""
    with _cubin(kernel) as path:
        usage = _tool("cuobjdump", "-res-usage", path)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    names = re.findall(_INSTRUCTION, disassembled(kernel), re.M)
    counts = collections.Counter(name.split(".")[0] for name in names)
    return Resources(
        registers=int(found[1]),
        spilled=int(found[2]),
        shared=kernel.metadata.shared,
        instructions=len(names) - counts["NOP"],
        barriers=counts["BAR"],
        loads=collections.Counter(_width(name) for name in names if name.startswith("LDG")),
        warps=kernel.metadata.num_warps,
    )


def disassembled(kernel: Any) -> str:
    """Return a kernel's machine code for an NVIDIA GPU as text."""
    with _cubin(kernel) as path:
        return _tool("nvdisasm", "-c", path)


def longest_loop(kernel: Any) -> tuple[int, int]:
    """Return how many instructions, and how many barriers of them, a kernel's longest loop has."""
    labels: dict[str, int] = {}
    names: list[str] = []
    loops = [(0, 0)]
    for line in disassembled(kernel).splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = len(names)
        elif name := re.match(_INSTRUCTION, line):
            names.append(name[1].split(".")[0])
            target = re.search(r"\.L_\w+", line)
            if names[-1] == "BRA" and target and target[0] in labels:
                inside = names[labels[target[0]] :]
                loops.append((len(inside), inside.count("BAR")))
    return max(loops)


@contextlib.contextmanager
def _cubin(kernel: Any) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(kernel.asm["cubin"])
        yield str(path)


def _width(load: str) -> int:
    """Return the bytes of a load by its name, such as LDG.E.64 or LDG.E.U16."""
    bits = re.search(r"\.(?:[US])?(8|16|64|128)\b", load)
    return int(bits[1]) // 8 if bits else 4


def _tool(name: str, *args: str) -> str:
    done = subprocess.run([str(_TOOLS / name), *args], capture_output=True, text=True, check=True)
    return done.stdout
