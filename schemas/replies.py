"""The possible answers of a payment gateway to one request."""

from msgspec import Struct

from schemas.outcomes import ErrorCode


class Approved(Struct, frozen=True, gc=False):
    """The payment went through."""

    reference: str
    """The provider's own id of the charge, 1 to 255 characters: `gatewayReference`.

    One that cannot be published is changed by `dataflow.gateways.replies`, as are other fields.
    """


class Declined(Struct, frozen=True, gc=False):
    """The provider decided against the payment. Final: the paymentId stays claimed."""

    code: ErrorCode
    message: str
    """For people; must not contain card data. At most 500 characters are published."""
    retryable: bool
    """True if the payer may try again with a *new* paymentId."""


class Unavailable(Struct, frozen=True, gc=False):
    """No answer, or none that can be trusted: asked again with the same idempotency key."""

    reason: str


Reply = Approved | Declined | Unavailable
