"""What the tests on a GPU need before CUDA starts, and failures shown as they come."""

import os
from typing import Any

import pytest

# cuBLAS repeats its results bit for bit, and torch believes it, with a workspace of one of two
# sizes; this is the one that torch has on Hopper anyway.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Shown:
    """Prints why a test failed at once: a pass over a GPU may be stopped before pytest's summary.

    Args:
        terminal: What pytest writes by. The processes that xdist starts have none.
    """

    def __init__(self, terminal: Any) -> None:
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failure of a test, or of what was before or after it."""
        if report.failed:
            self.terminal.ensure_newline()
            self.terminal.write_line(f"{report.nodeid} failed at {report.when}:")
            self.terminal.write_line(report.longreprtext)


@pytest.hookimpl(trylast=True)  # the terminal is there
def pytest_configure(config: pytest.Config) -> None:
    """Show failures where there is a terminal or a log."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Shown(terminal))
