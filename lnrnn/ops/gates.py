"""The gates of each cell, in torch's order."""

GATES = {"rnn": "h", "lstm": "ifgo", "gru": "rzn"}
