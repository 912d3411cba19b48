"""The entries of the pending topic: payments that wait for the gateway. JSON, UTF-8, by eventId.

The topic is compacted. An entry is written when a payment is parked, and again after each attempt
that brought no answer; a tombstone ends it, in the transaction with the outcome and its audit
event. So each record of the input has an audit event or an open entry, and never both.
"""

from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec import Raw, Struct

from schemas.events import Source
from schemas.parsing import parse
from schemas.requests import PaymentRequest

MAX_REASON = 200
"""Characters of `reason`."""
_ANY_SIZE = 2**62


class PendingState(StrEnum):
    """The next step for a pending payment."""

    PENDING = "pending"
    """It is asked for again, at `nextAttemptAt`."""
    UNRESOLVED = "unresolved"
    """It cannot be asked for safely any more: a person has to look at it."""


class PendingEntry(Struct, rename="camel", frozen=True, kw_only=True):
    """A payment that is claimed, and whose outcome the gateway has not given yet."""

    event_id: str
    payment_id: str
    state: PendingState = PendingState.PENDING
    request: Raw
    """The request, as it was sent, without fields that are not part of it."""
    source: Source
    record_time_ms: int
    """The timestamp of the request's record, in milliseconds since 1970, whatever it is."""
    parked_at: str
    first_attempt_at: str
    """No earlier than this it may have been charged: the life of its key counts from here."""
    attempts: int
    attempts_parked: int
    """Of those, how many since it was parked: the next pause depends on them."""
    is_unsent: bool
    """True if no post is known that may have been executed: a look-up that finds nothing proves
    that the payment is new, however old its key seems."""
    next_attempt_at: str | None
    reason: str
    """Why there was no answer, last."""

    def payment(self) -> PaymentRequest:
        """Return the request.

        Raises:
            ValueError: it is none; only this flow writes entries, so something else has.
        """
        found = parse(bytes(self.request), _ANY_SIZE)
        if not isinstance(found, PaymentRequest) or found.payment_id != self.payment_id:
            raise ValueError(f"the pending entry {self.event_id} has no valid request")
        return found


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(PendingEntry).decode


def decode(value: bytes) -> PendingEntry:
    """Return the entry in a record's value.

    Raises:
        ValueError: it is none.
    """
    entry = _decode(value)
    entry.payment()
    return entry


def seconds(instant: str) -> float:
    """Return an instant of an entry in seconds since 1970."""
    return datetime.fromisoformat(instant).timestamp()
