"""Continuing a text, byte by byte."""

import math
from numbers import Real

import torch
from torch import Tensor

from lnrnn.checks import is_whole
from lnrnn.models import SequenceModel
from lnrnn.seeding import derive_seed

BYTES = 256  # a model has one class more, the padding symbol, which is never drawn
START = b"\n"  # what an empty prompt is taken to follow
DEFAULT_WINDOW = 128


def continued(
    module: SequenceModel,
    prompt: bytes,
    *,
    length: int,
    temperature: float,
    seed: int,
    window: int | None,
    device: torch.device,
) -> bytes:
    """Return what follows a prompt.

    A recurrent network reads every byte once and carries its state. A transformer has no state, so
    it reads the last ``window`` bytes again for each new one: as many as it was trained on.

    Args:
        module: A language model of bytes, in evaluation mode.
        prompt: What it reads first.
        length: Bytes to be drawn.
        temperature: By which scores are divided; 0 takes the most likely byte.
        seed: What is drawn follows from it.
        window: Bytes that the model was trained on at once.
        device: Where it computes.

    Raises:
        ValueError: If ``length`` is no whole number from 0 up, or ``temperature`` is not a
            finite number from 0 up, or ``seed`` is not a whole number.
    """
    if not is_whole(length, least=0):
        raise ValueError(f"length must be a whole number from 0 up, got {length!r}")
    if not is_whole(seed):
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    number = isinstance(temperature, Real) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number from 0 up, got {temperature!r}")
    generator = torch.Generator().manual_seed(derive_seed(seed, "generation"))
    text = bytearray(prompt or START)
    begin, state, unread = len(text), None, bytes(text)
    with torch.no_grad():
        while len(text) - begin < length:
            if module.encoder.carries_state:
                scores, state = module(_tokens(unread, device), None, state)
            else:
                context = min(window or DEFAULT_WINDOW, _longest(module))
                scores, _ = module(_tokens(bytes(text[-context:]), device))
            unread = bytes([_draw(scores[0, -1, :BYTES], temperature, generator)])
            text += unread
    return bytes(text[begin:])


def _tokens(text: bytes, device: torch.device) -> Tensor:
    """Return bytes as a batch of one, (1, T)."""
    return torch.tensor([list(text)], device=device)


def _longest(module: SequenceModel) -> int:
    """Return how many steps a model can read at once."""
    return getattr(module.encoder, "max_length", None) or 2**62


def _draw(scores: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Draw one of so many scores, (256,)."""
    scores = scores.double().cpu()
    if temperature == 0:
        return int(scores.argmax())
    chances = ((scores - scores.max()) / temperature).softmax(0)
    return int(torch.multinomial(chances, 1, generator=generator))
