"""Avro's bytes, read and written. No schema of a sender, and no bytes, may stop the flow.

1. A decimal is exact. The library rounds one to the precision of its schema, by a context that all
   threads share; so decimals have readers of their own here.
2. A schema is refused if a few bytes by it can take any time or memory: a type that contains itself
   (a stack overflow ends the process), and a value without bytes that is part of another one than
   the record itself (a few bytes may stand for any number of them, in arrays or by types that have
   each other twice).
3. A record must be all of its bytes: what is left over shows that it was written by another schema.

Imported only if a schema registry is configured: the library is an extra of the package.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import msgspec
from fastavro.read import LOGICAL_READERS

_EXACT = "exact-decimal"
_MOST_SCALE = 1000
"""Digits behind the point of a decimal in a sender's schema: its digits are written out."""
_NAMED = ("record", "error", "enum", "fixed")
_WHOLES = ("record", "error", "array", "map")


class UnusableSchemaError(ValueError):
    """A sender's schema that no record is read by; the message has the reason."""


class UnreadableError(ValueError):
    """Bytes that are not what their schema describes; the message has the reason."""


def _exact_decimal(data: Any, writer: Any, _reader: object = None) -> Decimal:
    # Neither from an int nor by scaleb: both round to the precision of a context.
    unscaled = int.from_bytes(data, signed=True)
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -int(writer.get("scale", 0))))


LOGICAL_READERS[f"bytes-{_EXACT}"] = _exact_decimal
LOGICAL_READERS[f"fixed-{_EXACT}"] = _exact_decimal


def reader(text: str, references: Sequence[str] = ()) -> Callable[[bytes], Any]:
    """Return a function that reads the bytes of one record by its writer's schema.

    It raises `UnreadableError` for bytes that are not what the schema describes.

    Args:
        text: The schema.
        references: Schemas of the types that it names, in an order in which each may need those
            before it.

    Raises:
        UnusableSchemaError: the schema is wrong, or is refused.
    """
    named: dict[str, Any] = {}
    try:
        for reference in references:
            _parsed(reference, named)
        schema = _parsed(text, named)
        _refuse_unbounded(schema, named)
    except UnusableSchemaError:
        raise
    except Exception as error:
        raise UnusableSchemaError(f"its schema is not usable: {_reason(error)}") from error

    def read(data: bytes) -> Any:
        source = BytesIO(data)
        try:
            record = fastavro.schemaless_reader(source, schema, None)
        except Exception as error:
            raise UnreadableError(
                f"its bytes are not what the schema describes: {_reason(error)}"
            ) from error
        if left := len(data) - source.tell():
            raise UnreadableError(f"its bytes are not what the schema describes: {left} are left")
        return record

    return read


def writer(schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bytes]:
    """Return a function that writes records of one of our own schemas."""
    parsed = fastavro.parse_schema(dict(schema), named_schemas={})

    def write(record: Mapping[str, Any]) -> bytes:
        target = BytesIO()
        fastavro.schemaless_writer(target, parsed, record)
        return target.getvalue()

    return write


def _parsed(text: str, named: dict[str, Any]) -> Any:
    return fastavro.parse_schema(_with_exact_decimals(msgspec.json.decode(text)), named)


def _with_exact_decimals(schema: Any) -> Any:
    """Return the schema with the exact readers for its decimals."""
    if isinstance(schema, list):
        return [_with_exact_decimals(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {
        key: _with_exact_decimals(value) for key, value in schema.items() if key != "default"
    }
    if "default" in schema:
        changed["default"] = schema["default"]
    if schema.get("logicalType") == "decimal":
        scale = schema.get("scale", 0)
        if not isinstance(scale, int) or not 0 <= scale <= _MOST_SCALE:
            raise UnusableSchemaError(
                f"it has a decimal whose scale is not from 0 to {_MOST_SCALE}"
            )
        changed["logicalType"] = _EXACT
    return changed


def _refuse_unbounded(schema: Any, named: Mapping[str, Any]) -> None:
    """Raise `UnusableSchemaError` if a few bytes may stand for any number of values.

    Of the record itself parts may be without bytes: there are as many as its schema has.
    """
    whole = _resolved(schema, named)
    inside = frozenset({whole["name"]} if whole["type"] in _NAMED else ())
    known: dict[str, bool] = {}
    for part in _parts(whole, named):
        _takes_bytes(_resolved(part, named), named, inside, known)


def _takes_bytes(
    schema: Mapping[str, Any],
    named: Mapping[str, Any],
    inside: frozenset[str],
    known: dict[str, bool],
) -> bool:
    """Return whether a value takes a byte at least; a part of it that does not is refused.

    Args:
        schema: Its type.
        named: The types with a name.
        inside: The names of the types that the value is a part of.
        known: The results for the types with a name. Each is looked at once: there may be more ways
            to it than can be counted.
    """
    kind, name = schema["type"], schema.get("name", "")
    if kind in _NAMED:
        if name in inside:
            raise UnusableSchemaError(f"its type {name} contains itself")
        if name in known:
            return known[name]
        inside |= {name}
    parts = [_resolved(part, named) for part in _parts(schema, named)]
    each = [_takes_bytes(part, named, inside, known) for part in parts]
    if kind in _WHOLES and not all(each):
        raise UnusableSchemaError("it has a value without bytes in a value")
    found = _has_bytes(schema, each)
    if kind in _NAMED:
        known[name] = found
    return found


def _has_bytes(schema: Mapping[str, Any], each: Sequence[bool]) -> bool:
    kind = schema["type"]
    match kind:
        case "record" | "error":
            return bool(each)
        case "fixed":
            return bool(schema["size"])
        case "union" | "array" | "map":  # they begin with a number
            return True
    return each[0] if each else bool(kind != "null")


def _resolved(schema: Any, named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a type as an object, whatever way it is written in."""
    if isinstance(schema, list):
        return {"type": "union", "branches": schema}
    found = named.get(schema, {"type": schema}) if isinstance(schema, str) else schema
    return dict(found)


def _parts(schema: Mapping[str, Any], named: Mapping[str, Any]) -> list[Any]:
    """Return the types inside a type."""
    kind = schema["type"]
    if not isinstance(kind, str):
        return [kind]
    match kind:
        case "record" | "error":
            return [field["type"] for field in schema["fields"]]
        case "array":
            return [schema["items"]]
        case "map":
            return [schema["values"]]
        case "union":
            return list(schema["branches"])
    return [named[kind]] if kind in named else []


def _reason(error: Exception) -> str:
    """Return the kind of an error: its text may quote the record."""
    return type(error).__name__
