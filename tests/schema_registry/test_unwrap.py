"""The records of a poll become JSON, up to the first one whose schema is not there yet."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from dataflow.schema_registry import lookup
from dataflow.schema_registry.client import FoundSchema
from dataflow.schema_registry.lookup import GRACE_S, Answer, Refusal, SchemaLookup
from dataflow.schema_registry.requests import converter
from dataflow.schema_registry.unwrap import MOST_IDS, Unwrap
from schemas.outcomes import ErrorCode
from schemas.wire_format import header, schema_id
from tests.schema_registry.samples import OURS, Clock, Schemas, content
from tests.schemas.json_requests import accepted, written

MAX_BYTES = 1_000
AVRO, JSON, GARBAGE, UNKNOWN, LATE = 7, 8, 9, 10, 11
ANSWERS: dict[int, Answer] = {
    AVRO: converter(FoundSchema("AVRO", json.dumps(OURS))),
    JSON: converter(FoundSchema("JSON", "{}")),
    UNKNOWN: Refusal(ErrorCode.UNKNOWN_SCHEMA, "it is not there", 0.0),
}


class Lookup:
    """A look-up with some answers."""

    def __init__(self) -> None:
        self.asked: list[set[int]] = []

    def find(self, ids: Collection[int]) -> Mapping[int, Answer]:
        self.asked.append(set(ids))
        return {each: ANSWERS[each] for each in ids if each in ANSWERS}


def unwrap(*values: bytes | None) -> tuple[Any, list[set[int]]]:
    lookup = Lookup()
    return Unwrap(lookup, MAX_BYTES)(values), lookup.asked  # type: ignore[arg-type]


def of(schema: int, data: bytes | None = None) -> bytes:
    return header(schema) + (content(OURS) if data is None else data)


def test_the_header_is_that_of_confluent() -> None:
    """Written by hand, from its documentation."""
    assert header(7) == b"\x00\x00\x00\x00\x07"
    assert header(2**31 - 1) == b"\x00\x7f\xff\xff\xff"
    assert schema_id(b"\x00\x00\x00\x01\x02x") == 258
    assert [schema_id(value) for value in (b"\0\0\0\0\7", b"\1\0\0\0\7x", b"{}", b"")] == [None] * 4


def test_json_is_left_alone_without_a_question() -> None:
    values = [written(), None, b"", b"garbage", b"\0"]
    found, asked = unwrap(*values)
    assert (found.values, found.refused, asked) == (values, {}, [])


def test_records_of_every_format_come_out_as_json_in_their_order() -> None:
    found, _ = unwrap(written(paymentId="a"), of(AVRO), of(JSON, written(paymentId="c")), None)
    ids = [accepted(value).payment_id for value in found.values[:3]]
    assert ids == ["a", "pay_123", "c"]
    assert found.values[3] is None
    assert found.refused == {}


def test_records_from_one_without_its_schema_on_wait() -> None:
    found, asked = unwrap(written(), of(AVRO), of(LATE), written(), of(JSON, b"{}"))
    assert len(found.values) == 2
    # All of them are asked for at once: they would be waited for one after the other.
    assert asked == [{AVRO, LATE, JSON}]


def test_records_that_each_name_another_unknown_id_come_out_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Garbage that begins with a zero. The first of so many answers would be forgotten first."""
    clock, schemas = Clock(), Schemas()
    found = SchemaLookup(schemas, clock)
    monkeypatch.setattr(found, "_start", lambda: None)
    monkeypatch.setattr(lookup, "_MOST_UNKNOWN", 2 * MOST_IDS)
    unwrap, values = Unwrap(found, MAX_BYTES), [of(n, b"x") for n in range(5 * MOST_IDS)]
    rounds = 0
    while values:
        values = values[len(unwrap(values).values) :]
        found.look()
        clock.now_s += GRACE_S
        found.look()
        rounds += 1
        assert rounds <= 2 * 5 + 1


def test_nothing_comes_out_if_the_first_one_waits() -> None:
    found, _ = unwrap(of(LATE), written())
    assert found.values == []


def test_an_unknown_schema_is_a_refusal_that_names_it() -> None:
    value = of(UNKNOWN)
    found, _ = unwrap(written(), value)
    [rejected] = found.refused.values()
    assert [*found.refused] == [1]
    assert rejected.code is ErrorCode.UNKNOWN_SCHEMA
    assert rejected.message == "the record has schema id 10: it is not there"
    assert rejected.original == found.values[1] == value


def test_bytes_of_another_schema_are_malformed() -> None:
    found, _ = unwrap(of(AVRO, b"\xff\xff"), of(AVRO))
    [rejected] = found.refused.values()
    assert rejected.code is ErrorCode.MALFORMED
    assert rejected.message.startswith("the record has schema id 7: its bytes are not what")
    assert accepted(found.values[1]).payment_id == "pay_123"


def test_a_record_that_is_too_large_is_not_read() -> None:
    found, _ = unwrap(of(JSON, b" " * MAX_BYTES))
    [rejected] = found.refused.values()
    assert rejected.code is ErrorCode.TOO_LARGE
