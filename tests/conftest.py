"""What every test gets: one seed, no network, no file in the user's cache."""

import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

# `datasets` reads these once, when it is first imported, which is when a test first reads data.
_CACHE = tempfile.TemporaryDirectory(prefix="lnrnn-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = _CACHE.name
os.environ["HF_DATASETS_CACHE"] = str(Path(_CACHE.name) / "datasets")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
