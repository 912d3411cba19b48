"""A real, headless Chromium, driven over its DevTools protocol by a pair of pipes.

No driver and no library of its own: messages are JSON, each ended by a zero byte, written to its
descriptor 3 and read from its descriptor 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Event = dict[str, Any]
NAMES = ("chromium", "chromium-browser", "google-chrome")
DEADLINE_S = 120.0
_FREE_FD = 10


def found() -> str | None:
    """Return where the browser is; None without one (Debian: apt-get install chromium)."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser process; `page` opens a tab that shares nothing with other tabs."""

    def __init__(self, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Moved away from 3 and 4, so that neither is overwritten before it is put there.
        theirs_in, theirs_out = (
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FREE_FD) for fd in (theirs_in, theirs_out)
        )
        program = found()
        assert program is not None
        command = [
            program,
            "--headless=new",
            "--no-sandbox",  # it has root's rights in a container, and sees our own page only
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        log = os.open(profile / "browser.log", os.O_WRONLY | os.O_CREAT)
        self._pid = os.posix_spawn(
            program,
            command,
            os.environ | {"HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, theirs_in, 3),
                (os.POSIX_SPAWN_DUP2, theirs_out, 4),
            ],
            setpgroup=0,
        )
        for fd in (log, theirs_in, theirs_out):
            os.close(fd)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._number = 0
        self.events: list[Event] = []

    @classmethod
    @contextmanager
    def start(cls) -> Iterator["Browser"]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = cls(Path(profile))
            try:
                yield browser
            finally:
                os.killpg(browser._pid, signal.SIGKILL)
                os.waitpid(browser._pid, 0)
                os.close(browser._in)
                os.close(browser._out)

    def call(self, method: str, session: str = "", **params: object) -> dict[str, Any]:
        """Ask, and wait for the answer; what else comes meanwhile is kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self) -> Event:
        while b"\0" not in self._buffer:
            readable, _, _ = select.select([self._in], [], [], DEADLINE_S)
            assert readable, "the browser does not answer"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    @contextmanager
    def page(self) -> Iterator["Page"]:
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        yield page
        self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def look(self, *, scheme: str = "light", width: int = 1280, height: int = 900) -> None:
        """Set the colour scheme that the user prefers, and the size of the window."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not self.run(expression):
            assert time.monotonic() < deadline, f"never: {expression}\n{self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        return str(self.run("document.body.innerText"))

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def events(self, method: str, wanted: Callable[[Event], bool] = lambda _: True) -> list[Event]:
        """Return what the browser has reported of this tab so far."""
        self.run("1")  # whatever happened before has been reported when this is answered
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session
            and event["method"] == method
            and wanted(event["params"])
        ]

    def complaints(self) -> list[str]:
        """Return everything in the console: errors, blocked content, exceptions."""
        logged = [event["entry"]["text"] for event in self.events("Log.entryAdded")]
        raised = [
            str(event["exceptionDetails"]) for event in self.events("Runtime.exceptionThrown")
        ]
        return logged + raised

    def requests(self) -> list[str]:
        """Return the URLs that it asked for."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
