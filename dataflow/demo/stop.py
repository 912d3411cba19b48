"""The request to stop a demo."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """The times we were asked to stop: once means after the work is done, twice means now."""

    def __init__(self) -> None:
        self.times = 0

    @property
    def asked(self) -> bool:
        """True if it is time to stop."""
        return self.times > 0

    @property
    def at_once(self) -> bool:
        """True if even that takes too long."""
        return self.times > 1

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Let the signals that end a program ask to stop, within the block."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [(number, signal.signal(number, self._on_signal)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1
