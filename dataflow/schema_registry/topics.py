"""The records of all topics of a flow as JSON, for the tools that read them.

Their rules are about JSON. What cannot be read stays as it is: a request is compared with the
failed event that it must have, and an event is found to be none.
"""

import time
from collections.abc import Callable, Sequence

from dataflow.config.settings import Settings
from dataflow.core.unwrapped import Unwrapped
from dataflow.errors import ConsumeError, SettingsError
from dataflow.schema_registry import avro_codec
from dataflow.schema_registry.client import (
    TOOL_TIMEOUT_S,
    NotInRegistryError,
    Registry,
    RegistryAwayError,
    RegistryRefusedError,
)
from dataflow.schema_registry.lookup import SchemaLookup
from dataflow.schema_registry.unwrap import Unwrap
from schemas import avro
from schemas.events import EVENT_OVERHEAD_BYTES
from schemas.wire_format import HEADER_BYTES, schema_id

_TIMEOUT_S = 60.0
_PAUSE_S = 0.05


class TopicsAsJson:
    """A converter of records that name a schema into JSON, for one tool.

    Args:
        settings: Of the flow.

    Raises:
        SettingsError: the registry refuses the login.
    """

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self._registry = Registry(settings.schema_registry, TOOL_TIMEOUT_S)
        try:
            self._registry.probe()
        except RegistryRefusedError as refused:
            raise SettingsError([str(refused)]) from refused
        except RegistryAwayError as away:
            raise ConsumeError(f"the schema registry is away: {away}") from away
        self._lookup = SchemaLookup(self._registry)
        self._unwrap = Unwrap(self._lookup, kafka.message_max_bytes - EVENT_OVERHEAD_BYTES)
        self._requested = kafka.topic_requested
        self._published = {*kafka.topics_published}
        self._events: dict[int, Callable[[bytes], bytes]] = {}

    def __call__(self, topic: str, values: Sequence[bytes | None]) -> Unwrapped:
        """Return all of the records as JSON; raise `ConsumeError` without their schemas."""
        if topic == self._requested:
            return self._requests(values)
        if topic in self._published:
            return Unwrapped([self._event(value) for value in values], {})
        return Unwrapped([*values], {})

    def _requests(self, values: Sequence[bytes | None]) -> Unwrapped:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while len((found := self._unwrap(values)).values) < len(values):
            if time.monotonic() > deadline_s:
                raise ConsumeError(f"requests cannot be read: {self._lookup.awaited()}")
            time.sleep(_PAUSE_S)
        return found

    def _event(self, value: bytes | None) -> bytes | None:
        schema = None if value is None else schema_id(value)
        if value is None or schema is None:
            return value
        if schema not in self._events:
            self._events[schema] = self._converter(schema)
        try:
            return self._events[schema](value[HEADER_BYTES:])
        except ValueError:
            return value

    def _converter(self, schema: int) -> Callable[[bytes], bytes]:
        try:
            found = self._registry.schema(schema)
            if found.kind != "AVRO":
                return bytes
            read = avro_codec.reader(found.text, found.references)
        except (NotInRegistryError, avro_codec.UnusableSchemaError):
            return _unreadable
        except RegistryAwayError as away:
            raise ConsumeError(f"events cannot be read: the registry is away: {away}") from away
        return lambda content: avro.as_json(read(content))


def _unreadable(_content: bytes) -> bytes:
    raise ValueError
