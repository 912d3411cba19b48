"""From the bytes of a record to a `PaymentRequest`, or to what is wrong with it.

`parse` is the one way in, and raises nothing. The rules, in order of precedence:

1. the record has a value, and one small enough for its outcome to be published;
2. it is UTF-8 (RFC 8259, section 8.1) and one JSON object, nested at most `MAX_DEPTH` deep;
3. each field obeys its rule; unknown fields are ignored, and of a repeated key the last counts
   (as in JavaScript's `JSON.parse`).

The common case is one pass of msgspec and one regular expression. Everything else goes to
`_examine`, which takes its time to name all that is wrong, or finds that nothing is.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw

from schemas import money
from schemas.outcomes import ErrorCode
from schemas.requests import MAX_TEXT, PaymentRequest, Rejected
from schemas.wire_format import schema_id

MAX_DEPTH = 100
"""Levels of nesting; deeper documents break many a consumer's parser."""

_OBJECT = ord("{")
_decode = msgspec.json.Decoder(PaymentRequest).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
# Possessive, and content with an open end: one pass over any bytes, without a way back.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[][{}]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Each as a byte order mark, or as the brace that a request begins with. UTF-32 first: its mark
# begins with that of UTF-16.
_OTHER_ENCODINGS = {
    "UTF-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"{\0\0\0", b"\0\0\0{\0\0\0"),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{\0"),
}
_T = TypeVar("_T")


def parse(value: bytes | None, max_bytes: int) -> PaymentRequest | Rejected:
    """Return the request in a record's value, or why it is none. Never raise.

    Args:
        value: The record's value; None for a tombstone.
        max_bytes: The largest value whose outcome still fits the output topics.
    """
    if (
        value is not None
        and len(value) <= max_bytes
        and (value.isascii() or _is_utf8(value))
        # Counting brackets bounds the depth, and is far cheaper than measuring it.
        and value.count(b"{") + value.count(b"[") <= MAX_DEPTH
    ):
        try:
            request = _decode(value)
            if money.PLAIN[request.currency].fullmatch(request.written_amount) and (
                request.metadata is UNSET or memoryview(request.metadata)[0] == _OBJECT
            ):
                return request
        except (msgspec.DecodeError, KeyError):
            pass
    return _examine(value, max_bytes)


def _examine(value: bytes | None, max_bytes: int) -> PaymentRequest | Rejected:
    """Check every rule again, in order, and in words."""
    if value is None:
        return Rejected(code=ErrorCode.TOMBSTONE, message="the record has no value")
    document = _read_document(value)
    if len(value) > max_bytes:
        readable = {} if isinstance(document, str) else document
        readable.pop("metadata", None)
        rejected, _ = _check_fields(readable, value)
        return msgspec.structs.replace(
            rejected,
            code=ErrorCode.TOO_LARGE,
            message=f"the record has {len(value)} bytes, at most {max_bytes} are accepted",
        )
    if isinstance(document, str):
        return Rejected(code=ErrorCode.MALFORMED, message=document, original=value)
    rejected, problems = _check_fields(document, value)
    # Of a repeated key, the document has only the last: what the others were does not matter.
    return rejected if problems else _decode(msgspec.json.encode(document))


def _read_document(value: bytes) -> dict[str, Raw] | str:
    """Return the fields of the JSON object, or why there is none."""
    if not _is_utf8(value):
        return _other_format(value) or "the record is not UTF-8"
    if _depth(value) > MAX_DEPTH:
        return f"the record is nested more than {MAX_DEPTH} levels deep"
    try:
        return _decode_fields(value)
    except msgspec.ValidationError:
        return "the record is JSON, but not an object"
    except msgspec.DecodeError as error:
        return _other_format(value) or f"the record is not JSON: {error}"


def _other_format(value: bytes) -> str | None:
    """Return what a record is instead of JSON in UTF-8, if its first bytes show it."""
    for name, start in _OTHER_ENCODINGS.items():
        if value.startswith(start):
            return f"the record is not UTF-8: it looks like {name}"
    if value.startswith(_BYTE_ORDER_MARK):
        return "the record is not JSON: it begins with a byte order mark (EF BB BF)"
    if (schema := schema_id(value)) is not None:
        return (
            f"the record is not JSON: it looks like Confluent's wire format, schema id {schema};"
            " set SCHEMA_REGISTRY_URL"
        )
    return None


class _Broken(Exception):  # noqa: N818  (never leaves this module)
    """A field breaks a rule; the message is the rule."""


def _check_fields(fields: dict[str, Raw], value: bytes) -> tuple[Rejected, list[str]]:
    """Return what can be read of the fields, and a line for each rule that is broken.

    If none can be read, the record is an envelope, as of Kafka Connect, CloudEvents or Debezium, or
    has other names for its fields: it is kept itself, or its event would have no trace of it. Its
    `metadata`, if any, belongs to others, and is part of the record anyway.
    """
    problems: list[str] = []

    def read(name: str, reader: Callable[[bytes], _T], *, optional: bool = False) -> _T | None:
        if name not in fields:
            if not optional:
                problems.append(f"{name}: is required")
            return None
        try:
            return reader(bytes(fields[name]))
        except _Broken as rule:
            problems.append(f"{name}: {rule}")
            return None

    payment_id = read("paymentId", _text)
    user_id = read("userId", _text)
    currency = read("currency", _currency)
    digits = read("amount", _digits)
    payment_method = read("paymentMethod", _text)
    metadata = read("metadata", _object_or_null, optional=True)
    if digits is not None and (rule := money.broken_rule(digits, currency)):
        problems.append(f"amount: {rule}")
    is_blank = (
        payment_id is None
        and user_id is None
        and digits is None
        and currency is None
        and payment_method is None
    )
    rejected = Rejected(
        code=ErrorCode.INVALID,
        message="; ".join(problems),
        payment_id=payment_id,
        user_id=user_id,
        digits=digits,
        currency=currency,
        payment_method=payment_method,
        metadata=None if is_blank else metadata,
        original=value if is_blank else None,
    )
    return rejected, problems


def _text(raw: bytes) -> str:
    try:
        text = _decode_text(raw)
    except msgspec.ValidationError:
        raise _Broken("must be a string") from None
    if not 1 <= len(text) <= MAX_TEXT:
        raise _Broken(f"must have 1 to {MAX_TEXT} characters, has {len(text)}")
    return text


def _currency(raw: bytes) -> str:
    code = _text(raw)
    if code in money.EXPONENTS:
        return code
    if code.upper() in money.EXPONENTS:
        raise _Broken(f"must be upper case: {code.upper()}")
    raise _Broken("must be an ISO 4217 code of a currency with minor units, such as USD")


def _digits(raw: bytes) -> bytes:
    digits = money.digits_of(raw)
    if digits is None:
        raise _Broken("must be a JSON number, or a string with one, of at most 40 digits")
    return digits


def _object_or_null(raw: bytes) -> Raw:
    if raw != b"null" and raw[0] != _OBJECT:
        raise _Broken("must be a JSON object")
    return Raw(raw)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _depth(value: bytes) -> int:
    """Return the deepest nesting of brackets outside strings."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        depth += 1 if bracket in b"{[" else -1
        deepest = max(deepest, depth)
    return deepest
