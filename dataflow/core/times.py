"""How far the input partitions have come, in the time of their records: who is furthest behind.

Every process hears of every partition, through the signals that all lanes get. What it has heard
may be a little old, and then ids are forgotten a little later, never earlier.
"""

from collections.abc import Iterable


class StreamTimes:
    """The stream times of all partitions, as one process knows them; safe to share by threads."""

    def __init__(self) -> None:
        self._times_ms: dict[int, int] = {}

    def tell(self, partition: int, time_ms: int) -> None:
        """A partition has come to `time_ms`, in milliseconds since 1970."""
        self._times_ms[partition] = time_ms

    def furthest_behind(self, partitions: Iterable[int]) -> int:
        """The least of their stream times; 0 as long as one is not known."""
        return min((self._times_ms.get(partition, 0) for partition in partitions), default=0)
