"""Models: an encoder that turns inputs into features, and a head that turns those into answers."""

from lnrnn.models.encoders import RecurrentEncoder, TransformerEncoder
from lnrnn.models.heads import ClassificationHead, RegressionHead, TokenHead
from lnrnn.models.protocol import Encoder
from lnrnn.models.sequence import SequenceModel

__all__ = [
    "ClassificationHead",
    "Encoder",
    "RecurrentEncoder",
    "RegressionHead",
    "SequenceModel",
    "TokenHead",
    "TransformerEncoder",
]
