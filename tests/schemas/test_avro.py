"""The events in Avro have what their JSON has, and versions of the schemas read each other."""

import copy
import json
from io import BytesIO
from typing import Any
from unittest.mock import patch

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from hypothesis import given
from msgspec import Struct

from dataflow.schema_registry import avro_codec
from schemas import avro, contract, events
from schemas.contract import Message, Schema
from schemas.events import AuditEvent, FailedEvent, ProcessedEvent, Resolution
from schemas.outcomes import ErrorCode, EventType
from schemas.parsing import parse
from schemas.replies import Declined
from schemas.requests import PaymentRequest, Rejected
from tests import published
from tests.published import examples
from tests.schemas.json_requests import any_values
from tests.schemas.test_event_size import AT, OFFSET, RECORDS, REQUEST_MAX_BYTES

MESSAGES = {message.name: message for message in avro.MESSAGES}
NAME_OF = {
    ProcessedEvent: "payment-processed",
    FailedEvent: "payment-failed",
    AuditEvent: "audit-event",
}
DECLINED = Declined(ErrorCode.CARD_EXPIRED, "The card has expired.", retryable=False)
WITH_CODE = Declined(ErrorCode.DECLINED, "é", retryable=True, provider_code="51")


def current() -> dict[str, Schema]:
    return {name: avro.schema_of(message) for name, message in MESSAGES.items()}


def last() -> dict[str, Schema]:
    return {path.stem: json.loads(path.read_text()) for path in published.LAST.glob("*.avsc")}


def written(schema: Schema, record: Any) -> bytes:
    target = BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(dict(schema), {}), record)
    return target.getvalue()


def read(data: bytes, writer: Schema, reader: Schema | None = None) -> Any:
    by = None if reader is None else fastavro.parse_schema(dict(reader), {})
    return fastavro.schemaless_reader(BytesIO(data), fastavro.parse_schema(dict(writer), {}), by)


def events_of(value: bytes | None) -> list[avro.Event]:
    """Return every kind of event that a record may have."""
    event_id, source = RECORDS.event_id(OFFSET), RECORDS.source(OFFSET)
    parsed = parse(value, REQUEST_MAX_BYTES)
    if isinstance(parsed, Rejected):
        error = events.error_of(parsed)
        outcomes: list[avro.Event] = [
            events.rejected(event_id, source, parsed, AT, REQUEST_MAX_BYTES)
        ]
    else:
        assert isinstance(parsed, PaymentRequest)
        error = events.error_of(WITH_CODE)
        outcomes = [
            events.processed(event_id, source, parsed, "ch_1", AT),
            *(
                events.declined(event_id, source, parsed, events.error_of(reply), AT)
                for reply in (DECLINED, WITH_CODE)
            ),
        ]
    audit: dict[str, Any] = {"event_id": event_id, "payment_id": parsed.payment_id}
    audit["source"] = source
    more: list[dict[str, Any]] = [{"gateway_reference": "ch_1"}, {"error": error}]
    more.append({"first_source": source})
    more.append({"resolution": Resolution("ann", AT, "ticket 7")})
    return [
        *outcomes,
        *(
            AuditEvent(**audit, **each, event_type=EventType.DUPLICATE, occurred_at=AT)
            for each in more
        ),
    ]


@given(any_values)
def test_an_event_in_avro_has_all_that_its_json_has(value: bytes | None) -> None:
    for event in events_of(value):
        schema = avro.schema_of(MESSAGES[NAME_OF[type(event)]])
        data = avro_codec.writer(schema)(avro.plain(event))
        assert avro.as_json(read(data, schema)) == events.encode(event)
        # So an event that fits its topic in JSON does so in Avro.
        assert len(data) <= len(events.encode(event))


def test_a_persons_decision_with_any_instant_is_published() -> None:
    """It is in a record of the pending topic, which other programs may write as well."""
    event = AuditEvent(
        event_id="e",
        event_type=EventType.FAILED,
        payment_id="p",
        source=RECORDS.source(1),
        occurred_at=AT,
        resolution=Resolution("ann", "yesterday", "ticket 7"),
    )
    data = avro_codec.writer(current()[published.AUDIT])(avro.plain(event))
    assert avro.as_json(read(data, current()[published.AUDIT])) == events.encode(event)


def test_a_field_of_a_new_type_needs_a_type_of_avro() -> None:
    """It would be written as a string, whose first value would end the flow."""

    class Event(Struct):
        error: float

    message = Message("event", Event, "", fields={})
    with patch.dict(avro.NAMES, {Event: "Event"}), pytest.raises(TypeError, match="error"):
        avro.schema_of(message)


def test_an_instant_is_one_to_the_millisecond() -> None:
    for millis in range(0, 2000, 7):
        at = events.instant(1_767_225_600 + millis / 1000)
        event = AuditEvent(
            event_id="e",
            event_type=EventType.PROCESSED,
            payment_id=None,
            source=RECORDS.source(1),
            occurred_at=at,
        )
        assert avro.plain(event)["occurredAt"] == 1_767_225_600_000 + millis


def test_the_files_are_those_of_the_code() -> None:
    """`make contract` writes them."""
    found = {path.name: path.read_bytes() for path in published.AVRO_FILES.iterdir()}
    assert found == avro.files()


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_schema_has_the_fields_of_the_json_in_their_order(message: Message) -> None:
    fields = avro.schema_of(message)["fields"]
    assert [field["name"] for field in fields] == [*contract.schema_of(message)["properties"]]
    optional = {field["name"] for field in fields if "default" in field}
    required = set(contract.schema_of(message)["required"]) - {"paymentId"}
    assert optional.isdisjoint(required)
    assert all(field["default"] is None for field in fields if "default" in field)


# ---- evolution ----


def samples(name: str) -> list[dict[str, Any]]:
    """Return events of a message, or requests, as records of its schema of today."""
    if name == published.REQUESTED:
        plain = {"paymentId": "p", "userId": "u", "amount": "1.50", "currency": "USD"}
        plain |= {"paymentMethod": "card"}
        return [plain | {"metadata": each} for each in (None, '{"a":1}')]
    found = [event for value in examples.RECORDS.values() for event in events_of(value)]
    return [avro.plain(event) for event in found if NAME_OF[type(event)] == name]


def reads(writer: Schema, reader: Schema, record: Any) -> Any:
    return read(written(writer, record), writer, reader)


@pytest.mark.parametrize("name", last())
def test_the_last_published_version_and_this_one_read_each_other(name: str) -> None:
    old, new = last()[name], current()[name]
    assert samples(name)
    for record in samples(name):
        for writer, reader in ((old, new), (new, old), (new, new)):
            found = reads(writer, reader, record)
            for field in {each["name"] for each in old["fields"]}:
                assert found[field] == read(written(new, record), new)[field]


def test_every_message_is_published() -> None:
    """A release copies the files; without them, the test above compares nothing."""
    assert last().keys() == MESSAGES.keys()


def changed(schema: Schema, **field: Any) -> Schema:
    new = copy.deepcopy(schema)
    new["fields"].append(field)
    return new


@pytest.mark.parametrize("name", MESSAGES)
def test_a_field_with_null_as_its_default_may_be_added(name: str) -> None:
    old = current()[name]
    new = changed(old, name="later", type=["null", "string"], default=None)
    for record in samples(name):
        assert reads(old, new, record)["later"] is None
        assert "later" not in reads(new, old, record | {"later": "x"})


@pytest.mark.parametrize("name", MESSAGES)
def test_a_change_that_breaks_readers_is_noticed(name: str) -> None:
    """The tests above would also pass if nothing was compared."""
    old = current()[name]
    renamed = copy.deepcopy(old)
    renamed["fields"][0]["name"] = "other"
    [record, *_] = samples(name)
    with pytest.raises(SchemaResolutionError):
        reads(old, renamed, record)
    with pytest.raises(SchemaResolutionError):
        reads(old, changed(old, name="later", type="string"), record)


def test_the_code_of_a_later_version_is_read() -> None:
    """It would not be, if the codes were an enum."""
    [record, *_] = [each for each in samples(published.FAILED) if each["error"]]
    record["error"] = record["error"] | {"code": "a_later_one"}
    schema = current()[published.FAILED]
    assert reads(schema, last()[published.FAILED], record)["error"]["code"] == "a_later_one"


def test_an_amount_that_is_no_number_is_not_taken_for_json() -> None:
    with pytest.raises(ValueError, match="amount"):
        avro.as_json({"amount": '1,"paymentId":"x"'})
    with pytest.raises(ValueError, match="JSON"):
        avro.as_json({"metadata": '{},"amount":1'})
