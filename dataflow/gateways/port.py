"""The gateway port: what the flow asks of a payment provider, and what it may answer.

One batch of requests in, one reply for each out, in the same order. The idempotency key of a
request is its `payment_id`: after a crash the same payment is charged again with the same key,
and the provider must answer as it did the first time without moving money twice (the semantics
of Stripe's `Idempotency-Key` header).
"""

from collections.abc import Sequence
from typing import Protocol

from schemas.replies import Approved, Declined, Reply, Unavailable
from schemas.requests import PaymentRequest

__all__ = ["Approved", "Declined", "Gateway", "Reply", "Unavailable"]


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
