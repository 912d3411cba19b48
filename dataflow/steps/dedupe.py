"""dedupe: what the lane's index knows of each paymentId, and what need not be published again.

One state key for each lane. Its snapshot is empty: the index is built anew when a run begins, from
what `remember` hands out, from what was published after the snapshots, and, where these do not tell
which of several copies came first, from the audit trail.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
from bytewax.operators import StatefulBatchLogic

from dataflow.batches import Forget, Judged, LaneBatch, Signal, Told
from dataflow.core.index import Index
from dataflow.core.memory import (
    RECALLED_MS,
    Claims,
    Contested,
    Keys,
    Memory,
    Trail,
    Words,
    no_trail,
)
from dataflow.core.segments import origin, split_identities
from dataflow.faults import reported
from dataflow.restores import Restores, Restoring

LaneItem = LaneBatch | Memory | Forget | Told
Reported = Callable[[int, int | None], None]
"""Told the number of a lane's index in this process, and how many ids it remembers; None as long
as the index is not built."""
Begin = Callable[[], Restoring]
"""Called when there is something to restore."""


class Dedupe(StatefulBatchLogic[LaneItem, Judged | Told, None]):
    """The index of one lane."""

    def __init__(
        self, number: int, remembered: Reported, trail: Trail, epoch_ms: int, begin: Begin
    ) -> None:
        self._number = number
        self._begin = begin
        self._restoring: Restoring | None = None
        self._remembered = remembered
        self._trail = trail
        self._epoch_ms = epoch_ms
        self._index = Index()
        self._memories: list[Memory] = []
        self._oldest_ms = 0  # of the recalled records
        self._built = False

    @classmethod
    def builder(
        cls,
        remembered: Reported,
        trail: Trail = no_trail,
        epoch_ms: int = 60_000,
        begin: Begin = lambda: Restores().begin(0),
    ) -> Callable[[None], "Dedupe"]:
        """What the engine calls for each lane.

        Args:
            remembered: Called once for each batch.
            trail: Asked once, when the index is built, and only about contested ids.
            epoch_ms: See `Index.restore`.
            begin: Begins to show how far the restore is.
        """
        numbers = count()
        return lambda _resumed: cls(next(numbers), remembered, trail, epoch_ms, begin)

    @reported
    def on_batch(self, values: list[LaneItem]) -> tuple[list[Judged | Told], bool]:
        """Take what one epoch has for this lane, in order."""
        out: list[Judged | Told] = []
        for item in values:
            if isinstance(item, Memory):
                self._remember(item)
            elif isinstance(item, LaneBatch) and item.recall:
                self._recall(item)
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
        # A lane there was under another LANES is built by the engine too, but never called.
        self._remembered(self._number, len(self._index) if self._built else None)
        return out, self.RETAIN

    def _remember(self, memory: Memory) -> None:
        if self._built:
            # To decide without it may have charged twice: better no decision.
            raise RuntimeError(f"segment {memory.segment} came after the index was built")
        self._restoring = self._restoring or self._begin()
        self._restoring.expect(len(memory.prints))
        self._memories.append(memory)

    def _restore(self) -> None:
        """Build the index of all memories at once: which copy came first is in their times."""
        if not self._built:
            memories, self._memories, self._built = self._memories, [], True
            self._index.restore(memories, self._published, self._epoch_ms)
            if self._restoring:
                self._restoring.advance(sum(len(memory.prints) for memory in memories))
                self._restoring.end()

    def _recall(self, batch: LaneBatch) -> None:
        """Take what was published after the snapshots, as if a segment had remembered it."""
        arrived = np.full(len(batch.valid), RECALLED_MS, np.int64)
        oldest_ms = int(batch.times_ms.min())
        self._oldest_ms = min(self._oldest_ms or oldest_ms, oldest_ms)
        self._remember(Memory(batch.segment, batch.dated_ms, *_identities(batch), arrived))

    def _published(self, contested: Contested) -> Claims:
        """Ask the trail; nothing was published before it was requested."""
        since_ms = np.where(contested.since_ms == 0, self._oldest_ms, contested.since_ms)
        return self._trail(contested._replace(since_ms=since_ms))

    def _judge(self, batch: LaneBatch) -> Judged | None:
        seen = self._index.observe(batch.segment, batch.dated_ms, *_identities(batch))
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
            offsets=batch.offsets[start:].tolist(),
            times_ms=batch.times_ms[start:],
            parsed=batch.requests()[start:],
            verdicts=verdicts[start:].tolist(),
            first_origins=firsts[start:].tolist(),
        )

    def snapshot(self) -> None:
        """Nothing: see above."""


def _identities(batch: LaneBatch) -> tuple[Keys, Words, Words]:
    """Keys, fingerprints and origins of the valid requests."""
    offsets = batch.offsets[batch.valid].astype(np.uint64)
    return *split_identities(batch.identities), offsets + np.uint64(origin(batch.partition, 0))
