"""Since when the next record of a partition has been waiting to be read.

Its own time is in the record, which is not read yet. But an end of the partition that was seen
beyond it shows that it was there: it has been waiting at least since then.
"""

from collections import deque

PRECISION = 120
"""An end is kept if it was seen later than the one before by so small a part of the time since the
first one: some hundreds of them for a day. A record may have been waiting for longer than it seems,
by that part."""


class Unread:
    """The ends of one partition that were seen beyond what is read."""

    def __init__(self) -> None:
        self._ends: deque[tuple[int, float]] = deque()

    def __len__(self) -> int:
        """Return how many ends are kept."""
        return len(self._ends)

    def ends_at(self, end: int, now_s: float) -> None:
        """Note that the partition ends before the offset `end`; it may have been created again."""
        ends = self._ends
        while ends and ends[-1][0] > end:
            ends.pop()
        if ends and ends[-1][0] == end:
            return
        if len(ends) > 1 and now_s - ends[-2][1] < (now_s - ends[0][1]) / PRECISION:
            ends.pop()  # what it covered is covered by the later one, from that one's time on
        ends.append((end, now_s))

    def read_up_to(self, position: int) -> None:
        """Note that everything below the offset `position` is read."""
        while self._ends and self._ends[0][0] <= position:
            self._ends.popleft()

    @property
    def since_s(self) -> float | None:
        """The time of `ends_at` at which the next record was there; None if there is none."""
        return self._ends[0][1] if self._ends else None
