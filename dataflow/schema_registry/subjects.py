"""The schemas of the outputs in the registry: their subjects, how they are found, and registered.

1. A topic's subject is its name with `-value` (Confluent's TopicNameStrategy).
2. The flow registers nothing: a schema that any start may register has no owner, and a start with a
   wrong setting would register it anywhere. `payments schemas register` does it.
3. A new subject gets a compatibility level. That of Avro is FULL_TRANSITIVE: topics keep events
   for long, and readers change whenever they like, so each version reads all others. Of an open
   JSON Schema a registry takes any new field for a break of readers that come later, so its level
   is FORWARD_TRANSITIVE: what is written now is what all earlier readers expect.
"""

from enum import Enum, auto
from typing import NamedTuple

import msgspec

from dataflow.config.settings import KafkaSettings
from dataflow.schema_registry.client import NotInRegistryError, Registry, RegistryRefusedError
from schemas import avro, contract
from schemas.contract import Message

JSON, AVRO, JSON_REGISTRY = "json", "avro", "json-registry"
"""The values of KAFKA_VALUE_FORMAT."""
_LEVELS = {"AVRO": "FULL_TRANSITIVE", "JSON": "FORWARD_TRANSITIVE"}
_KINDS = {AVRO: "AVRO", JSON_REGISTRY: "JSON"}
_REQUESTED, _PROCESSED, _FAILED, _AUDIT = avro.MESSAGES
_encode = msgspec.json.Encoder().encode


class OutputSchema(NamedTuple):
    """A schema of ours, and where it belongs."""

    topic: str
    kind: str
    """AVRO or JSON, as the registry names them."""
    text: str

    @property
    def subject(self) -> str:
        """The name that it has versions under."""
        return f"{self.topic}-value"


class State(Enum):
    """The state of a schema in its subject."""

    REGISTERED = auto()
    FITS = auto()
    """It is not there, and may be registered."""
    INCOMPATIBLE = auto()


class Found(NamedTuple):
    """A schema, and how it stands."""

    schema: OutputSchema
    state: State
    schema_id: int | None = None
    level: str | None = None
    """The compatibility level of the subject, if it has one of its own. Not looked up if the schema
    is registered."""


def of_outputs(kafka: KafkaSettings, value_format: str) -> list[OutputSchema]:
    """Return the schemas of the three topics with events."""
    topics = zip(kafka.topics_published, (_PROCESSED, _FAILED, _AUDIT), strict=True)
    return [_schema(topic, message, value_format) for topic, message in topics]


def of_requests(kafka: KafkaSettings, value_format: str) -> OutputSchema:
    """Return the schema of requests, which senders may use or replace by one of their own."""
    return _schema(kafka.topic_requested, _REQUESTED, value_format)


def _schema(topic: str, message: Message, value_format: str) -> OutputSchema:
    kind = _KINDS[value_format]
    schema = avro.schema_of(message) if kind == "AVRO" else contract.schema_of(message)
    return OutputSchema(topic, kind, _encode(schema).decode())


def look(registry: Registry, schema: OutputSchema) -> Found:
    """Return how a schema stands; raises `RegistryAwayError`."""
    try:
        schema_id = registry.id_of(schema.subject, schema.kind, schema.text)
    except NotInRegistryError:
        level = registry.level(schema.subject)
        fits = not registry.versions(schema.subject) or registry.is_compatible(
            schema.subject, schema.kind, schema.text
        )
        return Found(schema, State.FITS if fits else State.INCOMPATIBLE, level=level)
    # No other question: the user of a start may read schemas, and perhaps nothing else.
    return Found(schema, State.REGISTERED, schema_id)


def register(registry: Registry, found: Found) -> int:
    """Register a schema, and return its id; a new subject gets its level.

    Raises:
        RegistryRefusedError: it is not compatible with those before it, or the registry does not
            take it.
        RegistryAwayError: the registry does not answer.
    """
    schema = found.schema
    if found.level is None:
        registry.set_level(schema.subject, _LEVELS[schema.kind])
    if found.state is State.INCOMPATIBLE:
        raise RegistryRefusedError(incompatible(found))
    return registry.register(schema.subject, schema.kind, schema.text)


def incompatible(found: Found) -> str:
    """Return what to do about a schema that may not follow those before it."""
    level = found.level or "the registry's own"
    return (
        f"subject {found.schema.subject}: the schema of this version is not compatible with those"
        f" before it (level: {level}). If another program writes to this topic, use another topic;"
        " if another version of this service does, docs/schema-registry.md has the order of an"
        " upgrade"
    )


def problem(found: Found) -> str | None:
    """Return why nothing can be written with a schema yet, and what to do; None if it can."""
    match found.state:
        case State.REGISTERED:
            return None
        case State.FITS:
            return (
                f"subject {found.schema.subject}: it does not have the schema of this version;"
                " register it with: payments schemas register"
            )
        case State.INCOMPATIBLE:
            return incompatible(found)
