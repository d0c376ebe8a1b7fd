"""Heads: what turns an encoder's features into predictions.

A head is one linear layer on features that were pooled over time, or on every step's features. It
reads the encoder's output only, never its state, and never a step of padding.

Dimensions: B batch, T time steps, F the encoder's output size, C classes.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lnrnn.models.checks import check_lengths, valid_steps
from lnrnn.nn.inputs import check_sizes, check_switches


def last_step(output: Tensor, lengths: Tensor | None, *, bidirectional: bool) -> Tensor:
    """Return the features that have seen the whole sequence.

    That is the last valid step. Of a bidirectional layer it is the forward half at the last valid
    step beside the backward half at step 0, since the backward direction ends there.

    Args:
        output: Features of every step, (B, T, F).
        lengths: Valid steps, (B,), or None where all T are valid.
        bidirectional: Whether the second half of F belongs to the backward direction.

    Returns:
        One vector a sequence, (B, F).
    """
    if lengths is None:
        last = output[:, -1]
    else:
        check_lengths(lengths, output)
        rows = torch.arange(output.shape[0], device=output.device)
        last = output[rows, lengths.to(output.device, non_blocking=True) - 1]
    if not bidirectional:
        return last
    half = output.shape[-1] // 2
    return torch.cat((last[:, :half], output[:, 0, half:]), dim=-1)


def mean_step(output: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the mean over the valid steps.

    Args:
        output: Features of every step, (B, T, F).
        lengths: Valid steps, (B,), or None where all T are valid.

    Returns:
        One vector a sequence, (B, F).
    """
    if lengths is None:
        return output.mean(dim=1)
    padding = ~valid_steps(lengths, output)
    total = output.masked_fill(padding[..., None], 0.0).sum(dim=1)
    return total / lengths.to(output.device, non_blocking=True)[:, None]


class Pooling(nn.Module):
    """Turn a sequence of features into one vector.

    Args:
        kind: "last" (see ``last_step``), "mean" (over valid steps), or "flatten" (every step's
            features side by side, so that each step gets weights of its own).
        input_size: F, features a step.
        bidirectional: Whether the second half of F belongs to the backward direction.
        length: T, which "flatten" needs to know; the other two take any T.

    Raises:
        TypeError: If a size is not a whole number or ``bidirectional`` not a bool.
        ValueError: If ``kind`` is unknown, a size is not positive, ``bidirectional`` is given with
            an odd ``input_size``, or "flatten" has no ``length``.
    """

    def __init__(
        self,
        kind: Literal["last", "mean", "flatten"],
        *,
        input_size: int,
        bidirectional: bool = False,
        length: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size)
        check_switches(bidirectional=bidirectional)
        if kind not in ("last", "mean", "flatten"):
            raise ValueError(f"pooling is 'last', 'mean' or 'flatten', got {kind!r}")
        if bidirectional and input_size % 2:
            raise ValueError(
                "a bidirectional encoder's features are two halves of equal size: input_size "
                f"must be even, got {input_size}"
            )
        if length is not None:
            check_sizes(length=length)
        elif kind == "flatten":
            raise ValueError(
                "pooling='flatten' gives every step weights of its own and needs sequences of one "
                "fixed length, got length=None; use pooling='last' or 'mean' for this data"
            )
        self.kind, self.bidirectional, self.length = kind, bidirectional, length
        self.output_size = input_size * length if kind == "flatten" and length else input_size

    def forward(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool over time.

        Args:
            output: Features of every step, (B, T, F).
            lengths: Valid steps, (B,), or None where all T are valid.

        Returns:
            One vector a sequence: (B, F), or (B, T * F) for "flatten".

        Raises:
            ValueError: If "flatten" meets another length than the one it was built for.
        """
        if self.kind == "last":
            return last_step(output, lengths, bidirectional=self.bidirectional)
        if self.kind == "mean":
            return mean_step(output, lengths)
        shortest = output.shape[1]
        if lengths is not None:
            check_lengths(lengths, output)
            shortest = int(lengths.min())
        if output.shape[1] != self.length or shortest != self.length:
            raise ValueError(
                f"pooling='flatten' was built for sequences of {self.length} steps, got "
                f"{shortest} to {output.shape[1]}; use pooling='last' or 'mean' for lengths "
                "that vary"
            )
        return output.flatten(1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.kind!r}, bidirectional={self.bidirectional}, length={self.length}"


class ClassificationHead(nn.Module):
    """Give each sequence one score per class.

    Args:
        num_classes: C.
        input_size: F, the encoder's output size.
        bidirectional: Whether the second half of F belongs to the backward direction.
        pooling: "last", "mean" or "flatten" (see ``Pooling``).
        length: T, needed by "flatten" alone.

    Raises:
        TypeError: If a size is not a whole number (``num_classes=None`` is what data without
            classes gives) or a switch not a bool.
        ValueError: If a size is not positive or ``Pooling`` refuses its arguments.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        input_size: int,
        bidirectional: bool = False,
        pooling: Literal["last", "mean", "flatten"] = "last",
        length: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes)
        self.input_size = input_size
        self.pooling = Pooling(
            pooling, input_size=input_size, bidirectional=bidirectional, length=length
        )
        self.linear = nn.Linear(self.pooling.output_size, num_classes)

    def forward(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map features (B, T, F), with valid steps (B,) or None, to scores (B, C)."""
        return self.linear(self.pooling(output, lengths))


class RegressionHead(nn.Module):
    """Give each sequence one number, or several, or one at every step.

    Args:
        num_outputs: H, numbers a sequence; None for one.
        input_size: F, the encoder's output size.
        bidirectional: Whether the second half of F belongs to the backward direction.
        pooling: "last", "mean" or "flatten" (see ``Pooling``); "none" for a number at every step.
        length: T, needed by "flatten" alone.

    Raises:
        TypeError: If a size is not a whole number or ``bidirectional`` not a bool.
        ValueError: If a size is not positive, ``num_outputs`` is given with "none", or ``Pooling``
            refuses its arguments.
    """

    num_outputs: int | None = None  # of modules pickled without it too

    def __init__(
        self,
        num_outputs: int | None = None,
        *,
        input_size: int,
        bidirectional: bool = False,
        pooling: Literal["last", "mean", "flatten", "none"] = "last",
        length: int | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.num_outputs = input_size, num_outputs
        if num_outputs is not None:
            check_sizes(num_outputs=num_outputs)
            if pooling == "none":
                raise ValueError(
                    "pooling='none' gives one number at every step, so num_outputs must be None, "
                    f"got {num_outputs}"
                )
        if pooling == "none":
            check_sizes(input_size=input_size)
            check_switches(bidirectional=bidirectional)
            self.pooling, features = None, input_size
        else:
            self.pooling = Pooling(
                pooling, input_size=input_size, bidirectional=bidirectional, length=length
            )
            features = self.pooling.output_size
        self.linear = nn.Linear(features, num_outputs or 1)

    @property
    def per_step(self) -> bool:
        """Whether every step gets a number."""
        return self.pooling is None

    def forward(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map features (B, T, F), with valid steps (B,) or None, to (B,), (B, H) or (B, T)."""
        numbers = self.linear(output if self.pooling is None else self.pooling(output, lengths))
        return numbers if self.num_outputs is not None else numbers.squeeze(-1)


class TokenHead(nn.Module):
    """Give every step one score per class: tagging, or the next token.

    Args:
        num_classes: C.
        input_size: F, the encoder's output size.
        bidirectional: Accepted because every head is told; a step's features are used whole.
        tied: Whether the weight is the encoder's embedding. ``SequenceModel`` joins the two, since
            it alone sees both.

    Raises:
        TypeError: If a size is not a whole number (``num_classes=None`` is what data without
            classes gives) or a switch not a bool.
        ValueError: If a size is not positive.

    Reference:
        Press and Wolf, "Using the Output Embedding to Improve Language Models", arXiv:1608.05859.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        input_size: int,
        bidirectional: bool = False,
        tied: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes, input_size=input_size)
        check_switches(bidirectional=bidirectional, tied=tied)
        self.input_size, self.tied = input_size, tied
        self.linear = nn.Linear(input_size, num_classes)

    def forward(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map features (B, T, F) to scores (B, T, C); beyond ``lengths`` they mean nothing."""
        return self.linear(output)
