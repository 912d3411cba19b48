"""What was committed in the last minutes, second by second: for who looks without a Prometheus."""

import threading
import time
from collections import deque
from collections.abc import Callable

from dataflow.core.commit_counts import Tally

SECONDS = 300
"""How far back it goes."""


class Recent:
    """The tallies of the last `SECONDS`, safe to use from any thread.

    Written once for each transaction; it holds one tally for each second at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = int(clock())
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, Tally]] = deque(maxlen=SECONDS + 1)

    def add(self, tally: Tally) -> None:
        """A transaction was committed now."""
        second = int(self._clock())
        with self._lock:
            if not self._seconds or self._seconds[-1][0] < second:
                self._seconds.append((second, Tally()))
            self._seconds[-1][1].add(tally)

    def total(self, seconds: int) -> Tally:
        """All of the last `seconds` whole seconds: the current one, not over yet, is left out."""
        total = Tally()
        for _, tally in self._since(seconds):
            total.add(tally)
        return total

    def covered(self, seconds: int) -> int:
        """How many of the last `seconds` there were: fewer just after the start, at least 1."""
        return max(1, min(seconds, int(self._clock()) - self._started_at))

    def each(self, seconds: int) -> list[Tally]:
        """One tally for each of the last `seconds` whole seconds, oldest first."""
        now = int(self._clock())
        tallies = [Tally() for _ in range(seconds)]
        for second, tally in self._since(seconds):
            tallies[second - now].add(tally)
        return tallies

    def _since(self, seconds: int) -> list[tuple[int, Tally]]:
        now = int(self._clock())
        with self._lock:
            # The past does not change any more: only the current second does.
            return [entry for entry in self._seconds if now - seconds <= entry[0] < now]
