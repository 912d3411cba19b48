"""The published events, as documentation of the contract: every byte of each kind.

The audit events are in `tests/steps/test_publish.py`.
"""

import base64
import json
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import events
from schemas.events import Error, FailedEvent, ProcessedEvent, Records, encode, instant
from schemas.outcomes import ErrorCode
from schemas.replies import Declined
from schemas.requests import PaymentRequest
from tests import published
from tests.schemas.json_requests import MAX_BYTES, accepted, refused, written
from tests.support.card_numbers import card_numbers

RECORDS = Records("payments.payment-requested", 3)
AT = instant(1767225600.1239)
REQUEST = written(amount=b'"99.990"', metadata=b'{ "orderId" : "order_789" }')


def one_line(text: str) -> bytes:
    """Drop what makes a JSON document readable."""
    return "".join(line.strip() for line in text.splitlines()).encode()


def valid(name: str, event: ProcessedEvent | FailedEvent) -> bytes:
    """Return the bytes of an event, once they have passed its published schemas."""
    value = encode(event)
    published.assert_valid(name, value)
    return value


def processed(request: PaymentRequest) -> bytes:
    event_id, source = RECORDS.event_id(42), RECORDS.source(42)
    return valid(published.PROCESSED, events.processed(event_id, source, request, "ch_1", AT))


def declined(request: PaymentRequest) -> bytes:
    reply = Declined(ErrorCode.INSUFFICIENT_FUNDS, "The balance is too low.", retryable=True)
    error = events.error_of(reply)
    event_id, source = RECORDS.event_id(42), RECORDS.source(42)
    return valid(published.FAILED, events.declined(event_id, source, request, error, AT))


def rejected(value: bytes | None, max_bytes: int = MAX_BYTES) -> bytes:
    reason = refused(value, max_bytes)
    event = events.rejected(RECORDS.event_id(42), RECORDS.source(42), reason, AT, max_bytes)
    return valid(published.FAILED, event)


class TestProcessed:
    def test_it_is_the_request_and_the_gateway_reference(self) -> None:
        assert processed(accepted(REQUEST)) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.processed",
             "paymentId":"pay_123",
             "userId":"user_456",
             "amount":99.990,
             "currency":"USD",
             "paymentMethod":"credit_card",
             "metadata":{ "orderId" : "order_789" },
             "gatewayReference":"ch_1",
             "processedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42}}
        """)

    def test_an_offset_without_metadata_has_none(self) -> None:
        assert "metadata" not in json.loads(processed(accepted(written())))

    def test_metadata_that_is_null_stays_null(self) -> None:
        assert json.loads(processed(accepted(written(metadata=None))))["metadata"] is None


class TestDeclined:
    def test_it_is_the_request_and_the_reason(self) -> None:
        assert declined(accepted(REQUEST)) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":"pay_123",
             "userId":"user_456",
             "amount":99.990,
             "currency":"USD",
             "paymentMethod":"credit_card",
             "metadata":{ "orderId" : "order_789" },
             "error":{"code":"insufficient_funds",
                      "message":"The balance is too low.",
                      "retryable":true},
             "failedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42}}
        """)

    def test_the_code_of_the_provider_is_passed_on(self) -> None:
        reply = Declined(ErrorCode.DECLINED, "No.", retryable=False, provider_code="do_not_honor")
        assert encode(events.error_of(reply)) == one_line("""
            {"code":"declined","message":"No.","retryable":false,"providerCode":"do_not_honor"}
        """)

    def test_a_long_message_is_cut(self) -> None:
        error = events.error_of(Declined(ErrorCode.DECLINED, "x" * 501, retryable=False))
        assert error == Error(ErrorCode.DECLINED, "x" * 500, retryable=False)


class TestRejected:
    def test_a_tombstone(self) -> None:
        assert rejected(None) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":null,
             "error":{"code":"tombstone","message":"the record has no value","retryable":false},
             "failedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42}}
        """)

    def test_too_large_has_what_is_not_large(self) -> None:
        assert rejected(written(metadata={"note": "x" * 900}), 1000) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":"pay_123",
             "userId":"user_456",
             "amount":99.99,
             "currency":"USD",
             "paymentMethod":"credit_card",
             "error":{"code":"too_large",
                      "message":"the record has 1028 bytes, at most 1000 are accepted",
                      "retryable":false},
             "failedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42}}
        """)

    def test_malformed_has_the_record_in_base64(self) -> None:
        assert rejected(b"pay_123\xff") == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":null,
             "error":{"code":"malformed","message":"the record is not UTF-8","retryable":false},
             "failedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "original":"cGF5XzEyM/8="}
        """)

    def test_invalid_has_the_fields_that_can_be_read(self) -> None:
        value = written(userId=7, amount=b"99.995", metadata=b'{"a":"\\u00e9" }')
        assert rejected(value) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":"pay_123",
             "amount":99.995,
             "currency":"USD",
             "paymentMethod":"credit_card",
             "metadata":{"a":"\\u00e9" },
             "error":{"code":"invalid",
                      "message":"userId: must be a string; amount: must have at most 2 decimals in USD",
                      "retryable":false},
             "failedAt":"2026-01-01T00:00:00.123Z",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42}}
        """)  # noqa: E501  (a message is one line)


class TestOriginal:
    def test_an_envelope_is_there_in_base64(self) -> None:
        value = b'{"payload":' + written() + b"}"
        event = json.loads(rejected(value))
        assert base64.b64decode(event["original"], validate=True) == value
        assert event["paymentId"] is None
        assert event["error"]["code"] == "invalid"

    @given(card_numbers(), st.sampled_from(["", " \xff"]))
    def test_card_numbers_are_masked_in_it(self, card: str, more: str) -> None:
        value = f'{{"pan":"{card}","id":1767225600123}}{more}'.encode("latin-1")
        event = json.loads(rejected(value))
        shown = base64.b64decode(event["original"], validate=True)
        assert shown == value.replace(card.encode(), b"*" * len(card))

    @given(card_numbers(), st.integers(0, 19))
    def test_half_a_card_number_at_its_end_is_masked(self, card: str, cut: int) -> None:
        before = b"\xff" * (75 - cut)
        event = json.loads(rejected(before + card.encode() + b"!" * 100, 100))
        shown = base64.b64decode(event["original"], validate=True)
        assert shown == (before + b"*" * len(card) + b"!" * 100)[:75]

    @given(st.binary(max_size=74))
    @example(b"x" * 74)
    def test_a_record_that_fits_is_whole(self, value: bytes) -> None:
        event = json.loads(rejected(b"\xff" + value, 100))
        assert base64.b64decode(event["original"], validate=True) == b"\xff" + value
        assert "originalTruncated" not in event

    @given(st.binary(min_size=75))
    def test_one_that_does_not_fit_is_cut_and_marked(self, value: bytes) -> None:
        event = json.loads(rejected(b"\xff" + value, 100))
        assert base64.b64decode(event["original"], validate=True) == b"\xff" + value[:74]
        assert event["originalTruncated"] is True

    @pytest.mark.parametrize("max_bytes", range(100, 112))
    def test_the_text_is_never_larger_than_the_largest_request(self, max_bytes: int) -> None:
        event = json.loads(rejected(b"\xff" * 200, max_bytes))
        assert max_bytes - 4 < len(event["original"]) <= max_bytes


class TestAmount:
    @pytest.mark.parametrize("digits", [b"99.990", b"1e2", b"0.10", b"100", b"1.5E+3", b"1.0E-1"])
    @pytest.mark.parametrize("quote", [b"", b'"'])
    def test_it_is_a_json_number_with_the_digits_that_were_sent(
        self, digits: bytes, quote: bytes
    ) -> None:
        request = accepted(written(amount=quote + digits + quote))
        for event in (processed(request), declined(request)):
            assert b',"amount":' + digits + b',"currency"' in event

    def test_one_that_breaks_a_rule_has_its_digits_too(self) -> None:
        assert b',"amount":-0.005,' in rejected(written(amount=b'"-0.005"'))


class TestEventId:
    @given(st.text(), st.integers(0, 2**31), st.integers(0, 2**48 - 1))
    def test_it_is_a_uuid_of_version_8(self, topic: str, partition: int, offset: int) -> None:
        event_id = Records(topic, partition).event_id(offset)
        parsed = uuid.UUID(event_id)
        assert str(parsed) == event_id
        assert parsed.variant == uuid.RFC_4122
        assert parsed.version == 8

    @given(st.tuples(st.text(), st.integers(0, 2**31), st.integers(0, 2**48 - 1)))
    def test_the_same_record_has_the_same_id(self, record: tuple[str, int, int]) -> None:
        topic, partition, offset = record
        assert Records(topic, partition).event_id(offset) == (
            Records(topic, partition).event_id(offset)
        )

    def test_no_other_record_has_it(self) -> None:
        records = [Records(topic, n) for topic in ("a", "b", "a/1") for n in (0, 1, 10, 256)]
        offsets = [*range(300), 2**16, 2**32, 2**47, 2**48 - 1]
        ids = [each.event_id(offset) for each in records for offset in offsets]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1709164800, "2024-02-29T00:00:00.000Z"),
        (1735689599.9996, "2024-12-31T23:59:59.999Z"),
        (4102444800.5, "2100-01-01T00:00:00.500Z"),
    ],
)
def test_instants_are_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert instant(seconds) == text


def test_a_batch_has_the_ids_and_sources_of_its_records() -> None:
    offsets = [0, 7, 2**47]
    assert RECORDS.event_ids(offsets) == [RECORDS.event_id(offset) for offset in offsets]
    assert RECORDS.sources(offsets) == [RECORDS.source(offset) for offset in offsets]
