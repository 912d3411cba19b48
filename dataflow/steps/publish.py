"""processed, failed, audit, pending, progress: from outcomes to what a lane commits of them.

Four have the records of one topic each; the last one has all that is no record.

Long because the branches are read side by side: together they have each outcome once.
"""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from decimal import Decimal

import structlog
from msgspec import Raw, structs

from dataflow.core.commit_counts import CommitCounts
from dataflow.core.decision import GatewayDecision, Outcome, Repeated
from dataflow.core.items import ControlMessage, LaneProgress, OutcomeBatch, OutputBatch, Signal
from dataflow.core.origins import place
from dataflow.observability import tracing
from dataflow.service.fail_fast import fail_fast
from schemas import decisions, events, pending
from schemas.events import AuditEvent, FailedEvent, ProcessedEvent, Source
from schemas.headers import Headers, cloud_events
from schemas.outcomes import EventType
from schemas.replies import Approved, Declined
from schemas.requests import Rejected

_log = structlog.get_logger()
_LOG_EVERY_S = 1.0

Event = ProcessedEvent | FailedEvent | AuditEvent
Encode = Callable[[Event], bytes]


def outcomes_only(
    item: tuple[str, OutcomeBatch | ControlMessage],
) -> tuple[str, OutcomeBatch] | None:
    """Return what may have records for the topics; None for a signal, which has none.

    Signals go to `progress` alone, and there in their order among the batches: the ids that a lane
    remembers are those of the last of them.
    """
    lane, content = item
    return (lane, content) if isinstance(content, OutcomeBatch) else None


class Branch(ABC):
    """A branch with the events of one topic; the subclass defines which event an outcome has.

    Args:
        topic: Where the branch writes.
        max_bytes: The largest request.
        encode: Returns the bytes of an event; by default its JSON.
        content_type: Of the CloudEvents attributes, which the events then have as headers.
    """

    def __init__(
        self,
        topic: str,
        max_bytes: int,
        encode: Encode | None = None,
        content_type: str | None = None,
    ) -> None:
        self.topic = topic
        self.max_bytes = max_bytes
        self._encode = encode or events.encode
        self._content_type = content_type

    @fail_fast
    def __call__(self, item: tuple[str, OutcomeBatch]) -> tuple[str, OutputBatch] | None:
        """Return the lane's records for this branch's topic; None when there are none."""
        lane, batch = item
        if not batch.outcomes:
            return None  # claims alone: half of all batches
        outgoing = self._publish(batch)
        return (lane, outgoing) if outgoing.values else None

    def _publish(self, batch: OutcomeBatch) -> OutputBatch:
        out = OutputBatch(self.topic)
        at = events.instant(batch.decided_at)
        has_headers = self._content_type is not None or len(batch.headers) > 0
        # One by one: a batch's events would not fit into the processor's caches.
        for event_id, source, outcome in self._mine(batch):
            event = self.event(event_id, source, outcome, at)
            if event is not None:
                payment_id = event.payment_id
                out.keys.append(None if payment_id is None else payment_id.encode())
                out.values.append(self._encode(event))
                if has_headers:
                    out.headers.append(self._headers(event, at, batch.headers.get(event_id, [])))
        return out

    def _mine(self, batch: OutcomeBatch) -> Iterable[tuple[str, Source, Outcome]]:
        """Return what may be this branch's, without a call for each."""
        return zip(batch.event_ids, batch.sources, batch.outcomes, strict=True)

    def _headers(self, event: Event, at: str, forwarded: Headers) -> Headers:
        if self._content_type is None:
            return forwarded
        of_event = event.event_id, event.event_type, at
        return cloud_events(self.topic, *of_event, self._content_type) + forwarded

    @abstractmethod
    def event(self, event_id: str, source: Source, outcome: Outcome, at: str) -> Event | None:
        """Return the event of one outcome; None when it is not this branch's."""


class Processed(Branch):
    """Approved payments."""

    def event(self, event_id: str, source: Source, outcome: Outcome, at: str) -> Event | None:
        """Return the event of a payment that the gateway approved."""
        if type(outcome) is not GatewayDecision or type(outcome.reply) is not Approved:
            return None
        return events.processed(event_id, source, outcome.request, outcome.reply.reference, at)


class Failed(Branch):
    """Declined payments and invalid records."""

    def _mine(self, batch: OutcomeBatch) -> Iterable[tuple[str, Source, Outcome]]:
        return [
            each
            for each in super()._mine(batch)
            if type(each[2]) is not GatewayDecision or type(each[2].reply) is Declined
        ]

    def event(self, event_id: str, source: Source, outcome: Outcome, at: str) -> Event | None:
        """Return the event of a payment that the gateway declined, or of an invalid record."""
        if type(outcome) is GatewayDecision and type(outcome.reply) is Declined:
            error = events.error_of(outcome.reply)
            return events.declined(event_id, source, outcome.request, error, at)
        if type(outcome) is Rejected:
            return events.rejected(event_id, source, outcome, at, self.max_bytes)
        return None


class Audit(Branch):
    """One event for every record."""

    def _publish(self, batch: OutcomeBatch) -> OutputBatch:
        out = super()._publish(batch)
        if batch.resolutions:
            self._add_resolutions(batch, out)
        return out

    def _add_resolutions(self, batch: OutcomeBatch, out: OutputBatch) -> None:
        """Add who has decided, and why, where that was a person."""
        at = events.instant(batch.decided_at)
        each = zip(batch.event_ids, batch.sources, batch.outcomes, strict=True)
        for number, (event_id, source, outcome) in enumerate(each):
            if resolution := batch.resolutions.get(event_id):
                event = self.event(event_id, source, outcome, at)
                value = events.encode(structs.replace(event, resolution=resolution))
                out.values[number] = value

    def event(self, event_id: str, source: Source, outcome: Outcome, at: str) -> AuditEvent:
        """Return the event of any record."""
        if type(outcome) is GatewayDecision and type(outcome.reply) is Approved:
            return AuditEvent(
                event_id=event_id,
                event_type=EventType.PROCESSED,
                payment_id=outcome.request.payment_id,
                source=source,
                occurred_at=at,
                gateway_reference=outcome.reply.reference,
            )
        if type(outcome) is Repeated:
            partition, first_offset = place(outcome.first_origin)
            return AuditEvent(
                event_id=event_id,
                event_type=outcome.event_type,
                payment_id=outcome.request.payment_id,
                source=source,
                occurred_at=at,
                first_source=Source(source.topic, partition, first_offset),
            )
        reason, payment_id = _failure(outcome)
        return AuditEvent(
            event_id=event_id,
            event_type=EventType.FAILED,
            payment_id=payment_id,
            source=source,
            occurred_at=at,
            error=events.error_of(reason),
        )


class Progress:
    """The branch with what is no event: how far the lane has come, its log, counts and signals."""

    def __init__(self) -> None:
        self._logged_at_s = -_LOG_EVERY_S

    @fail_fast
    def __call__(self, item: tuple[str, OutcomeBatch | ControlMessage]) -> tuple[str, LaneProgress]:
        """Return what the lane commits of a batch beside its records, or what a signal is to it."""
        lane, content = item
        if isinstance(content, ControlMessage):
            return lane, _signalled(content)
        progress = LaneProgress(
            position=content.position,
            times_ms=content.times_ms,
            entries=content.entries,
            remembered=content.remembered,
        )
        if tracing.is_on():
            progress.traced = content.with_headers()
        count(progress.counts, content.outcomes)
        for change in content.pending:
            progress.counts.parked += change.is_new
            progress.counts.resolved += change.entry is None
        if progress.counts.conflicts:
            self._log_conflicts(content)
        return lane, progress

    def _log_conflicts(self, batch: OutcomeBatch) -> None:
        """Log one line a second, however many there are: when they come, they come in floods."""
        now_s = time.monotonic()
        if now_s - self._logged_at_s < _LOG_EVERY_S:
            return
        self._logged_at_s = now_s
        each = zip(batch.event_ids, batch.sources, batch.outcomes, strict=True)
        for event_id, source, outcome in each:
            if isinstance(outcome, Repeated) and outcome.event_type is EventType.CONFLICT:
                _log.warning(
                    "conflict: a paymentId came again with other content",
                    paymentId=outcome.request.payment_id,
                    partition=source.partition,
                    offset=source.offset,
                    first_seen_at=place(outcome.first_origin),
                    **tracing.in_log(batch.headers.get(event_id, [])),
                )
                return


class Pending:
    """Entries of what waits for the gateway, by eventId, and tombstones of what waits no longer.

    Args:
        topic: Where the branch writes.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic

    @fail_fast
    def __call__(self, item: tuple[str, OutcomeBatch]) -> tuple[str, OutputBatch] | None:
        """Return the entries that a batch changes; None if there are none."""
        lane, batch = item
        if not batch.pending and not batch.decisions_done:
            return None
        out = OutputBatch(self.topic)
        out.tombstones += map(decisions.key_of, batch.decisions_done)
        for change in batch.pending:
            key = change.event_id.encode()
            if change.entry is None:
                out.tombstones.append(key)
            else:
                out.keys.append(key)
                out.values.append(pending.encode(change.entry))
                out.headers.append(change.headers)
        return lane, out


def _signalled(control: ControlMessage) -> LaneProgress:
    """Return what becomes of a signal; a refresh of the offsets carries the position."""
    is_refresh = control.signal is Signal.REFRESH_OFFSETS
    position = (control.partition, control.next_offset) if is_refresh else None
    return LaneProgress(
        position, entries=control.entries, remembered=control.remembered, control=control
    )


def _failure(outcome: Outcome) -> tuple[Declined | Rejected, str | None]:
    """Return why a payment failed, and its paymentId."""
    if isinstance(outcome, Rejected):
        return outcome, outcome.payment_id
    assert isinstance(outcome, GatewayDecision)
    assert isinstance(outcome.reply, Declined)
    return outcome.reply, outcome.request.payment_id


def count(counts: CommitCounts, outcomes: list[Outcome]) -> None:
    """Count a batch, and add up its money by currency, exactly."""
    approved: defaultdict[str, list[Raw]] = defaultdict(list)
    declined: defaultdict[str, list[Raw]] = defaultdict(list)
    for outcome in outcomes:
        if type(outcome) is GatewayDecision and type(outcome.reply) is Approved:
            counts.processed += 1
            approved[outcome.request.currency].append(outcome.request.written_amount)
        elif type(outcome) is Repeated:
            if outcome.event_type is EventType.DUPLICATE:
                counts.duplicates += 1
            else:
                counts.conflicts += 1
        else:
            if type(outcome) is GatewayDecision:
                declined[outcome.request.currency].append(outcome.request.written_amount)
            code = _failure(outcome)[0].code
            counts.failed[code] = counts.failed.get(code, 0) + 1
    counts.approved_amounts = {currency: _sum(each) for currency, each in approved.items()}
    counts.declined_amounts = {currency: _sum(each) for currency, each in declined.items()}


def _sum(amounts: list[Raw]) -> Decimal:
    """Return the sum of `PaymentRequest.written_amount`, joined: one by one takes twice as long."""
    digits = b" ".join(amounts).replace(b'"', b"").decode()
    return sum(map(Decimal, digits.split()), Decimal())
