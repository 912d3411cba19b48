"""Which segments remember an input partition's ids: when one is full, and when one is forgotten.

The ledger belongs to the source of the partition and is part of its snapshot, so it is exactly as
old as the offset it resumes from.

An id is remembered for the dedupe window, counted in the time of the records:

- A segment is dated by its newest record, whose time is never taken to be ahead of the clock.
- A partition's *stream time* is how far all of its records have come: the oldest of each batch, so
  that one record stamped too new, in the midst of a backlog, does not make the past be forgotten.
- A segment is forgotten once the stream time of *every* partition is a window beyond its date. The
  partitions share their ids, so the one that is furthest behind decides.
"""

from collections import deque

from msgspec import structs

from dataflow.core.segments import segment_name
from schemas.state import LedgerState, SegmentRange

MIN_RECORDS = 1024
"""A segment takes at least so many records before the next one is begun."""
MAX_RECORDS = 65536
"""... and at most so many, and the rest of the batch that filled it."""
_FRACTION = 256
"""In between it takes this fraction of all records remembered: recovery rewrites the newest segment
each epoch (so it must be small), and keeps every living one as a key (so they must be few)."""
_SPANS = 16
"""A segment spans at most this fraction of the window, so that forgetting is timely."""


class Ledger:
    """The living segments of one input partition, oldest first; the last one is being written."""

    def __init__(self, partition: int, window_ms: int, state: LedgerState | None = None) -> None:
        state = state or LedgerState()
        self._partition = partition
        self._window_ms = window_ms
        self._segments = deque(state.segments)
        self._records = sum(segment.records for segment in self._segments)
        self._next_number = state.next_number
        self.stream_time_ms = state.stream_time_ms

    @property
    def segments(self) -> tuple[SegmentRange, ...]:
        """The living segments, oldest first."""
        return tuple(self._segments)

    def state(self) -> LedgerState:
        """A copy for the snapshot."""
        return LedgerState(
            next_number=self._next_number,
            stream_time_ms=self.stream_time_ms,
            segments=self.segments,
        )

    def name(self, segment: SegmentRange) -> str:
        """The state key of a segment."""
        return segment_name(self._partition, segment.number)

    def advance(self, time_ms: int, now_ms: int) -> None:
        """Let stream time reach `time_ms`, but not go back, nor beyond the clock."""
        self.stream_time_ms = max(self.stream_time_ms, min(time_ms, now_ms))

    def add(self, first_offset: int, end_offset: int, records: int, newest_ms: int) -> SegmentRange:
        """The segment that remembers the next batch.

        Args:
            first_offset: Offset of the batch's first record.
            end_offset: The offset after its last one.
            records: How many records it has.
            newest_ms: The time of its newest record, not ahead of the clock.
        """
        newest_ms = max(newest_ms, self.stream_time_ms)
        if not self._segments or self._is_full(self._segments[-1], newest_ms):
            self._segments.append(
                SegmentRange(
                    number=self._next_number,
                    first_offset=first_offset,
                    end_offset=first_offset,
                    records=0,
                    opened_ms=newest_ms,
                    newest_ms=newest_ms,
                )
            )
            # Numbers are never used twice: a forgotten segment's rows may still be in the store.
            self._next_number += 1
        last = self._segments.pop()
        last = structs.replace(
            last,
            end_offset=end_offset,
            records=last.records + records,
            newest_ms=max(last.newest_ms, newest_ms),
        )
        self._segments.append(last)
        self._records += records
        return last

    def expire(self, time_ms: int) -> list[str]:
        """Strike the segments that have left the window, and name them.

        Args:
            time_ms: The stream time of the partition that is furthest behind.
        """
        expired = []
        while self._segments and self._segments[0].newest_ms + self._window_ms < time_ms:
            segment = self._segments.popleft()
            self._records -= segment.records
            expired.append(self.name(segment))
        return expired

    def _is_full(self, segment: SegmentRange, newest_ms: int) -> bool:
        limit = min(MAX_RECORDS, max(MIN_RECORDS, self._records // _FRACTION))
        too_long = newest_ms - segment.opened_ms > self._window_ms // _SPANS
        return segment.records >= limit or too_long
