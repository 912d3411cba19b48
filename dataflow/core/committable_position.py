"""The position of an input partition that may be committed: all below it has left its lanes.

Records wait in their lanes until the gateway has answered, across epochs. So what is read is not
yet decided, and the position that a source keeps lags behind the one that it reads at.

1. A record of this epoch may not be with its lane yet; one of an earlier epoch is.
2. Of those, nothing is committable from the lowest one on that is still queued in this process.
3. What is queued in other processes is not seen. There only that counts which was flushed: see
   `Signal.FLUSH`.
4. The position is always the end of a batch of records that was read at once, or of markers of
   transactions behind it. It never goes back.
"""

from collections import deque
from typing import NamedTuple


class _Read(NamedTuple):
    end_offset: int
    epoch: int
    at_s: float


class CommittablePosition:
    """The position of one partition.

    Args:
        start: Where reading begins.
        records_end: After the last record below that: what follows are markers of transactions.
        sees_all: Whether all lanes are in this process.
    """

    def __init__(self, start: int, records_end: int, *, sees_all: bool) -> None:
        self.offset = start
        """All below it has left its lanes, once the epoch in which this was found is closed."""
        self.records_end = records_end
        """After the last record below it: some lane has committed that position."""
        self._flushed = start
        self._sees_all = sees_all
        self._read: deque[_Read] = deque()

    @property
    def is_all(self) -> bool:
        """True if everything that was read is committable."""
        return not self._read

    def read(self, end_offset: int, epoch: int, at_s: float) -> None:
        """Note that a batch up to `end_offset` was read in an epoch."""
        self._read.append(_Read(end_offset, epoch, at_s))

    def to_flush(self, before_s: float) -> int | None:
        """Return up to where records were read before a time, if that is to be flushed now."""
        if self._sees_all:
            return None
        upto = max((each.end_offset for each in self._read if each.at_s <= before_s), default=0)
        return upto if upto > self._flushed else None

    def flushed(self, upto: int) -> None:
        """Note that all lanes are made to emit or park what is below an offset, in this epoch."""
        self._flushed = max(upto, self._flushed)

    def end_epoch(self, epoch: int, lowest: int | None) -> int:
        """Return the position at the end of an epoch.

        Args:
            epoch: The epoch that ends.
            lowest: The lowest offset that is queued in this process; None if none is.
        """
        while self._read:
            end_offset, read_in, _ = self._read[0]
            is_flushed = end_offset <= self._flushed
            is_with_its_lane = read_in < epoch and (lowest is None or end_offset <= lowest)
            if not (is_with_its_lane and (self._sees_all or is_flushed)):
                break
            self.offset = self.records_end = end_offset
            self._read.popleft()
        return self.offset

    def pass_markers(self, position: int) -> None:
        """Note that there are only markers below a position, from the last committable record on.

        It stays passed when records follow: the log may begin there by then.
        """
        self.offset = max(position, self.offset)

    def drain(self) -> None:
        """Note that all lanes are made to emit or park everything, in this epoch."""
        if self._read:
            self.offset = self.records_end = self._read[-1].end_offset
            self._read.clear()
