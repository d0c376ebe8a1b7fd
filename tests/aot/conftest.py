"""The Triton kernels compiled for GPUs that are not there: a process of its own.

`make test-aot` starts it.
"""

import os
import sys
import tempfile

if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") == "1":
    raise RuntimeError(
        "tests/aot needs a process of its own, and this one has imported Triton as an interpreter; "
        "run `make test-aot`"
    )
os.environ["TRITON_INTERPRET"] = "0"
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share what the process they come from has
    _CACHE = tempfile.TemporaryDirectory(prefix="lnrnn-triton-")
    os.environ["TRITON_CACHE_DIR"] = _CACHE.name
