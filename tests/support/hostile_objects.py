"""Hostile objects and names that would leave a mark if anything acted on them."""

import os
from pathlib import Path

TARGETS = (
    "os.system",
    "pathlib.Path.write_text",
    "urllib.request.urlretrieve",
    "torch.load",
    "torch.hub.load",
    "torch.nn.init.torch.load",
    "lightning.pytorch.callbacks.model_checkpoint.Path.touch",
    "lnrnn.runs.record.replace_text",
)


class Bait:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)
