"""Layer-normalized recurrences as pure functions: a whole sequence and direction per call."""

from lnrnn.ops import fakes, first_call
from lnrnn.ops.functional import ln_gru, ln_lstm, ln_rnn, project_input

fakes.register()
first_call.register()

__all__ = ["ln_gru", "ln_lstm", "ln_rnn", "project_input"]
