"""Made-up payment requests, as a busy service may see them: nearly all good, and some of the rest.

Each comes with the one outcome it must have, so that the demo can check itself. Which kind comes
next, and every digit of it, depends on the seed alone.
"""

import random
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from schemas import money
from schemas.outcomes import ErrorCode, EventType


class Outcome(NamedTuple):
    """The outcome of a request, according to an audit event."""

    event_type: EventType
    code: ErrorCode | None = None
    """The reason it failed, if it did."""


class RequestKind(NamedTuple):
    """One kind of request."""

    name: str
    share: float
    """Of all requests, 0 to 1."""
    outcome: Outcome


class Request(NamedTuple):
    """One record for the request topic."""

    kind: RequestKind
    value: bytes | None


def _failed(code: ErrorCode) -> Outcome:
    return Outcome(EventType.FAILED, code)


VALID = RequestKind("valid", 0.907, Outcome(EventType.PROCESSED))
DUPLICATE = RequestKind("sent again", 0.05, Outcome(EventType.DUPLICATE))
CONFLICT = RequestKind("sent again, other amount", 0.005, Outcome(EventType.CONFLICT))
INVALID = RequestKind("a field breaks its rule", 0.01, _failed(ErrorCode.INVALID))
GARBAGE = RequestKind("not a JSON object", 0.004, _failed(ErrorCode.MALFORMED))
TOMBSTONE = RequestKind("no value", 0.002, _failed(ErrorCode.TOMBSTONE))
TOO_LARGE = RequestKind("too large", 0.002, _failed(ErrorCode.TOO_LARGE))
DECLINES = tuple(
    RequestKind(f"asks for {code}", 0.02 / 6, _failed(code))
    for code in (
        ErrorCode.DECLINED,
        ErrorCode.INSUFFICIENT_FUNDS,
        ErrorCode.CARD_EXPIRED,
        ErrorCode.FRAUD_SUSPECTED,
        ErrorCode.LIMIT_EXCEEDED,
        ErrorCode.METHOD_NOT_SUPPORTED,
    )
)
KINDS = (VALID, DUPLICATE, CONFLICT, INVALID, GARBAGE, TOMBSTONE, TOO_LARGE, *DECLINES)

_CURRENCIES = {"USD": 40, "EUR": 30, "GBP": 12, "JPY": 10, "CHF": 4, "BRL": 3, "KWD": 1}
"""With their weights. JPY has no decimals, KWD has three."""
_METHODS = ("credit_card", "credit_card", "debit_card", "bank_transfer", "wallet")
_CITIES = ("Zürich", "São Paulo", "東京", "Łódź", "Kuwait City", "Leeds")
_USERS = 5_000
_EXPRESS = 0.2
"""Share of the orders that are in a hurry."""
_AS_TEXT = 0.1
"""Share of the amounts that are sent as a string."""
_UNANSWERED = 0.0005
"""Share of the good requests that the gateway has no answer for the first time."""
_RECENT = 500
"""The number of latest payments among which the ones to send again are chosen."""
_BROKEN: tuple[dict[str, Any], ...] = (
    {"amount": -5},
    {"amount": 0},
    {"amount": 10.001, "currency": "USD"},
    {"amount": 100.5, "currency": "JPY"},
    {"amount": 10**12},
    {"amount": "1e99"},
    {"amount": "ten"},
    {"amount": None},
    {"currency": "XXX"},
    {"currency": "usd"},
    {"paymentId": ""},
    {"userId": "u" * 256},
    {"paymentMethod": None},
    {"metadata": ["order_1"]},
)
"""Changes that make a good request invalid; None leaves the field out."""
_BAD_BYTES = (b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b"PING\r\n", b'{"paymentId": pay_1}')
# Exact: a Decimal becomes a JSON number without passing through a float.
_encoder = msgspec.json.Encoder(decimal_format="number")


class Traffic(Iterator[Request]):
    """The requests, without an end.

    No payment is sent a third time, so that the order in which the copies are read, each perhaps
    on another partition, makes no difference to how many outcomes of each type there are.

    Args:
        seed: The same seed gives the same requests, paymentIds included.
        max_bytes: The largest request that the flow accepts.
    """

    def __init__(self, seed: int, max_bytes: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311  (reproducible, and nothing hangs on it)
        self._seed = seed
        self._max_bytes = max_bytes
        self._number = 0
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT)
        self._shares = [kind.share for kind in KINDS]

    def __next__(self) -> Request:
        """Return the next request."""
        (kind,) = self._rng.choices(KINDS, self._shares)
        if kind in {DUPLICATE, CONFLICT} and not self._recent:
            kind = VALID
        if kind is TOMBSTONE:
            return Request(kind, None)
        if kind is GARBAGE:
            return Request(kind, self._rng.choice(_BAD_BYTES))
        if kind in {DUPLICATE, CONFLICT}:
            return Request(kind, self._encode(self._again(other_amount=kind is CONFLICT)))
        return Request(kind, self._encode(self._made_up(kind)))

    def _again(self, *, other_amount: bool) -> dict[str, Any]:
        at = self._rng.randrange(len(self._recent))
        fields = self._recent[at]
        del self._recent[at]
        if other_amount:
            fields = {**fields, "amount": fields["amount"] + 1}
        # Metadata may differ: it does not count as content.
        return {**fields, "metadata": fields["metadata"] | {"attempt": 2}}

    def _made_up(self, kind: RequestKind) -> dict[str, Any]:
        # The simulated gateway does as a paymentId demands: see `dataflow.gateways.simulated`.
        fields = self._good()
        code = kind.outcome.code
        if kind is VALID:
            if self._rng.random() < _UNANSWERED:
                fields["paymentId"] += ":unavailable:1"
            self._recent.append(fields)
        elif kind is INVALID:
            fields |= self._rng.choice(_BROKEN)
        elif kind is TOO_LARGE:
            fields["metadata"]["note"] = "x" * self._max_bytes
        elif code is not None:
            fields["paymentId"] += f":decline:{code}"
        return {name: value for name, value in fields.items() if value is not None}

    def _good(self) -> dict[str, Any]:
        rng = self._rng
        self._number += 1
        (currency,) = rng.choices(list(_CURRENCIES), list(_CURRENCIES.values()))
        # Small amounts are common, large ones are not.
        minor_units = int(rng.lognormvariate(8, 1.2)) + 1
        return {
            "paymentId": f"pay_{self._seed}_{self._number}",
            "userId": f"user_{rng.randrange(_USERS)}",
            "amount": Decimal(minor_units).scaleb(-money.EXPONENTS[currency]),
            "currency": currency,
            "paymentMethod": rng.choice(_METHODS),
            "metadata": {
                "orderId": f"order_{self._number}",
                "shipTo": {"city": rng.choice(_CITIES), "express": rng.random() < _EXPRESS},
            },
        }

    def _encode(self, fields: dict[str, Any]) -> bytes:
        # The same payment may be written in both ways: what counts is the value.
        amount = fields.get("amount")
        if isinstance(amount, Decimal) and self._rng.random() < _AS_TEXT:
            fields = {**fields, "amount": f"{amount:f}"}
        return _encoder.encode(fields)
