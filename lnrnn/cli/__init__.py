"""The commands a person types: their arguments, what they print and their exit codes."""
