"""remember: keeps the ids of each segment for recovery, and hands them out after a restart.

One state key for each segment. It validates itself: see `dataflow.core.segments`. A segment that is
full is not kept in memory: the engine only asks for it again at the end of a run, when it takes a
snapshot of every key.
"""

from collections.abc import Callable

from bytewax.operators import StatefulBatchLogic

from dataflow.batches import Forget, Identities, Restore, Seal
from dataflow.core.memory import Memory
from dataflow.core.segments import Segment
from dataflow.errors import StartRefusedError
from dataflow.faults import reported
from dataflow.spool import Spool, Spooled
from dataflow.steps.decode import MemoryItem
from schemas.state import SegmentState, pack, unpack

Remembered = tuple[int, Memory | Forget]
"""For which lane, and what it gets."""


class Remember(StatefulBatchLogic[MemoryItem, Remembered, bytes]):
    """The memory of one segment."""

    def __init__(self, lanes: int, spool: Spool | None, resumed: bytes | None) -> None:
        self._lanes = lanes
        self._spool = spool
        self._known = resumed is not None
        self._segment: Segment | None = Segment(
            unpack(resumed, SegmentState) if resumed is not None else None
        )
        self._sealed: str | None = None  # its name, once nothing is added any more
        self._spooled: Spooled | None = None  # its last snapshot, instead of the segment

    @classmethod
    def builder(
        cls, lanes: int, spool: Spool | None = None
    ) -> Callable[[bytes | None], "Remember"]:
        """What the engine calls for each key, with its snapshot if there is one.

        Args:
            lanes: How many there are.
            spool: Where full segments wait; without it they stay in memory.
        """
        return lambda resumed: cls(lanes, spool, resumed)

    @reported
    def on_batch(self, values: list[MemoryItem]) -> tuple[list[Remembered], bool]:
        """Take what one epoch has for this segment, in order."""
        out: list[Remembered] = []
        for item in values:
            if isinstance(item, Identities):
                self._at_hand().append(
                    item.first_offset, item.offsets, item.identities, item.arrived_ms
                )
            elif isinstance(item, Restore):
                out += self._restore(item)
                self._sealed = item.segment if item.sealed else None
            elif isinstance(item, Seal):
                self._sealed = item.segment
            else:
                if self._spooled is not None:
                    self._spooled.drop()
                return out + [(lane, item) for lane in range(self._lanes)], self.DISCARD
        return out, self.RETAIN

    def _at_hand(self) -> Segment:
        if self._segment is None:
            # A snapshot without these ids would let their payments be charged twice.
            raise RuntimeError(f"segment {self._sealed} was sealed, and there is more for it")
        return self._segment

    def _restore(self, item: Restore) -> list[Remembered]:
        if item.records and not self._known:
            raise StartRefusedError(
                f"The recovery store does not have segment {item.segment}, which remembers"
                f" {item.records} records: it is incomplete, or was put together from two backups."
                " Restore all of its files from one backup; or start with an empty recovery"
                " directory, which forgets the paymentIds seen so far."
            )
        segment = self._at_hand()
        segment.truncate(item.end_offset)
        memories = segment.memories(item.segment, item.dated_ms, item.partition, self._lanes)
        return [(lane, memory) for lane, memory in enumerate(memories) if len(memory.prints)]

    @reported
    def snapshot(self) -> bytes:
        """A copy: the engine pickles it later."""
        if self._spooled is not None:
            return self._spooled.read()
        packed = pack(self._at_hand().state())
        if self._sealed is not None and self._spool is not None:
            self._spooled, self._segment = self._spool.put(self._sealed, packed), None
        return packed
