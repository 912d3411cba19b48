"""The provider's own list of payments, for a comparison with what was published.

A gateway that can list has `payments` (`ListingGateway`); the flow itself never calls it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, runtime_checkable

from msgspec import Struct

from dataflow.gateways.http_client import HttpClient, Response, is_too_many, retry_after_s
from dataflow.gateways.port import Misconfigured

_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE_S = 60.0
_OK, _SERVER = 200, 500


class ListedState(StrEnum):
    """The state of a payment at the provider."""

    APPROVED = "approved"
    """Money moved."""
    DECLINED = "declined"
    """None moved, and none will."""
    PENDING = "pending"
    """It is not decided."""


class ListedPayment(Struct, frozen=True, kw_only=True):
    """One payment, as the provider has it."""

    payment_id: str | None
    """Our paymentId; None if the provider has none, so that another system has made it."""
    reference: str
    """The provider's own id of the charge."""
    amount: Decimal
    """In major units."""
    currency: str
    state: ListedState = ListedState.APPROVED
    created_s: float | None = None
    """In seconds since 1970; None if it is not known."""


class ListError(Exception):
    """The provider does not give its list; the text has the reason."""


@runtime_checkable
class ListingGateway(Protocol):
    """A gateway whose provider can list its payments."""

    def payments(self, since_s: float, until_s: float) -> AsyncIterator[ListedPayment]:
        """Yield the payments that were made from one instant on, and before another one.

        Raises:
            ListError: there is no list, or none that is complete.
        """
        ...


async def get(
    client: HttpClient, path: str, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> Response:
    """Return a page of a list; asked for again a few times, which moves no money.

    Raises:
        ListError: there is none.
    """
    pauses_s = iter(_PAUSES_S)
    while True:
        answer = await client.send("GET", path)
        if isinstance(answer, Response):
            if answer.status == _OK:
                return answer
            reason = f"HTTP {answer.status} instead of a list of payments"
            may_pass = is_too_many(answer) or answer.status >= _SERVER
            demanded_s = retry_after_s(answer) or 0.0
        else:
            reason, may_pass, demanded_s = answer.reason, not isinstance(answer, Misconfigured), 0.0
        pause_s = next(pauses_s, None)
        if pause_s is None or not may_pass:
            raise ListError(reason)
        await sleep(max(pause_s, min(demanded_s, _LONGEST_PAUSE_S)))
