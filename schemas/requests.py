"""The readings of a record on the request topic: a `PaymentRequest`, or a `Rejected`."""

from decimal import Decimal
from hashlib import blake2b
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from schemas import money
from schemas.outcomes import ErrorCode

MAX_TEXT = 255
"""Characters of paymentId, userId and paymentMethod."""
KEY_BYTES = 16
"""Bytes of a paymentId's hash. 128 bits: a false duplicate would swallow a payment."""
PRINT_BYTES = 8
"""Bytes of a content fingerprint; only ever compared between requests of one paymentId."""
IDENTITY_BYTES = KEY_BYTES + PRINT_BYTES

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class PaymentRequest(Struct, rename="camel", frozen=True, gc=False):
    """A valid request, as it was sent."""

    payment_id: Text
    """The caller's id of the payment: what is decided exactly once."""
    user_id: Text
    written_amount: Raw = field(name="amount")
    """The amount as JSON wrote it, quotes included; see `digits`."""
    currency: str
    """ISO 4217 alphabetic code, upper case."""
    payment_method: Text
    metadata: Raw | UnsetType = UNSET
    """Any JSON object (or null), passed on byte for byte."""

    @property
    def digits(self) -> bytes:
        """The amount in major units, exactly the digits that were sent: a JSON number."""
        return bytes(self.written_amount).strip(b'"')

    @property
    def amount(self) -> Decimal:
        """The amount in major units, exact."""
        return Decimal(self.digits.decode())

    @property
    def minor_units(self) -> int:
        """The amount in the currency's smallest unit (cents), as most gateways want it."""
        return int(self.amount.scaleb(money.EXPONENTS[self.currency]))

    def identity(self) -> bytes:
        """Return the `KEY_BYTES` hash of the paymentId, then the `PRINT_BYTES` hash of the content.

        Equal content is an equal user, amount (by value), currency and payment method; metadata
        does not count. BLAKE2b, so that nobody can construct a payment that hides another.
        """
        # Lengths first: no two contents are spelled alike.
        user, method = self.user_id, self.payment_method
        amount = money.canonical(str(self.written_amount, "ascii").strip('"'))
        content = f"{len(user)}:{user}{len(method)}:{method}{self.currency}{amount}"
        return key_of(self.payment_id) + _digest(_new_print(), content)


def key_of(payment_id: str) -> bytes:
    """Return the hash that stands for a paymentId in the dedupe index."""
    return _digest(_new_key(), payment_id)


# A copy of a hash takes half as long as a new one.
_new_key = blake2b(digest_size=KEY_BYTES).copy
_new_print = blake2b(digest_size=PRINT_BYTES).copy


def _digest(new: blake2b, text: str) -> bytes:
    new.update(text.encode())
    return new.digest()


class Rejected(Struct, frozen=True, kw_only=True):
    """An invalid record, with whatever of the request could be read."""

    code: ErrorCode
    message: str
    """The names of the fields, each with the rule it breaks."""
    payment_id: str | None = None
    user_id: str | None = None
    digits: bytes | None = None
    currency: str | None = None
    payment_method: str | None = None
    metadata: Raw | None = None
    original: bytes | None = None
    """The record's value, if no field of the request could be read from it."""
