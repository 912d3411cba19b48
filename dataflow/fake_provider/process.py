"""The provider's process, for those who start one, kill it, and look into its book."""

import http.client
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from dataflow.fake_provider.behaviour import Settings
from dataflow.fake_provider.book import Payment

_TIMEOUT_S = 30.0


class FakeProvider:
    """A provider in a process of its own; what it has in its book outlives the process.

    Args:
        state: The file of its book.
        ports: That it listens on: for clients, and for its controls. By default any that are free;
            while it is down, another process may be given those.

    Attributes:
        port: Of both shapes; the same for all processes.
    """

    def __init__(self, state: Path, ports: Sequence[int] = (0, 0)) -> None:
        self._state = state
        self._process: subprocess.Popen[str] | None = None
        self.port, self._control_port = ports

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base of all addresses."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def control_url(self) -> str:
        """The base of the controls."""
        return f"http://127.0.0.1:{self._control_port}"

    def start(self) -> None:
        """Start a process; on the ports of the one before, if there was one."""
        ports = [str(self.port), str(self._control_port)]
        self._process = subprocess.Popen(  # noqa: S603  (our own interpreter)
            [sys.executable, "-m", "dataflow.fake_provider", str(self._state), *ports, "attached"],
            # It ends with its input, and so with us, however we end; but not by our Ctrl-C.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the provider ended with {self._process.wait()}")
        found = json.loads(line)
        self.port, self._control_port = found["port"], found["control_port"]

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._end(kill=True)

    def stop(self) -> None:
        """End the process, if there is one."""
        self._end(kill=False)

    def change(self, **settings: Any) -> None:
        """Change settings: see `behaviour.Settings`."""
        self._control("PUT", "/settings", settings)

    def heal(self) -> None:
        """Do everything right again."""
        self.end_outage()
        self._control("PUT", "/settings", msgspec.to_builtins(Settings()))

    def outage(self, seconds: float, kind: str = "refuse") -> None:
        """Let the provider fail for all, for a time."""
        self._control("POST", "/outage", {"seconds": seconds, "kind": kind})

    def end_outage(self) -> None:
        """Take connections again, before the time of an outage is over."""
        self._control("DELETE", "/outage")

    def book(self) -> list[Payment]:
        """Return all payments, the oldest first."""
        return msgspec.json.decode(self._control("GET", "/book"), type=list[Payment])

    def count(self, status: str) -> int:
        """Return how many payments have a status, such as `succeeded`."""
        return msgspec.json.decode(self._control("GET", f"/count/{status}"), type=int)

    def asked(self, key: str) -> int:
        """Return how often a key was asked for and got past the limits."""
        return msgspec.json.decode(self._control("GET", f"/asked/{key}"), type=int)

    def _control(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._control_port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            raise ValueError(f"{method} {path}: {content.decode()}")
        return content

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        process.wait(_TIMEOUT_S)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
