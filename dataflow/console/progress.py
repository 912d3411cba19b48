"""The progress of a tool: one line that is written over, on a terminal; nothing in a pipe."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_EVERY_S = 0.2


class Progress:
    """A writer of progress to a terminal.

    Args:
        stream: Where to; nothing is written when it is no terminal.
        clock: Seconds.
    """

    def __init__(
        self, stream: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._shown = stream.isatty()
        self._began_s = clock()
        self._next_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show what is being done, how much of it is done, and how much there is."""
        now_s = self._clock()
        if not self._shown or now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        seconds = now_s - self._began_s
        share = f"{100 * done / total:5.1f} %" if total else f"{done:,}"
        self._stream.write(f"\r\x1b[K{share}  {what}  {seconds:.0f} s")
        self._stream.flush()

    def end(self) -> None:
        """Remove the line."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
