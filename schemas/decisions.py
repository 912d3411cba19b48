"""A person's decision about a pending payment: a record on the pending topic. JSON, UTF-8.

Its key is `KEY_PREFIX` and the eventId, so that compaction never takes it for the payment's entry.
`payments resolve` writes it; the flow carries it out in the transaction of outcome, audit event and
tombstones, and ends it there. Of several about one payment the last one counts.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schemas.events import MAX_REFERENCE, Resolution
from schemas.outcomes import DECLINE_CODES, ErrorCode
from schemas.replies import Approved, Declined, Definite

KEY_PREFIX = b"decision/"
MAX_REASON = 500
MAX_BY = 100
DECLINE_MESSAGE = "A person has decided that the payment failed."

_Reference = Annotated[str, Meta(min_length=1, max_length=MAX_REFERENCE)]


class PersonsDecision(Struct, rename="camel", frozen=True, kw_only=True):
    """A finding of a person about a payment that waits for the gateway."""

    event_id: str
    """Of the pending entry."""
    payment_id: str
    reference: _Reference | None = None
    """Of a payment that was charged: the provider's own id of the charge."""
    code: ErrorCode | None = None
    """Of a payment that was not."""
    retryable: bool = False
    force: bool = False
    """True if it holds also for a payment that is not unresolved, and against a provider that has
    accepted it and has not decided."""
    by: Annotated[str, Meta(min_length=1, max_length=MAX_BY)]
    at: str
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON)]

    @property
    def key(self) -> bytes:
        """The key of its record."""
        return key_of(self.event_id)

    @property
    def reply(self) -> Definite:
        """The answer that it stands in for."""
        if self.reference is not None:
            return Approved(self.reference)
        assert self.code is not None  # by `decode`
        return Declined(self.code, DECLINE_MESSAGE, self.retryable)

    @property
    def resolution(self) -> Resolution:
        """The part that the audit event has."""
        return Resolution(self.by, self.at, self.reason)


def key_of(event_id: str) -> bytes:
    """Return the key of a decision about a payment."""
    return KEY_PREFIX + event_id.encode()


def is_decision(key: bytes | None) -> bool:
    """Return whether a record of the pending topic is a decision, or ends one, by its key."""
    return key is not None and key.startswith(KEY_PREFIX)


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PersonsDecision).decode


def decode(key: bytes, value: bytes) -> PersonsDecision:
    """Return the decision in a record.

    Raises:
        ValueError: it is none.
    """
    found = _decode(value)
    if found.key != key:
        raise ValueError("its key is that of another payment")
    if (found.reference is None) == (found.code is None):
        raise ValueError("expected either a reference or a code")
    if found.code is not None and found.code not in DECLINE_CODES:
        raise ValueError(f"{found.code} is of invalid records")
    return found
