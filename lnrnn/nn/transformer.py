"""The transformer layer: the recurrent layers' rival, with its norm before, after or nowhere.

It exists so that "does layer normalization help?" can be asked of both families by one script.

Dimensions: B batch, T time steps, H hidden size, N heads, D = H / N head size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lnrnn.nn.inputs import check_dropout, check_sizes, check_switches
from lnrnn.ops.checks import check_eps


def rotary(x: Tensor, base: float = 10_000.0) -> Tensor:
    r"""Rotate feature pairs by angles that grow with the step, so that dot products see distances.

    Feature ``i`` of the first half and feature ``i`` of the second are one pair. At step ``t`` it
    is turned by :math:`t \cdot base^{-2i/D}`. The product of a query at step ``t`` with a key at
    step ``s`` then depends on the two vectors and on ``t - s`` only.

    Args:
        x: Queries or keys, (..., T, D).
        base: The larger, the slower the slowest rotation.

    Returns:
        The rotated vectors, (..., T, D); step 0 is unchanged and lengths are kept.

    Raises:
        ValueError: If D is odd.

    Example:
        >>> x = torch.randn(2, 5, 4)
        >>> torch.equal(rotary(x)[:, 0], x[:, 0])
        True

    Reference:
        Su et al., "RoFormer", arXiv:2104.09864, equation 34 (with the halves as pairs).
    """
    steps, size = x.shape[-2:]
    if size % 2:
        raise ValueError(f"rotary positions turn pairs of features: D must be even, got {size}")
    # bfloat16 cannot hold the step numbers beyond 256, so angles are float32 at least.
    dtype = torch.promote_types(x.dtype, torch.float32)
    pair = torch.arange(0, size, 2, device=x.device, dtype=dtype)
    step = torch.arange(steps, device=x.device, dtype=dtype)
    angle = step[:, None] * base ** (-pair / size)  # (T, D / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class TransformerLayer(nn.Module):
    r"""Self-attention, then a two-layer perceptron, each added to what it read.

    With ``f`` for either branch and ``N`` for its layer norm:

    .. math::
        \text{pre: } x + f(N(x)) \qquad \text{post: } N(x + f(x)) \qquad \text{None: } x + f(x)

    ``torch.nn.TransformerEncoderLayer`` with ``activation="gelu"`` computes the same as "pre"
    (``norm_first=True``) and "post". Dropout acts where it does there: on the attention weights,
    inside the perceptron and on the end of both branches.

    Args:
        hidden_size: H, the width of the input and of the output.
        num_heads: N, a divisor of H.
        feedforward_size: Width inside the perceptron; 4 H where it is None.
        norm: "pre", "post" or None (no normalization anywhere).
        eps: Positive constant added to the variance in both norms.
        dropout: Probability of zeroing, in [0, 1].
        causal: Whether a step reads only itself and earlier steps.
        rotate: Whether queries and keys are rotated (see ``rotary``); without it and without a mask
            the layer cannot tell the order of the steps.

    Raises:
        TypeError: If a size is not a whole number, ``eps`` or ``dropout`` not a number, or
            ``causal`` or ``rotate`` not a bool.
        ValueError: If a size is not positive, H is not divisible by N, D is odd with ``rotate``,
            ``norm`` is unknown or covers a single value, ``eps`` is not positive and finite, or
            ``dropout`` is outside [0, 1].

    Reference:
        Vaswani et al., arXiv:1706.03762 (post); Xiong et al., arXiv:2002.04745 (pre and post).
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        feedforward_size: int | None = None,
        *,
        norm: Literal["pre", "post"] | None = "pre",
        eps: float = 1e-5,
        dropout: float = 0.0,
        causal: bool = False,
        rotate: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(hidden_size=hidden_size, num_heads=num_heads)
        feedforward_size = 4 * hidden_size if feedforward_size is None else feedforward_size
        check_sizes(feedforward_size=feedforward_size)
        check_switches(causal=causal, rotate=rotate)
        check_dropout(dropout)
        check_eps(eps)
        _check_head_size(hidden_size, num_heads, rotate)
        if norm not in ("pre", "post", None):
            raise ValueError(
                f"a transformer's norm is 'pre', 'post' or None, got {norm!r}; "
                "'output', 'cell' and CellNorm belong to the recurrent layers"
            )
        if norm and hidden_size == 1:
            raise ValueError("a layer norm over a single value is always 0, got hidden_size=1")
        self.num_heads, self.norm, self.dropout = num_heads, norm, dropout
        self.causal, self.rotate = causal, rotate
        self.attention_in = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_out = nn.Linear(hidden_size, hidden_size)
        self.feedforward_in = nn.Linear(hidden_size, feedforward_size)
        self.feedforward_out = nn.Linear(feedforward_size, hidden_size)
        # Identity has no parameters: the variants differ in the norms' entries and in nothing else.
        self.attention_norm = nn.LayerNorm(hidden_size, eps) if norm else nn.Identity()
        self.feedforward_norm = nn.LayerNorm(hidden_size, eps) if norm else nn.Identity()

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Map a batch of sequences to one of the same shape.

        Args:
            x: Sequences, (B, T, H).
            valid: Booleans, (B, T), False at the steps that no step may read (padding); None where
                every step may be read. Each step must be left something to read.

        Returns:
            Sequences, (B, T, H). At steps that are not valid the values mean nothing.
        """
        if self.norm == "post":
            x = self.attention_norm(x + self._attention(x, valid))
            return self.feedforward_norm(x + self._feedforward(x))
        x = x + self._attention(self.attention_norm(x), valid)
        return x + self._feedforward(self.feedforward_norm(x))

    def _attention(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Let every step read a weighted mean of the steps it may read."""
        qkv = self.attention_in(x).unflatten(-1, (3, self.num_heads, -1))  # (B, T, 3, N, D)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # 3 times (B, N, T, D)
        if self.rotate:
            query, key = rotary(query), rotary(key)
        mask = None if valid is None else valid[:, None, None, :]  # (B, 1, 1, T)
        if mask is not None and self.causal:
            mask = mask & mask.new_ones(x.shape[1], x.shape[1]).tril()  # (B, 1, T, T)
        read = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=self.causal and mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self._drop(self.attention_out(read.transpose(1, 2).flatten(-2)))

    def _feedforward(self, x: Tensor) -> Tensor:
        return self._drop(self.feedforward_out(self._drop(F.gelu(self.feedforward_in(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def extra_repr(self) -> str:
        """Return what the children's lines do not show."""
        return (
            f"num_heads={self.num_heads}, norm={self.norm!r}, dropout={self.dropout}, "
            f"causal={self.causal}, rotate={self.rotate}"
        )


def _check_head_size(hidden_size: int, num_heads: int, rotate: bool) -> None:
    if hidden_size % num_heads:
        raise ValueError(
            f"hidden_size must be divisible by num_heads, got {hidden_size} and {num_heads}"
        )
    head_size = hidden_size // num_heads
    if rotate and head_size % 2:
        raise ValueError(
            "rotary positions need an even head size (hidden_size / num_heads), got "
            f"{hidden_size} / {num_heads} = {head_size}; change one of the two or learn positions"
        )
