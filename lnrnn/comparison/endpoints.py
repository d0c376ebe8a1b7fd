"""What a comparison can be about."""

ENDPOINTS = {
    "final": "the test metric at the end",
    "area": "the mean of the validation metric over training",
    "steps_to_90": "the steps to 90 % of the baseline's improvement",
}


def check_endpoint(endpoint: str) -> None:
    """Raise ValueError if a comparison knows no such endpoint."""
    if endpoint not in ENDPOINTS:
        listed = ", ".join(ENDPOINTS)
        raise ValueError(f"the primary endpoint must be one of {listed}, got {endpoint!r}")
