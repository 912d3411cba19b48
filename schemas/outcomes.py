"""Every outcome a payment request can have, and every code an error can carry.

The values are part of the public contract (events, metric labels): add, never rename.
"""

from enum import StrEnum


class EventType(StrEnum):
    """`eventType` of every published event; the audit topic carries all four."""

    PROCESSED = "payment.processed"
    """The first valid request for its paymentId, approved by the gateway."""
    FAILED = "payment.failed"
    """Declined by the gateway (claims the paymentId), or invalid (does not claim it)."""
    DUPLICATE = "payment.duplicate"
    """A paymentId seen before, with the same content. Audited only."""
    CONFLICT = "payment.conflict"
    """A paymentId seen before, with other content: fraud or a bug. Audited only."""


class ErrorCode(StrEnum):
    """`error.code` of a failed event, in order of precedence for invalid requests."""

    # The record itself
    TOMBSTONE = "tombstone"
    """The record has no value."""
    TOO_LARGE = "too_large"
    """The record is larger than its outcome may be on the output topics."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The record names a schema id that the schema registry does not have."""
    MALFORMED = "malformed"
    """Not UTF-8, not JSON, not a JSON object, or nested too deeply; or not what its schema
    describes."""
    INVALID = "invalid"
    """JSON, but a field is missing or breaks its rule; the message names each."""

    # The gateway declined
    DECLINED = "declined"
    """Declined without a reason we have a code for."""
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CARD_EXPIRED = "card_expired"
    FRAUD_SUSPECTED = "fraud_suspected"
    LIMIT_EXCEEDED = "limit_exceeded"
    METHOD_NOT_SUPPORTED = "method_not_supported"
    AUTHENTICATION_REQUIRED = "authentication_required"
    """The payer has to confirm the payment, which only works while the payer is there."""
    INVALID_PAYMENT_METHOD = "invalid_payment_method"
    """The number, account or name that stands for the payment method is wrong."""


INVALID_RECORD = frozenset(
    {
        ErrorCode.TOMBSTONE,
        ErrorCode.TOO_LARGE,
        ErrorCode.UNKNOWN_SCHEMA,
        ErrorCode.MALFORMED,
        ErrorCode.INVALID,
    }
)
"""The codes of a record that is no valid request, and so claims no paymentId."""
DECLINE_CODES = frozenset(ErrorCode) - INVALID_RECORD
"""The codes of a valid request that the gateway declined."""
