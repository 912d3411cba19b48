"""decode: from raw records to parsed requests, split by lane.

A record that its lane has committed already, in a run that has crashed since, goes no further: its
outcome is published, and its id is in the lane's log.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataflow.core.items import LaneBatch, LaneItem, RecordBatch, SourceItem, parse_all
from dataflow.core.lanes import lane_name, lane_of_key, lanes_of, split_identities
from dataflow.observability import tracing
from dataflow.observability.tracing import Span
from dataflow.service.fail_fast import fail_fast
from schemas.headers import Headers
from schemas.requests import PaymentRequest, Rejected, key_of

_NOWHERE = -1

Counted = Callable[[int, int], None]
"""A callback with the numbers of valid and of other records in a batch."""


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

    @fail_fast
    def __call__(self, item: SourceItem) -> Iterable[LaneItem]:
        """Return what the lanes get of one item from the source."""
        if isinstance(item, RecordBatch):
            return self._split(item)
        lanes = range(self._lanes) if item.lanes is None else item.lanes
        return [(lane_name(lane), replace(item, lane=lane, lanes=None)) for lane in lanes]

    def _split(self, batch: RecordBatch) -> list[LaneItem]:
        began_ns = time.time_ns()
        parsed = parse_all(batch.values, batch.refused, self._max_bytes)
        # Aligned with the records; an invalid one has no identity.
        each = [r.identity() if type(r) is PaymentRequest else b"" for r in parsed]
        is_valid = np.fromiter(map(len, each), np.int64, len(each)) > 0
        identities = b"".join(each)
        lane_of = np.empty(len(parsed), np.int64)
        lane_of[is_valid] = lanes_of(split_identities(identities)[0], self._lanes)
        for n in np.flatnonzero(~is_valid).tolist():
            lane_of[n] = self._lane_of_rejected(parsed[n].payment_id, batch.values[n])
        if batch.committed:
            self._drop_committed(batch, lane_of)
        is_new = lane_of != _NOWHERE
        valid = int(np.count_nonzero(is_valid & is_new))
        self._counted(valid, int(np.count_nonzero(is_new)) - valid)
        split = list(self._lane_batches(batch, parsed, each, is_valid, lane_of))
        if batch.headers:
            tracing.record(Span.DECODE, batch.headers.values(), began_ns)
        return split

    def _drop_committed(self, batch: RecordBatch, lane_of: NDArray[np.int64]) -> None:
        """Send the records nowhere that their lane has committed."""
        upto = np.array([batch.committed.get(lane, 0) for lane in range(self._lanes)])
        lane_of[batch.offsets < upto[lane_of]] = _NOWHERE

    def _lane_of_rejected(self, payment_id: str | None, value: bytes | None) -> int:
        """Return its paymentId's lane if that is readable; else any lane, but always the same.

        A replay must find every record in the lane that may have committed it.
        """
        if payment_id is not None:
            return lane_of_key(key_of(payment_id), self._lanes)
        return crc32(value or b"") % self._lanes

    def _lane_batches(
        self,
        batch: RecordBatch,
        parsed: list[PaymentRequest | Rejected],
        identities: list[bytes],
        is_valid: NDArray[np.bool_],
        lane_of: NDArray[np.int64],
    ) -> Iterator[LaneItem]:
        order = np.argsort(lane_of, kind="stable")
        ends = np.searchsorted(lane_of[order], np.arange(self._lanes), side="right").tolist()
        start = int(np.count_nonzero(lane_of == _NOWHERE))
        for lane, end in enumerate(ends):
            mine, start = order[start:end], end
            if not len(mine):
                continue
            chosen, offsets = mine.tolist(), batch.offsets[mine]
            refused = {}
            if batch.refused:
                refused = {
                    at: batch.refused[n] for at, n in enumerate(chosen) if n in batch.refused
                }
            yield (
                lane_name(lane),
                LaneBatch(
                    partition=batch.partition,
                    next_offset=batch.next_offset,
                    read_at=batch.read_at,
                    epoch=batch.epoch,
                    offsets=offsets,
                    times_ms=batch.times_ms[mine],
                    values=[batch.values[n] for n in chosen],
                    valid=np.flatnonzero(is_valid[mine]),
                    identities=b"".join([identities[n] for n in chosen]),
                    headers=_headers_of(batch, offsets) if batch.headers else {},
                    parsed=[parsed[n] for n in chosen],
                    refused=refused,
                ),
            )


def _headers_of(batch: RecordBatch, offsets: NDArray[np.int64]) -> dict[int, Headers]:
    found = batch.headers
    return {offset: found[offset] for offset in offsets.tolist() if offset in found}
