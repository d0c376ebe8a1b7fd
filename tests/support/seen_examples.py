"""An encoder that notes which examples each process of a run is given."""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from lnrnn.models import RecurrentEncoder


class Encoder(RecurrentEncoder):
    """Appends the first value of every sequence, which names it, to a file of the process."""

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, state: Any = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))
        line = {
            "process": os.getpid(),
            "training": self.training,
            "names": inputs[:, 0, 0].int().tolist(),
        }
        with (Path(os.environ["SEEN"]) / rank).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return super().forward(inputs * 0.01, lengths, state)
