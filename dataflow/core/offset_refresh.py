"""The refresh of the lanes' offsets: when a partition has every lane commit where it stands.

A lane that gets no record of a partition commits no offset of it. So now and then the partition
emits a signal with its position, which every lane commits, with a record that is stamped by our
clock.

1. The first epochs have one. After the first of them, every lane has an offset of the partition;
   after the second one, that is committed beside the offsets (`Metadata.partitions`).
2. Then one is due often enough that Kafka, which forgets the offsets of a quiet group, keeps them.
3. None is due while records are read again: some lanes have committed more than the position then.
4. Once an epoch with one has closed, Kafka has taken a record of each lane with the time of our
   clock: it is right, as far as Kafka can judge, and watermarks may follow it.
"""

_FIRST = 2
_EVERY_S = 3600.0
"""Kafka forgets the offsets of a quiet group after days (offsets.retention.minutes)."""


class OffsetRefresh:
    """The refreshes of one partition; times are in seconds, of one monotonic clock.

    Attributes:
        is_clock_confirmed: True once Kafka has taken records with the time of our clock.
    """

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._first = _FIRST  # as many are left
        self._is_in_epoch = False
        self.is_clock_confirmed = False

    def is_due(self, now_s: float) -> bool:
        """Return whether one is due, unless records are being read again."""
        if self._is_in_epoch:
            return False
        return self._first > 0 or now_s - self._at_s > _EVERY_S

    def emitted(self, now_s: float) -> None:
        """Note that it is emitted in this epoch."""
        self._at_s = now_s
        self._first -= self._first > 0
        self._is_in_epoch = True

    def epoch_closed(self) -> None:
        """Note that the partition's epoch has closed."""
        self.is_clock_confirmed |= self._is_in_epoch
        self._is_in_epoch = False
