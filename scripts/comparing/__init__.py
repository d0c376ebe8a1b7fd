"""The pieces of ``scripts/compare.py``: what to train, training it, tuning, what a step costs."""
