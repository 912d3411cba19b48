"""The gateway port: what the flow asks of a payment provider, and what it may answer.

One batch of requests in, one reply for each out, in the same order. The idempotency key of a
request is its `payment_id`: after a crash the same payment is charged again with the same key,
and the provider must answer as it did the first time without moving money twice (the semantics
of Stripe's `Idempotency-Key` header).
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest


class Approved(Struct, frozen=True, gc=False):
    """The payment went through."""

    reference: str
    """The provider's own id of the charge, 1 to 255 characters: `gatewayReference`."""


class Declined(Struct, frozen=True, gc=False):
    """The provider decided against the payment. Final: the paymentId stays claimed."""

    code: ErrorCode
    message: str
    """For people; must not contain card data. At most 500 characters are published."""
    retryable: bool
    """Whether the payer may try again with a *new* paymentId."""


class Unavailable(Struct, frozen=True, gc=False):
    """No answer, or none that can be trusted: asked again with the same idempotency key."""

    reason: str


Reply = Approved | Declined | Unavailable


class Gateway(Protocol):
    """A payment provider. Instances live on one event loop and may be called concurrently."""

    async def charge(self, requests: Sequence[PaymentRequest]) -> Sequence[Reply]:
        """Charge each request once; `len(replies) == len(requests)`, in the same order.

        Transient trouble of a single request (a timeout, a reset connection, HTTP 429 or 5xx) is
        an `Unavailable` in its place, not an exception: the others' replies are kept. How many
        requests are in flight at once is the gateway's own business.
        """
        ...

    async def close(self) -> None:
        """Give back connections. Called once, when the process ends."""
        ...
