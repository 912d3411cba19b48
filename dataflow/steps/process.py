"""process: charges what is to be charged, and decides every record's outcome."""

import time
from collections.abc import Callable, Iterator

from dataflow.core.decision import decide, needs_gateway
from dataflow.core.items import ControlMessage, DedupedBatch, OutcomeBatch
from dataflow.service.fail_fast import fail_fast
from schemas.events import Records
from schemas.replies import Definite
from schemas.requests import PaymentRequest

Lane = str
Charge = Callable[[list[PaymentRequest]], list[Definite]]
"""A charger of batches; blocks until each request has a final reply, or raises a fault."""
Timed = Callable[[float, int], None]
"""A callback with the seconds from reading to decision, and for how many records."""


class Process:
    """The mapper of the step; safe to share between workers.

    Args:
        input_topic: Where the records came from: part of every event.
        charge: The gateway.
        at_most: How many requests the gateway gets at once: all of them must be charged within
            its deadline.
        timed: Called once for each batch.
    """

    def __init__(self, input_topic: str, charge: Charge, at_most: int, timed: Timed) -> None:
        self._input_topic = input_topic
        self._charge = charge
        self._at_most = at_most
        self._timed = timed

    @fail_fast
    def __call__(
        self, items: list[tuple[Lane, DedupedBatch | ControlMessage]]
    ) -> list[tuple[Lane, OutcomeBatch | ControlMessage]]:
        """Return the outcomes of all lanes that have something, with one gateway call for all."""
        replies = iter(self._replies([item for _, item in items if isinstance(item, DedupedBatch)]))
        return [
            (lane, self._decide(item, replies) if isinstance(item, DedupedBatch) else item)
            for lane, item in items
        ]

    def _replies(self, batches: list[DedupedBatch]) -> Iterator[Definite]:
        due = [
            request
            for batch in batches
            for request, verdict in zip(batch.parsed, batch.verdicts, strict=True)
            if needs_gateway(request, verdict)
        ]
        for start in range(0, len(due), self._at_most):
            yield from self._charge(due[start : start + self._at_most])

    def _decide(self, batch: DedupedBatch, replies: Iterator[Definite]) -> OutcomeBatch:
        outcomes = [
            decide(
                request,
                verdict,
                first,
                next(replies) if needs_gateway(request, verdict) else None,
            )
            for request, verdict, first in zip(
                batch.parsed, batch.verdicts, batch.first_origins, strict=True
            )
        ]
        records = Records(self._input_topic, batch.partition)
        now = time.time()
        self._timed(now - batch.read_at, len(outcomes))
        return OutcomeBatch(
            partition=batch.partition,
            next_offset=batch.next_offset,
            times_ms=batch.times_ms,
            # Once for all branches.
            event_ids=[records.event_id(offset) for offset in batch.offsets],
            sources=[records.source(offset) for offset in batch.offsets],
            outcomes=outcomes,
            decided_at=now,
            entries=batch.entries,
            remembered=batch.remembered,
        )
