"""What a run hands over to the next one about the ids it has seen, and which copy claimed each.

Inside an epoch the input partitions have no order. So of copies that came together on different
partitions, the memory cannot tell which one the previous run met first, and so decided. What was
published can: that is asked for, where it matters.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""128-bit hashes of paymentIds, shape (n, 2)."""
Words = NDArray[np.uint64]
"""Fingerprints or origins, shape (n,)."""

_PARTITION_SHIFT = np.uint64(48)  # see `dataflow.core.segments.origin`

RECALLED_MS = 1 << 62
"""When a recalled request arrived: after all that the snapshots know, nobody knows when."""


class Memory(NamedTuple):
    """What one segment remembers of a lane's ids."""

    segment: str
    dated_ms: int
    keys: Keys
    prints: Words
    origins: Words
    arrived: NDArray[np.int64]
    """When each was read from Kafka, in milliseconds since 1970: what came first claimed the id."""


class Contested(NamedTuple):
    """Ids that any of several copies may have claimed.

    They arrived together, on several partitions, and inside an epoch partitions have no order.
    """

    keys: Keys
    since_ms: NDArray[np.int64]
    """What was published of them is not older: when anything arrived before those copies, in
    milliseconds since 1970. A copy that is read again after a crash arrives a second time. 0 if
    it is not known at all."""
    until_ms: NDArray[np.int64]
    """When the last of the copies arrived."""


class Claims(NamedTuple):
    """Who has claimed an id, by what was published; there may be several lines for one id."""

    keys: Keys
    origins: Words


Trail = Callable[[Contested], Claims]
"""Looks up what was published; an id it cannot find is left out."""


def no_trail(_contested: Contested) -> Claims:
    """Know nothing."""
    return Claims(np.empty((0, 2), np.uint64), np.empty(0, np.uint64))


class Copies:
    """Remembered copies, sorted by id and origin: the raw material of a restored index.

    Attributes:
        ids: Which distinct id each copy is of.
        firsts: Where the copies of each id begin.
    """

    def __init__(
        self, memories: Sequence[Memory], numbers: list[int], sizes: list[int], epoch_ms: int
    ) -> None:
        self._epoch_ms = epoch_ms
        keys = np.concatenate([memory.keys for memory in memories])
        origins = np.concatenate([memory.origins for memory in memories])
        order = np.lexsort((origins, keys[:, 0], keys[:, 1]))
        self.keys, self.origins = keys[order], origins[order]
        self.prints = np.concatenate([memory.prints for memory in memories])[order]
        self.arrived = np.concatenate([memory.arrived for memory in memories])[order]
        self.segments = np.repeat(np.array(numbers, np.uint32), sizes)[order]
        begins = np.ones(len(order), np.bool_)
        begins[1:] = (self.keys[1:] != self.keys[:-1]).any(axis=1)
        self.firsts = np.flatnonzero(begins)
        self.ids = np.cumsum(begins) - 1
        self._ends = np.append(self.firsts[1:], len(order))
        self._partitions = self.origins >> _PARTITION_SHIFT

    def claimers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The copy of each id that came first, as far as times tell; and the contested ids."""
        claimers = self.firsts.copy()
        heads = np.flatnonzero(self._partitions[1:] != self._partitions[:-1]) + 1
        others = heads[self.ids[heads] == self.ids[heads - 1]]  # the first on another partition
        several = np.unique(self.ids[others])
        rivals = np.concatenate([self.firsts[several], others])
        rivals = rivals[np.lexsort((self.origins[rivals], self.arrived[rivals], self.ids[rivals]))]
        is_first = np.ones(len(rivals), np.bool_)
        is_first[1:] = self.ids[rivals[1:]] != self.ids[rivals[:-1]]
        claimers[several] = rivals[is_first]
        late = self.arrived[rivals] - self.arrived[claimers[self.ids[rivals]]]
        return claimers, np.unique(self.ids[rivals[~is_first & (late < self._epoch_ms)]])

    def told(self, contested: NDArray[np.int64], trail: Trail) -> dict[int, int | None]:
        """By contested id the copy that has claimed it by the trail; None where that is silent."""
        if not len(contested):
            return {}
        spans = [self.arrived[self._rivals(each)] for each in contested.tolist()]
        begun = np.array([span.min() for span in spans], np.int64)
        ended = np.array([span.max() for span in spans], np.int64)
        times = np.append(0, np.unique(self.arrived))
        before = times[np.searchsorted(times, begun - self._epoch_ms) - 1]
        before = np.where((before > 0) | (begun == RECALLED_MS), before, begun)
        found = trail(Contested(self.keys[self.firsts[contested]], before, ended))
        claims = defaultdict(set)
        for high, low, origin in np.column_stack([*found.keys.T, found.origins]).tolist():
            claims[high, low].add(origin)
        told: dict[int, int | None] = {}
        for each in contested.tolist():
            start, end = self.firsts[each], self._ends[each]
            said = claims.get(tuple(self.keys[start].tolist()), set())
            matches = (n for n in range(start, end) if int(self.origins[n]) in said)
            told[each] = next(matches, None)
        return told

    def differ(self, each: int) -> bool:
        """Whether the copies that may have claimed an id have different contents."""
        return len(np.unique(self.prints[self._rivals(each)])) > 1

    def repeated_by_date(self, dated_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """The copies of ids that have several, by the date of their segments."""
        count = np.diff(self.firsts, append=len(self.ids))
        repeated = np.flatnonzero(count[self.ids] > 1)
        dates = dated_ms[self.segments[repeated]]
        by_date: NDArray[np.int64] = repeated[np.lexsort((self.arrived[repeated], dates))]
        return by_date

    def _rivals(self, each: int) -> NDArray[np.int64]:
        """The first copies of an id on their partitions that came with the first of all."""
        copies = np.arange(self.firsts[each], self._ends[each])
        heads = copies[np.unique(self._partitions[copies], return_index=True)[1]]
        arrived = self.arrived[heads]
        rivals: NDArray[np.int64] = heads[arrived - arrived.min() < self._epoch_ms]
        return rivals
