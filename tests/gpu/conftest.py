"""What the tests on a GPU need before CUDA starts."""

import os

# cuBLAS repeats its results bit for bit, and torch believes it, with a workspace of one of two
# sizes; this is the one that torch has on Hopper anyway.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
