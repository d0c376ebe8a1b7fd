"""Layer-normalized recurrences as pure functions: a whole sequence and direction per call."""

from lnrnn.ops.functional import ln_gru, ln_lstm, ln_rnn, project_input

__all__ = ["ln_gru", "ln_lstm", "ln_rnn", "project_input"]
