"""The gateway port: what the flow asks of a payment provider, and what it may answer.

A gateway charges one payment at a time, under an idempotency key that depends on nothing but the
paymentId (`idempotency_key`): after a crash the same payment is charged again with the same key,
and the provider must answer as it did the first time without moving money twice (the semantics of
Stripe's `Idempotency-Key` header). So what is sent may depend on nothing but the payment's content:
paymentId, userId, amount, currency, paymentMethod. Metadata and clocks differ between two copies.

    reply           the charge                        next
    Approved        happened                          -
    Declined        is refused for good               -
    NotExecuted     certainly did not happen          charge, after `retry_after_s`
    Unknown         may have happened                 charge with the same key; `saved`: look it up
    Pending         is accepted, not yet decided      look it up
    Misconfigured   did not happen, nor will others   a person corrects the settings

A decline has a `basis`: a row of refused requests counts as `Misconfigured` (`core/refusals.py`),
and one that was not sent shows nothing about the provider.

`too_many` slows all calls down, whatever pause is demanded; such an answer is no sign of an outage.

Never guess: an answer that no rule covers is `Unknown`. An exception is a defect of the gateway.

Single calls, because a window of calls slides: the next call starts when any other ends, and one
that hangs delays no other. A gateway that never waits has no use for a window, and a task for each
payment would cost more than its answer; it has `charge_batch` as well (`BatchGateway`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from schemas.outcomes import ErrorCode
from schemas.replies import (
    Approved,
    DeclineBasis,
    Declined,
    Definite,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
)
from schemas.requests import PaymentRequest, key_of

__all__ = [
    "KEY_LENGTH",
    "Approved",
    "BatchGateway",
    "DeclineBasis",
    "Declined",
    "Definite",
    "Gateway",
    "Misconfigured",
    "NotExecuted",
    "Pending",
    "Reply",
    "Traits",
    "Unknown",
    "idempotency_key",
    "not_taken",
    "of_lookup",
]

KEY_LENGTH = 36
"""Characters of a key. Mangopay takes no longer one."""


def idempotency_key(payment_id: str) -> str:
    """Return the key of a payment: a UUID of version 8 (RFC 9562) made of the paymentId's hash."""
    digest = key_of(payment_id).hex()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:]}"


def of_lookup(reply: Reply | None) -> Reply | None:
    """Return the reply of a look-up: one that was not executed proves nothing about the charge."""
    if isinstance(reply, NotExecuted):
        return Unknown(reply.reason, too_many=reply.too_many)
    return reply


def not_taken(request: PaymentRequest) -> Declined:
    """Return the decline of a payment that cannot be sent, as the provider takes no such amount."""
    message = f"The provider takes no such amount in {request.currency}."
    return Declined(
        ErrorCode.METHOD_NOT_SUPPORTED, message, retryable=False, basis=DeclineBasis.NOT_SENT
    )


class Traits(Struct, frozen=True, kw_only=True):
    """The facts about a provider on which it depends how a payment may be asked for again."""

    key_life_s: float | None
    """The time for which the provider keeps a key; after it, the same key is a new charge. None:
    for ever."""
    saves_errors: bool
    """True if the same key gets a failure of the provider again, and no new attempt. Such a reply
    has to be `Unknown` with `saved`."""
    has_lookup: bool
    """True if `lookup` works; otherwise it is never called."""
    longest_key: int = 255
    """Characters; at least `KEY_LENGTH`."""
    decimals: Mapping[str, int] | None = None
    """The provider's decimals by currency, where it has a table. An amount with more of them, or in
    a currency that is not there, is declined: the gateway never gets it to charge. None: the
    decimals of ISO 4217, which each request has been checked for."""


@runtime_checkable
class Gateway(Protocol):
    """A payment provider.

    It is built at the start of a process: the constructor checks the configuration (`ValueError`,
    with a text that names the setting), and opens nothing. All other calls come from one event
    loop, many at once. How many payments are in flight is the caller's business; for how long one
    call may last is the gateway's: it gives up by itself, with `Unknown`. A class that inherits
    from this one only has to have `traits`, `charge` and, if it holds connections, `close`.
    """

    @property
    def traits(self) -> Traits:
        """The facts about the provider."""
        ...

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Charge a payment, or return the answer that it had under the same key."""
        ...

    async def lookup(
        self,
        request: PaymentRequest,  # noqa: ARG002  (of use to those that have one)
        key: str,  # noqa: ARG002
    ) -> Reply | None:
        """Return the answer that a payment had, without charging it; None if there is no charge.

        Trouble with the lookup itself is `Unknown` or `Misconfigured`, never `NotExecuted`: see
        `of_lookup`. None is no proof for as long as the first request may still be on its way.
        """
        return Unknown("this gateway has no lookup")

    async def probe(self) -> Reply | None:
        """Return the reason why a charge would fail now, or None; moves no money."""
        return None

    async def close(self) -> None:
        """Give back connections. Called once, when the process ends."""
        ...


@runtime_checkable
class BatchGateway(Gateway, Protocol):
    """A gateway that answers many payments at once, without waiting for anything.

    Only one that keeps keys for ever is asked so, as what is charged as a whole is not looked up
    first; and only one without `Traits.decimals`, as its amounts are not looked at.
    """

    async def charge_batch(self, requests: Sequence[PaymentRequest]) -> Sequence[Reply]:
        """Charge each request once; `len(replies) == len(requests)`, in the same order.

        It is `charge` for each request under its own `idempotency_key`.
        """
        ...
