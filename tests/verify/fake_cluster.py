"""A cluster in memory, with a flow that made no mistake; tests then break one thing each."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
from msgspec import Raw

from dataflow.config.settings import Settings
from dataflow.core.lane_log import entries_in, entries_of, headers
from dataflow.core.lanes import lane_of_key, split_identities
from dataflow.core.origins import origin
from dataflow.verify.checker import Check, Report
from dataflow.verify.findings import FindingKind
from dataflow.verify.reader import Bounds, Chunk, LanePosition, Positions, Snapshot
from schemas import events, pending
from schemas.events import AuditEvent, Records
from schemas.headers import Headers
from schemas.outcomes import ErrorCode, EventType
from schemas.parsing import parse
from schemas.pending import PendingEntry
from schemas.replies import Declined
from schemas.requests import PaymentRequest, Rejected, key_of
from tests.support.required import REQUIRED

REQUESTED, PROCESSED, FAILED, AUDIT = "requested", "processed", "failed", "audit"
LANE_LOG = "lane-log"
PENDING = "pending"
GROUP = "group"
LANES = 4
GENERATION = 7
ENVIRON = {
    **REQUIRED,
    "KAFKA_TOPIC_REQUESTED": REQUESTED,
    "KAFKA_TOPIC_PROCESSED": PROCESSED,
    "KAFKA_TOPIC_FAILED": FAILED,
    "KAFKA_TOPIC_AUDIT": AUDIT,
    "KAFKA_TOPIC_LANE_LOG": LANE_LOG,
    "KAFKA_TOPIC_PENDING": PENDING,
    "KAFKA_GROUP_ID": GROUP,
    "LANES": str(LANES),
    "DEDUPE_WINDOW": "1h",
}
HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000
MAX_BYTES = 1_000_000 - events.EVENT_OVERHEAD_BYTES


@dataclass
class Record:
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None

    @property
    def event(self) -> dict[str, Any]:
        """The JSON object in it."""
        return dict(json.loads(self.value or b"", parse_float=Decimal, parse_int=Decimal))

    def change(self, **fields: Any) -> Self:
        """Write it again with other fields; one of None is left out."""
        kept = {k: v for k, v in json.loads(self.value or b"").items() if k not in fields}
        given = {k: v for k, v in fields.items() if v is not None}
        self.value = json.dumps(kept | given).encode()
        return self


@dataclass
class FakeCluster:
    """Topics, and what is committed. As a `Reader`, it reads itself."""

    logs: dict[str, dict[int, list[Record]]] = field(default_factory=dict)
    group: dict[int, int] = field(default_factory=dict)
    lanes: dict[int, dict[int, LanePosition]] = field(default_factory=dict)
    lows: dict[tuple[str, int], int] = field(default_factory=dict)
    hidden: dict[tuple[str, int], int] = field(default_factory=dict)
    """The offset at which an open transaction begins."""
    compacted: list[str] = field(default_factory=list)
    claims: dict[str, tuple[int, PaymentRequest, tuple[int, int]]] = field(default_factory=dict)
    """The time each id was last seen, and the request that claimed it, and where that stands."""
    step: int = 3
    """Distance of offsets: transactions leave gaps."""

    def __post_init__(self) -> None:
        for topic in (PENDING, REQUESTED, PROCESSED, FAILED, AUDIT, LANE_LOG):
            self.logs[topic] = {0: [], 1: []}

    # ---- making it ----

    def append(
        self, topic: str, partition: int, time_ms: int, key: bytes | None, value: bytes | None
    ) -> int:
        log = self.logs[topic][partition]
        offset = log[-1].offset + self.step if log else 0
        log.append(Record(offset, time_ms, key, value))
        return offset

    def send(self, partition: int, value: bytes | None, time_ms: int = START_MS) -> int:
        """Send a request, and decide it; its offset."""
        offset = self.append(REQUESTED, partition, time_ms, None, value)
        parsed = parse(value, MAX_BYTES)
        if isinstance(parsed, Rejected):
            self._fail(partition, offset, time_ms, parsed)
        else:
            self._decide(partition, offset, time_ms, parsed)
        self.group[partition] = offset + 1
        for lane in range(LANES):
            self.lanes.setdefault(lane, {})[partition] = LanePosition(offset + 1, LANES)
        return offset

    def _decide(self, partition: int, offset: int, time_ms: int, request: PaymentRequest) -> None:
        claim = self.claims.get(request.payment_id)
        if claim is None or claim[0] + HOUR_MS < time_ms:
            self.claims[request.payment_id] = time_ms, request, (partition, offset)
            self.claim(request, partition, offset, time_ms)
            if request.user_id == "poor":
                self._fail(partition, offset, time_ms, request)
            else:
                self._process(partition, offset, time_ms, request)
            return
        _, first, where = claim
        self.claims[request.payment_id] = time_ms, first, where
        self.claim(first, *where, time_ms)
        same = first.identity() == request.identity()
        records = Records(REQUESTED, partition)
        self._publish(
            AUDIT,
            request.payment_id,
            time_ms,
            AuditEvent(
                event_id=records.event_id(offset),
                event_type=EventType.DUPLICATE if same else EventType.CONFLICT,
                payment_id=request.payment_id,
                source=records.source(offset),
                occurred_at=at(time_ms),
                first_source=Records(REQUESTED, where[0]).source(where[1]),
            ),
        )

    def claim(
        self, request: PaymentRequest | Rejected, partition: int, offset: int, time_ms: int
    ) -> None:
        """Claim the request's id for a record, or prolong its life."""
        assert isinstance(request, PaymentRequest)
        keys, prints = split_identities(request.identity())
        origins = np.array([origin(partition, offset, GENERATION)], np.uint64)
        entries = entries_of(keys, prints, origins, time_ms // 1000)
        lane = lane_of(request.payment_id)
        at = self.append(LANE_LOG, lane % 2, time_ms, None, entries.tobytes())
        [record] = [each for each in self.logs[LANE_LOG][lane % 2] if each.offset == at]
        record.headers = headers(lane, LANES)

    def park(self, value: bytes | None, partition: int, offset: int) -> None:
        """Write an entry of the pending topic for a record, or its tombstone."""
        records = Records(REQUESTED, partition)
        event_id = records.event_id(offset)
        entry = (
            value
            if value is None
            else PendingEntry(
                event_id=event_id,
                payment_id=str(json.loads(value)["paymentId"]),
                request=Raw(value),
                source=records.source(offset),
                record_time_ms=START_MS,
                parked_at=at(START_MS),
                first_attempt_at=at(START_MS),
                attempts=1,
                attempts_parked=0,
                is_unsent=False,
                next_attempt_at=None,
                reason="timeout",
            )
        )
        written = None if entry is None else pending.encode(entry)
        self.append(PENDING, 0, START_MS, event_id.encode(), written)
        self.logs[PENDING][0][-1].headers = headers(0, LANES)

    def _process(self, partition: int, offset: int, time_ms: int, request: PaymentRequest) -> None:
        records = Records(REQUESTED, partition)
        event_id, source = records.event_id(offset), records.source(offset)
        event = events.processed(event_id, source, request, "ref", at(time_ms))
        self._publish(PROCESSED, request.payment_id, time_ms, event)
        audit = AuditEvent(
            event_id=event_id,
            event_type=EventType.PROCESSED,
            payment_id=request.payment_id,
            source=source,
            occurred_at=at(time_ms),
            gateway_reference="ref",
        )
        self._publish(AUDIT, request.payment_id, time_ms, audit)

    def _fail(
        self, partition: int, offset: int, time_ms: int, parsed: PaymentRequest | Rejected
    ) -> None:
        records = Records(REQUESTED, partition)
        event_id, source = records.event_id(offset), records.source(offset)
        if isinstance(parsed, Rejected):
            error = events.error_of(parsed)
            event = events.rejected(event_id, source, parsed, at(time_ms), MAX_BYTES)
        else:
            error = events.error_of(
                Declined(ErrorCode.INSUFFICIENT_FUNDS, "not enough", retryable=True)
            )
            event = events.declined(event_id, source, parsed, error, at(time_ms))
        self._publish(FAILED, parsed.payment_id, time_ms, event)
        audit = AuditEvent(
            event_id=event_id,
            event_type=EventType.FAILED,
            payment_id=parsed.payment_id,
            source=source,
            occurred_at=at(time_ms),
            error=error,
        )
        self._publish(AUDIT, parsed.payment_id, time_ms, audit)

    def _publish(self, topic: str, payment_id: str | None, time_ms: int, event: Any) -> None:
        key = None if payment_id is None else payment_id.encode()
        partition = 0 if key is None else key_of(payment_id or "")[0] % 2
        self.append(topic, partition, time_ms + 500, key, events.encode(event))

    # ---- breaking it ----

    def records(self, topic: str) -> Iterator[Record]:
        for log in self.logs[topic].values():
            yield from log

    def find(self, topic: str, partition: int, offset: int) -> Record:
        """Return the one event of a topic about an input record."""
        [found] = [record for record in self.records(topic) if tells_of(record, partition, offset)]
        return found

    def remove(self, topic: str, partition: int, offset: int) -> Self:
        """Remove the events about an input record."""
        for log in self.logs[topic].values():
            log[:] = [record for record in log if not tells_of(record, partition, offset)]
        return self

    def forget(self, partition: int, offset: int) -> Self:
        """Remove the claims of an input record from the lanes' log."""
        for log in self.logs[LANE_LOG].values():
            log[:] = [
                record
                for record in log
                if origin(partition, offset, GENERATION)
                not in entries_in(record.value or b"")["origin"]
            ]
        return self

    def repeat(self, topic: str, record: Record) -> None:
        """Append a record of a topic again."""
        [partition] = [n for n, log in self.logs[topic].items() if record in log]
        self.append(topic, partition, record.time_ms, record.key, record.value)

    # ---- as a reader ----

    def look(self) -> Snapshot:
        bounds = {
            topic: {n: self._bounds(topic, n, log) for n, log in partitions.items()}
            for topic, partitions in self.logs.items()
        }
        return Snapshot(Positions(self.group, self.lanes), bounds, self.compacted)

    def _bounds(self, topic: str, partition: int, log: list[Record]) -> Bounds:
        # The last marker of a transaction is behind the last record.
        high = log[-1].offset + self.step if log else 0
        low = self.lows.get((topic, partition), 0)
        return Bounds(low, self.hidden.get((topic, partition), high), high)

    def read(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        for partition, bound in bounds.items():
            log = [
                record
                for record in self.logs[topic][partition]
                if bound.low <= record.offset < min(bound.high, bound.stable)
            ]
            for start in range(0, len(log), 7):
                some = log[start : start + 7]
                yield Chunk(
                    partition,
                    [record.offset for record in some],
                    [record.time_ms for record in some],
                    [record.key for record in some],
                    [record.value for record in some],
                    [record.headers for record in some],
                )

    def stuck(self) -> dict[tuple[str, int], int]:
        return self.hidden

    def record(self, topic: str, partition: int, offset: int) -> tuple[bytes | None, bool]:
        for record in self.logs[topic][partition]:
            if record.offset >= offset:
                return record.value, True
        return None, False


def tells_of(record: Record, partition: int, offset: int) -> bool:
    source = record.event["source"]
    return (source["partition"], source["offset"]) == (partition, offset)


def payment(payment_id: str, amount: str = "9.99", currency: str = "USD", **more: Any) -> bytes:
    fields = {
        "paymentId": payment_id,
        "userId": "user_1",
        "amount": amount,
        "currency": currency,
        "paymentMethod": "card",
        **more,
    }
    return json.dumps(fields).encode()


def at(time_ms: int) -> str:
    return events.instant((time_ms + 1000) / 1000)


def lane_of(payment_id: str) -> int:
    return lane_of_key(key_of(payment_id), LANES)


def check(
    cluster: FakeCluster,
    scratch: Path,
    environ: Mapping[str, str] | None = None,
    *,
    part_records: int = 5,
    **how: Any,
) -> Report:
    settings = Settings.from_env(ENVIRON | dict(environ or {}))
    return Check(settings, cluster, scratch, part_records=part_records, **how).run()


def kinds(report: Report) -> set[FindingKind]:
    return set(report.findings.counts)
