"""The error that tells a person what to change."""


class ConfigurationError(ValueError):
    """Something in the configuration cannot work; the message says what, and the way out."""
