"""The list of payments of a provider that has our contract: its pages, read one after another."""

from collections.abc import AsyncIterator
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct, field

from dataflow.gateways import listing
from dataflow.gateways.http_client import HttpClient, read
from dataflow.gateways.listing import ListedPayment, ListedState, ListError
from schemas import events, pending


class _Listed(Struct, rename="camel"):
    reference: str
    amount: str
    currency: str
    status: ListedState
    created_at: str
    payment_id: str | None = None


class _Page(Struct):
    payments: list[_Listed]
    after: str | None = field(name="next", default=None)


async def payments(
    client: HttpClient, path: str, since_s: float, until_s: float
) -> AsyncIterator[ListedPayment]:
    """Yield the payments that were made from one instant on, and before another one.

    Raises:
        ListError: there is no list, or none that is complete.
    """
    query = {"since": events.instant(since_s), "until": events.instant(until_s)}
    seen: set[str] = set()
    while True:
        separator = "&" if "?" in path else "?"
        page: Any = read(await listing.get(client, path + separator + urlencode(query)), _Page)
        if page is None:
            raise ListError("the answer is no list of payments by the contract")
        for each in page.payments:
            yield _listed(each)
        if page.after is None:
            return
        if page.after in seen:
            raise ListError("the list has no end: a page is its own next one")
        seen.add(page.after)
        query["after"] = page.after


def _listed(each: _Listed) -> ListedPayment:
    try:
        amount, created_s = Decimal(each.amount), pending.seconds(each.created_at)
    except (InvalidOperation, ValueError):
        raise ListError("an amount or an instant of the list is none") from None
    return ListedPayment(
        payment_id=each.payment_id,
        reference=each.reference,
        amount=amount,
        currency=each.currency,
        state=each.status,
        created_s=created_s,
    )
