"""The events in the formats that name a schema: a header, then Avro or JSON."""

from collections.abc import Callable

import msgspec

from dataflow.schema_registry import avro_codec
from dataflow.schema_registry.subjects import OutputSchema
from schemas import avro, events
from schemas.avro import Event
from schemas.wire_format import header

Encode = Callable[[Event], bytes]


def encoder(schema: OutputSchema, schema_id: int) -> Encode:
    """Return how the events of a topic become the values of its records."""
    start = header(schema_id)
    if schema.kind == "JSON":
        return lambda event: start + events.encode(event)
    write = avro_codec.writer(msgspec.json.decode(schema.text))
    return lambda event: start + write(avro.plain(event))
