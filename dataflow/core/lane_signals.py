"""The signals of one input partition to the lanes, and the position that is safe to keep.

1. Lanes of this process that have something to do are woken, once in an epoch.
2. In a cluster, a hold of this process is announced to the others, and so is its end; and what was
   read longer ago than a lane waits is flushed, as the lanes of other processes are not seen.
3. In a stop the lanes get the time for their answers, as long as a lane waits.
"""

from collections.abc import Iterator

from dataflow.core.charging import SourceCharging
from dataflow.core.committable_position import CommittablePosition
from dataflow.core.items import Signal

_Lanes = tuple[int, ...] | None


class LaneSignals:
    """The signals of one partition; times are in seconds, of one monotonic clock.

    Args:
        charging: The gateway of this process.
        partition: The partition.
        start: Where reading begins.
        records_end: See `CommittablePosition`.

    Attributes:
        committable: The position that is safe to keep.
    """

    def __init__(
        self, charging: SourceCharging, partition: int, start: int, records_end: int
    ) -> None:
        self._charging = charging
        self._partition = partition
        self._stopping_since_s: float | None = None
        self.committable = CommittablePosition(start, records_end, sees_all=not charging.has_peers)
        charging.sources.add(partition)

    def due(self, epoch: int, now_s: float) -> Iterator[tuple[Signal, int | None, _Lanes]]:
        """Yield what is due: the signal, its position if it has one, and for which lanes it is."""
        if lanes := self._charging.to_wake(epoch):
            yield Signal.WAKE, None, lanes
        if not self._charging.has_peers:
            return
        if (holds := self._charging.hold_to_announce()) is not None:
            yield Signal.HOLD if holds else Signal.RESUME, None, None
        upto = self.committable.to_flush(now_s - self._charging.park_after_s())
        if upto is not None:
            self.committable.flushed(upto)
            yield Signal.FLUSH, upto, None

    def may_stop(self, now_s: float) -> bool:
        """Return whether all lanes have their answers, or had the time for them."""
        if self._stopping_since_s is None:
            self._stopping_since_s = now_s
        waited_s = now_s - self._stopping_since_s
        return self.committable.is_all or waited_s > self._charging.park_after_s()

    def epoch_closed(self, epoch: int, *, drained: bool) -> None:
        """Take in that the partition's epoch has closed, and whether it had the last signal."""
        if drained:
            self.committable.drain()
        self.committable.end_epoch(epoch, self._charging.lowest(self._partition))
