"""One split of a text, cut into streams that a language model reads window by window.

Dimensions: N symbols, B streams (the global batch), W symbols in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lnrnn.data.batch import IGNORED, Batch

if TYPE_CHECKING:
    import datasets

PADDING = 256
"""The symbol behind the end of a text: the first that is not a byte."""

NUM_SYMBOLS = 257
"""256 bytes and the padding symbol.

Outputs have 257 classes too, although padding is never a target, so that the output weight may be
the embedding's (``head.tied=true``).
"""

_ROWS_KEPT = 1024  # each brings pages of 64 kB or more into memory


class Streams(Dataset[Batch]):
    """A text cut into B contiguous streams; window k of all streams is batch k.

    Example ``k * B + i`` is window k of stream i, so batches of B examples in order are the windows
    in order, row i of batch k + 1 continues where row i of batch k ends, and ranks that share a
    batch keep their rows. Targets are the inputs shifted by one.

    Training (``whole=False``) drops the end of the text that does not fill all windows: fewer than
    B * W symbols. Evaluation (``whole=True``) predicts every symbol but the very first exactly
    once: streams differ in length by at most one, and what the last window lacks is padding with
    nothing to predict. (Each stream starts without context, so a loss depends slightly on B.)

    Args:
        split: Name of the split, for messages.
        text: Bytes, (N,) uint8.
        batch_size: B.
        window: W.
        whole: Whether to keep everything.
        release: Of a mapped text, lets what was read leave memory; None for one in memory.

    Raises:
        ValueError: If a size is below 1 or the text is too short to fill it.
    """

    def __init__(
        self,
        split: str,
        text: Tensor,
        batch_size: int,
        window: int,
        whole: bool,
        release: Callable[[], None] | None = None,
    ) -> None:
        if batch_size < 1 or window < 1:
            raise ValueError(
                f"batch_size and window must be at least 1, got {batch_size}, {window}"
            )
        predictions = len(text) - 1
        _check_long_enough(split, predictions, batch_size, 1 if whole else window)
        if not whole:
            predictions -= predictions % (batch_size * window)
        edges = torch.arange(batch_size + 1) * predictions // batch_size
        self.text, self.window, self.batch_size = text, window, batch_size
        self.starts, self.ends = edges[:-1], edges[1:]  # (B,): each predicts start + 1 to end
        self.longest = int((self.ends - self.starts).max())
        self.windows = -(-self.longest // window)
        self._release, self._rows_read = release, 0

    def __len__(self) -> int:
        return self.windows * self.batch_size

    def __getitem__(self, indices: list[int]) -> Batch:
        """Return rows of one window, (rows, W); the last may be narrower."""
        offset = indices[0] // self.batch_size * self.window
        width = min(self.window, self.longest - offset)
        streams = torch.tensor(indices) % self.batch_size
        places = (self.starts[streams] + offset).unsqueeze(1) + torch.arange(width + 1)
        symbols = self.text[places.clamp_max(len(self.text) - 1)].long()  # (rows, W + 1)
        self._rows_read += len(indices)
        if self._rows_read >= _ROWS_KEPT:
            self.release()
        beyond = places[:, 1:] > self.ends[streams].unsqueeze(1)  # (rows, W)
        inputs = symbols[:, :-1].masked_fill(beyond, PADDING)
        return Batch(inputs, symbols[:, 1:].masked_fill(beyond, IGNORED), None)

    def release(self) -> None:
        """Let the pages of a mapped text that were read leave memory; else nothing happens."""
        self._rows_read = 0
        if self._release is not None:
            self._release()

    def content(self) -> list[Tensor]:
        """Return the tensors that make this split what it is."""
        return [self.text]


def streams_from(split: str, dataset: datasets.Dataset, batch_size: int, window: int) -> Streams:
    """Lay the documents of a split (column ``text``, str or bytes) end to end as bytes."""
    documents = [t.encode() if isinstance(t, str) else t for t in dataset["text"]]
    text = torch.frombuffer(bytearray(b"".join(documents) or b"\0"), dtype=torch.uint8)
    if not any(documents):
        raise ValueError(f"the text of split '{split}' is empty")
    return Streams(split, text, batch_size, window, whole=split != "train")


def _check_long_enough(split: str, predictions: int, batch_size: int, window: int) -> None:
    if predictions >= batch_size * window:
        return
    if predictions < 1:
        way_out = "give a longer text"
    elif predictions < batch_size:
        way_out = f"the largest that fits is data.batch_size={predictions} data.window=1"
    else:
        way_out = f"the largest that fits is data.window={predictions // batch_size}"
    raise ValueError(
        f"the text of split '{split}' has {predictions + 1} symbols, but {batch_size} streams "
        f"(data.batch_size) x {window} symbols (data.window) + 1 need at least "
        f"{batch_size * window + 1}: {way_out}"
    )
