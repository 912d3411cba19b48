"""The progress of reading the input, by our clock: it decides when an id may be forgotten.

An id is dated by our clock when its request is read, and is forgotten once the *watermark* is more
than the dedupe window beyond that date. The watermark of a partition is the latest instant of which
it is certain that every record that was in the partition by then has been read: where the partition
ended was looked up at that instant, and everything below that end is read since. The watermark of
all is the least of theirs, since a copy may come on any partition.

So a copy that reaches Kafka within the window after its first one was read is always recognised,
however far behind a partition is; and the records' own timestamps do not count: neither one that is
too new, nor a steady trickle of ancient ones, can make ids be forgotten early or be kept for ever.
A partition that cannot be read on (its end is inside a transaction that stays open) holds
the watermark of all, as copies may wait in it.

A clock that is ahead would make ids be forgotten early, all of them at once if it has jumped by
more than the window. So it is only followed as far as something else bears it out:

1. While a process runs, by the time that has passed since its start (`Clock`). What the wall clock
   has jumped ahead, or was suspended for, counts from the next start on.
2. From its start on, by Kafka, whose brokers refuse a record that is stamped too far ahead of their
   own clocks (`message.timestamp.after.max.ms`, an hour by default): no watermark is announced
   before every lane has committed a record that is stamped by our clock.
"""

from collections import deque
from collections.abc import Iterable

_STEPS = 64
"""The most times a watermark advances within a window: that is as fine as it need be."""
_MOST_ENDS = 2 * _STEPS
"""The most ends that are kept: more would only be of a partition that is far behind, or that
another process reads."""
_APART_MS = 60_000
_APART_SHARE = 16
"""The clocks of a cluster's machines may be a minute apart, or this share of a short window."""


class Clock:
    """The wall clock, unless it has jumped ahead.

    Args:
        wall_s: Its time, in seconds since 1970...
        monotonic_s: ... when the clock that cannot be set reads this.
    """

    def __init__(self, wall_s: float, monotonic_s: float) -> None:
        self._apart_s = wall_s - monotonic_s

    def now_s(self, wall_s: float, monotonic_s: float) -> float:
        """Return the time, in seconds since 1970: no later than what has passed since the start."""
        return min(wall_s, monotonic_s + self._apart_s)


class ReadUpTo:
    """The watermark of one input partition. One thread may look up ends, another one read."""

    def __init__(self, window_ms: int) -> None:
        self._step_ms = window_ms // _STEPS
        self._apart_ms = min(_APART_MS, window_ms // _APART_SHARE)
        self._ends: deque[tuple[int, int]] = deque()
        self._looked_ms = 0
        self.time_ms = 0
        """In milliseconds since 1970; 0 as long as it is not known."""

    def ends_at(self, end_offset: int, at_ms: int) -> None:
        """Note where the partition ends; `at_ms` is from before that was asked for."""
        is_due = at_ms - self._looked_ms >= self._step_ms or not self._looked_ms
        if is_due and len(self._ends) < _MOST_ENDS:
            self._looked_ms = at_ms
            self._ends.append((end_offset, at_ms))

    def is_waiting(self) -> bool:
        """Return whether reading on would advance it."""
        return bool(self._ends)

    def advance(self, position: int) -> bool:
        """Take in that all below `position` is read; return whether it has advanced."""
        before_ms = self.time_ms
        while self._ends and self._ends[0][0] <= position:
            _, at_ms = self._ends.popleft()
            self.time_ms = max(self.time_ms, at_ms - self._apart_ms)
        return self.time_ms > before_ms


class Watermarks:
    """The watermarks of all input partitions, as they were announced to a lane."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._times_ms = dict.fromkeys(partitions, 0)

    def announce(self, partition: int, time_ms: int) -> None:
        """Take in that a partition's watermark is at `time_ms`; it never goes back."""
        self._times_ms[partition] = max(time_ms, self._times_ms.get(partition, 0))

    def least_ms(self) -> int:
        """Return the watermark of all; 0 as long as one of them is not known."""
        return min(self._times_ms.values(), default=0)
