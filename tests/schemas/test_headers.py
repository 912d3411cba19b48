"""The headers of events: what is passed on, the limits of it, and CloudEvents' attributes."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from dataflow.config import header_names
from dataflow.core.lane_log import headers as lane_headers
from schemas.headers import (
    MAX_FORWARDED_BYTES,
    MAX_VALUE_BYTES,
    MOST_FORWARDED,
    Headers,
    cloud_events,
    content_type,
    forwarded,
)
from schemas.outcomes import EventType
from tests import ROOT
from tests.published import examples

NAMES = header_names.DEFAULT
Read = list[tuple[str, bytes | None]]


def test_only_what_is_wanted_is_passed_on_unchanged_in_its_order() -> None:
    read: Read = [
        ("baggage", b"a=1"),
        ("other", b"x"),
        ("traceparent", b"\xff\x00"),
        ("baggage", b""),
        ("tracestate", None),
    ]
    assert forwarded(read, NAMES) == [read[0], *read[2:]]


@pytest.mark.parametrize("name", ["Traceparent", "TRACEPARENT", "traceparent ", "trace", ""])
def test_a_name_is_exact(name: str) -> None:
    assert forwarded([(name, b"x")], NAMES) == []


def test_a_value_is_passed_on_up_to_the_limit_of_its_size() -> None:
    largest = ("baggage", bytes(MAX_VALUE_BYTES))
    assert forwarded([largest], NAMES) == [largest]
    assert forwarded([("baggage", bytes(MAX_VALUE_BYTES + 1))], NAMES) == []


def test_no_more_than_a_number_of_headers_are_passed_on() -> None:
    read: Read = [("baggage", b"%d" % n) for n in range(MOST_FORWARDED + 1)]
    assert forwarded(read, NAMES) == read[:MOST_FORWARDED]


def test_a_header_that_does_not_fit_any_more_is_left_out_and_a_smaller_one_is_not() -> None:
    half = MAX_FORWARDED_BYTES // 2 - len("baggage")
    whole: Read = [("baggage", bytes(half))] * 2
    assert forwarded(whole, NAMES) == whole, "exactly the limit, names included"
    read: Read = [("baggage", bytes(half)), ("baggage", bytes(half - 50)), ("baggage", bytes(100))]
    small = ("baggage", b"x")
    assert forwarded([*read, small], NAMES) == [*read[:2], small]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.none() | st.integers(0, MAX_VALUE_BYTES + 2).map(bytes),
        ),
        max_size=MOST_FORWARDED + 5,
    )
)
def test_headers_that_are_passed_on_never_exceed_the_limits(read: Read) -> None:
    kept = forwarded(read, NAMES)
    assert len(kept) <= MOST_FORWARDED
    assert sum(len(name) + len(value or b"") for name, value in kept) <= MAX_FORWARDED_BYTES
    rest: Iterator[Any] = iter(read)
    assert all(each in rest for each in kept), "in their order"


# ---- CloudEvents ----


def test_the_attributes_are_those_of_the_kafka_binding_in_binary_mode() -> None:
    """Section 3.2 of the binding; all of its required attributes, and the time."""
    at = "2026-01-01T00:00:00.500Z"
    assert cloud_events("audit.events", "id-1", EventType.DUPLICATE, at) == [
        ("ce_specversion", "1.0"),
        ("ce_id", "id-1"),
        ("ce_source", "/audit.events"),
        ("ce_type", "payment.duplicate"),
        ("ce_time", at),
        ("content-type", "application/json"),
    ]


def test_source_and_id_together_are_unique_though_outcome_and_audit_share_the_id() -> None:
    outcome, audit = (dict(each) for each in examples.headers().values())
    assert outcome["ce_id"] == audit["ce_id"]
    assert outcome["ce_source"] != audit["ce_source"]
    assert outcome["traceparent"] == audit["traceparent"] == examples.TRACEPARENT[1]


def test_the_asyncapi_document_has_every_header_and_no_other() -> None:
    document = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text())
    schema: dict[str, Any] = document["components"]["schemas"]["eventHeaders"]
    formats = {content_type(each) for each in ("json", "avro", "json-registry")}
    assert {*schema["properties"]["content-type"]["enum"]} == formats
    for headers in examples.headers().values():
        shown = {name: text(value) for name, value in headers}
        Draft7Validator(schema).validate(shown)
        names = dict.fromkeys([*header_names.DEFAULT, *shown])
        assert sorted(names) == sorted(schema["properties"])


def text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


# ---- names that the flow writes itself ----


def own_headers() -> Headers:
    return lane_headers(1, 4) + cloud_events("t", "i", EventType.FAILED, "a")


@pytest.mark.parametrize("name", [name for name, _ in own_headers()])
def test_a_header_that_the_flow_writes_itself_is_none_that_can_be_passed_on(name: str) -> None:
    """Else a sender could make a record look like that of a lane, or like another event."""
    for spelled in (name, name.upper()):
        with pytest.raises(ValueError, match="a header that the flow writes itself"):
            header_names.parse(f"traceparent,{spelled}")


@pytest.mark.parametrize(
    ("value_format", "expected"),
    [
        ("json", "application/json"),
        ("json-registry", "application/json"),
        ("avro", "application/avro"),
    ],
)
def test_the_content_type_is_that_of_the_format(value_format: str, expected: str) -> None:
    attributes = cloud_events("t", "i", EventType.FAILED, "a", content_type(value_format))
    assert dict(attributes)["content-type"] == expected
