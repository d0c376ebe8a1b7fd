"""Show what is installed, which kernels are used and whether they compute what they should.

lnrnn info

Paste what it prints into a bug report. The exit code is 1 if a kernel is wrong.
"""

import os
import platform
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

import lnrnn
from lnrnn.ops import choice
from lnrnn.runs.machine import cpu_name, current_commit

PACKAGES = ("torch", "triton", "lightning", "hydra-core", "torchmetrics", "datasets", "numpy")
WRONG = 1  # exit code
CELLS = {"RNN": lnrnn.RNN, "LSTM": lnrnn.LSTM, "GRU": lnrnn.GRU}
# A kernel may round where the reference does not, but not be far worse than it.
FACTOR, FLOOR = 8.0, 1e-6


def main() -> None:
    """Print everything, and end with ``WRONG`` if a kernel is."""
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return
    if len(sys.argv) > 1:
        sys.exit(f"error: lnrnn info takes no arguments, got {' '.join(sys.argv[1:])}")
    show("lnrnn", f"{lnrnn.__version__}, commit {current_commit() or 'unknown'}")
    show("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        show(name, installed(name))
    show("CPU", f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    show("capability", torch.backends.cpu.get_cpu_capability())
    for line in gpus():
        show("GPU", line)
    print()
    right = [check_kernels(device) for device in choice.BACKENDS]
    sys.exit(0 if all(right) else WRONG)


def show(name: str, value: str) -> None:
    """Print one line."""
    print(f"{name:<13} {value}")


def installed(name: str) -> str:
    """Return a package's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def gpus() -> list[str]:
    """Return a line for each GPU, or one that says why there is none."""
    if torch.version.cuda is None:
        return ["none: this torch is built without CUDA"]
    if not torch.cuda.is_available():
        return [f"none: torch is built for CUDA {torch.version.cuda} and finds no device"]
    return [
        f"{torch.cuda.get_device_name(device)}, compute capability "
        f"{'.'.join(map(str, torch.cuda.get_device_capability(device)))}, CUDA {torch.version.cuda}"
        for device in range(torch.cuda.device_count())
    ]


def check_kernels(device: str) -> bool:
    """Print whether a device has kernels and how exact they are; return False if one is wrong.

    Args:
        device: Torch's type of device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        show(f"{device} kernels", "not used: there is no such device")
        return True
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would warn of is printed here
        why = choice.BACKENDS[device].missing()
    if why is not None:
        show(f"{device} kernels", f"not used: {why}")
        return True
    show(f"{device} kernels", f"ready in {time.perf_counter() - start:.1f} s{place_of(device)}")
    right = [check_cell(cell, device) for cell in CELLS]  # all of them, also after a wrong one
    return all(right)


def place_of(device: str) -> str:
    """Return where a device's compiled kernels are kept."""
    if device == "cpu":
        from lnrnn.ops import cpu

        return f", {cpu.load(cpu.SOURCE_FOLDER)}"
    return f", {os.environ.get('TRITON_CACHE_DIR') or '~/.triton/cache'}"


def check_cell(cell: str, device: str) -> bool:
    """Compare a kernel's output and gradients with the reference; print the worst error.

    Args:
        cell: A key of ``CELLS``.
        device: Torch's type of device.
    """
    truth = output_and_gradients(cell, device, torch.float64, fused=False)
    reference = output_and_gradients(cell, device, torch.float32, fused=False)
    kernel = output_and_gradients(cell, device, torch.float32, fused=True)
    errors = [(error(k, t), error(r, t)) for k, r, t in zip(kernel, reference, truth, strict=True)]
    right = all(own <= FACTOR * native + FLOOR for own, native in errors)
    worst = max(own for own, _ in errors)
    show(f"  {cell}", f"{'ok' if right else 'WRONG'}, worst relative error {worst:.1e} in float32")
    return right


def output_and_gradients(
    cell: str, device: str, dtype: torch.dtype, *, fused: bool
) -> list[Tensor]:
    """Return the output of a small layer and the gradient of every parameter, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = CELLS[cell](7, 37, norm="cell", fused=fused)
        x, cotangent = torch.randn(11, 5, 7), torch.randn(11, 5, 37)
    layer.to(device, dtype)
    output, _ = layer(x.to(device, dtype))
    output.backward(cotangent.to(device, dtype))
    gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    return [value.detach().double() for value in (output, *gradients)]


def error(value: Tensor, truth: Tensor) -> float:
    """Return the root mean square error over that of the truth; infinity for NaN."""
    relative = ((value - truth).norm() / truth.norm().clamp_min(1e-30)).item()
    return relative if relative == relative else float("inf")
