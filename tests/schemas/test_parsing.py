"""The payment requests, the records that are none, and the reason the sender gets."""

import json

import msgspec
import pytest
from msgspec import UNSET

from schemas.outcomes import ErrorCode
from schemas.parsing import MAX_DEPTH, parse
from schemas.requests import Rejected
from tests.schemas.json_requests import FIELDS, MAX_BYTES, accepted, in_order, refused, written

NOT_AN_AMOUNT = "amount: must be a JSON number, or a string with one, of at most 40 digits"
CONFLUENT = "the record is not JSON: it looks like Confluent's wire format, schema id"
NOT_A_CURRENCY = "currency: must be an ISO 4217 code of a currency with minor units, such as USD"


def nested(depth: int) -> bytes:
    """Return metadata that makes the whole request `depth` levels deep."""
    return b'{"a":' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"}"


class TestAccepted:
    def test_every_field_is_read(self) -> None:
        request = accepted(
            b'{"paymentId":"pay_123","userId":"user_456","amount":99.99,"currency":"USD",'
            b'"paymentMethod":"credit_card","metadata":{"orderId":"order_789"}}'
        )
        assert request.payment_id == "pay_123"
        assert request.user_id == "user_456"
        assert request.digits == b"99.99"
        assert request.currency == "USD"
        assert request.payment_method == "credit_card"
        assert request.metadata == msgspec.Raw(b'{"orderId":"order_789"}')

    def test_metadata_may_be_missing(self) -> None:
        assert accepted(written()).metadata is UNSET

    @pytest.mark.parametrize(
        "metadata",
        [
            b"null",
            b"{}",
            b'{ "a"\t: \r\n1 }',
            b'{"a":1,"a":2}',
            b'{"big":123456789012345678901234567890.10e+400}',
            b'{"escaped":"\\u00e9\\/\\ud83d\\ude00","plain":"\xc3\xa9/"}',
            b'{"brackets":"[[[{{{"}',
            b'{"":{"":[null,true,false,[]]}}',
        ],
    )
    def test_metadata_is_kept_byte_for_byte(self, metadata: bytes) -> None:
        request = accepted(written(metadata=b" " + metadata + b" "))
        assert isinstance(request.metadata, msgspec.Raw)
        assert bytes(request.metadata) == metadata

    @pytest.mark.parametrize(
        "unknown", [b"null", b"[1,2]", b'{"a":{}}', b"9" * 5000, b"1e9999", b'"\xf0\x9f\x92\xb3"']
    )
    def test_unknown_fields_are_ignored(self, unknown: bytes) -> None:
        assert accepted(written(comment=unknown)) == accepted(written())

    def test_white_space_may_stand_between_all_tokens(self) -> None:
        spaced = json.dumps(json.loads(written()), indent="\t", separators=(" ,\r\n", " : "))
        assert accepted(f"\n {spaced} \n".encode()) == accepted(written())

    @pytest.mark.parametrize(
        ("field", "text"),
        [("paymentId", "p"), ("userId", "ü" * 255), ("paymentMethod", "\U0001f4b3" * 255)],
    )
    def test_a_text_has_1_to_255_characters_however_many_bytes(self, field: str, text: str) -> None:
        assert json.loads(written(**{field: text}))[field] == text
        accepted(written(**{field: text}))

    def test_a_key_may_be_written_with_escapes(self) -> None:
        assert accepted(written().replace(b"paymentId", b"payment\\u0049d")).payment_id == "pay_123"

    def test_a_request_may_be_as_large_as_the_limit(self) -> None:
        smallest = len(written(metadata={"note": ""}))
        value = written(metadata={"note": "x" * (MAX_BYTES - smallest)})
        assert len(value) == MAX_BYTES
        accepted(value)


class TestRepeatedKeys:
    """Of a repeated key the last counts, whatever the others were."""

    @pytest.mark.parametrize("first", [b'"other"', b"1", b"null", b'""', b'{"a":[]}'])
    @pytest.mark.parametrize("field", [*FIELDS, "metadata"])
    def test_the_last_counts(self, field: str, first: bytes) -> None:
        pairs = [(name, msgspec.json.encode(value)) for name, value in FIELDS.items()]
        pairs.append(("metadata", b"{}"))
        assert accepted(in_order([(field, first), *pairs])) == accepted(in_order(pairs))

    def test_a_wrong_last_is_not_saved_by_a_right_first(self) -> None:
        value = written()[:-1] + b',"userId":7}'
        assert refused(value).message == "userId: must be a string"


class TestPrecedence:
    """The first of these that applies is the code."""

    def test_1_no_value(self) -> None:
        assert parse(None, 0) == Rejected(
            code=ErrorCode.TOMBSTONE, message="the record has no value"
        )

    @pytest.mark.parametrize("value", [written(), written(amount=-1), b"[" * 500, b"\xff" * 500])
    def test_2_too_large(self, value: bytes) -> None:
        rejected = refused(value, max_bytes=len(value) - 1)
        assert rejected.code is ErrorCode.TOO_LARGE
        assert rejected.message == (
            f"the record has {len(value)} bytes, at most {len(value) - 1} are accepted"
        )

    def test_3_malformed(self) -> None:
        assert refused(written(amount=-1)[:-1]).code is ErrorCode.MALFORMED

    def test_4_invalid(self) -> None:
        assert refused(written(amount=-1)).code is ErrorCode.INVALID


class TestTooLarge:
    def test_readable_fields_are_kept_unless_they_are_large(self) -> None:
        rejected = refused(written(metadata={"note": "x" * 200}, userId=""), max_bytes=200)
        assert rejected.payment_id == "pay_123"
        assert rejected.digits == b"99.99"
        assert rejected.user_id is None
        assert rejected.metadata is None
        assert rejected.original is None

    def test_the_record_itself_is_kept_if_it_is_no_json_object(self) -> None:
        assert refused(b"x" * 201, max_bytes=200).original == b"x" * 201

    def test_an_envelope_is_kept_itself(self) -> None:
        value = b'{"metadata":{},"payload":' + written(metadata={"note": "x" * 200}) + b"}"
        rejected = refused(value, max_bytes=200)
        assert rejected.code is ErrorCode.TOO_LARGE
        assert (rejected.original, rejected.metadata) == (value, None)


class TestMalformed:
    @pytest.mark.parametrize(
        "value",
        [
            b"\xff" + written(),
            written(paymentId=b'"\xff"'),
            written(metadata=b'{"note":"\xc3("}'),
            written(metadata=b'{"\xed\xa0\x80":1}'),
            written(unknown=b'"\xf8\x88\x80\x80\x80"'),
            written() + b"\x80",
        ],
    )
    def test_no_byte_may_break_utf8(self, value: bytes) -> None:
        assert refused(value).message == "the record is not UTF-8"

    @pytest.mark.parametrize("value", [b"null", b"1", b'"text"', b"[]", b"true"])
    def test_json_that_is_no_object(self, value: bytes) -> None:
        assert refused(value).message == "the record is JSON, but not an object"

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b" ",
            b"pay_123",
            b"{",
            written()[:-1],
            written() + b"}",
            written() * 2,
            written() + b"\x00",
            b"\xef\xbb\xbf" + written(),
            b"\x0c" + written(),
            written().replace(b'"', b"'"),
            written(amount=b"NaN"),
            written(amount=b"Infinity"),
            written(amount=b"01"),
            written(amount=b"1."),
            written(amount=b".5"),
            written(amount=b"+5"),
            written(amount=b"0x10"),
            written(userId=b'"\\ud800"'),
            written(metadata=b'{"note":"\\udc00"}'),
            written(metadata=b'{"note":"\\x41"}'),
            written(metadata=b'{"note":"\n"}'),
            written(metadata=b'{"number":-Infinity}'),
            written(metadata=b'{"number":1e}'),
            written(metadata=b'{"a":1,}'),
            written(unknown=b'"\\ud800x"'),
            written(unknown=b"tru"),
        ],
    )
    def test_values_that_are_not_json(self, value: bytes) -> None:
        """Also inside what is only passed on: an event with it would break every reader."""
        rejected = refused(value)
        assert rejected.code is ErrorCode.MALFORMED
        assert rejected.message.startswith("the record is not JSON: ")

    def test_the_record_itself_is_kept(self) -> None:
        assert refused(b"pay_123").original == b"pay_123"
        assert refused(b"").original == b""

    @pytest.mark.parametrize(
        ("value", "guess"),
        [
            (
                b"\0\0\0\0\x07" + written(),
                f"{CONFLUENT} 7; set SCHEMA_REGISTRY_URL",
            ),
            (
                b"\0\x7f\xff\xff\xff\x02\xc3\x28\xff",
                f"{CONFLUENT} 2147483647; set SCHEMA_REGISTRY_URL",
            ),
            (
                b"\xef\xbb\xbf" + written(),
                "the record is not JSON: it begins with a byte order mark (EF BB BF)",
            ),
            *(
                (
                    written().decode().encode(encoding),
                    f"the record is not UTF-8: it looks like {name}",
                )
                for name, encodings in {
                    "UTF-16": ["utf-16", "utf-16-le", "utf-16-be"],
                    "UTF-32": ["utf-32", "utf-32-le", "utf-32-be"],
                }.items()
                for encoding in encodings
            ),
        ],
    )
    def test_another_format_is_named_if_its_first_bytes_show_it(
        self, value: bytes, guess: str
    ) -> None:
        rejected = refused(value)
        assert rejected.code is ErrorCode.MALFORMED
        assert rejected.message == guess
        assert rejected.original == value

    @pytest.mark.parametrize("value", [b"\0", b"\0\0\0\0\x07"])
    def test_zero_bytes_alone_are_no_format(self, value: bytes) -> None:
        assert "Confluent" not in refused(value).message

    @pytest.mark.parametrize("amount", [b"99.99", b"1e2"], ids=["fast", "thorough"])
    def test_100_levels_of_nesting_are_accepted(self, amount: bytes) -> None:
        accepted(written(metadata=nested(MAX_DEPTH), amount=amount))

    @pytest.mark.parametrize("field", ["metadata", "unknown"])
    def test_101_levels_of_nesting_are_not(self, field: str) -> None:
        rejected = refused(written(**{field: nested(MAX_DEPTH + 1)}))
        assert rejected.code is ErrorCode.MALFORMED
        assert rejected.message == "the record is nested more than 100 levels deep"

    def test_brackets_beside_each_other_are_not_nested(self) -> None:
        accepted(written(metadata=b'{"a":[' + b",".join([b"[]"] * 500) + b"]}"))

    @pytest.mark.parametrize("text", [b"[" * 500, b'\\"' + b"{" * 500, b"[\\\\\\\\" * 500])
    def test_brackets_in_texts_are_not_nested(self, text: bytes) -> None:
        accepted(written(metadata=b'{"a":"' + text + b'"}'))

    @pytest.mark.parametrize(
        "value",
        [b'"' + b'\\"' * 500_000, b"[" * MAX_BYTES, b'{"' * 500_000, b"\\" * MAX_BYTES],
        ids=["escaped quotes", "brackets", "open strings", "backslashes"],
    )
    def test_a_megabyte_made_to_be_slow_is_not(self, value: bytes) -> None:
        """The time grows with the size, not with its square: else this would take an hour."""
        assert refused(value + b" ", max_bytes=len(value) + 1).code is ErrorCode.MALFORMED


class TestInvalid:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            # texts
            ({"paymentId": UNSET}, "paymentId: is required"),
            ({"paymentId": None}, "paymentId: must be a string"),
            ({"paymentId": 7}, "paymentId: must be a string"),
            ({"paymentId": ""}, "paymentId: must have 1 to 255 characters, has 0"),
            ({"paymentId": "x" * 256}, "paymentId: must have 1 to 255 characters, has 256"),
            ({"userId": UNSET}, "userId: is required"),
            ({"userId": []}, "userId: must be a string"),
            ({"userId": "\U0001f4b3" * 256}, "userId: must have 1 to 255 characters, has 256"),
            ({"paymentMethod": UNSET}, "paymentMethod: is required"),
            ({"paymentMethod": {}}, "paymentMethod: must be a string"),
            ({"paymentMethod": ""}, "paymentMethod: must have 1 to 255 characters, has 0"),
            # currency
            ({"currency": UNSET}, "currency: is required"),
            ({"currency": None}, "currency: must be a string"),
            ({"currency": ""}, "currency: must have 1 to 255 characters, has 0"),
            ({"currency": "usd"}, "currency: must be upper case: USD"),
            ({"currency": "USD "}, NOT_A_CURRENCY),
            ({"currency": "XYZ"}, NOT_A_CURRENCY),
            ({"currency": "XAU"}, NOT_A_CURRENCY),
            # amount
            ({"amount": UNSET}, "amount: is required"),
            ({"amount": None}, NOT_AN_AMOUNT),
            ({"amount": True}, NOT_AN_AMOUNT),
            ({"amount": [1]}, NOT_AN_AMOUNT),
            ({"amount": {}}, NOT_AN_AMOUNT),
            ({"amount": ""}, NOT_AN_AMOUNT),
            ({"amount": "1,50"}, NOT_AN_AMOUNT),
            ({"amount": " 1"}, NOT_AN_AMOUNT),
            ({"amount": "+1"}, NOT_AN_AMOUNT),
            ({"amount": "01"}, NOT_AN_AMOUNT),
            ({"amount": "NaN"}, NOT_AN_AMOUNT),
            ({"amount": "Infinity"}, NOT_AN_AMOUNT),
            ({"amount": "१"}, NOT_AN_AMOUNT),
            ({"amount": b"1" + b"0" * 40}, NOT_AN_AMOUNT),
            ({"amount": b"1e100"}, NOT_AN_AMOUNT),
            ({"amount": b"1e-999999999"}, NOT_AN_AMOUNT),
            ({"amount": 0}, "amount: must be greater than 0"),
            ({"amount": b"-0.00"}, "amount: must be greater than 0"),
            ({"amount": -1}, "amount: must be greater than 0"),
            ({"amount": b"1e12"}, "amount: must be less than 10^12"),
            ({"amount": b"1" + b"0" * 39}, "amount: must be less than 10^12"),
            ({"amount": b"99.999"}, "amount: must have at most 2 decimals in USD"),
            ({"amount": b"1e-3"}, "amount: must have at most 2 decimals in USD"),
            (
                {"amount": b"100.5", "currency": "JPY"},
                "amount: must have at most 0 decimals in JPY",
            ),
            # metadata
            ({"metadata": []}, "metadata: must be a JSON object"),
            ({"metadata": "{}"}, "metadata: must be a JSON object"),
            ({"metadata": False}, "metadata: must be a JSON object"),
        ],
    )
    def test_the_message_names_the_field_and_its_rule(
        self, changes: dict[str, object], message: str
    ) -> None:
        rejected = refused(written(**changes))
        assert rejected.code is ErrorCode.INVALID
        assert rejected.message == message

    def test_every_broken_rule_is_named(self) -> None:
        rejected = refused(b'{"paymentId":"","amount":"x","currency":"usd","metadata":1}')
        assert rejected.message.split("; ") == [
            "paymentId: must have 1 to 255 characters, has 0",
            "userId: is required",
            "currency: must be upper case: USD",
            NOT_AN_AMOUNT,
            "paymentMethod: is required",
            "metadata: must be a JSON object",
        ]

    def test_readable_fields_are_kept(self) -> None:
        rejected = refused(written(userId=7, amount=b'"0.5e1"', metadata=b'{ "a":1}', currency="?"))
        assert rejected == Rejected(
            code=ErrorCode.INVALID,
            message=f"userId: must be a string; {NOT_A_CURRENCY}",
            payment_id="pay_123",
            digits=b"0.5e1",
            payment_method="credit_card",
            metadata=msgspec.Raw(b'{ "a":1}'),
        )

    @pytest.mark.parametrize(
        "value",
        [
            b"{}",
            b'{"schema":{"type":"struct"},"payload":' + written() + b"}",
            b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":' + written() + b"}",
            b'{"before":null,"after":' + written() + b',"op":"c","ts_ms":1}',
            b'{"PaymentId":"pay_123","UserId":"u","Amount":1,"Currency":"USD"}',
            b'{"metadata":null,"data":1}',
            b'{"metadata":{"correlationId":"c_1"},"data":' + written() + b"}",
            b'{"paymentId":7,"userId":"","amount":"x","currency":"usd","paymentMethod":null}',
        ],
        ids=["empty", "Connect", "CloudEvents", "Debezium", "Pascal", "null", "meta", "unreadable"],
    )
    def test_the_record_itself_is_kept_if_no_field_can_be_read(self, value: bytes) -> None:
        rejected = refused(value)
        assert rejected.code is ErrorCode.INVALID
        assert rejected.message.startswith("paymentId: ")
        assert (rejected.original, rejected.metadata) == (value, None)

    @pytest.mark.parametrize("field", list(FIELDS))
    def test_one_readable_field_is_trace_enough(self, field: str) -> None:
        rejected = refused(in_order([(field, msgspec.json.encode(FIELDS[field]))]))
        assert rejected.original is None

    def test_an_amount_that_breaks_only_its_bounds_can_be_read(self) -> None:
        assert refused(written(amount=b"-5.00")).digits == b"-5.00"

    def test_an_amount_is_judged_without_a_known_currency_too(self) -> None:
        assert "amount: must be greater than 0" in refused(written(amount=0, currency="?")).message
