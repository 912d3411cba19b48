"""The flow's process: `python -m bytewax.run dataflow.flow`, as a user would run it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dataflow

_PORTS = {"PORT": 3000, "METRICS_PORT": 9090}
_PROBE_TIMEOUT_S = 1.0
_TAIL_LINES = 12
_LINE_MAX = 400


class FlowDiedError(Exception):
    """The flow has ended by itself, or did not end when asked to."""


class FlowProcess:
    """The running flow; as a context, it is killed and its files are removed at the end.

    Attributes:
        port: Of the health endpoints.
        metrics_port: Of `/metrics`.
        log_path: The file with everything it prints; kept when it has failed.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="payments-demo-"))
        self.log_path = self._directory / "flow.log"
        ports = {name: environ.get(name) or str(_port(usual)) for name, usual in _PORTS.items()}
        self.port, self.metrics_port = int(ports["PORT"]), int(ports["METRICS_PORT"])
        # A cluster that the caller's environment describes is not this process's.
        inherited = {k: v for k, v in environ.items() if not k.startswith("BYTEWAX_")}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bytewax.run", "dataflow.flow"],
                cwd=Path(dataflow.__file__).parents[1],
                env=inherited
                | ports
                | {
                    "BYTEWAX_RECOVERY_DIRECTORY": str(self._directory / "recovery"),
                    "BYTEWAX_SNAPSHOT_INTERVAL": "0",
                    "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
                    "TMPDIR": str(self._directory),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the whole group of a terminal's process: the flow is to be
                # stopped by us, once there is nothing left to do.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.exit_code is None:
            self._process.kill()
            self._process.wait()
        if isinstance(error, FlowDiedError):
            for path in set(self._directory.iterdir()) - {self.log_path}:
                shutil.rmtree(path, ignore_errors=True)
        else:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal has ended it."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def health(self) -> dict[str, Any]:
        """Return the answer of `/health`; empty as long as there is none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/health")
            return dict(json.loads(connection.getresponse().read()))
        except (OSError, HTTPException, ValueError, TypeError):
            return {}
        finally:
            connection.close()

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        with self.log_path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_LINES * _LINE_MAX * 4))
            lines = log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(line[:_LINE_MAX] for line in lines)


def _port(usual: int) -> int:
    """Return the usual port if it is free, else any free one."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104  (as the flow will)
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return usual
