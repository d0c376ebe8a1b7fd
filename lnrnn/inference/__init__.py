"""Using what was trained: a model from a run's folder, its answers, its files for other programs.

Nothing here trains, and nothing imports Lightning before files are read.
"""

from lnrnn.inference.loading import load
from lnrnn.inference.trained_model import Predictions, TrainedModel

__all__ = ["Predictions", "TrainedModel", "load"]
