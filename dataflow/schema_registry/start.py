"""The schema registry at a start: wait until it answers, and look up the schemas of the outputs."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import NamedTuple, TypeVar

from dataflow.config.settings import SchemaRegistrySettings, Settings
from dataflow.core.unwrapped import UnwrapRecords
from dataflow.errors import SettingsError, StartRefusedError
from dataflow.observability.outage import Outage
from dataflow.observability.status import Status
from dataflow.schema_registry import outputs, subjects
from dataflow.schema_registry.client import Registry, RegistryAwayError, RegistryRefusedError
from dataflow.schema_registry.lookup import SchemaLookup
from dataflow.schema_registry.outputs import Encode
from dataflow.schema_registry.unwrap import Unwrap
from dataflow.service.shutdown import Lifecycle

_PAUSE_S = 0.5
_T = TypeVar("_T")


class Formats(NamedTuple):
    """The formats of one process, once the registry has answered."""

    encoders: Mapping[str, Encode]
    """By topic, the functions that turn events into bytes; none for a topic with plain JSON."""
    unwrap: UnwrapRecords
    """Turns requests that name a schema into JSON."""
    close: Callable[[], None]
    """Closes the connections to the registry."""


def connect(settings: Settings, status: Status, lifecycle: Lifecycle, max_bytes: int) -> Formats:
    """Return the formats, however long the registry is away.

    Raises:
        StartRefusedError: it refuses the login, or does not have the schemas of the outputs.
    """
    registry = _registry(settings.schema_registry)
    try:
        with status.waiting("schema registry", math.inf):
            encoders = _sit_out(lambda: _encoders(settings, registry), status, lifecycle)
    except RegistryRefusedError as refused:
        registry.close()
        raise StartRefusedError(str(refused)) from refused
    except StartRefusedError:
        registry.close()
        raise
    lookup = SchemaLookup(registry)
    status.schemas_awaited = lookup.awaited
    return Formats(encoders, Unwrap(lookup, max_bytes), registry.close)


def try_login(settings: SchemaRegistrySettings) -> None:
    """Return if a start with these settings would be let in.

    Raises:
        StartRefusedError: it would not, or the registry is away.
    """
    with closing(_registry(settings)) as registry:
        try:
            registry.probe()
        except RegistryRefusedError as refused:
            raise StartRefusedError(str(refused)) from refused
        except RegistryAwayError as away:
            message = f"SCHEMA_REGISTRY_URL: the schema registry is away: {away}"
            raise StartRefusedError(message) from away


def _registry(settings: SchemaRegistrySettings) -> Registry:
    try:
        return Registry(settings)
    except (ValueError, OSError) as error:
        raise SettingsError([f"SCHEMA_REGISTRY_CA: the file cannot be used: {error}"]) from error


def _sit_out(call: Callable[[], _T], status: Status, lifecycle: Lifecycle) -> _T:
    """Return the result of a call, tried again for as long as the registry is away."""
    outage = Outage("waiting for the schema registry", "the schema registry answers")
    while True:
        try:
            found = call()
        except RegistryAwayError as away:
            reason = f"the schema registry is away: {away}"
            status.schemas_awaited = partial(str, reason)
            lifecycle.end_if_signalled()
            outage.lasts(str(away))
            time.sleep(_PAUSE_S)
        else:
            outage.is_over()
            return found


def _encoders(settings: Settings, registry: Registry) -> dict[str, Encode]:
    """Return the encoders of the topics; `StartRefusedError` if a schema is not registered."""
    registry.probe()
    value_format = settings.kafka.value_format
    if value_format == subjects.JSON:
        return {}
    schemas = subjects.of_outputs(settings.kafka, value_format)
    found = [subjects.look(registry, schema) for schema in schemas]
    if problems := [*filter(None, map(subjects.problem, found))]:
        lines = (f"KAFKA_VALUE_FORMAT={value_format}: {each}" for each in problems)
        raise StartRefusedError("\n".join(lines))
    return {
        each.schema.topic: outputs.encoder(each.schema, each.schema_id)
        for each in found
        if each.schema_id is not None
    }
