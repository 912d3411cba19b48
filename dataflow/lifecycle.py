"""From the first signal to the last epoch: how a process is asked to stop, and how it ends.

A stop is only ever a flag. The sources see it, tell the other processes, and end; the engine then
closes the last epoch, which commits and stores it. A signal handler that raised would hang a
cluster of several processes.
"""

import os
import signal
import threading
from types import FrameType

import structlog

from dataflow.status import Status

_log = structlog.get_logger()

_EXIT_BY_SIGNAL = 128


class Lifecycle:
    """The stop flag of one process; safe to use from any thread."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._reason: str | None = None
        self._signalled = False
        self._announced = threading.Lock()
        self.restart_wanted = False
        """Whether the process should start again once it has stopped."""

    @property
    def stopping(self) -> bool:
        """Whether the sources are to end."""
        return self._reason is not None

    def request_stop(self, reason: str, *, restart: bool = False) -> None:
        """Let the sources end after the current epoch; from now on the process is not ready.

        A restart asked for later still counts, unless a signal has asked to stop for good.
        """
        self._status.start_draining()
        self.restart_wanted = not self._signalled and (restart or self.restart_wanted)
        self._reason = self._reason or reason

    def announce(self) -> None:
        """Tell the log, once. Not for signal handlers: it takes locks."""
        if self._announced.acquire(blocking=False):
            _log.info("stopping", reason=self._reason, restart=self.restart_wanted)

    def handle_signals(self) -> None:
        """Take SIGTERM and SIGINT as a request to stop; a second one stops at once.

        As PID 1 a process ignores every signal that it has no handler for.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # It may interrupt anything, also a holder of any lock: only set the flag.
        name = signal.Signals(number).name
        if self._signalled:
            # Uncommitted work is void, and done again at the next start: nothing to wait for.
            os.write(2, f"{name} while stopping: ending at once\n".encode())
            os._exit(_EXIT_BY_SIGNAL + number)
        self._signalled = True
        self.request_stop(name)
