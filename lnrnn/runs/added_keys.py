"""Keys of the configuration that were added later, with what holds where a folder lacks them.

A run that was made before there was such a key is the run that today's command describes, as long
as nobody sets it.
"""

from typing import Any

ADDED: dict[str, Any] = {"monitor_metric": "val/loss", "test": None}
