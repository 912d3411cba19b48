"""The audit trail, read back: which of several copies has claimed a paymentId.

Inside an epoch the input partitions have no order, so the memory cannot always tell which of two
copies on different partitions came first. The audit events can: a claim names itself, a repeat
names its `firstSource`. They are only read when there is doubt, and only around the time when the
copies arrived. A trail that cannot be read leaves the doubt, and stops nobody.
"""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from msgspec import Meta, Struct
from numpy.typing import NDArray

from dataflow.connectors import config
from dataflow.connectors.bounds import LATEST, offsets_at, partitions_of
from dataflow.connectors.patience import PASSING, Ask, patiently
from dataflow.core.memory import Claims, Contested, Keys, Words
from dataflow.core.segments import origin
from dataflow.settings import KafkaSettings
from dataflow.status import Status
from schemas.outcomes import INVALID_RECORD, ErrorCode, EventType
from schemas.requests import KEY_BYTES, key_of

_log = structlog.get_logger()

_MINUTE_MS = 60_000
_MOST_EVENTS = 5_000_000
"""Of which each takes 24 bytes until the start is over."""
LONGEST_S = 120.0
"""A start is not held up for longer: what is not found by then stays in doubt."""
_CLOCKS_MS = 60_000
"""Clocks of different machines differ by less."""
_OLDEST_MS = 366 * 86_400_000
"""Older claims are not looked for: no DEDUPE_WINDOW is longer. A record may be stamped anyhow, and
what is looked for begins at the stamp of the oldest one if nothing else is known."""


class _Error(Struct):
    code: ErrorCode


class _Place(Struct):
    """A record of the input: whatever `origin` cannot hold is not ours."""

    topic: str
    partition: Annotated[int, Meta(ge=0, lt=1 << 16)]
    offset: Annotated[int, Meta(ge=0, lt=1 << 48)]


class _Audited(Struct, rename="camel"):
    """What is needed of an audit event."""

    event_type: EventType
    payment_id: str | None
    source: _Place
    first_source: _Place | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Audited).decode


class AuditTrail:
    """The audit topic of one process; what its lanes have read of it they share."""

    def __init__(self, kafka: KafkaSettings, status: Status, ask: Ask = patiently) -> None:
        self._ask = ask
        self._kafka = kafka
        self._status = status
        self._lock = threading.Lock()
        self._minutes: set[int] = set()
        self._read: list[Claims] = []
        self._events = 0
        self._deadline_s: float | None = None

    def claims(self, contested: Contested) -> Claims:
        """Who has claimed the contested ids, as far as can be found out."""
        with self._lock, self._status.waiting("audit trail", LONGEST_S):
            try:
                found = self._claims(contested)
            except KafkaException as error:
                _log.warning(
                    "the audit trail cannot be read: repeats of paymentIds whose first copies came"
                    " together, with different contents, will be conflicts",
                    topic=self._kafka.topic_audit,
                    error=error.args[0].str(),
                )
                found = self._known(contested.keys)
        _log.info(
            "audit trail", contested=len(contested.keys), found=len(np.unique(found.keys, axis=0))
        )
        return found

    def _claims(self, contested: Contested) -> Claims:
        now = int(time.time() * 1000)
        since = np.clip(contested.since_ms, now - _OLDEST_MS, now)
        until = np.minimum(contested.until_ms, now)
        first = (since - _CLOCKS_MS) // _MINUTE_MS
        last = (until + self._kafka.transaction_timeout_ms + _CLOCKS_MS) // _MINUTE_MS
        self._read_minutes(first, last)
        return self._known(contested.keys)

    def _known(self, keys: Keys) -> Claims:
        """What has been read of these ids."""
        wanted = np.unique(keys[:, 1])
        masks = [np.isin(read.keys[:, 1], wanted) for read in self._read]
        pairs = list(zip(self._read, masks, strict=True))
        return Claims(
            np.concatenate([np.empty((0, 2), np.uint64), *(r.keys[mask] for r, mask in pairs)]),
            np.concatenate([np.empty(0, np.uint64), *(r.origins[mask] for r, mask in pairs)]),
        )

    # ---- reading ----

    def _read_minutes(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        """Read what is missing of the minutes from `first` to `last`, each."""
        spans = np.unique(np.column_stack([first, last]), axis=0).tolist()
        wanted = {minute for start, end in spans for minute in range(start, end + 1)}
        missing = sorted(wanted - self._minutes)
        cuts = [n for n, (one, next_) in enumerate(pairwise(missing), 1) if next_ != one + 1]
        for start, end in pairwise([0, *cuts, len(missing)]):
            minutes = missing[start:end]
            if minutes:
                self._read_span(minutes[0] * _MINUTE_MS, (minutes[-1] + 1) * _MINUTE_MS)
                self._minutes.update(minutes)

    def _read_span(self, since_ms: int, until_ms: int) -> None:
        """Read the events that Kafka has dated so."""
        starts, ends = self._ask(lambda: self._offsets(since_ms, until_ms))
        ends = {partition: end for partition, end in ends.items() if starts[partition] < end}
        consumer = Consumer(config.consumer(self._kafka, "audit-trail", len(ends)))
        try:
            topic = self._kafka.topic_audit
            consumer.assign([TopicPartition(topic, each, starts[each]) for each in ends])
            for messages in self._until(consumer, ends):
                claims = _claims_in(messages, self._kafka.topic_requested)
                self._read.append(claims)
                self._events += len(claims.origins)
        finally:
            consumer.close()

    def _offsets(self, since_ms: int, until_ms: int) -> tuple[dict[int, int], dict[int, int]]:
        """Where the span begins and ends on each partition.

        Its end may be inside a transaction that is just ending: then it is waited for.
        """
        admin = AdminClient(config.client(self._kafka, "audit-trail"))
        topic = self._kafka.topic_audit
        partitions = partitions_of(admin, topic)
        end = offsets_at(admin, topic, partitions, LATEST)
        # The first offset that is not older, or -1.
        start, stop = (
            offsets_at(admin, topic, partitions, OffsetSpec.for_timestamp(at_ms))
            for at_ms in (since_ms, until_ms)
        )
        return (
            {each: end[each] if found < 0 else found for each, found in start.items()},
            {each: end[each] if found < 0 else found for each, found in stop.items()},
        )

    def _until(self, consumer: Consumer, ends: dict[int, int]) -> Iterator[list[Message]]:
        """Batches of records until each partition is read to its end, or it takes too long."""
        self._deadline_s = self._deadline_s or time.monotonic() + LONGEST_S / 2
        where = [TopicPartition(self._kafka.topic_audit, partition) for partition in ends]
        while any(at.offset < ends[at.partition] for at in consumer.position(where)):
            is_away = self._status.kafka_reachable is False  # its return is waited for
            is_late = time.monotonic() > self._deadline_s and not is_away
            if is_late or self._events > _MOST_EVENTS:
                _log.warning("audit trail: too much to read it all", events=self._events)
                return
            messages = consumer.consume(10_000, 0.2)
            for message in messages:
                error = message.error()
                if error is not None and error.code() not in PASSING:
                    raise KafkaException(error)
            yield [message for message in messages if message.error() is None]


def _claims_in(messages: list[Message], topic_requested: str) -> Claims:
    keys, origins = [], []
    for message in messages:
        try:
            event = _decode(message.value() or b"")
        except msgspec.DecodeError:
            continue  # somebody else writes there, too
        source = event.first_source or event.source
        invalid = event.error is not None and event.error.code in INVALID_RECORD
        if event.payment_id is not None and not invalid and source.topic == topic_requested:
            keys.append(key_of(event.payment_id))
            origins.append(origin(source.partition, source.offset))
    words: Words = np.frombuffer(b"".join(keys), "<u8")
    return Claims(words.reshape(-1, KEY_BYTES // 8), np.array(origins, np.uint64))
