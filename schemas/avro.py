"""The events in Avro: their schemas, and each event as the record that one describes.

`make contract` writes the schemas to `schemas/avro/`; a test keeps them in step.

1. Names, order and meaning are those of the JSON; a field that may be absent there, or null, is
   null here, and null is its default: so a later version may add fields, and both the readers and
   the events of another version go on to work.
2. An amount is a string with the digits that were sent. Avro's `decimal` has one scale for all
   amounts: it would lose the zero of 99.990, and cannot hold what an invalid record has.
3. `metadata` is a string with its JSON text, since Avro has no type for any object. JSON's null is
   the text `null`, so that it differs from no metadata at all.
4. Instants are `timestamp-millis`, which is all that the JSON has; but `resolution.at` is a string,
   since it is passed on as it stands in a person's decision.
5. `eventType` and `error.code` are strings: a later version may add values, and a reader of Avro
   cannot read an `enum` with a value that it does not have.

No code in here reads or writes Avro's bytes: that is `dataflow.schema_registry`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from schemas import contract, events, money
from schemas.contract import FIELDS, Message, Schema
from schemas.events import AuditEvent, Error, FailedEvent, ProcessedEvent, Resolution, Source
from schemas.requests import PaymentRequest

NAMESPACE = "payments"
NAMES: dict[type[Struct], str] = {
    PaymentRequest: "PaymentRequested",
    ProcessedEvent: "PaymentProcessed",
    FailedEvent: "PaymentFailed",
    AuditEvent: "AuditEvent",
    Source: "Source",
    Error: "Error",
    Resolution: "Resolution",
}
"""The Avro name of each record."""
MESSAGES = tuple(message for message in contract.MESSAGES if message.struct in NAMES)
"""All but the entries of the pending topic, which are JSON in every format."""
Event = ProcessedEvent | FailedEvent | AuditEvent
Record = dict[str, Any]
_NULL = "null"
_INSTANTS = {"processedAt", "failedAt", "occurredAt"}
_INT = {"partition"}
"""Numbers of 32 bits; the others have 64."""
_WORDED = {
    "amount": "In major units, with the digits that were sent, as text: read it as a decimal.",
    "metadata": "What the sender wants to come back, byte for byte: the text of a JSON object.",
}
"""The meaning of fields that are of another type than in the JSON."""
_encode = msgspec.json.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode


# ---- schemas ----


def schema_of(message: Message) -> Schema:
    """Return the whole schema of a message, as it is published."""
    return _record(message.struct, message, set()) | {"doc": message.description}


def files() -> dict[str, bytes]:
    """Return the content of each schema file, by its name."""
    return {
        f"{message.name}.avsc": msgspec.json.format(_encode(schema_of(message)), indent=2) + b"\n"
        for message in MESSAGES
    }


def _record(struct: type[Struct], message: Message, defined: set[str]) -> Schema:
    name = NAMES[struct]
    defined.add(name)
    hints = get_type_hints(struct)
    names = zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True)
    return {
        "type": "record",
        "name": name,
        "namespace": NAMESPACE,
        "fields": [_field(written, hints[field], message, defined) for written, field in names],
    }


def _field(name: str, hint: Any, message: Message, defined: set[str]) -> Schema:
    kinds = [each for each in get_args(hint) if each in {UnsetType, type(None)}]
    field = message.fields.get(name, FIELDS[name])
    present = message.present.get(name)
    doc = _WORDED.get(name, field.meaning) + (f" Present: {present}." if present else "")
    inner = _type(name, hint, message, defined)
    if not kinds:
        return {"name": name, "type": inner, "doc": doc}
    return {"name": name, "type": [_NULL, inner], "default": None, "doc": doc}


def _type(name: str, hint: Any, message: Message, defined: set[str]) -> Any:
    if name in _INSTANTS:
        return {"type": "long", "logicalType": "timestamp-millis"}
    [kind] = _kinds(hint)
    if issubclass(kind, Struct):
        known = NAMES[kind] in defined
        return f"{NAMESPACE}.{NAMES[kind]}" if known else _record(kind, message, defined)
    if kind is bool:
        return "boolean"
    if kind is int:
        return "int" if name in _INT else "long"
    if issubclass(kind, str | Raw):
        return "string"
    raise TypeError(f"{name}: no type of Avro is chosen for {kind}")


def _kinds(hint: Any) -> set[type]:
    """Return the types of a field's value where it is there."""
    return ({*get_args(hint)} or {hint}) - {UnsetType, type(None)}


# ---- from an event to its record, and back ----


class _Column(NamedTuple):
    name: str
    attribute: str
    convert: Callable[[Any], Any] | None


@lru_cache(maxsize=16)
def _millis(instant: str) -> int:
    """Return an instant in milliseconds since 1970: all events of a batch have the same."""
    moment = datetime.fromisoformat(instant)
    return round(moment.timestamp() * 1000)


def _text(raw: Raw) -> str:
    return bytes(raw).decode()


def plain(value: Struct) -> Record:
    """Return an event as the record that its schema describes."""
    record: Record = {}
    for name, attribute, convert in _COLUMNS[type(value)]:
        field = getattr(value, attribute)
        if field is UNSET or field is None:
            record[name] = None
        else:
            record[name] = field if convert is None else convert(field)
    return record


def _columns(struct: type[Struct]) -> tuple[_Column, ...]:
    hints = get_type_hints(struct)
    names = zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True)
    return tuple(_Column(name, field, _convert(name, hints[field])) for name, field in names)


def _convert(name: str, hint: Any) -> Callable[[Any], Any] | None:
    [kind] = _kinds(hint)
    if name in _INSTANTS:
        return _millis
    if kind is Raw:
        return _text
    if issubclass(kind, Struct):
        return plain
    return str if issubclass(kind, StrEnum) else None


_COLUMNS: dict[type[Struct], tuple[_Column, ...]] = {
    struct: _columns(struct) for struct in NAMES if struct is not PaymentRequest
}


def as_json(record: Mapping[str, Any]) -> bytes:
    """Return the JSON of an event's record, which is byte for byte what `events.encode` gives.

    Raises:
        ValueError: it has an amount that is no number, metadata that is no JSON, or another type.
    """
    return _encode(_object(record))


def _object(record: Mapping[str, Any]) -> Record:
    return {
        name: _written(name, value)
        for name, value in record.items()
        # Of all fields, only this one is null in the JSON, and not absent.
        if value is not None or name == "paymentId"
    }


def _written(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, datetime):
        return events.instant(value.astimezone(UTC).timestamp())
    if name == "amount":
        digits = money.digits_of(str(value).encode())
        if digits is None:
            raise ValueError("amount: must be a JSON number")
        return Raw(digits)
    if name == "metadata":
        return json_text(value)
    return value


def json_text(text: str) -> Raw:
    """Return a JSON document in a string as what it is.

    Raises:
        ValueError: it is none, or more than one.
    """
    raw = text.encode()
    _decode_raw(raw)
    return Raw(raw)
