"""An event always fits its topic: a request at the limit, and all that is added to it.

Kafka compares `max.message.bytes` with a batch, which has a frame of its own around key and value.
"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import events
from schemas.events import (
    EVENT_OVERHEAD_BYTES,
    AuditEvent,
    FailedEvent,
    ProcessedEvent,
    Records,
    encode,
    instant,
)
from schemas.headers import MAX_FORWARDED_BYTES, MOST_FORWARDED, cloud_events
from schemas.outcomes import ErrorCode, EventType
from schemas.parsing import parse
from schemas.replies import Declined
from schemas.requests import PaymentRequest
from tests import published
from tests.schemas.json_requests import any_values, texts, written

FRAME_BYTES = 100
"""A record batch of one record: 61 bytes, and up to 30 around key and value."""
ATTRIBUTES = cloud_events("t" * 249, "-" * 36, EventType.DUPLICATE, "2026-01-01T00:00:00.000Z")
LENGTHS_BYTES = 10
"""Of a header: the lengths of name and value, at the most."""
HEADERS_BYTES = (
    MAX_FORWARDED_BYTES
    + sum(len(name) + len(str(value)) for name, value in ATTRIBUTES)
    + LENGTHS_BYTES * (MOST_FORWARDED + len(ATTRIBUTES))
)
"""The most that an event has."""
MESSAGE_MAX_BYTES = 65_536
REQUEST_MAX_BYTES = MESSAGE_MAX_BYTES - EVENT_OVERHEAD_BYTES
RECORDS = Records("t" * 249, 2**31 - 1)
OFFSET = 2**48 - 1
AT = instant(1767225600)
WORST = "\x01"
"""A character that JSON makes six bytes of."""
WORST_REFERENCE = WORST * 255
WORST_DECLINE = Declined(
    ErrorCode.AUTHENTICATION_REQUIRED, WORST * 500, retryable=True, provider_code=WORST * 64
)


def sizes(value: bytes | None) -> list[int]:
    """Return the sizes of the events that a record may become, with its key and Kafka's frame."""
    event_id, source = RECORDS.event_id(OFFSET), RECORDS.source(OFFSET)
    parsed = parse(value, REQUEST_MAX_BYTES)
    reason = WORST_DECLINE if isinstance(parsed, PaymentRequest) else parsed
    error = events.error_of(reason)
    outcomes: dict[str, ProcessedEvent | FailedEvent] = {}
    if isinstance(parsed, PaymentRequest):
        outcomes = {
            published.PROCESSED: events.processed(event_id, source, parsed, WORST_REFERENCE, AT),
            published.FAILED: events.declined(event_id, source, parsed, error, AT),
        }
    else:
        rejected = events.rejected(event_id, source, parsed, AT, REQUEST_MAX_BYTES)
        outcomes = {published.FAILED: rejected}
    for name, outcome in outcomes.items():
        published.assert_valid(name, encode(outcome))
    audit = AuditEvent(
        event_id=event_id,
        event_type=EventType.PROCESSED,
        payment_id=parsed.payment_id,
        source=source,
        occurred_at=AT,
        first_source=source,
        gateway_reference=WORST_REFERENCE,
        error=error,
    )
    key = (parsed.payment_id or "").encode()
    values = map(encode, (*outcomes.values(), audit))
    return [len(value) + len(key) + HEADERS_BYTES + FRAME_BYTES for value in values]


def assert_fits(value: bytes | None) -> None:
    assert max(sizes(value)) <= MESSAGE_MAX_BYTES


def filled(size: int, unit: bytes, **changes: object) -> bytes:
    """Return a request of this size, or as near as `unit`, repeated in its metadata, allows."""
    room = size - len(written(metadata={"note": ""}, **changes))
    return written(metadata=b'{"note":"' + unit * (room // len(unit)) + b'"}', **changes)


UNITS = [b"x", "\U0001f4b3".encode(), b"\\u0001", b'\\"', b"\\ud83d\\udcb3"]
TEXTS = [WORST * 255, "\U0001f4b3" * 255, '"' * 255, "x" * 255, "p"]


@pytest.mark.parametrize("text", TEXTS, ids=["control", "wide", "quotes", "long", "short"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("amount", [b"1", b"999999999999.99" + b"0" * 9, b"-1", b"null"])
def test_a_request_of_any_size_fits(unit: bytes, text: str, amount: bytes) -> None:
    names = dict.fromkeys(["paymentId", "userId", "paymentMethod"], text)
    for size in (REQUEST_MAX_BYTES, REQUEST_MAX_BYTES + 1, 2 * REQUEST_MAX_BYTES):
        assert_fits(filled(size, unit, **names, amount=amount))


@pytest.mark.parametrize("size", [REQUEST_MAX_BYTES, REQUEST_MAX_BYTES + 1, 1_000_000])
@pytest.mark.parametrize("unit", [b"\xff", b"\x00", b"[", b'"', b'\\"', b"{}", "\u20ac".encode()])
def test_undecodable_bytes_of_any_size_fit(unit: bytes, size: int) -> None:
    assert_fits((unit * size)[:size])


@pytest.mark.parametrize("size", [REQUEST_MAX_BYTES, REQUEST_MAX_BYTES + 1, 1_000_000])
@pytest.mark.parametrize(
    "start",
    [
        b'{"metadata":{"note":"',
        b'{"payload":"',
        b'{"paymentId":1,"userId":"","amount":"","currency":"usd","metadata":{"note":"',
    ],
)
def test_an_object_without_a_readable_field_fits(start: bytes, size: int) -> None:
    end = b'"}}' if start.count(b"{") == 2 else b'"}'
    value = start + b"x" * (size - len(start) - len(end)) + end
    assert len(value) == size
    assert_fits(value)


def test_a_request_with_everything_wrong_fits() -> None:
    assert_fits(b'{"paymentId":1,"userId":"","amount":"","currency":"usd","metadata":1}')


@given(any_values)
def test_any_record_fits(value: bytes | None) -> None:
    assert_fits(value)


@given(any_values, st.integers(REQUEST_MAX_BYTES - 300, REQUEST_MAX_BYTES + 300))
def test_any_record_fits_when_it_is_padded_to_the_limit(value: bytes | None, size: int) -> None:
    assert_fits((value or b"").ljust(size))


@given(texts, texts, texts, st.sampled_from(UNITS))
def test_a_valid_request_at_the_limit_is_processed_and_fits(
    payment_id: str, user_id: str, method: str, unit: bytes
) -> None:
    value = filled(
        REQUEST_MAX_BYTES, unit, paymentId=payment_id, userId=user_id, paymentMethod=method
    )
    assert isinstance(parse(value, REQUEST_MAX_BYTES), PaymentRequest)
    assert_fits(value)


def test_an_event_is_never_smaller_than_what_it_passes_on() -> None:
    """The tests above would also pass if events were just empty."""
    value = filled(REQUEST_MAX_BYTES, b"x")
    metadata = msgspec.json.decode(value, type=dict[str, msgspec.Raw])["metadata"]
    assert min(sizes(value)[:2]) > len(bytes(metadata))
