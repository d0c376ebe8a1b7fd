"""Images read as sequences: by rows, pixel by pixel, or with their pixels in another order.

Dimensions: n images of P pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lnrnn.data.columns import Rows
from lnrnn.data.sequences import Claims, Sequences, checked
from lnrnn.preparation import Scaling

ORDERS = ("rows", "pixels", "permuted")


class Reading(NamedTuple):
    """How square images become sequences.

    Attributes:
        order: ``"rows"``: a row is a step, from the top. ``"pixels"``: a pixel is a step, row by
            row. ``"permuted"``: a pixel is a step, in one random order, the same for every image.
        side: Pixels a row, and rows.
        largest: What every pixel is divided by.
    """

    order: str
    side: int
    largest: float

    @property
    def shape(self) -> tuple[int, int]:
        """Return steps and numbers a step."""
        return (self.side, self.side) if self.order == "rows" else (self.side**2, 1)

    def check(self, num_features: int | None, length: int | None, data: str) -> None:
        """Check what is said of the data before they are read.

        Args:
            num_features: Numbers a step.
            length: Steps, or None.
            data: The configuration that sets them for rows, for the message.

        Raises:
            ValueError: If there is no such order, or it does not fit the rest.
        """
        if self.order not in ORDERS:
            raise ValueError(f"data.order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        steps, numbers = self.shape
        if num_features != numbers or length not in (None, steps):
            raise ValueError(
                f"data.order={self.order} makes {steps} steps of {numbers}: data.length={steps} "
                f"data.num_features={numbers}, as "
                f"data={data if self.order == 'rows' else f'{data}_pixels'} sets them; got "
                f"{length} and {num_features}"
            )

    def sequences(
        self, rows: Rows, pixels: np.ndarray, labels: np.ndarray, claims: Claims
    ) -> Sequences:
        """Return images as the sequences of a split.

        Args:
            rows: Names of the images, for messages.
            pixels: Row by row, (n, P).
            labels: Whole numbers from 0, (n,).
            claims: What the configuration says.
        """
        if self.order == "permuted":
            pixels = pixels[:, np.random.RandomState(0).permutation(self.side**2)]
        steps, numbers = self.shape
        values = pixels.reshape(-1, numbers).astype(np.float32) / self.largest
        found = checked(rows, values, np.full(len(labels), steps), labels, claims)
        found.scaling = Scaling((0.0,) * numbers, (float(self.largest),) * numbers)
        return found
