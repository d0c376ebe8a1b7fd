"""The health monitor: what it looks at in a model, what it calls it, and what it makes of it."""
