"""What an encoder is: what every one shows, what has a default, and what is said where it lacks.

Dimensions: B batch, T time steps, F output size.
"""

import inspect
from typing import Any, Protocol, cast

from torch import Tensor, nn

from lnrnn.checks import is_whole

State = tuple[Tensor, ...] | None
# An encoder that says nothing is taken for one that may read later steps: it then trains on
# everything but a language model, which it must not be by mistake.
DEFAULTS: dict[str, Any] = {
    "bidirectional": False,
    "carries_state": False,
    "looks_ahead": True,
    "embedding": None,
}


class Encoder(Protocol):
    """Turns features or tokens into one feature vector for every step.

    A module of one's own needs ``output_size`` and ``forward``; :class:`SequenceModel` gives it the
    other attributes where it has none.

    Attributes:
        output_size: F, features of one step.
        bidirectional: Whether the second half of the output belongs to a backward direction, whose
            end is at the first step. Default: False.
        carries_state: Whether a state can pass from one window of a stream to the next. Default:
            False.
        looks_ahead: Whether a step's output depends on later steps, which it must not where those
            are to be predicted. Default: True.
        embedding: The table of token vectors, which a tied head shares. Default: None.
    """

    output_size: int
    bidirectional: bool
    carries_state: bool
    looks_ahead: bool
    embedding: nn.Embedding | None

    def __call__(
        self, inputs: Tensor, lengths: Tensor | None = None, state: State = None
    ) -> tuple[Tensor, State]:
        """Map features (B, T, I) or tokens (B, T) to (B, T, F) and a state.

        Args:
            inputs: Features or tokens, padded.
            lengths: Valid steps, (B,), int64 on the CPU, or None where all T are valid.
            state: What the window before returned, tensors (layers, B, ...), or None.
        """
        ...


def complete(encoder: nn.Module | Encoder) -> Encoder:
    """Return an encoder with every attribute, defaults where it has none.

    Raises:
        TypeError: If it is no module, or lacks what has no default.
    """
    name = type(encoder).__name__
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"an encoder must be a torch.nn.Module, got {encoder!r}")
    size = getattr(encoder, "output_size", None)
    if not is_whole(size, least=1):
        raise TypeError(
            f"{name} needs self.output_size, the number of features that its forward gives for "
            f"each step, a whole number from 1 up; got {size!r}"
        )
    try:
        inspect.signature(encoder.forward).bind(None, None, None)
    except TypeError as error:
        raise TypeError(
            f"{name}.forward must take inputs, lengths and state, such as "
            f"forward(self, inputs, lengths=None, state=None): {error}"
        ) from None
    for key, default in DEFAULTS.items():
        if not hasattr(encoder, key):
            setattr(encoder, key, default)
    # Not `isinstance`: from Python 3.12 on it does not see what nn.Module.__getattr__ finds, such
    # as an embedding.
    return cast(Encoder, encoder)


def check_result(encoder: Encoder, inputs: Tensor, result: object) -> tuple[Tensor, State]:
    """Return what an encoder's forward gave, if it is features and a state.

    Raises:
        TypeError: If it is no pair.
        ValueError: If the features are not (B, T, F).
    """
    name = type(encoder).__name__
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        kind = type(result).__name__
        raise TypeError(
            f"{name}.forward must return a pair: features (B, T, {encoder.output_size}) and a "
            f"state, which is None where none is carried; got {kind}"
        )
    expected = (*inputs.shape[:2], encoder.output_size)
    if result[0].shape != expected:
        raise ValueError(
            f"{name}.forward must return features of the shape {expected}: batch, steps and "
            f"output_size; got {tuple(result[0].shape)}"
        )
    return result
