"""The model: an encoder and a head joined.

Dimensions: B batch, T time steps, I input features, C classes.
"""

from collections.abc import Callable

from torch import Tensor, nn

from lnrnn.models.encoders import RecurrentEncoder, TransformerEncoder
from lnrnn.models.heads import ClassificationHead, RegressionHead, TokenHead
from lnrnn.models.protocol import Encoder, check_result, complete

Head = ClassificationHead | RegressionHead | TokenHead


class SequenceModel(nn.Module):
    """Encode a batch of sequences, then predict from the features.

    Args:
        encoder: What turns inputs into features: a module as :class:`Encoder` describes it.
        head: What turns features into predictions: a ``ClassificationHead``, ``RegressionHead`` or
            ``TokenHead``, or a callable that makes one from ``input_size`` and ``bidirectional`` (a
            head class with its other arguments bound), so that a configuration need not repeat the
            encoder's sizes.

    Raises:
        TypeError: If ``encoder`` lacks what has no default, or ``head`` is neither one of the three
            nor makes one.
        ValueError: If the head's input size is not the encoder's output size, or a tied head's
            weight does not fit the encoder's embedding.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> encoder = RecurrentEncoder("lstm", num_features=12, hidden_size=16, norm="output")
        >>> model = SequenceModel(encoder, partial(ClassificationHead, 9))
        >>> predictions, state = model(torch.randn(4, 20, 12))
        >>> predictions.shape, len(state)
        (torch.Size([4, 9]), 2)
    """

    encoder: Encoder
    head: Head
    _checks = False  # of modules pickled without it too

    def __init__(self, encoder: nn.Module | Encoder, head: Head | Callable[..., Head]) -> None:
        super().__init__()
        whole = complete(encoder)
        head = _built_head(whole, head)
        if head.input_size != whole.output_size:
            raise ValueError(
                f"the head reads {head.input_size} features a step, the encoder gives "
                f"{whole.output_size}; build the head with input_size={whole.output_size}"
            )
        self.encoder, self.head = whole, head
        # What comes out of an encoder that nothing here has tested is looked at.
        self._checks = not isinstance(encoder, RecurrentEncoder | TransformerEncoder)
        if isinstance(head, TokenHead) and head.tied:
            _tie(whole, head)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        state: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Predict for a batch of sequences.

        Args:
            inputs: Features (B, T, I) or tokens (B, T).
            lengths: Valid steps, (B,), int64 on the CPU, or None where all T are valid.
            state: What the window before returned, or None.

        Returns:
            Predictions, (B, C), (B, T, C) or (B,) by the head; and the encoder's state, attached.
        """
        result = self.encoder(inputs, lengths, state)
        output, state = check_result(self.encoder, inputs, result) if self._checks else result
        return self.head(output, lengths), state


def _built_head(encoder: Encoder, head: Head | Callable[..., Head]) -> Head:
    """Return the head, made to the encoder's measure unless it is built."""
    # Modules are callable too, on features.
    if callable(head) and not isinstance(head, nn.Module):
        head = head(input_size=encoder.output_size, bidirectional=encoder.bidirectional)
    if not isinstance(head, Head):
        raise TypeError(
            "head must be a ClassificationHead, RegressionHead or TokenHead, or a callable that "
            f"makes one, got {head!r}"
        )
    return head


def _tie(encoder: Encoder, head: TokenHead) -> None:
    """Let the embedding and the output matrix be one parameter.

    It is the head's that stays: an embedding's initial values have variance 1, which would give the
    first scores a standard deviation of sqrt(F) and a loss far above chance.
    """
    if encoder.embedding is None:
        raise ValueError(
            "tied=True shares the embedding of tokens with the output matrix, but this encoder "
            "reads features and has no embedding; use tied=False"
        )
    tokens, size = encoder.embedding.weight.shape
    classes, input_size = head.linear.weight.shape
    if tokens != classes:
        raise ValueError(
            "tied=True needs as many classes as tokens, got "
            f"num_classes={classes} and num_tokens={tokens}; use tied=False"
        )
    if size != input_size:
        raise ValueError(
            "tied=True needs an embedding as wide as the encoder's output, got embedding size "
            f"{size} and output size {input_size}; set embedding_size={input_size} or tied=False"
        )
    encoder.embedding.weight = head.linear.weight
