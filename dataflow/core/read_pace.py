"""The pace of one partition's reading: how much of it at once, how much in an epoch, and when.

1. A batch has as many records as the rest of the flow decides in time (`batch_size`).
2. An epoch that is full gets no more: that bounds memory and the size of a transaction. It counts
   as full, too, when one batch took a good part of the time for which a transaction may be open.
3. While there is more to read, or a phase has just begun, the next batch is due at once; else it
   waits for its instant (`epochs`).
4. Where a provider is asked for one payment after the other, the next call is due at once after
   records, too, for signals alone: that closes the epoch with their claims, so the charges begin.
   It reads nothing, and the next batch waits for its instant: there are two epochs in an interval
   at most, and one without records.
"""

from dataflow.core.batch_size import EPOCH_MOST, BatchSizer

_OPEN_SHARE = 1 / 4
"""Of the transaction timeout: one batch is not to take more."""
_IDLE_AFTER_S = 1.0
"""A partition without records for so long polls less often: to wait must cost next to nothing."""


class ReadPace:
    """The pace of one partition; times are in seconds, of one monotonic clock.

    Attributes:
        epoch_records: Records of the open epoch; at least those that were read.
        is_hurried: True if the next batch is due at once.
        is_early: True if the next call is due at once, for signals alone.
    """

    def __init__(
        self, transaction_timeout_s: float, now_s: float, *, closes_early: bool = False
    ) -> None:
        self._batch_most_s = transaction_timeout_s * _OPEN_SHARE
        self._closes_early = closes_early
        self.is_early = False
        self._sizer = BatchSizer()
        self._batch = (0, now_s)  # size and time of the last one
        self.epoch_records = 0
        self.is_hurried = True  # the first batch belongs to the epoch that the run resumes in

    @property
    def limit(self) -> int:
        """The most records of the next batch."""
        return self._sizer.limit

    def asked(self, now_s: float) -> bool:
        """Note that a batch is asked for; return whether the epoch has room for one."""
        records, at_s = self._batch
        if records:
            took_s = now_s - at_s
            self._sizer.measured(records, took_s)
            self._batch = (0, at_s)
            if took_s > self._batch_most_s:
                self.epoch_records = EPOCH_MOST
        return self.epoch_records < EPOCH_MOST

    def read(self, records: int, now_s: float) -> None:
        """Note that so many records were read, of at most `limit`."""
        if records:
            self._batch = (records, now_s)
            self.epoch_records += records
        self.is_hurried = records > self.limit // 2
        self.is_early = self._closes_early and records > 0 and not self.is_hurried

    def rest(self) -> None:
        """Note that nothing is to be emitted before the next instant."""
        self.is_hurried = self.is_early = False

    def phase_began(self) -> None:
        """Note that a phase began, which has something to emit at once."""
        self.is_hurried = True

    def epoch_closed(self) -> None:
        """Note that the epoch has closed."""
        self.epoch_records = 0

    def is_idle(self, now_s: float) -> bool:
        """Return whether there was no record for a while."""
        return now_s - self._batch[1] > _IDLE_AFTER_S
