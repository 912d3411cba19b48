"""The published events: processed, failed, audit. JSON, UTF-8, keyed by paymentId.

Every input record has one `eventId`, shared by its outcome and its audit event: a consumer can
join the topics on it, and drop repeats by it. It is a UUID of version 8 (RFC 9562, section 5.8)
made of a hash of topic and partition, and of the offset: the same record always gives the same id.

Instants are RFC 3339 in UTC with milliseconds.
"""

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from schemas import cards
from schemas.headers import MAX_FORWARDED_BYTES
from schemas.outcomes import ErrorCode, EventType
from schemas.replies import Declined
from schemas.requests import PaymentRequest, Rejected

EVENT_OVERHEAD_BYTES = 8 * 1024 + MAX_FORWARDED_BYTES
"""The most that an event adds to its request's value: ids, source, instants, the gateway's words,
and headers."""
MAX_MESSAGE = 500
"""Characters of `error.message`."""
MAX_REFERENCE = 255
"""Characters of `gatewayReference`."""
MAX_PROVIDER_CODE = 64
"""Characters of `error.providerCode`."""


class Source(Struct, frozen=True, gc=False):
    """The input record an event tells of."""

    topic: str
    partition: int
    offset: int


class Error(Struct, rename="camel", frozen=True, gc=False):
    """The reason a payment failed."""

    code: ErrorCode
    message: str
    retryable: bool
    """True if the payer may try again, with a new paymentId after a decline."""
    provider_code: str | UnsetType = UNSET
    """Of a decline: the provider's own code, if it gave one."""


class Resolution(Struct, frozen=True, gc=False):
    """A person's decision that an outcome follows from, instead of the gateway's answer."""

    by: str
    at: str
    reason: str


class ProcessedEvent(Struct, rename="camel", frozen=True, gc=False, kw_only=True):
    """On the processed topic: the request as it was sent, and the gateway's reference."""

    event_id: str
    event_type: EventType = EventType.PROCESSED
    payment_id: str
    user_id: str
    amount: Raw
    currency: str
    payment_method: str
    metadata: Raw | UnsetType
    gateway_reference: str
    processed_at: str
    source: Source


class FailedEvent(Struct, rename="camel", frozen=True, gc=False, kw_only=True):
    """On the failed topic: what could be read of the request, and why it failed."""

    event_id: str
    event_type: EventType = EventType.FAILED
    payment_id: str | None
    user_id: str | UnsetType = UNSET
    amount: Raw | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    payment_method: str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    error: Error
    failed_at: str
    source: Source
    original: str | UnsetType = UNSET
    """Base64 of the record's value, if no field of the request could be read from it. Digits of
    card numbers in it are replaced by `*`."""
    original_truncated: bool | UnsetType = UNSET
    """True when `original` is only the beginning of the value."""


class AuditEvent(Struct, rename="camel", frozen=True, gc=False, kw_only=True):
    """On the audit topic: exactly one for every input record."""

    event_id: str
    event_type: EventType
    payment_id: str | None
    source: Source
    occurred_at: str
    first_source: Source | UnsetType = UNSET
    """For a duplicate or conflict: the record that claimed the paymentId."""
    gateway_reference: str | UnsetType = UNSET
    error: Error | UnsetType = UNSET
    resolution: Resolution | UnsetType = UNSET
    """If a person has decided what the gateway did not answer."""


encode = msgspec.json.Encoder().encode


class Records:
    """The parts that all events of one input partition share; makes ids and sources of its records.

    Args:
        topic: The input topic.
        partition: One of its partitions.
    """

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        digest = blake2b(f"{topic}/{partition}".encode(), digest_size=9).hexdigest()
        # Version 8, variant 10: the two fixed fields of a UUID; the last 48 bits are the offset.
        self._prefix = f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-8{digest[15:18]}-"

    def event_id(self, offset: int) -> str:
        """Return the `eventId` of the record at `offset`."""
        return f"{self._prefix}{offset:012x}"

    def source(self, offset: int) -> Source:
        """Return the `source` of the record at `offset`."""
        return Source(self._topic, self._partition, offset)

    def event_ids(self, offsets: Iterable[int]) -> list[str]:
        """Return `event_id` of each offset, without a call for each."""
        prefix = self._prefix
        return [f"{prefix}{offset:012x}" for offset in offsets]

    def sources(self, offsets: Iterable[int]) -> list[Source]:
        """Return `source` of each offset, likewise."""
        topic, partition = self._topic, self._partition
        return [Source(topic, partition, offset) for offset in offsets]


def instant(seconds: float) -> str:
    """Return an instant given in seconds since 1970, in RFC 3339."""
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def processed(
    event_id: str, source: Source, request: PaymentRequest, reference: str, at: str
) -> ProcessedEvent:
    """Return the event of an approved payment, at an `instant`."""
    return ProcessedEvent(
        event_id=event_id,
        payment_id=request.payment_id,
        user_id=request.user_id,
        amount=Raw(request.digits),
        currency=request.currency,
        payment_method=request.payment_method,
        metadata=request.metadata,
        gateway_reference=reference,
        processed_at=at,
        source=source,
    )


def declined(
    event_id: str, source: Source, request: PaymentRequest, error: Error, at: str
) -> FailedEvent:
    """Return the event of a payment that the gateway declined, at an `instant`."""
    return FailedEvent(
        event_id=event_id,
        payment_id=request.payment_id,
        user_id=request.user_id,
        amount=Raw(request.digits),
        currency=request.currency,
        payment_method=request.payment_method,
        metadata=request.metadata,
        error=error,
        failed_at=at,
        source=source,
    )


def rejected(
    event_id: str, source: Source, rejection: Rejected, at: str, max_bytes: int
) -> FailedEvent:
    """Return the event of an invalid record, at an `instant`.

    An `original` that would be larger than `max_bytes`, the largest request, is cut.
    """
    original, cut = _original(rejection.original, max_bytes)
    return FailedEvent(
        event_id=event_id,
        payment_id=rejection.payment_id,
        user_id=_or_unset(rejection.user_id),
        amount=UNSET if rejection.digits is None else Raw(rejection.digits),
        currency=_or_unset(rejection.currency),
        payment_method=_or_unset(rejection.payment_method),
        metadata=UNSET if rejection.metadata is None else rejection.metadata,
        error=error_of(rejection),
        failed_at=at,
        source=source,
        original=original,
        original_truncated=cut,
    )


def error_of(reason: Declined | Rejected) -> Error:
    """Return the `error` of a failed payment or an invalid record."""
    message = reason.message[:MAX_MESSAGE]
    if not isinstance(reason, Declined):
        return Error(reason.code, message, retryable=False)
    theirs = reason.provider_code
    return Error(reason.code, message, reason.retryable, UNSET if theirs is None else theirs)


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def _original(value: bytes | None, max_bytes: int) -> tuple[str | UnsetType, bool | UnsetType]:
    if value is None:
        return UNSET, UNSET
    # Base64 makes four bytes of three; a multiple of three leaves no padding in the middle.
    room = max_bytes // 4 * 3
    # Masked before it is cut, since half a card number is not recognised as one.
    shown = cards.masked_bytes(value[: room + cards.LONGEST])[:room]
    return b64encode(shown).decode(), True if len(value) > room else UNSET
