"""From records to rows; what is wrong with an event by itself is found here."""

from collections.abc import Iterable
from typing import Any
from zlib import crc32

import msgspec
import numpy as np

from dataflow.core.items import parse_all
from dataflow.core.lane_log import ForeignRecordError, entries_in, is_of_a_lane, lane_in
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origin, places
from dataflow.verify import rows
from dataflow.verify.content import (
    Event,
    amount_of_event,
    amount_of_request,
    decode,
    event_content,
    hashes,
    milliseconds,
    reply_of,
    request_content,
)
from dataflow.verify.findings import FindingKind, Findings, RecordPlace
from dataflow.verify.reader import Chunk
from dataflow.verify.rows import Rows
from schemas.events import Records, Source
from schemas.outcomes import EventType
from schemas.parsing import parse
from schemas.requests import PRINT_BYTES, PaymentRequest, Rejected, key_of

_OFFSETS = 1 << 48
_PARTITIONS = 1 << 16
_VERDICTS = {
    EventType.PROCESSED.value: rows.PROCESSED,
    EventType.FAILED.value: rows.FAILED,
    EventType.DUPLICATE.value: rows.DUPLICATE,
    EventType.CONFLICT.value: rows.CONFLICT,
}
_REPEATS = {rows.DUPLICATE, rows.CONFLICT}


class Requests:
    """The input topic.

    Args:
        max_bytes: The largest request whose outcome can be published.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._high_ms: dict[int, int] = {}

    def rows(self, chunk: Chunk) -> Rows:
        """Return a row for each record."""
        found = np.zeros(len(chunk.offsets), rows.REQUEST)
        parsed = parse_all(chunk.values, chunk.refused, self._max_bytes)
        valid = np.array([type(each) is PaymentRequest for each in parsed], np.bool_)
        found["valid"] = valid
        found["named"] = [each.payment_id is not None for each in parsed]
        identities = map(_identity, parsed, chunk.values)
        keys, found["print"] = split_identities(b"".join(identities))
        found["key_high"], found["key_low"] = keys[:, 0], keys[:, 1]
        found["content"] = hashes(request_content(each, self._max_bytes) for each in parsed)
        amounts = [amount_of_request(each) for each in parsed]
        found["minor"], found["currency"] = zip(*amounts, strict=True)
        found["origin"] = np.array(chunk.offsets, np.uint64) + np.uint64(origin(chunk.partition, 0))
        found["time_ms"] = chunk.times_ms
        high_ms = np.maximum.accumulate(found["time_ms"])
        before_ms = self._high_ms.get(chunk.partition, 0)
        found["high_ms"] = np.maximum(high_ms, before_ms)
        self._high_ms[chunk.partition] = int(found["high_ms"][-1])
        return found


class Events:
    """One output topic.

    Args:
        topic: Its name.
        requested: The name of the input topic.
        findings: Gets what is wrong with an event by itself.
    """

    def __init__(self, topic: str, requested: str, findings: Findings) -> None:
        self.topic = topic
        self._requested = requested
        self._findings = findings
        self._records: dict[int, Records] = {}

    def _events(self, chunk: Chunk) -> Iterable[tuple[int, Event, int]]:
        """Yield the events about a record: their offset, and that record's origin."""
        for offset, key, value in zip(chunk.offsets, chunk.keys, chunk.values, strict=True):
            place = RecordPlace(self.topic, chunk.partition, offset)
            try:
                event = decode(value or b"")
            except msgspec.DecodeError:
                self._findings.add(FindingKind.PHANTOM, "is no event of this flow", place)
                continue
            source = self._origin(event.source)
            if source is None:
                text = "tells of a record that is not of the input topic"
                self._findings.add(FindingKind.PHANTOM, text, place)
                continue
            self._look_at(event, key, place)
            yield offset, event, source

    def _origin(self, source: Source) -> int | None:
        if source.topic != self._requested or not (
            0 <= source.partition < _PARTITIONS and 0 <= source.offset < _OFFSETS
        ):
            return None
        return origin(source.partition, source.offset)

    def _look_at(self, event: Event, key: bytes | None, place: RecordPlace) -> None:
        source = event.source
        records = self._records.get(source.partition)
        if records is None:
            records = self._records[source.partition] = Records(self._requested, source.partition)
        if event.event_id != records.event_id(source.offset):
            text = "has an eventId that does not follow from its source"
            self._findings.add(FindingKind.CONTENT, text, place)
        if key != (None if event.payment_id is None else event.payment_id.encode()):
            self._findings.add(FindingKind.CONTENT, "has a key that is not its paymentId", place)


class Outcomes(Events):
    """The processed and the failed topic.

    Args:
        verdict: `rows.PROCESSED` or `rows.FAILED`.
        topic: Its name.
        requested: The name of the input topic.
        findings: Gets what is wrong with an event by itself.
    """

    def __init__(self, verdict: int, topic: str, requested: str, findings: Findings) -> None:
        super().__init__(topic, requested, findings)
        self._code = verdict - rows.PROCESSED
        self._verdict = verdict

    def rows(self, chunk: Chunk) -> Rows:
        """Return a row for each event of the flow's."""
        found: list[tuple[Any, ...]] = []
        contents: list[bytes] = []
        replies: list[bytes] = []
        for offset, event, source in self._events(chunk):
            place = RecordPlace(self.topic, chunk.partition, offset)
            at = event.processed_at if self._verdict == rows.PROCESSED else event.failed_at
            if _VERDICTS.get(event.event_type) != self._verdict:
                text = f"is not of this topic, but {event.event_type[:40]}"
                self._findings.add(FindingKind.CONTENT, text, place)
            decided_ms = milliseconds(at)
            if decided_ms < 0:
                self._findings.add(FindingKind.CONTENT, "does not say when it was decided", place)
            minor, currency = amount_of_event(event)
            contents.append(event_content(event))
            replies.append(reply_of(event))
            found.append(
                (source, self._code, 0, 0, decided_ms, minor, currency, chunk.partition, offset)
            )
        table = np.array(found, rows.OUTCOME)
        table["content"], table["reply"] = hashes(contents), hashes(replies)
        return table


class Audits(Events):
    """The audit topic."""

    def rows(self, chunk: Chunk) -> Rows:
        """Return a row for each event of the flow's."""
        found: list[tuple[Any, ...]] = []
        replies: list[bytes] = []
        for offset, event, source in self._events(chunk):
            place = RecordPlace(self.topic, chunk.partition, offset)
            verdict = _VERDICTS.get(event.event_type, rows.NONE)
            first = event.first_source and self._origin(event.first_source)
            decided_ms = milliseconds(event.occurred_at)
            if verdict == rows.NONE:
                self._findings.add(FindingKind.CONTENT, "has an eventType that is none", place)
            elif (verdict in _REPEATS) != (event.first_source is not None):
                text = "has a firstSource, or lacks one, against its eventType"
                self._findings.add(FindingKind.VERDICT, text, place)
            elif event.first_source is not None and first is None:
                text = "names a first record that is not of the input topic"
                self._findings.add(FindingKind.VERDICT, text, place)
            if decided_ms < 0:
                self._findings.add(FindingKind.CONTENT, "does not say when it was decided", place)
            named = event.payment_id is not None
            key_low = int.from_bytes(key_of(event.payment_id)[8:], "little") if named else 0  # type: ignore[arg-type]
            replies.append(reply_of(event))
            # One that names nobody names itself, which is wrong as well, and found later.
            found.append(
                (
                    source,
                    verdict,
                    key_low,
                    0,
                    decided_ms,
                    source if first is None else first,
                    chunk.partition,
                    offset,
                )
            )
        table = np.array(found, rows.AUDIT)
        table["reply"] = hashes(replies)
        return table


class Claims:
    """The lanes' log.

    Args:
        topic: Its name.
        findings: Gets the records that cannot be read.

    Attributes:
        foreign: Records that no lane has written, which a start passes over.
    """

    def __init__(self, topic: str, findings: Findings) -> None:
        self._topic = topic
        self._findings = findings
        self.foreign = 0

    def rows(self, chunk: Chunk) -> Rows:
        """Return a row for each entry."""
        found = [np.empty(0, rows.CLAIM)]
        for offset, headers, value in zip(chunk.offsets, chunk.headers, chunk.values, strict=True):
            if not is_of_a_lane(headers):
                self.foreign += 1
                continue
            try:
                lane_in(headers)
                entries = entries_in(value or b"")
            except ForeignRecordError as error:
                place = RecordPlace(self._topic, chunk.partition, offset)
                self._findings.add(FindingKind.CLAIM, f"cannot be read: {error}", place)
                continue
            claims = np.empty(len(entries), rows.CLAIM)
            claims["key_high"], claims["key_low"] = entries["key"][:, 0], entries["key"][:, 1]
            claims["origin"], claims["print"] = places(entries["origin"]), entries["fingerprint"]
            claims["partition"], claims["offset"] = chunk.partition, offset
            found.append(claims)
        return np.concatenate(found)


def last_seen_ms(value: bytes | None) -> int | None:
    """Return when the newest id of a record of the lanes' log was seen; None for other records."""
    try:
        dates_s = entries_in(value or b"")["date_s"]
    except ForeignRecordError:
        return None
    return int(dates_s.max()) * 1000 if len(dates_s) else None


def payment_id_of(value: bytes | None) -> str | None:
    """Return the paymentId in a request or an event, for a person to look for."""
    parsed = parse(value, len(value or b""))
    return parsed.payment_id


def _identity(parsed: PaymentRequest | Rejected, value: bytes | None) -> bytes:
    if isinstance(parsed, PaymentRequest):
        return parsed.identity()
    if parsed.payment_id is not None:
        return key_of(parsed.payment_id) + bytes(PRINT_BYTES)
    return crc32(value or b"").to_bytes(8, "little") + bytes(8 + PRINT_BYTES)
