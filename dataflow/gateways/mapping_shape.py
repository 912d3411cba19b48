"""The shape of a provider's HTTP API, as a mapping has it; `mapping.py` reads and checks the file.

The rules are tried in order; the first one that fits an answer decides, and what none fits is
`Unknown`. A rule fits if the call, the status, and all values of `when` do.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from dataflow.gateways import json_pointer
from dataflow.gateways.decimals import Minor, MinorUnits, to_minor
from schemas import money
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest

Call = Literal["charge", "lookup"]
ReplyName = Literal[
    "approved", "declined", "not_executed", "unknown", "pending", "misconfigured", "not_found"
]
Values = Mapping[str, str | int]
FieldName = Literal["paymentId", "userId", "amount", "currency", "paymentMethod", "key"]

_LARGEST_INTEGER = 2**53 - 1
"""Many JSON libraries read a larger one as a float (RFC 8259, section 6): another amount."""


class Constant(Struct, forbid_unknown_fields=True):
    """A value that is the same for all payments."""

    constant: str | int | bool


class KeyMapping(Struct, forbid_unknown_fields=True):
    """The idempotency key."""

    header: str = "Idempotency-Key"
    format: Literal["plain", "quoted"] = "plain"
    life_hours: float = 24.0
    """The time for which the provider keeps it."""
    saves_errors: bool = False
    """True if the same key gets a failure of the provider again."""


class AuthMapping(Struct, forbid_unknown_fields=True):
    """The way to send the credentials."""

    scheme: Literal["none", "bearer", "basic", "header"] = "bearer"
    header: str = "Authorization"


class AmountMapping(Struct, forbid_unknown_fields=True):
    """The way to write an amount: a string in major units, or an integer in minor ones."""

    format: Literal["major", "minor"] = "major"
    decimals: dict[str, int] = field(default_factory=dict)
    """Those that differ from ISO 4217, in minor units."""
    currencies: list[str] | None = None
    """The ones that the provider takes; all others are declined without a call."""


class ChargeMapping(Struct, forbid_unknown_fields=True):
    """The request that charges."""

    path: str
    body: dict[str, FieldName | Constant]
    """The values, by their JSON pointers."""


class LookupMapping(Struct, forbid_unknown_fields=True):
    """The request that finds a charge; its path has `{key}` or `{paymentId}`."""

    path: str


class ProbeMapping(Struct, forbid_unknown_fields=True):
    """A request that has a 2xx answer if charges would work, and moves no money."""

    path: str


class ListMapping(Struct, forbid_unknown_fields=True):
    """The request that lists payments, with the parameters and answers of our contract."""

    path: str


class Rule(Struct, forbid_unknown_fields=True):
    """An answer, and the reply that it is."""

    status: int | str | list[int]
    """200, "2xx", or several."""
    reply: ReplyName
    call: Call | None = None
    when: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    """Values at JSON pointers."""
    reference: str | None = None
    """A pointer to the provider's id of the charge."""
    message: str | None = None
    """A pointer."""
    code: str | None = None
    """A pointer to the provider's code of a decline."""
    codes: dict[str, ErrorCode] = field(default_factory=dict)
    """Our code for the provider's; one that is missing is `declined`, or itself if it is ours."""
    retryable: bool | str = False
    """The same for all, or a pointer to a boolean."""
    refusal: bool = False
    """Of `declined`: true if the provider has refused the request, as it would every one of an
    account that has none of our customers."""
    saved: bool | None = None
    """Of `unknown`: true if the same key gets this answer again. Without it, `key.saves_errors`
    decides."""

    def is_for(self, call: Call, status: int) -> bool:
        """Return whether the rule is for answers to this call with this status."""
        return self.call in {None, call} and self._has(status)

    def has_values(self, document: Any) -> bool:
        """Return whether an answer has the values that the rule is for."""
        return all(
            _equal(json_pointer.find(document, at), value) for at, value in self.when.items()
        )

    def _has(self, status: int) -> bool:
        if isinstance(self.status, str):
            return self.status == f"{status // 100}xx"
        return status in (self.status if isinstance(self.status, list) else [self.status])

    def pointers(self) -> list[str]:
        """Return all JSON pointers of the rule."""
        named = [self.reference, self.message, self.code]
        named += [self.retryable] if isinstance(self.retryable, str) else []
        return [*self.when, *(each for each in named if each is not None)]


class HttpMapping(Struct, forbid_unknown_fields=True):
    """The whole file."""

    charge: ChargeMapping
    rules: list[Rule]
    key: KeyMapping = field(default_factory=KeyMapping)
    auth: AuthMapping = field(default_factory=AuthMapping)
    amount: AmountMapping = field(default_factory=AmountMapping)
    lookup: LookupMapping | None = None
    probe: ProbeMapping | None = None
    list: ListMapping | None = None
    echo: dict[str, FieldName] = field(default_factory=dict)
    """The values of the payment that answers repeat, by their JSON pointers."""

    def units(self) -> MinorUnits:
        """Return the minor units of all currencies that the provider takes."""
        known = money.EXPONENTS
        taken = known if self.amount.currencies is None else self.amount.currencies
        decimals = {code: self.amount.decimals.get(code, known[code]) for code in taken}
        return {code: Minor(each, min(each, known[code])) for code, each in decimals.items()}

    def body_of(self, request: PaymentRequest, key: str, units: MinorUnits) -> bytes | None:
        """Return what is sent for a payment: a function of its content. None if it cannot be."""
        values = self.values_of(request, key, units)
        return None if values is None else self.body_with(values)

    def body_with(self, values: Values) -> bytes:
        """Return what is sent for a payment with these fields."""
        document: dict[str, Any] = {}
        for pointer, source in self.charge.body.items():
            value = source.constant if isinstance(source, Constant) else values[source]
            json_pointer.put(document, pointer, value)
        return msgspec.json.encode(document)

    def values_of(self, request: PaymentRequest, key: str, units: MinorUnits) -> Values | None:
        """Return the fields of a payment as they are sent. None if it cannot be."""
        amount = to_minor(request.amount, request.currency, units)
        if amount is None or (self.amount.format == "minor" and amount > _LARGEST_INTEGER):
            return None
        return {
            "paymentId": request.payment_id,
            "userId": request.user_id,
            "amount": amount if self.amount.format == "minor" else major(request),
            "currency": request.currency,
            "paymentMethod": request.payment_method,
            "key": key,
        }

    def is_about(self, document: Any, values: Values) -> bool:
        """Return whether an answer repeats no other values than those of this payment."""
        return all(
            found is json_pointer.MISSING or _equal(found, values[name])
            for pointer, name in self.echo.items()
            for found in (json_pointer.find(document, pointer),)
        )


def major(request: PaymentRequest) -> str:
    """Return an amount in major units: one spelling for all equal amounts, however it was sent."""
    return money.canonical(request.digits.decode())


def _equal(found: Any, value: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(found, bool) or isinstance(value, bool):
        return found is value
    return bool(found == value)


def headers_of(mapping: HttpMapping, key: str) -> Mapping[str, str]:
    """Return the headers of a charge."""
    written = f'"{key}"' if mapping.key.format == "quoted" else key
    return {mapping.key.header: written, "Content-Type": "application/json"}
