"""The published schemas: JSON Schema (draft 2020-12) of the request and of each event.

`make contract` writes them to `schemas/json/`; a test keeps them in step.

1. Names, order, types and presence come from the structs; limits and codes from the constants
   beside them. A field without a line in this module cannot be published.
2. The schemas are open: a reader must pass over fields that it does not have here, and over values
   of `Open` fields that are not listed. So a later version can add, and breaks nobody.
3. They have no `$ref`, and only keywords that mean the same in draft 7, which AsyncAPI tools read.
4. The schema of the request never refuses what the service accepts, in any validator. So it has no
   `multipleOf: 0.01`: most validators divide binary floats, and would refuse 19.99.
   `NOT_IN_THE_SCHEMA` lists what the service refuses beyond the schema.

Long because a schema is data, and all of them share its parts.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Struct, UnsetType

from schemas import money
from schemas.events import (
    EVENT_OVERHEAD_BYTES,
    MAX_MESSAGE,
    MAX_PROVIDER_CODE,
    MAX_REFERENCE,
    AuditEvent,
    Error,
    FailedEvent,
    ProcessedEvent,
    Resolution,
    Source,
)
from schemas.outcomes import DECLINE_CODES, ErrorCode, EventType
from schemas.parsing import MAX_DEPTH
from schemas.pending import MAX_REASON, PendingEntry, PendingState
from schemas.requests import MAX_TEXT, PaymentRequest

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FIRST = "0.1.0"
"""The version since which fields exist that state no other."""

Schema = dict[str, Any]


class Field(NamedTuple):
    """The facts about a field that the struct does not state."""

    meaning: str
    schema: Mapping[str, Any] = {}
    since: str = FIRST
    struct: type[Struct] | None = None
    """Of JSON that is kept as it is: what it is an object of."""


class Message(NamedTuple):
    """One kind of record on one topic."""

    name: str
    """Of its file, without the ending."""
    struct: type[Struct]
    description: str
    fields: Mapping[str, Field]
    """Those that mean something else here than in `FIELDS`."""
    present: Mapping[str, str] = {}
    """The condition under which an optional field is present."""
    rules: Sequence[Schema] = ()


def _open(values: type[StrEnum]) -> Schema:
    """Return the schema of a string that is one of these today; later versions may add others."""
    return {"anyOf": [{"enum": [each.value for each in values]}, {"type": "string"}]}


def _text(longest: int) -> Schema:
    return {"minLength": 1, "maxLength": longest}


_ID = _text(MAX_TEXT)
_INSTANT = {
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
}
_METADATA = {"type": ["object", "null"]}
_IN_RANGE = {"exclusiveMinimum": 0, "exclusiveMaximum": 10**money.MAX_INTEGER_DIGITS}

FIELDS: dict[str, Field] = {
    # Of requests and events
    "paymentId": Field("The caller's id of the payment: what is decided exactly once.", _ID),
    "userId": Field("Who pays.", _ID),
    "amount": Field("In major units, with the digits that were sent.", {"type": "number"}),
    "currency": Field("ISO 4217 code; currencies come and go.", {"pattern": "^[A-Z]{3}$"}),
    "paymentMethod": Field("How the payer pays.", _ID),
    "metadata": Field("What the sender wants to come back, byte for byte.", _METADATA),
    # Of events
    "eventId": Field(
        "A function of the request record's topic, partition and offset. An outcome and its audit"
        " event share it.",
        {"format": "uuid"},
    ),
    "eventType": Field("What was decided.", _open(EventType)),
    "gatewayReference": Field("The provider's own id of the charge.", _text(MAX_REFERENCE)),
    "processedAt": Field("When it was decided: UTC, milliseconds.", _INSTANT),
    "failedAt": Field("When it was decided: UTC, milliseconds.", _INSTANT),
    "occurredAt": Field("When it was decided: the instant of its outcome, if any.", _INSTANT),
    "source": Field("The request record."),
    "error": Field("Why the payment failed."),
    "firstSource": Field("The request record that claimed the paymentId."),
    "resolution": Field(
        "The decision of a person about a payment that the gateway did not answer."
    ),
    "original": Field(
        "The record's value in base64; digits of card numbers are replaced by `*`.",
        {"contentEncoding": "base64"},
    ),
    "originalTruncated": Field("`original` is only the beginning of the value.", {"const": True}),
    # Of `source` and `error`
    "topic": Field("Its topic.", {"minLength": 1}),
    "partition": Field("Its partition.", {"minimum": 0}),
    "offset": Field("Its offset.", {"minimum": 0}),
    "code": Field("For programs.", _open(ErrorCode)),
    "message": Field("For people; may change.", _text(MAX_MESSAGE)),
    "retryable": Field("The payer may try again, with a new paymentId."),
    "providerCode": Field("The provider's own code of a decline.", _text(MAX_PROVIDER_CODE)),
    # Of `resolution`
    "by": Field("Who has decided.", {"minLength": 1}),
    "at": Field("When.", _INSTANT),
    "reason": Field("Why.", {"minLength": 1}),
}

_COUNT = {"minimum": 0}
_PENDING = {
    "eventId": Field(
        "The key of the record, and the id of the events that follow.", {"format": "uuid"}
    ),
    "state": Field(
        "The next step: `pending` is asked for again; `unresolved` has no safe way to be asked for"
        " any more, so a person must find out from the provider.",
        _open(PendingState),
    ),
    "request": Field(
        "The request as it was sent, without fields that are not its own.", struct=PaymentRequest
    ),
    "recordTimeMs": Field(
        "The timestamp of the request record, in milliseconds since 1970, whatever it is."
    ),
    "parkedAt": Field("When the flow stopped waiting for an answer.", _INSTANT),
    "firstAttemptAt": Field("No earlier than this it may have been charged.", _INSTANT),
    "attempts": Field("How often it was asked for.", _COUNT),
    "attemptsParked": Field("How often since it was parked.", _COUNT),
    "isUnsent": Field("True if no charge is known to be sent that may have been executed."),
    "nextAttemptAt": Field(
        "When it is asked for again; null while that is under way, or if it is not.",
        {**_INSTANT, "type": ["string", "null"]},
    ),
    "reason": Field("Why there was no answer, last.", {"maxLength": MAX_REASON}),
}

# ---- the amount of a request ----

_AMOUNT = {
    "type": ["number", "string"],
    **_IN_RANGE,
    # The grammar of a JSON number, bounded, without a sign.
    "pattern": r"^(0|[1-9][0-9]{0,39})(\.[0-9]{1,39})?([eE][+-]?[0-9]{1,2})?$",
    # Zero; 13 digits before the point; and a line's end, before which some dialects let `$` match.
    "not": {"type": "string", "pattern": r"^[0.]+([eE]|$)|^[0-9]{13,}(\.[0-9]*)?$|\n"},
}


def _decimals(exponent: int) -> Schema:
    """Return the rule about decimals, for the currencies that have so many.

    Of a string without an E it can be stated exactly, by its digits; of a number only where the
    currency has none at all (see the module's rule 4).
    """
    currencies = sorted(code for code, each in money.EXPONENTS.items() if each == exponent)
    beyond = rf"^[0-9]+\.[0-9]{{{exponent}}}[0-9]*[1-9][0-9]*$"
    amount: Schema = {"not": {"type": "string", "pattern": beyond}}
    if exponent == 0:
        amount["multipleOf"] = 1
    return {
        "if": {"required": ["currency"], "properties": {"currency": {"enum": currencies}}},
        "then": {"properties": {"amount": amount}},
    }


NOT_IN_THE_SCHEMA = {
    "encoding": "a record in another encoding than UTF-8, or with a byte order mark;",
    "text": "half of a surrogate pair in a string (`\\ud800`): it is JSON, but no text;",
    "size": "a record with more bytes than `KAFKA_MESSAGE_MAX_BYTES` less"
    f" {EVENT_OVERHEAD_BYTES:,};",
    "depth": f"more than {MAX_DEPTH} levels of nesting;",
    "digits": "an amount written with more than 40 digits before the point, 39 after it, or two in"
    " its exponent: a parser does not keep how a number was written;",
    "decimals": "a number as amount with more than the currency's decimals, zeros at its end not"
    " counted; the schema has this rule for currencies without decimals, and for strings;",
    "escapes": 'a string as amount with an escaped character (`"\\u0031"`);',
    "exponent": "a string as amount with an exponent (`1e2`) that is out of range, or has more than"
    " the currency's decimals.",
}
"""Requests that the service refuses, and the published schema does not."""


# ---- the messages ----


def _has(name: str, values: Sequence[StrEnum]) -> Schema:
    return {"required": [name], "properties": {name: {"enum": sorted(values)}}}


_A_STRING = {"paymentId": {"type": "string"}}
_OF_THE_REQUEST = ["userId", "amount", "currency", "paymentMethod"]
_WHERE_READ = dict.fromkeys(
    _OF_THE_REQUEST, "of a declined payment always; of an invalid record if it can be read"
)

MESSAGES = (
    Message(
        "payment-requested",
        PaymentRequest,
        "A payment to decide. Unknown fields are ignored; of a repeated key the last one counts.",
        fields={
            "amount": Field(
                "In major units: a JSON number, or a string with one. At most the currency's"
                " decimals; zeros beyond them are fine.",
                _AMOUNT,
            ),
            "currency": Field(
                "ISO 4217 code in upper case, of a currency with minor units.",
                {"enum": sorted(money.EXPONENTS)},
            ),
        },
        present={"metadata": "optional"},
        rules=[_decimals(exponent) for exponent in sorted(set(money.EXPONENTS.values()))],
    ),
    Message(
        "payment-processed",
        ProcessedEvent,
        "An approved payment: the request as it was sent, and the gateway's reference.",
        fields={
            "amount": Field(FIELDS["amount"].meaning, {"type": "number", **_IN_RANGE}),
            "eventType": Field("What was decided.", {"const": EventType.PROCESSED.value}),
        },
        present={"metadata": "if the request has it"},
    ),
    Message(
        "payment-failed",
        FailedEvent,
        "A declined payment, or an invalid record: what could be read of the request, and why.",
        fields={"eventType": Field("What was decided.", {"const": EventType.FAILED.value})},
        present=_WHERE_READ
        | {
            "metadata": "if the request has it; not if it is too large",
            "original": "if no field of the request could be read from a value",
            "originalTruncated": "if `original` is only a beginning",
        },
        rules=[
            {
                "if": {
                    "required": ["error"],
                    "properties": {"error": _has("code", list(DECLINE_CODES))},
                },
                "then": {
                    "required": _OF_THE_REQUEST,
                    "properties": {**_A_STRING, "amount": _IN_RANGE},
                },
            },
            {
                "if": {"required": ["original"]},
                "then": {"properties": {"paymentId": {"type": "null"}}},
            },
            {"if": {"required": ["originalTruncated"]}, "then": {"required": ["original"]}},
        ],
    ),
    Message(
        "audit-event",
        AuditEvent,
        "Exactly one for every record of the request topic.",
        fields={},
        present={
            "firstSource": "if `eventType` is `payment.duplicate` or `payment.conflict`",
            "gatewayReference": "if `eventType` is `payment.processed`",
            "error": "if `eventType` is `payment.failed`",
            "resolution": "if a person has decided",
        },
        rules=[
            {
                "if": _has("eventType", types),
                "then": {"required": [name], "properties": properties},
            }
            for types, name, properties in (
                ([EventType.PROCESSED], "gatewayReference", _A_STRING),
                ([EventType.FAILED], "error", {}),
                ([EventType.DUPLICATE, EventType.CONFLICT], "firstSource", _A_STRING),
            )
        ],
    ),
    Message(
        "pending-payment",
        PendingEntry,
        "A payment that is claimed, and has no answer of the gateway yet. A record without a value"
        " ends it, in the transaction of its outcome and audit event.",
        fields=_PENDING,
    ),
)


# ---- from a struct to its schema ----


def schema_of(message: Message) -> Schema:
    """Return the whole schema of a message, as it is published."""
    return {
        "$schema": DIALECT,
        "$id": f"{message.name}.schema.json",
        "title": message.name,
        "description": message.description,
        **_object(message.struct, message.fields, message.present),
        **({"allOf": list(message.rules)} if message.rules else {}),
    }


def _object(
    struct: type[Struct], own: Mapping[str, Field], present: Mapping[str, str]
) -> dict[str, Any]:
    """Return the schema of a struct's JSON object.

    Raises:
        ValueError: presence is stated of a field that is always there, or is not of one that is
            not.
    """
    _, components = msgspec.json.schema_components([struct])
    bare = components[struct.__name__]["properties"]
    optional = _optional(struct)
    if set(optional) != set(present):
        raise ValueError(f"{struct.__name__}: optional are {optional}, described {list(present)}")
    return {
        "type": "object",
        "properties": {
            name: _property(bare[name], own.get(name) or FIELDS[name], present.get(name))
            for name in bare
        },
        "required": [name for name in bare if name not in optional],
    }


def _optional(struct: type[Struct]) -> list[str]:
    """Return the JSON names of the fields that may be absent."""
    hints = get_type_hints(struct)
    names = zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True)
    return [written for name, written in names if UnsetType in get_args(hints[name])]


def _property(bare: Schema, field: Field, present: str | None) -> Schema:
    nested = field.struct or _NESTED.get(bare.get("$ref", ""))
    own = _SENT if nested is PaymentRequest else {}
    typed = _object(nested, own, _PRESENT_IN.get(nested, {})) if nested else _typed(bare)
    when = f" Present: {present}." if present else ""
    since = {} if field.since == FIRST else {"x-since": field.since}
    return {"description": field.meaning + when, **typed, **field.schema, **since}


_SENT = {"amount": Field(FIELDS["amount"].meaning, {"type": ["number", "string"], **_IN_RANGE})}
"""The fields of a request that is part of an entry, where they are not those of an event."""
_NESTED: dict[str, type[Struct]] = {
    f"#/$defs/{struct.__name__}": struct for struct in (Source, Error, Resolution)
}
_PRESENT_IN: dict[type[Struct], Mapping[str, str]] = {
    Error: {"providerCode": "if the gateway declined, and gave a code of its own"},
    PaymentRequest: {"metadata": "if the request has it"},
}
"""The condition under which an optional field of a nested object is present."""


def _typed(bare: Schema) -> Schema:
    """Return what msgspec states of a field: an enumeration by our words, a union by its types."""
    if "$ref" in bare:
        return {}
    if "anyOf" in bare:
        return {"type": [each["type"] for each in bare["anyOf"]]}
    return bare


def files() -> dict[str, bytes]:
    """Return the content of each schema file, by its name."""
    return {
        f"{message.name}.schema.json": msgspec.json.format(
            msgspec.json.encode(schema_of(message)), indent=2
        )
        + b"\n"
        for message in MESSAGES
    }
