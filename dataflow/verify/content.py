"""The content of requests and events, in a form in which the two are compared.

What a request implies and what the event about it has stand side by side: a field that is added to
one of them belongs into both.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from schemas import events, money
from schemas.events import Source
from schemas.outcomes import INVALID_RECORD
from schemas.requests import PaymentRequest, Rejected

CURRENCIES = sorted(money.EXPONENTS)
"""A row has the index of its currency in here."""

_CURRENCY = {code: n for n, code in enumerate(CURRENCIES)}
_NO_MONEY = (0, 0)
_OF_THE_RECORD = {code.value for code in INVALID_RECORD}
"""Errors that follow from the record alone; all others are the gateway's word."""


class _Error(Struct, rename="camel", frozen=True, gc=False):
    code: str
    message: str
    retryable: bool
    provider_code: str | None = None


class Event(Struct, rename="camel", frozen=True, gc=False, kw_only=True):
    """An event of any of the three topics, as a reader of these topics sees it."""

    event_id: str
    event_type: str
    payment_id: str | None
    source: Source
    user_id: str | None = None
    amount: Raw | UnsetType = UNSET
    currency: str | None = None
    payment_method: str | None = None
    metadata: Raw | UnsetType = UNSET
    gateway_reference: str | None = None
    error: _Error | None = None
    original: str | None = None
    original_truncated: bool = False
    first_source: Source | None = None
    processed_at: str | None = None
    failed_at: str | None = None
    occurred_at: str | None = None


decode = msgspec.json.Decoder(Event).decode
_pack = msgspec.msgpack.Encoder().encode


def request_content(parsed: PaymentRequest | Rejected, max_bytes: int) -> bytes:
    """Return the content that the record implies for its outcome's fields."""
    if isinstance(parsed, PaymentRequest):
        return _pack(
            (
                parsed.payment_id,
                parsed.user_id,
                parsed.digits,
                parsed.currency,
                parsed.payment_method,
                _raw(parsed.metadata),
            )
        )
    # Of the event, only what is not a matter of wording and of the moment.
    event = events.rejected("", Source("", 0, 0), parsed, "", max_bytes)
    return _pack(
        (
            event.payment_id,
            _text(event.user_id),
            _raw(event.amount),
            _text(event.currency),
            _text(event.payment_method),
            _raw(event.metadata),
            event.error.code.value,
            event.error.retryable,
            _text(event.original),
            event.original_truncated is True,
        )
    )


def event_content(event: Event) -> bytes:
    """Return the same of an event."""
    common = (
        event.payment_id,
        event.user_id,
        _raw(event.amount),
        event.currency,
        event.payment_method,
        _raw(event.metadata),
    )
    error = event.error
    if error is None or error.code not in _OF_THE_RECORD:
        return _pack(common)
    details = (error.code, error.retryable, event.original, event.original_truncated)
    return _pack((*common, *details))


def reply_of(event: Event) -> bytes:
    """Return the part of an event that is the gateway's."""
    error = event.error
    words = error and (error.code, error.message, error.retryable, error.provider_code)
    return _pack((event.gateway_reference, words))


def amount_of_request(parsed: PaymentRequest | Rejected) -> tuple[int, int]:
    """Return the amount in minor units, and its currency; none where it is not valid."""
    if isinstance(parsed, PaymentRequest):
        return parsed.minor_units, _CURRENCY[parsed.currency]
    return _NO_MONEY


def amount_of_event(event: Event) -> tuple[int, int]:
    """Return the same of an event; none where it has no valid amount."""
    currency, raw = event.currency, _raw(event.amount)
    if currency is None or raw is None or currency not in _CURRENCY:
        return _NO_MONEY
    digits = money.digits_of(raw)
    if digits is None or digits != raw or money.broken_rule(digits, currency):
        return _NO_MONEY
    minor = Decimal(digits.decode()).scaleb(money.EXPONENTS[currency])
    return int(minor), _CURRENCY[currency]


def hashes(contents: Iterable[bytes]) -> Any:
    """Return the hash of each content, as an array."""
    joined = b"".join([blake2b(each, digest_size=8).digest() for each in contents])
    return np.frombuffer(joined, "<u8")


def _raw(text: Raw | UnsetType) -> bytes | None:
    return None if text is UNSET else bytes(text)


def _text(text: str | UnsetType) -> str | None:
    return None if text is UNSET else text


@lru_cache(maxsize=1024)
def milliseconds(instant: str | None) -> int:
    """Return milliseconds since 1970; -1 for what is no instant."""
    try:
        moment = datetime.fromisoformat(instant or "")
        return round(moment.timestamp() * 1000) if moment.tzinfo else -1
    except (ValueError, OverflowError):
        return -1


def decided_ms(value: bytes | None) -> int:
    """Return when an event was decided, in milliseconds since 1970; 0 for what is no event."""
    try:
        event = decode(value or b"")
    except msgspec.DecodeError:
        return 0
    return max(0, milliseconds(event.processed_at or event.failed_at or event.occurred_at))
