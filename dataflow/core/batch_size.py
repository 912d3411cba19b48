"""The most records that a source may emit at once: as many as the rest of the flow decides in time.

With a fast gateway a batch carries a whole epoch's worth of records, without which input partitions
drift out of phase and wait for each other. With a slow one it stays small enough that an epoch, and
with it the transactions, are done long before Kafka's transaction timeout.
"""

FIRST = 500
"""Records of the first batch, before anything is known."""
LEAST = 100
MOST = 20_000
"""Larger batches fall out of the processor's caches, and only take more memory."""
EPOCH_MOST = 400_000
"""Records of one partition in one epoch: bounds memory and the size of a transaction."""
_BUDGET_S = 2.0
"""Seconds until all partitions of a worker had their turn."""
_GROWTH = 4.0


class BatchSizer:
    """The batch limit of one source partition."""

    def __init__(self) -> None:
        self.limit = FIRST

    def measured(self, records: int, seconds: float) -> None:
        """Note that between two batches passed `seconds`; the first of them had `records`."""
        if seconds > _BUDGET_S:
            self.limit = max(LEAST, int(min(self.limit, records) * _BUDGET_S / seconds))
        elif records >= self.limit // 2:
            fitting = records * _BUDGET_S / max(seconds, 1e-9)
            self.limit = max(LEAST, int(min(MOST, self.limit * _GROWTH, fitting)))
