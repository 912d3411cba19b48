"""Requests in Confluent's wire format: the JSON of what their schema describes.

All that follows reads JSON, with the same rules whatever format a request came in. Its fields are
found by their names; unknown ones are ignored, as in JSON. In Avro:

1. `amount` is a string, a `decimal`, an integer or a floating-point number.
2. `metadata` is a string with the text of a JSON object, or a record or map. Null is no metadata.
3. Null is an absent field.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Raw

from dataflow.schema_registry import avro_codec
from dataflow.schema_registry.avro_codec import UnreadableError, UnusableSchemaError
from dataflow.schema_registry.client import FoundSchema
from schemas.avro import json_text
from schemas.requests import PaymentRequest

ToJson = Callable[[bytes], bytes]
"""Returns the JSON of a record's content, which follows the header. Raises `UnreadableError`."""
_MOST_CHARS = 10_000_000
"""Of the names and decimals in a field: a byte may stand for each, however long it is."""
_FIELDS = PaymentRequest.__struct_encode_fields__
_encode = msgspec.json.Encoder(decimal_format="number").encode


def converter(found: FoundSchema) -> ToJson:
    """Return how records of a sender's schema become JSON.

    Raises:
        UnusableSchemaError: no record can be read by it.
    """
    if found.kind == "JSON":
        return bytes
    if found.kind != "AVRO":
        raise UnusableSchemaError(
            f"its schema is of type {found.kind}: only AVRO and JSON are read"
        )
    read = avro_codec.reader(found.text, found.references)

    def to_json(content: bytes) -> bytes:
        record = read(content)
        if not isinstance(record, dict):
            raise UnreadableError("its schema describes no record")
        fields = {name: record[name] for name in _FIELDS if record.get(name) is not None}
        if not fields:
            # Such as an envelope: of its JSON nothing would be left.
            raise UnreadableError("it has none of the fields of a request")
        try:
            return _encode({name: _json(name, value) for name, value in fields.items()})
        except (RecursionError, TypeError, ValueError) as error:
            raise UnreadableError(
                f"it cannot be written as JSON: {type(error).__name__}"
            ) from error

    return to_json


def _json(name: str, value: Any) -> Any:
    """Return a field as JSON has it; what is of a wrong type breaks the rule of the field."""
    if name == "metadata" and isinstance(value, str):
        return _metadata(value)
    if _length(value) > _MOST_CHARS:
        raise ValueError("too long")
    return _plain(value)


def _length(value: Any) -> int:
    """Return how many characters of JSON a value takes beside its own bytes, about."""
    if isinstance(value, Decimal):
        _, digits, exponent = value.as_tuple()
        return len(digits) - int(exponent)
    if isinstance(value, Mapping):
        return sum(len(key) + _length(each) for key, each in value.items())
    return sum(map(_length, value)) if isinstance(value, list) else 0


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Raw(format(value, "f").encode())
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, UUID | dt.date | dt.time):
        return value.isoformat() if not isinstance(value, UUID) else str(value)
    return value


def _metadata(text: str) -> Any:
    """Return the object that a text stands for; the text itself if it is none."""
    try:
        raw = json_text(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return raw if text.lstrip().startswith("{") else text
