"""dedupe: what the lane's index knows of each paymentId, and what need not be published again.

One state key for each lane. Its snapshot is empty: the index is built anew, from what `remember`
hands out in the open epoch of a run.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
from bytewax.operators import StatefulBatchLogic

from dataflow.batches import Forget, Judged, LaneBatch, Signal, Told
from dataflow.core.index import Index, Memory
from dataflow.core.segments import origin, split_identities
from dataflow.faults import reported

LaneItem = LaneBatch | Memory | Forget | Told
Reported = Callable[[int, int], None]
"""Told the number of a lane's index in this process, and how many ids it remembers."""


class Dedupe(StatefulBatchLogic[LaneItem, Judged | Told, None]):
    """The index of one lane."""

    def __init__(self, number: int, remembered: Reported) -> None:
        self._number = number
        self._remembered = remembered
        self._index = Index()
        self._restored: list[Memory] = []

    @classmethod
    def builder(cls, remembered: Reported) -> Callable[[None], "Dedupe"]:
        """What the engine calls for each lane."""
        numbers = count()
        return lambda _resumed: cls(next(numbers), remembered)

    @reported
    def on_batch(self, values: list[LaneItem]) -> tuple[list[Judged | Told], bool]:
        """Take what one epoch has for this lane, in order."""
        out: list[Judged | Told] = []
        for item in values:
            if isinstance(item, Memory):
                self._restored.append(item)
            elif isinstance(item, LaneBatch):
                self._restore()
                if judged := self._judge(item):
                    out.append(judged)
            elif isinstance(item, Forget):
                self._restore()
                self._index.forget(item.segment)
            else:
                if item.signal is Signal.RESTORED:
                    self._restore()
                out.append(item)
        self._remembered(self._number, len(self._index))
        return out, self.RETAIN

    def _restore(self) -> None:
        """Build the index, all segments at once: which copy of an id came first is in the times."""
        restored, self._restored = self._restored, []
        self._index.restore(restored)

    def _judge(self, batch: LaneBatch) -> Judged | None:
        keys, prints = split_identities(batch.identities)
        offsets = batch.offsets[batch.valid].astype(np.uint64)
        origins = offsets + np.uint64(origin(batch.partition, 0))
        sighting = batch.segment, batch.dated_ms, keys, prints, origins
        if batch.recall:
            self._index.recall(*sighting)
            return None
        seen = self._index.observe(*sighting)
        verdicts = np.zeros(len(batch.values), np.int8)
        verdicts[batch.valid] = seen.verdicts
        firsts = np.zeros(len(batch.values), np.uint64)
        firsts[batch.valid] = seen.first_origins
        # What this lane has committed is remembered, but not published a second time.
        start = int(np.searchsorted(batch.offsets, batch.committed))
        if start == len(batch.values):
            return None
        return Judged(
            partition=batch.partition,
            next_offset=batch.next_offset,
            read_at=batch.read_at,
            max_bytes=batch.max_bytes,
            offsets=batch.offsets[start:].tolist(),
            times_ms=batch.times_ms[start:],
            values=batch.values[start:],
            parsed=batch.requests()[start:],
            verdicts=verdicts[start:].tolist(),
            first_origins=firsts[start:].tolist(),
        )

    def snapshot(self) -> None:
        """Nothing: see above."""
