"""A request in Avro is read as the same request in JSON would be."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.schema_registry.avro_codec import UnreadableError, UnusableSchemaError
from dataflow.schema_registry.client import FoundSchema
from dataflow.schema_registry.requests import converter
from schemas.parsing import parse
from schemas.requests import PaymentRequest
from tests.schema_registry.samples import DECIMAL, FIELDS, OURS, as_json, content, schema
from tests.schemas.json_requests import accepted, refused, valid_requests


def record(name: str, **types: Any) -> dict[str, Any]:
    fields = [{"name": each, "type": kind} for each, kind in types.items()]
    return {"type": "record", "name": name, "fields": fields}


def doubled(times: int, kind: Any) -> dict[str, Any]:
    """Return a type with two of a type, with two of a type, and so on."""
    found = record("R0", a=kind)
    for n in range(times):
        found = record(f"R{n + 1}", a=found, b=f"R{n}")
    return found


def amount(of: Any, value: Any) -> str:
    request = accepted(as_json(schema(amount=of), amount=value))
    return request.digits.decode()


class TestFields:
    def test_every_field_is_read(self) -> None:
        assert as_json(OURS) == (
            b'{"paymentId":"pay_123","userId":"user_456","amount":"99.990","currency":"USD",'
            b'"paymentMethod":"credit_card","metadata":{"orderId":"order_789"}}'
        )

    @given(valid_requests())
    def test_a_request_is_the_same_in_both_formats(self, drawn: tuple[bytes, Any]) -> None:
        value, _ = drawn
        request = accepted(value)
        metadata = bytes(request.metadata).decode() if request.metadata else None
        same = {
            "paymentId": request.payment_id,
            "userId": request.user_id,
            "amount": request.digits.decode(),
            "currency": request.currency,
            "paymentMethod": request.payment_method,
            "metadata": metadata,
        }
        again = accepted(as_json(OURS, **same))
        assert again.identity() == request.identity()
        assert again.digits == request.digits
        assert (bytes(again.metadata).decode() if again.metadata else None) == metadata

    def test_unknown_fields_are_ignored(self) -> None:
        sender = schema(channel=["null", "string"], attempts={"type": "array", "items": "long"})
        assert accepted(as_json(sender, channel="app", attempts=[1, 2])).payment_id == "pay_123"

    def test_null_is_an_absent_field(self) -> None:
        sender = schema(metadata=["null", "string"], userId=["null", "string"])
        assert b"metadata" not in as_json(sender, metadata=None)
        assert refused(as_json(sender, userId=None)).message == "userId: is required"

    def test_an_enum_is_its_symbol(self) -> None:
        currencies = {"type": "enum", "name": "Currency", "symbols": ["EUR", "USD"]}
        assert accepted(as_json(schema(currency=currencies))).currency == "USD"

    def test_a_field_of_a_wrong_type_breaks_its_rule(self) -> None:
        rejected = refused(as_json(schema(paymentId="long"), paymentId=7))
        assert rejected.message == "paymentId: must be a string"
        assert rejected.user_id == "user_456"


class TestAmounts:
    @pytest.mark.parametrize(
        ("of", "value", "digits"),
        [
            ("string", "99.990", "99.990"),
            ("string", "1e2", "1e2"),
            (DECIMAL, Decimal("12.340"), "12.340"),
            (["null", DECIMAL], Decimal("12.3"), "12.300"),
            ({**DECIMAL, "type": "fixed", "name": "Money", "size": 9}, Decimal("0.1"), "0.100"),
            ("int", 7, "7"),
            ("long", 10**11, "100000000000"),
            ("double", 19.99, "19.99"),
        ],
    )
    def test_an_amount_keeps_its_digits(self, of: Any, value: Any, digits: str) -> None:
        assert amount(of, value) == digits

    def test_a_decimal_beyond_its_precision_is_not_rounded(self) -> None:
        """As the library would: it charges 123,500 instead of 123,456.30."""
        wide, narrow = schema(amount=DECIMAL), schema(amount={**DECIMAL, "precision": 4})
        data = content(wide, amount=Decimal("123456.300"))
        read = converter(FoundSchema("AVRO", json.dumps(narrow)))
        assert accepted(read(data)).digits == b"123456.300"

    def test_a_decimal_of_more_digits_than_a_context_has_is_exact(self) -> None:
        wide = {**DECIMAL, "precision": 60, "scale": 30}
        text = "0.000000000000000000000000000001"
        assert b'"amount":%b' % text.encode() in as_json(schema(amount=wide), amount=Decimal(text))

    @pytest.mark.parametrize(
        ("of", "value"),
        [("double", float("nan")), ("double", float("inf")), ("boolean", True), ("bytes", b"9")],
    )
    def test_a_value_that_is_no_number_is_refused(self, of: Any, value: Any) -> None:
        rejected = refused(as_json(schema(amount=of), amount=value))
        assert rejected.message.startswith("amount: must be a JSON number")

    def test_a_negative_decimal_is_refused(self) -> None:
        rejected = refused(as_json(schema(amount=DECIMAL), amount=Decimal("-1.000")))
        assert rejected.message == "amount: must be greater than 0"


class TestMetadata:
    @pytest.mark.parametrize("text", ['{"a":1.10}', '{ "a" : [1, {}] }', "{}"])
    def test_the_text_of_an_object_is_that_object_byte_for_byte(self, text: str) -> None:
        assert bytes(accepted(as_json(OURS, metadata=text)).metadata) == text.encode()  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "text", ['{"a":1},"amount":0.01', '{"a":1', "[]", "null", "7", "", "x", '"{}"', "[" * 10**5]
    )
    def test_any_other_text_is_refused_and_changes_no_other_field(self, text: str) -> None:
        rejected = refused(as_json(OURS, metadata=text))
        assert rejected.message == "metadata: must be a JSON object"
        assert rejected.digits == b"99.990"

    def test_a_map_is_an_object(self) -> None:
        kind = {"type": "map", "values": ["string", "long", DECIMAL]}
        sender = schema(metadata=kind)
        value = as_json(sender, metadata={"a": "b", "n": 2**60, "d": Decimal("1.100")})
        assert bytes(accepted(value).metadata) == b'{"a":"b","n":1152921504606846976,"d":1.100}'  # type: ignore[arg-type]

    def test_a_record_with_every_logical_type_is_an_object(self) -> None:
        inner = {
            "type": "record",
            "name": "More",
            "fields": [
                {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
                {"name": "on", "type": {"type": "int", "logicalType": "date"}},
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                {"name": "blob", "type": "bytes"},
            ],
        }
        more = {"id": "64746a08-39ac-88b8-83c5-00000000002a", "on": 1, "at": 0, "blob": b"\xff"}
        value = as_json(schema(metadata=inner), metadata=more)
        assert json.loads(bytes(accepted(value).metadata)) == {  # type: ignore[arg-type]
            "id": "64746a08-39ac-88b8-83c5-00000000002a",
            "on": "1970-01-02",
            "at": "1970-01-01T00:00:00+00:00",
            "blob": "/w==",
        }


class TestOtherBytes:
    """No bytes and no schema may end the flow, or be taken for another payment."""

    def test_bytes_that_are_left_over_are_refused(self) -> None:
        read = converter(FoundSchema("AVRO", json.dumps(OURS)))
        with pytest.raises(UnreadableError, match="2 are left"):
            read(content(OURS) + b"\0\0")

    def test_a_record_that_is_cut_is_refused(self) -> None:
        read = converter(FoundSchema("AVRO", json.dumps(OURS)))
        whole = content(OURS)
        for length in range(len(whole)):
            with pytest.raises(UnreadableError):
                read(whole[:length])

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        kinds = schema(
            amount=["null", DECIMAL, "double"],
            more={"type": "array", "items": {"type": "map", "values": ["null", "bytes"]}},
            at={"type": "long", "logicalType": "timestamp-millis"},
        )
        for sender in (OURS, kinds):
            read = converter(FoundSchema("AVRO", json.dumps(sender)))
            with suppress(UnreadableError):
                parse(read(data), 1_000)

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            ({"type": "array", "items": "null"}, "a value without bytes"),
            ({"type": "map", "values": "null"}, "a value without bytes"),
            (
                {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
                "a value without bytes",
            ),
            (
                {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
                "a value without bytes",
            ),
            # One byte for a thousand values, in each item.
            (
                {"type": "array", "items": record("I", a="boolean", b="null")},
                "a value without bytes",
            ),
            (doubled(40, "null"), "a value without bytes"),
            (
                {
                    "type": "record",
                    "name": "L",
                    "fields": [{"name": "next", "type": ["null", "L"]}],
                },
                "its type L contains itself",
            ),
            ({**DECIMAL, "precision": 2000, "scale": 1001}, "scale is not from 0 to 1000"),
            ({**DECIMAL, "scale": -5}, "scale is not from 0 to 1000"),
        ],
    )
    def test_a_schema_that_a_few_bytes_can_stop_the_flow_with_is_refused(
        self, kind: Any, reason: str
    ) -> None:
        with pytest.raises(UnusableSchemaError, match=reason):
            converter(FoundSchema("AVRO", json.dumps(schema(more=kind))))

    def test_a_type_whose_values_cannot_be_counted_takes_as_many_bytes(self) -> None:
        """Nor does it take longer to look at than to write."""
        read = converter(FoundSchema("AVRO", json.dumps(schema(metadata=doubled(60, "boolean")))))
        with pytest.raises(UnreadableError):
            read(content(schema(metadata="bytes"), metadata=b"\1" * 1000))

    def test_an_own_field_of_the_record_may_be_without_bytes(self) -> None:
        sender = schema(metadata="null", more=record("Empty"))
        assert accepted(as_json(sender, metadata=None, more={})).payment_id == "pay_123"

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (record("Long", **{"n" * 1_000: "boolean"}), {"n" * 1_000: True}),
            ({**DECIMAL, "precision": 1_000, "scale": 1_000}, Decimal(0)),
        ],
        ids=["names", "decimals"],
    )
    def test_json_that_would_be_a_thousand_times_as_long_is_not_written(
        self, kind: Any, value: Any
    ) -> None:
        sender = schema(metadata=record("M", items={"type": "array", "items": kind}))
        short = as_json(sender, metadata={"items": [value] * 1_000})
        assert len(short) > 1_000_000
        with pytest.raises(UnreadableError, match="cannot be written as JSON"):
            as_json(sender, metadata={"items": [value] * 11_000})

    def test_a_type_that_is_used_twice_does_not_contain_itself(self) -> None:
        place = {"type": "record", "name": "Place", "fields": [{"name": "at", "type": "string"}]}
        sender = schema(first=place, second="Place")
        value = as_json(sender, first={"at": "a"}, second={"at": "b"})
        assert accepted(value).payment_id == "pay_123"

    @pytest.mark.parametrize("text", ["", "{", '"nonsense"', '{"type":"record"}', "7"])
    def test_a_schema_that_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(UnusableSchemaError):
            converter(FoundSchema("AVRO", text))

    def test_a_schema_of_no_record_reads_no_request(self) -> None:
        read = converter(FoundSchema("AVRO", '"string"'))
        with pytest.raises(UnreadableError, match="describes no record"):
            read(b"\x04ab")

    def test_a_record_without_any_field_of_a_request_is_kept_as_it_is(self) -> None:
        fields = [{"name": "payload", "type": "string"}]
        envelope = {"type": "record", "name": "Envelope", "fields": fields}
        read = converter(FoundSchema("AVRO", json.dumps(envelope)))
        with pytest.raises(UnreadableError, match="none of the fields of a request"):
            read(b"\x02x")

    def test_protobuf_is_not_read(self) -> None:
        with pytest.raises(UnusableSchemaError, match="of type PROTOBUF: only AVRO and JSON"):
            converter(FoundSchema("PROTOBUF", 'syntax = "proto3";'))

    def test_an_error_quotes_nothing_of_the_record(self) -> None:
        read = converter(FoundSchema("AVRO", json.dumps(OURS)))
        with pytest.raises(UnreadableError) as caught:
            read(b"\x284111 1111 1111 1111")
        assert "4111" not in str(caught.value)


def test_a_schema_may_refer_to_types_of_others() -> None:
    place = {"type": "record", "name": "Place", "fields": [{"name": "at", "type": "string"}]}
    city = {"type": "record", "name": "City", "fields": [{"name": "place", "type": "Place"}]}
    sender = schema(city="City")
    found = FoundSchema("AVRO", json.dumps(sender), (json.dumps(place), json.dumps(city)))
    whole = schema(city={**city, "fields": [{"name": "place", "type": place}]})
    data = content(whole, city={"place": {"at": "x"}})
    assert isinstance(parse(converter(found)(data), 1_000), PaymentRequest)


def test_json_is_passed_on_byte_for_byte() -> None:
    value = json.dumps(FIELDS).encode()
    assert converter(FoundSchema("JSON", "{}"))(value) == value
