"""From the first signal to the last epoch: how a process is asked to stop, and how it ends.

A stop is only ever a flag. The sources see it, signal the other processes, and end; the engine then
closes the last epoch, which commits and stores it. A signal handler that raised would hang a
cluster of several processes.

Until the engine runs the flow there is no source to see it, and nothing to close: the process ends
at once. That must work while the main thread is inside the engine, where it waits for the other
processes and Python runs no signal handler; so signals are taken by a thread.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog

from dataflow.observability.status import Status

_log = structlog.get_logger()

_EXIT_BY_SIGNAL = 128


class Lifecycle:
    """The stop flag of one process; safe to use from any thread.

    Args:
        status: Of the process.
        end: Ends the process, with an exit code.
    """

    def __init__(self, status: Status, end: Callable[[int], Any] = os._exit) -> None:
        self._status = status
        self._end = end
        self._reason: str | None = None
        self._signalled = False
        self._begun = False
        self._announced = threading.Lock()
        self.restart_wanted = False
        """True if the process should start again once it has stopped."""

    @property
    def stopping(self) -> bool:
        """True if the sources are to end."""
        return self._reason is not None

    def request_stop(self, reason: str, *, restart: bool = False) -> None:
        """Let the sources end after the current epoch; from now on the process is not ready.

        A restart asked for later still counts, unless a signal has asked to stop for good.
        """
        self._status.start_draining()
        self.restart_wanted = not self._signalled and (restart or self.restart_wanted)
        self._reason = self._reason or reason

    def announce(self) -> None:
        """Log the stop, once."""
        if self._announced.acquire(blocking=False):
            _log.info("stopping", reason=self._reason, restart=self.restart_wanted)

    def begin(self) -> None:
        """Note that the engine runs the flow: from here on a stop is in order, by the sources."""
        self._begun = True
        self._status.flow_began()

    def end_if_signalled(self) -> None:
        """End at once if a signal has asked for it; only to be called before anything is decided.

        For a start that waits for something which may never come.
        """
        if self._signalled:
            self._end_at_once()

    def handle_signals(self) -> None:
        """Take SIGTERM and SIGINT as a request to stop; a second one stops at once.

        As PID 1 a process ignores every signal that it has no handler for.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # Written to by the interpreter's own handler, in C, whatever the main thread is doing.
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave_it_to_the_thread)
        threading.Thread(
            target=self._take_signals, args=[reader], name="signals", daemon=True
        ).start()

    def _take_signals(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 64):
                self.take(signal.Signals(number))

    def take(self, number: signal.Signals) -> None:
        """Act on a signal."""
        if self._signalled:
            # Uncommitted work is void, and done again at the next start: nothing to wait for.
            os.write(2, f"{number.name} while stopping: ending at once\n".encode())
            self._end(_EXIT_BY_SIGNAL + number)
        self._signalled = True
        self.request_stop(number.name)
        if not self._begun:
            self._end_at_once()

    def _end_at_once(self) -> None:
        self.announce()
        sys.stdout.flush()
        sys.stderr.flush()
        self._end(0)


def _leave_it_to_the_thread(*_: object) -> None:
    """Do nothing: a signal without any handler would end the process, or be ignored as PID 1."""
