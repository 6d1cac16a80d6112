"""Chromium without a window, driven through its own DevTools protocol over two pipes: no driver, no port, no package.

The protocol's messages are JSON, each ended by a zero byte: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 60.0
OUTSIDE = ("http:", "https:", "ws:", "wss:", "ftp:")


def find() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium with one page. ``problems`` collects what the console, the page and the network complained of."""

    def __init__(self, path: str, folder: Path) -> None:
        down, self.commands = os.pipe()
        self.answers, up = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (down, up)]  # dup2 onto 3 and 4 must not meet them
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
        silent = [(os.POSIX_SPAWN_OPEN, end, "/dev/null", os.O_RDWR, 0) for end in (1, 2)]
        pipes = [(os.POSIX_SPAWN_DUP2, end, number) for end, number in zip(high, (3, 4), strict=True)]
        self.pid = os.posix_spawn(
            path, [path, *options, f"--user-data-dir={folder}"], os.environ, file_actions=[*pipes, *silent], setpgroup=0
        )
        for end in (down, up, *high):
            os.close(end)
        self.rest, self.count, self.session = b"", 0, ""
        self.problems: list[str] = []
        self.seen: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come in between are noted."""
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0") if len(
            json.dumps(message)
        ) < 60000 else self._long(message)
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(end)
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _long(self, message: dict[str, Any]) -> None:
        with os.fdopen(os.dup(self.commands), "wb") as stream:  # a pipe takes 64 kB at once
            stream.write(json.dumps(message).encode() + b"\0")

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.rest:
            if not select.select([self.answers], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError("expected an answer of the browser, got none")
            self.rest += os.read(self.answers, 1 << 20)
        line, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, found: dict[str, Any]) -> None:
        self.seen.append(event)
        if event == "Runtime.exceptionThrown":
            self.problems.append(f"exception: {found['exceptionDetails'].get('exception', {}).get('description')}")
        elif event == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning", "assert"):
            self.problems.append(f"console: {[argument.get('value') for argument in found['args']]}")
        elif event == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.problems.append(f"log: {found['entry']['text']}")
        elif event == "Network.requestWillBeSent" and found["request"]["url"].startswith(OUTSIDE):
            self.problems.append(f"request: {found['request']['url']}")

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Load a file in a window of this width, for a reader who set this colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.seen.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + PATIENCE_S
        while "Page.loadEventFired" not in self.seen:
            self._next(end)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", script))
        return found["result"].get("value")

    def point(self, x: float, y: float) -> None:
        """Move the pointer there, in pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def close(self) -> None:
        """End the browser and all its processes."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.commands)
        os.close(self.answers)
