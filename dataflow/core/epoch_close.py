"""The time an epoch takes to close, so that a source can sleep meanwhile.

A source partition emits nothing until every worker has committed the epoch before. If its time has
come and that epoch is still open, the engine asks again and again, and burns a core which the
others need. With a backlog that is most of the time, so with several workers the next batch is put
off by a little less than the last epochs took to close.
"""

from collections import deque

_LAST = 2
"""The shortest of so many counts: one slow epoch must not make sources sleep."""
_SHARE = 0.9
"""Less than all of it: what was slept for nothing is less each time."""
_MOST_S = 0.5


class EpochCloseEstimator:
    """The epochs of one source partition; times are in seconds, of one monotonic clock."""

    def __init__(self) -> None:
        self._ended_at: float | None = None
        self._took: deque[float] = deque(maxlen=_LAST)

    def asked(self, at_s: float) -> None:
        """Note that the partition was asked for a batch: the epoch before is closed."""
        if self._ended_at is not None:
            self._took.append(at_s - self._ended_at)
            self._ended_at = None

    def ended(self, at_s: float) -> None:
        """Note that the partition's epoch has ended."""
        self._ended_at = at_s

    @property
    def pause_s(self) -> float:
        """For how long there is nothing to do after this batch; 0 while that is not known."""
        if len(self._took) < _LAST:
            return 0.0
        return min(_MOST_S, _SHARE * min(self._took))
