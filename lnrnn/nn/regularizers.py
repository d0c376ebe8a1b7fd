"""What may be random inside a layer's recurrence while it is trained.

Masks are made from counters (`lnrnn.ops.noise`) and a seed that each call draws from torch's CPU
generator, whatever device it runs on: `torch.manual_seed` repeats them, as it does dropout.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from lnrnn.nn import tools
from lnrnn.ops.checks import check_number
from lnrnn.ops.noise import Noise

HERE = (
    "its masks are drawn anew at every call; record the layer in evaluation mode, layer.eval(), "
    "where nothing is dropped"
)


@dataclass(frozen=True)
class Regularizers:
    """Zoneout and three kinds of dropout on a recurrence; probabilities, 0 for none.

    Args:
        zoneout: Of keeping a unit of h as it was before the step. In evaluation, h is the mean of
            both that this gives.
        zoneout_c: The same for the LSTM's cell state. What h sees of the new one is not zoned out.
        recurrent_dropout: Of zeroing a unit of the candidate (tanh(g) of an LSTM, n of a GRU), anew
            at every step.
        variational_dropout: Of zeroing a unit of what W_hh reads of h, once for all steps.
        weight_drop: Of zeroing an entry of W_hh, once for a call (DropConnect).

    What dropout keeps is divided by 1 minus the probability, and in evaluation nothing is dropped.

    Raises:
        ValueError: If one is not in [0, 1).
        TypeError: If one is not a number.

    Reference:
        Krueger et al., "Zoneout", arXiv:1606.01305, equation 5; Semeniuta, Severyn and Barth,
        "Recurrent Dropout without Memory Loss", arXiv:1603.05118, equation 9; Gal and Ghahramani,
        arXiv:1512.05287; Merity, Keskar and Socher, arXiv:1708.02182, section 2.
    """

    zoneout: float = 0.0
    zoneout_c: float = 0.0
    recurrent_dropout: float = 0.0
    variational_dropout: float = 0.0
    weight_drop: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            check_number(field.name, value)
            if not 0 <= value < 1:
                raise ValueError(f"{field.name} must be in [0, 1), got {value}")

    def given(self) -> dict[str, Any]:
        """Return those that are not 0, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value}

    def act(self, training: bool) -> bool:
        """Return whether they change anything: in evaluation, zoneout alone does."""
        return self.in_steps(training) or (training and bool(self.weight_drop))

    def in_steps(self, training: bool) -> bool:
        """Return whether they change the steps themselves, which torch's recurrences cannot."""
        if self.zoneout or self.zoneout_c:
            return True
        return training and bool(self.recurrent_dropout or self.variational_dropout)

    def draw_seed(self) -> int:
        """Return the seed of a call's masks, in [0, 2**63 - 1).

        Raises:
            NotImplementedError: If the call is being recorded, by a CUDA graph too, or if each call
                of `torch.func.vmap` is to have masks of its own.
        """
        first = next(iter(self.given()))
        what = f"{first} of a layer in training mode"
        tools.check_recordable(what, HERE, traced=False)
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise NotImplementedError(f"{what} cannot be captured in a CUDA graph: {HERE}")
        seed = torch.randint(2**63 - 1, (), device="cpu")
        try:
            return int(seed)
        except RuntimeError as error:  # vmap has drawn several, of which none can be read
            raise NotImplementedError(
                f'{what} has one seed a call, and vmap(randomness="different") asks for several; '
                'take randomness="same", or evaluation mode, layer.eval()'
            ) from error

    def noise(self, seed: int | None, stream: int, order: Tensor | None) -> Noise:
        """Return what is random inside the steps of one direction."""
        return Noise(
            self.zoneout,
            self.zoneout_c,
            self.recurrent_dropout,
            self.variational_dropout,
            seed,
            stream,
            order,
        )

    def drop_weight(self, weight: Tensor, seed: int, stream: int) -> Tensor:
        """Return W_hh, (G, R), with entries zeroed and the others scaled up."""
        if not self.weight_drop:
            return weight
        row = torch.arange(len(weight), device=weight.device)
        purpose = 4 * 2**20 + stream  # beyond all that masks inside the steps are for
        kept = torch.ops.lnrnn.keep_mask(
            self.weight_drop, seed, purpose, torch.zeros_like(row), row, weight.shape[1]
        )
        return weight * kept / (1 - self.weight_drop)
