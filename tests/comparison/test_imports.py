"""Reading records costs no import of what trains."""

import subprocess
import sys

HEAVY = ("hydra", "lightning", "pytorch_lightning", "torchmetrics", "datasets")


def test_importing_the_comparison_loads_neither_hydra_nor_lightning():
    code = f"""
import sys
import lnrnn.comparison
import lnrnn.comparison.files, lnrnn.comparison.terminal
print(*[name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
