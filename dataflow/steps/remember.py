"""remember: keeps the ids of each segment for recovery, and hands them out after a restart.

One state key for each segment. It validates itself: see `dataflow.core.segments`.
"""

from collections.abc import Callable

from bytewax.operators import StatefulBatchLogic

from dataflow.batches import Forget, Identities, Restore
from dataflow.core.memory import Memory
from dataflow.core.segments import Segment
from dataflow.errors import StartRefusedError
from dataflow.faults import reported
from dataflow.steps.decode import MemoryItem
from schemas.state import SegmentState, pack, unpack

Remembered = tuple[int, Memory | Forget]
"""For which lane, and what it gets."""


class Remember(StatefulBatchLogic[MemoryItem, Remembered, bytes]):
    """The memory of one segment."""

    def __init__(self, lanes: int, resumed: bytes | None) -> None:
        self._lanes = lanes
        self._known = resumed is not None
        self._segment = Segment(unpack(resumed, SegmentState) if resumed is not None else None)

    @classmethod
    def builder(cls, lanes: int) -> Callable[[bytes | None], "Remember"]:
        """What the engine calls for each key, with its snapshot if there is one."""
        return lambda resumed: cls(lanes, resumed)

    @reported
    def on_batch(self, values: list[MemoryItem]) -> tuple[list[Remembered], bool]:
        """Take what one epoch has for this segment, in order."""
        out: list[Remembered] = []
        for item in values:
            if isinstance(item, Identities):
                self._segment.append(
                    item.first_offset, item.offsets, item.identities, item.arrived_ms
                )
            elif isinstance(item, Restore):
                out += self._restore(item)
            else:
                return out + [(lane, item) for lane in range(self._lanes)], self.DISCARD
        return out, self.RETAIN

    def _restore(self, item: Restore) -> list[Remembered]:
        if item.records and not self._known:
            raise StartRefusedError(
                f"The recovery store does not have segment {item.segment}, which remembers"
                f" {item.records} records: it is incomplete, or was put together from two backups."
                " Restore all of its files from one backup; or start with an empty recovery"
                " directory, which forgets the paymentIds seen so far."
            )
        self._segment.truncate(item.end_offset)
        memories = self._segment.memories(item.segment, item.dated_ms, item.partition, self._lanes)
        return [(lane, memory) for lane, memory in enumerate(memories) if len(memory.prints)]

    @reported
    def snapshot(self) -> bytes:
        """A copy: the engine pickles it later."""
        return pack(self._segment.state())
