"""Stripe: one PaymentIntent for each payment, confirmed at once, without the payer.

1. `paymentMethod` must be a `pm_…` and `userId` its `cus_…`: everything else is declined, not sent.
   So no card number is ever sent, either.
2. What is sent is a function of the payment's content. A second request under the same key is then
   the same, to the byte, and gets the answer of the first.
3. A payment that the payer would have to confirm is cancelled, so that nobody can confirm it later;
   if it was confirmed in the meantime, it is approved.
4. An answer with another paymentId, amount or currency is no answer to this payment.
5. The lookup reads the customer's list, which is up to date; Stripe's search may lag for an hour.
   A payment is found by `metadata[paymentId]`.

6. `payments` lists the whole account, for tools.

A restricted key needs: PaymentIntents write (which includes read), and nothing else.
"""

import math
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from urllib.parse import quote, urlencode

from dataflow.config.secret import Secret
from dataflow.config.settings import GatewaySettings
from dataflow.gateways import decimals, listing
from dataflow.gateways.http_client import HttpClient, Response, is_too_many, read
from dataflow.gateways.listing import ListedPayment, ListedState, ListError
from dataflow.gateways.port import (
    Approved,
    DeclineBasis,
    Declined,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
)
from dataflow.gateways.stripe_answers import (
    ABANDONED,
    Intent,
    IntentList,
    ToCancel,
    intent_of,
    of_cancel,
    of_charge,
    of_intent,
    of_probe,
)
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest

API_VERSION = "2026-08-26.dahlia"
"""The form of requests and answers. It changes what is sent: only after a clean stop."""
URL = "https://api.stripe.com"

_INTENTS = "/v1/payment_intents"
_KEY_LIFE_S = 24 * 3600.0
_METHOD = re.compile("pm_[A-Za-z0-9_]{1,240}")
_CUSTOMER = re.compile("cus_[A-Za-z0-9_]{1,240}")
_PAGE = 100
_MAX_PAGES = 20
"""A lookup gives up after so many payments of one customer: not found would be a guess then."""
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class StripeGateway(Gateway):
    """Stripe's API, version 1."""

    traits = Traits(
        key_life_s=_KEY_LIFE_S,
        saves_errors=True,
        has_lookup=True,
        decimals={currency: minor.decimals for currency, minor in decimals.STRIPE.items()},
    )

    def __init__(self, api_key: Secret, *, timeout_s: float, url: str = URL) -> None:
        headers = {
            "Authorization": f"Bearer {api_key.reveal()}",
            "Stripe-Version": API_VERSION,
            "User-Agent": "payments-dataflow",
        }
        self._client = HttpClient(url, timeout_s=timeout_s, headers=headers)

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Create and confirm a PaymentIntent."""
        form = form_of(request)
        if isinstance(form, Declined):
            return form
        response = await self._post(_INTENTS, form, key)
        if not isinstance(response, Response):
            return response
        intent = intent_of(response)
        if intent is not None and not _is_of(intent, request, form):
            return Unknown("the answer is about another payment")
        return await self._without_payer(of_charge(response), key)

    async def lookup(self, request: PaymentRequest, key: str) -> Reply | None:
        """Find the payment on its customer's list."""
        form = form_of(request)
        if isinstance(form, Declined):
            return form
        found: list[Intent] = []
        async for page in self._pages(request.user_id):
            if not isinstance(page, IntentList):
                return page
            ours = [each for each in page.data if _payment_id(each) == request.payment_id]
            if not all(_is_of(each, request, form) for each in ours):
                return Unknown("the provider has this paymentId with another amount", saved=True)
            found += ours
            if any(isinstance(of_intent(each), Approved) for each in ours):
                break  # Money moved, whatever is on the other pages.
        if not found:
            return None
        replies = [await self._without_payer(of_intent(each), key) for each in found]
        return _the_one_that_counts(replies)

    async def probe(self) -> Reply | None:
        """Read one payment: the key may, and Stripe answers."""
        response = await self._client.send("GET", f"{_INTENTS}?limit=1")
        return of_probe(response) if isinstance(response, Response) else response

    async def payments(self, since_s: float, until_s: float) -> AsyncIterator[ListedPayment]:
        """Yield all payments of the account that were created in that time, the newest first."""
        query = {
            "limit": str(_PAGE),
            "created[gte]": str(math.floor(since_s)),
            "created[lt]": str(math.ceil(until_s)),
        }
        while True:
            response = await listing.get(self._client, f"{_INTENTS}?{urlencode(query)}")
            page = read(response, IntentList)
            if page is None:
                raise ListError("the answer is no list of PaymentIntents")
            for intent in page.data:
                yield _listed(intent)
            if not page.has_more or not page.data:
                return
            query["starting_after"] = page.data[-1].id

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _without_payer(self, reply: Reply | ToCancel, key: str) -> Reply:
        """Cancel a payment that only its payer could complete."""
        if not isinstance(reply, ToCancel):
            return reply
        path = f"{_INTENTS}/{quote(reply.id, safe='')}/cancel"
        response = await self._post(path, {"cancellation_reason": ABANDONED}, f"{key}-cancel")
        if isinstance(response, Response):
            return of_cancel(response, reply.id)
        # The charge itself was executed, whatever is wrong with the cancellation.
        return response if isinstance(response, Misconfigured) else Unknown(response.reason)

    async def _pages(self, customer: str) -> AsyncIterator[IntentList | Unknown | Misconfigured]:
        """Yield the customer's list, or what is the matter with it, which is then the end."""
        after = ""
        for _ in range(_MAX_PAGES):
            query = {"customer": customer, "limit": str(_PAGE)} | (
                {"starting_after": after} if after else {}
            )
            response = await self._client.send("GET", f"{_INTENTS}?{urlencode(query)}")
            page = _page(response)
            yield page
            if not isinstance(page, IntentList) or not page.has_more or not page.data:
                return
            after = page.data[-1].id
        yield Unknown(f"more than {_PAGE * _MAX_PAGES} payments of one customer to look through")

    async def _post(
        self, path: str, form: dict[str, str], key: str
    ) -> Response | NotExecuted | Unknown | Misconfigured:
        headers = {**_FORM, "Idempotency-Key": key}
        return await self._client.send("POST", path, headers=headers, body=urlencode(form).encode())


def build(settings: GatewaySettings) -> StripeGateway:
    """Build it."""
    assert settings.stripe_api_key is not None
    return StripeGateway(
        settings.stripe_api_key, timeout_s=settings.timeout_s, url=settings.stripe_url
    )


def form_of(request: PaymentRequest) -> dict[str, str] | Declined:
    """Return what is sent for a payment, or why it is not sent."""
    if not _METHOD.fullmatch(request.payment_method) or not _CUSTOMER.fullmatch(request.user_id):
        return _not_sent("paymentMethod must be a pm_… of Stripe, and userId its cus_….")
    amount = decimals.to_minor(request.amount, request.currency, decimals.STRIPE)
    if amount is None:
        return _not_sent(f"Stripe takes no such amount in {request.currency}.")
    return {
        "amount": str(amount),
        "currency": request.currency.lower(),
        "confirm": "true",
        "off_session": "true",
        "payment_method": request.payment_method,
        "payment_method_types[]": "card",
        "customer": request.user_id,
        "metadata[paymentId]": request.payment_id,
    }


def _payment_id(intent: Intent) -> str | None:
    return intent.metadata.get("paymentId")


def _is_of(intent: Intent, request: PaymentRequest, form: dict[str, str]) -> bool:
    """Return whether it is this payment, over this amount."""
    theirs = (_payment_id(intent), str(intent.amount), intent.currency)
    return theirs == (request.payment_id, form["amount"], form["currency"])


def _not_sent(message: str) -> Declined:
    return Declined(
        ErrorCode.METHOD_NOT_SUPPORTED, message, retryable=False, basis=DeclineBasis.NOT_SENT
    )


def _page(
    response: Response | NotExecuted | Unknown | Misconfigured,
) -> IntentList | Unknown | Misconfigured:
    """Return a page of the list; trouble with it is never `NotExecuted`: the charge may be."""
    if isinstance(response, NotExecuted):
        return Unknown(response.reason)
    if not isinstance(response, Response):
        return response
    trouble = of_probe(response)
    if isinstance(trouble, Misconfigured):
        return trouble
    page = None if trouble else read(response, IntentList)
    return page or Unknown(
        f"HTTP {response.status} instead of a list of payments", too_many=is_too_many(response)
    )


def _listed(intent: Intent) -> ListedPayment:
    """Return a PaymentIntent as a list has it."""
    currency = (intent.currency or "").upper()
    # What is in no currency that we send is not ours.
    is_ours = currency in decimals.STRIPE and intent.amount is not None
    return ListedPayment(
        payment_id=_payment_id(intent) if is_ours else None,
        reference=intent.id,
        amount=(
            decimals.to_major(intent.amount or 0, currency, decimals.STRIPE)
            if is_ours
            else Decimal(0)
        ),
        currency=currency,
        state=_state(of_intent(intent)),
        created_s=None if intent.created is None else float(intent.created),
    )


def _state(reply: Reply | ToCancel) -> ListedState:
    if isinstance(reply, Approved):
        return ListedState.APPROVED
    return ListedState.DECLINED if isinstance(reply, Declined) else ListedState.PENDING


def _the_one_that_counts(replies: list[Reply]) -> Reply:
    """Return the reply of a paymentId that has several PaymentIntents: money moved, or may yet."""
    for kind in (Approved, Pending, Unknown, Misconfigured):
        for reply in replies:
            if isinstance(reply, kind):
                return reply
    return replies[0]
