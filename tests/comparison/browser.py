"""A real headless browser, driven through its debugging pipe: no driver, no port, no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # a container's root cannot make one, and the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
)
PATIENCE = 60  # seconds for an answer


def find_browser() -> str | None:
    """Return the path of an installed browser."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser; commands and events are those of the DevTools protocol."""

    def __init__(self, process: subprocess.Popen[bytes], read: int, write: int):
        self.process, self._read, self._write = process, read, write
        self._buffer, self._count, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        page = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events on the way are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        """Return the next message; an event is kept as well."""
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the browser said nothing for {PATIENCE} s")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise RuntimeError(f"the browser ended with {self.process.wait()}")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(message)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def open(self, path: Path, *, width: int = 1200, scheme: str = "light") -> None:
        """Show a file in a window of this width, by day ("light") or by night ("dark")."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900,
                     deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        self.command("Emulation.setEmulatedMedia", features=[scheme_feature])
        self.events.clear()
        self.command("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        found = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def screenshot(self, *, whole: bool = True) -> bytes:
        """Return a picture of the page as a PNG file."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    @property
    def requests(self) -> list[str]:
        """What the page asked for since it was opened, itself and what it holds left out."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked[1:] if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What the browser wrote to its console, and what it refused to load."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [str(event["params"]) for event in self.events if event["method"] in methods]


@contextmanager
def open_browser(executable: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # The browser reads from 3 and writes to 4; what is put there must not lie there already.
    to_browser, from_browser = (_move_up(end) for end in (to_browser, from_browser))

    def plumb() -> None:
        os.dup2(to_browser, 3)
        os.dup2(from_browser, 4)

    process = subprocess.Popen(
        [executable, *FLAGS, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=plumb,
        close_fds=False,  # 3 and 4 are to be kept; Python's other files are closed on exec anyway
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(process, answers, commands)
    finally:
        os.close(commands)
        os.close(answers)
        process.terminate()
        process.wait(PATIENCE)


def _move_up(end: int) -> int:
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved
