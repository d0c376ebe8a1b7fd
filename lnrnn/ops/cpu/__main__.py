"""Build the CPU kernels ahead of the first call that wants them: ``python -m lnrnn.ops.cpu``."""

import sys

import lnrnn.ops  # noqa: F401  # declares what the library implements
from lnrnn.ops import cpu

sys.stderr.write(f"lnrnn: the CPU kernels are ready: {cpu.load(cpu.SOURCE_FOLDER)}\n")
