"""How remembered ids are packed for recovery: in segments that are only ever appended to.

Recovery rewrites a state key whole, each epoch it was touched. So each input partition's memory is
cut into segments, of which only the newest one is touched. The source of the partition names them,
rolls to the next one, and forgets the oldest; a segment itself only knows what it was given.

A segment validates itself: before it takes or gives anything, it drops every entry at or above the
offset it is told. Entries of an epoch that was never committed, which recovery can bring back at
any later restart, are at or above that offset by definition.
"""

import numpy as np
from numpy.typing import NDArray

from dataflow.core.memory import Memory
from schemas.requests import IDENTITY_BYTES
from schemas.state import SegmentState

_OFFSET = np.dtype("<u4")
_PARTITION_SHIFT = 48
_OFFSET_MASK = (1 << _PARTITION_SHIFT) - 1


def segment_name(partition: int, number: int) -> str:
    """The state key of a segment: `<partition>/<number>`, sorted by partition and number."""
    return f"{partition:05d}/{number:09d}"


def origin(partition: int, offset: int) -> int:
    """Where a record stands in the input, as one number: 16 bits partition, 48 bits offset."""
    return partition << _PARTITION_SHIFT | offset


def place(origin: int) -> tuple[int, int]:
    """Partition and offset of an `origin`."""
    return origin >> _PARTITION_SHIFT, origin & _OFFSET_MASK


class Segment:
    """The ids remembered under one segment name."""

    def __init__(self, state: SegmentState | None = None) -> None:
        self._base = state.base_offset if state else 0
        self._identities = bytearray(state.identities if state else b"")
        self._offsets = bytearray(state.offsets if state else b"")
        self._runs = list(state.runs) if state else []

    def __len__(self) -> int:
        """How many ids it remembers."""
        return len(self._offsets) // _OFFSET.itemsize

    def append(
        self, first_offset: int, offsets: NDArray[np.int64], identities: bytes, arrived_ms: int
    ) -> None:
        """Remember a batch.

        Args:
            first_offset: Offset of the batch's first record, valid or not: what is at or above
                it in this segment was never committed, and is dropped.
            offsets: Offsets of the valid records, ascending.
            identities: Their identities, joined.
            arrived_ms: When the batch was read, in milliseconds since 1970.
        """
        self.truncate(first_offset)
        if not len(offsets):
            return
        if not self._runs:
            self._base = first_offset
        self._offsets += (offsets - self._base).astype(_OFFSET).tobytes()
        self._identities += identities
        self._runs.append((len(offsets), arrived_ms))

    def truncate(self, at_offset: int) -> None:
        """Drop every entry at or above `at_offset`."""
        offsets = np.frombuffer(bytes(self._offsets[-_OFFSET.itemsize :]), _OFFSET)
        if not len(offsets) or self._base + int(offsets[-1]) < at_offset:
            return
        offsets = np.frombuffer(bytes(self._offsets), _OFFSET)
        kept = int(np.searchsorted(offsets, max(0, at_offset - self._base)))
        del self._offsets[kept * _OFFSET.itemsize :]
        del self._identities[kept * IDENTITY_BYTES :]
        surplus = len(offsets) - kept
        while surplus:
            count, arrived_ms = self._runs.pop()
            if count > surplus:
                self._runs.append((count - surplus, arrived_ms))
            surplus -= min(count, surplus)

    def memories(self, name: str, dated_ms: int, partition: int, lanes: int) -> list[Memory]:
        """What it remembers, for each lane in order."""
        keys, prints = split_identities(bytes(self._identities))
        offsets = np.frombuffer(bytes(self._offsets), _OFFSET).astype(np.uint64)
        origins = offsets + np.uint64(origin(partition, self._base))
        counts = [count for count, _ in self._runs]
        arrived = np.repeat(np.array([at for _, at in self._runs], np.int64), counts)
        lane_of = lanes_of(keys, lanes)
        return [
            Memory(name, dated_ms, keys[mine], prints[mine], origins[mine], arrived[mine])
            for mine in (np.flatnonzero(lane_of == lane) for lane in range(lanes))
        ]

    def state(self) -> SegmentState:
        """A copy of it for recovery, which pickles it later."""
        return SegmentState(
            identities=bytes(self._identities),
            base_offset=self._base,
            offsets=bytes(self._offsets),
            runs=tuple(self._runs),
        )


def split_identities(identities: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys, shape (n, 2), and fingerprints, shape (n,), of joined identities."""
    words = np.frombuffer(identities, "<u8").reshape(-1, IDENTITY_BYTES // 8)
    # 0 stands for a fingerprint that is not known: `dataflow.core.index.UNCLEAR`.
    prints = np.maximum(words[:, 2], np.uint64(1))
    return np.ascontiguousarray(words[:, :2]), prints


def lanes_of(keys: NDArray[np.uint64], lanes: int) -> NDArray[np.int64]:
    """The lane of each key: all that concerns one paymentId commits in one transaction."""
    return (keys[:, 0] % np.uint64(lanes)).astype(np.int64)


def lane_of_key(key: bytes, lanes: int) -> int:
    """The lane of one key; the same as `lanes_of` gives it."""
    return int.from_bytes(key[:8], "little") % lanes
