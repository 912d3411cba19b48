"""decode: from raw records to parsed requests, split by lane; and their ids, for the memory.

Everything that leaves this step is keyed: by segment for `remember`, by lane for `dedupe`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataflow.batches import Fetched, Forget, Identities, LaneBatch, Restore, Seal, Told
from dataflow.core.segments import lane_of_key, lanes_of, split_identities
from dataflow.faults import reported
from schemas.parsing import parse
from schemas.requests import PaymentRequest, Rejected, key_of

MemoryItem = Identities | Restore | Seal | Forget
"""What `remember` takes."""
Input = Fetched | Restore | Seal | Forget | Told
"""What the source gives."""
Keyed = tuple[str, Any]
"""By segment, a `MemoryItem`; by lane, what `dedupe` takes."""

_NOWHERE = -1

Counted = Callable[[int, int], None]
"""Told how many records of a batch were valid, and how many were not."""


def lane_name(lane: int) -> str:
    """The state key of a lane, and its name in transactional ids: zero-padded, so it sorts."""
    return f"{lane:03d}"


def is_for_memory(item: Keyed) -> bool:
    """Whether an item is for `remember`, not for `dedupe`."""
    return isinstance(item[1], MemoryItem)


class Decode:
    """The mapper of the step; safe to share between workers.

    Args:
        lanes: How many lanes there are.
        max_bytes: The largest record whose outcome can be published.
        counted: Called once for each batch.
    """

    def __init__(self, lanes: int, max_bytes: int, counted: Counted) -> None:
        self._lanes = lanes
        self._max_bytes = max_bytes
        self._counted = counted

    @reported
    def __call__(self, item: Input) -> Iterable[Keyed]:
        """What `remember` and `dedupe` get of one item from the source."""
        if isinstance(item, Fetched):
            return self._split(item)
        if isinstance(item, Told):
            return [(lane_name(lane), item) for lane in range(self._lanes)]
        return [(item.segment, item)]

    def _split(self, batch: Fetched) -> list[Keyed]:
        max_bytes = self._max_bytes
        parsed = [parse(value, max_bytes) for value in batch.values]
        # Aligned with the records; an invalid one has no identity.
        each = [r.identity() if type(r) is PaymentRequest else b"" for r in parsed]
        is_valid = np.fromiter(map(len, each), np.int64, len(each)) > 0
        identities = b"".join(each)
        lane_of = np.empty(len(parsed), np.int64)
        lane_of[is_valid] = lanes_of(split_identities(identities)[0], self._lanes)
        for n in np.flatnonzero(~is_valid).tolist():
            lane_of[n] = self._lane_of_rejected(parsed[n].payment_id, batch.values[n])
        if batch.recall:
            upto = np.array([batch.committed.get(lane, 0) for lane in range(self._lanes)])
            lane_of[batch.offsets >= upto[lane_of]] = _NOWHERE
            return list(self._lane_batches(batch, parsed, each, is_valid, lane_of))
        valid = int(np.count_nonzero(is_valid))
        self._counted(valid, len(parsed) - valid)
        memory = Identities(
            first_offset=int(batch.offsets[0]),
            offsets=batch.offsets[is_valid],
            identities=identities,
            arrived_ms=int(batch.read_at * 1000),
        )
        return [
            (batch.segment, memory),
            *self._lane_batches(batch, parsed, each, is_valid, lane_of),
        ]

    def _lane_of_rejected(self, payment_id: str | None, value: bytes | None) -> int:
        """With its paymentId's other records if that is readable; else anywhere, but always there.

        A replay must find every record in the lane that may have committed it.
        """
        if payment_id is not None:
            return lane_of_key(key_of(payment_id), self._lanes)
        return crc32(value or b"") % self._lanes

    def _lane_batches(
        self,
        batch: Fetched,
        parsed: list[PaymentRequest | Rejected],
        identities: list[bytes],
        is_valid: NDArray[np.bool_],
        lane_of: NDArray[np.int64],
    ) -> Iterator[Keyed]:
        order = np.argsort(lane_of, kind="stable")
        ends = np.searchsorted(lane_of[order], np.arange(self._lanes), side="right").tolist()
        start = int(np.count_nonzero(lane_of == _NOWHERE))
        for lane, end in enumerate(ends):
            mine, start = order[start:end], end
            if not len(mine):
                continue
            chosen = mine.tolist()
            yield (
                lane_name(lane),
                LaneBatch(
                    partition=batch.partition,
                    segment=batch.segment,
                    dated_ms=batch.dated_ms,
                    recall=batch.recall,
                    next_offset=batch.next_offset,
                    committed=batch.committed.get(lane, 0),
                    read_at=batch.read_at,
                    max_bytes=self._max_bytes,
                    offsets=batch.offsets[mine],
                    times_ms=batch.times_ms[mine],
                    values=[batch.values[n] for n in chosen],
                    valid=np.flatnonzero(is_valid[mine]),
                    identities=b"".join([identities[n] for n in chosen]),
                    parsed=[parsed[n] for n in chosen],
                ),
            )
