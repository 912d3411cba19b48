"""The rhythm of the sources: each batch is an epoch, and `COMMIT_INTERVAL` paces the batches.

1. What is in an epoch becomes visible when it ends, in a transaction for each lane that has some of
   it. A transaction costs the same with one record or a thousand, so records that arrive one by one
   share it: a source that has caught up asks for more once in an interval.
2. All partitions, also those of other processes, ask at the same instants, and so share an epoch.
3. A partition without records for a while may ask less often, but only at instants of the others.

A source with a backlog does not wait for an instant at all.
"""

import math
from typing import NamedTuple

_IDLE_S = 0.06
"""To wait for records must cost next to nothing, whatever the interval."""
NEAR = 1e-4
"""Part of an interval. An instant that is so near is now, whatever is lost in rounding."""


class Epochs(NamedTuple):
    """The epochs of a run.

    Attributes:
        interval_s: Seconds between two instants at which sources ask for more.
        shared: Whether other workers have to close them, too.
    """

    interval_s: float
    shared: bool = False

    def next_s(self, now_s: float, *, idle: bool) -> float:
        """Return when a source that has nothing more now asks again, in seconds since 1970."""
        every_s = self.interval_s
        if idle:
            every_s *= math.ceil(_IDLE_S / self.interval_s)
        return (math.floor(now_s / every_s + NEAR) + 1) * every_s
