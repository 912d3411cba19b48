"""An event with a header names its schema, and is what that describes."""

import json
from io import BytesIO

import fastavro

from dataflow.config.settings import Settings
from dataflow.schema_registry import outputs, subjects
from schemas import avro, events
from schemas.events import AuditEvent
from schemas.outcomes import EventType
from tests.support.required import REQUIRED

EVENT = AuditEvent(
    event_id="64746a08-39ac-88b8-83c5-00000000002a",
    event_type=EventType.PROCESSED,
    payment_id="pay_1",
    source=events.Source("requests", 3, 42),
    occurred_at="2026-01-01T00:00:00.500Z",
    gateway_reference="ch_1",
)
KAFKA = Settings.from_env(REQUIRED).kafka


def test_an_event_in_avro_begins_with_the_id_of_its_schema() -> None:
    *_, schema = subjects.of_outputs(KAFKA, "avro")
    value = outputs.encoder(schema, 7)(EVENT)
    assert value[:5] == b"\x00\x00\x00\x00\x07"
    parsed = fastavro.parse_schema(json.loads(schema.text), {})
    record = fastavro.schemaless_reader(BytesIO(value[5:]), parsed, None)
    assert avro.as_json(record) == events.encode(EVENT)  # type: ignore[arg-type]


def test_an_event_in_json_begins_with_the_id_of_its_schema() -> None:
    *_, schema = subjects.of_outputs(KAFKA, "json-registry")
    value = outputs.encoder(schema, 258)(EVENT)
    assert value == b"\x00\x00\x00\x01\x02" + events.encode(EVENT)


def test_a_subject_is_named_after_its_topic() -> None:
    schemas = [*subjects.of_outputs(KAFKA, "avro"), subjects.of_requests(KAFKA, "avro")]
    assert {schema.subject: json.loads(schema.text)["name"] for schema in schemas} == {
        "payments.payment-processed-value": "PaymentProcessed",
        "payments.payment-failed-value": "PaymentFailed",
        "audit.payment-events-value": "AuditEvent",
        "payments.payment-requested-value": "PaymentRequested",
    }
