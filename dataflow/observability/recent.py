"""The commits of the last minutes, second by second: for readers without a Prometheus."""

import threading
import time
from collections import deque
from collections.abc import Callable

from dataflow.core.commit_counts import CommitCounts

SECONDS = 300
"""The length of the past it covers."""


class Recent:
    """The tallies of the last `SECONDS`, safe to use from any thread.

    Written once for each transaction; it holds one count for each second at most.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = int(clock())
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, CommitCounts]] = deque(maxlen=SECONDS + 1)

    def add(self, counts: CommitCounts) -> None:
        """Add a transaction that was committed now."""
        second = int(self._clock())
        with self._lock:
            if not self._seconds or self._seconds[-1][0] < second:
                self._seconds.append((second, CommitCounts()))
            self._seconds[-1][1].add(counts)

    def total(self, seconds: int) -> CommitCounts:
        """Return the sum over the last `seconds` whole seconds: the current one is left out."""
        total = CommitCounts()
        for _, counts in self._since(seconds):
            total.add(counts)
        return total

    def covered(self, seconds: int) -> int:
        """Return how many of the last `seconds` there were: fewer after the start, at least 1."""
        return max(1, min(seconds, int(self._clock()) - self._started_at))

    def each(self, seconds: int) -> list[CommitCounts]:
        """Return one count for each of the last `seconds` whole seconds, oldest first."""
        now = int(self._clock())
        counted = [CommitCounts() for _ in range(seconds)]
        for second, counts in self._since(seconds):
            counted[second - now].add(counts)
        return counted

    def _since(self, seconds: int) -> list[tuple[int, CommitCounts]]:
        now = int(self._clock())
        with self._lock:
            # The past does not change any more: only the current second does.
            return [entry for entry in self._seconds if now - seconds <= entry[0] < now]
