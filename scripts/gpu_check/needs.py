"""Say what a machine has and, in one sentence, what it lacks to test and measure on a GPU.

    python -m gpu_check.needs

It loads nothing of lnrnn, and exits with 2 if anything is missing.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import sys

MODULES = ("torch", "triton", "numpy", "pytest")
OTHERS = ("lightning", "hydra", "torchmetrics", "datasets", "xdist", "pytest_timeout")


def main() -> None:
    """Print versions and what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="do without a GPU and Triton")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}")
    for name in (*MODULES, *OTHERS):
        print(f"{name} {version(name) or 'is not here'}")
    lacking = missing(cpu=options.cpu)
    if lacking:
        sys.stdout.flush()
        print(f"missing: {'; '.join(lacking)}", file=sys.stderr)
        sys.exit(2)
    if not options.cpu:
        print(device())


def version(name: str) -> str | None:
    """Return a package's version, without loading it, and None if it is not here."""
    if importlib.util.find_spec(name) is None:
        return None
    # A name to import may belong to a distribution of another name, or to one that is only copied.
    owners = importlib.metadata.packages_distributions().get(name, [])
    return importlib.metadata.version(owners[0]) if owners else "of an unknown version"


def missing(*, cpu: bool = False) -> list[str]:
    """Return what has to be there and is not."""
    lacking = [f"the Python package {n}" for n in MODULES if not (cpu and n == "triton")]
    lacking = [text for text in lacking if version(text.rpartition(" ")[2]) is None]
    if cpu or version("torch") is None:
        return lacking
    import torch

    if torch.version.cuda is None:
        lacking.append(f"a CUDA build of torch (this is {torch.__version__})")
    elif not torch.cuda.is_available():
        lacking.append("a CUDA device that torch can use")
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        lacking.append("a C compiler, which Triton calls (gcc or clang)")
    return lacking


def device() -> str:
    """Return what the GPU is."""
    import torch

    found = torch.cuda.get_device_properties(0)
    return (
        f"{found.name}, {found.multi_processor_count} processors, {found.total_memory >> 30} GiB, "
        f"capability {found.major}.{found.minor}, CUDA {torch.version.cuda}, "
        f"cuDNN {torch.backends.cudnn.version()}"
    )


if __name__ == "__main__":
    main()
