"""The headers of events: those of the request that are passed on, and CloudEvents attributes.

1. A header of the request is passed on unchanged to all that its record becomes, if its name is one
   of those that are wanted, exactly: as in Kafka, `Traceparent` is not `traceparent`. Repeats are
   passed on as well, in their order.
2. What is passed on has limits, so that an event always fits its topic. What exceeds them is left
   out and counted, and is never an error: no header may cost a payment.
3. The attributes are those of CloudEvents 1.0 in the binary mode of its Kafka binding. An outcome
   and its audit event share their id; so the source, which makes an id unique, is the topic.
"""

from collections.abc import Collection, Iterable

from schemas.outcomes import EventType

Headers = list[tuple[str, str | bytes | None]]
"""As the client takes them, and gives them, with bytes."""

MOST_FORWARDED = 16
"""Headers of one request that are passed on."""
MAX_VALUE_BYTES = 8 * 1024
"""Of one of them; W3C lets baggage have as many."""
MAX_FORWARDED_BYTES = 16 * 1024
"""Of all of them, names and values."""
JSON, AVRO = "application/json", "application/avro"
"""The types of an event; of what follows the id of its schema, if it names one."""


def content_type(value_format: str) -> str:
    """Return the type of the events in a format, as `KAFKA_VALUE_FORMAT` names it."""
    return AVRO if value_format == "avro" else JSON


def forwarded(headers: Iterable[tuple[str, bytes | None]], names: Collection[str]) -> Headers:
    """Return the headers with these names that are within the limits, in their order."""
    kept: Headers = []
    left_bytes = MAX_FORWARDED_BYTES
    for name, value in headers:
        if name not in names or len(kept) == MOST_FORWARDED:
            continue
        value_bytes = len(value or b"")
        size = len(name.encode()) + value_bytes
        if value_bytes <= MAX_VALUE_BYTES and size <= left_bytes:
            left_bytes -= size
            kept.append((name, value))
    return kept


def cloud_events(
    topic: str, event_id: str, event_type: EventType, at: str, content_type: str = JSON
) -> Headers:
    """Return the CloudEvents attributes of an event on a topic, which was decided at an instant."""
    return [
        ("ce_specversion", "1.0"),
        ("ce_id", event_id),
        ("ce_source", f"/{topic}"),
        ("ce_type", event_type.value),
        ("ce_time", at),
        ("content-type", content_type),
    ]
