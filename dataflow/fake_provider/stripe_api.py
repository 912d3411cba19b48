"""The provider in the shape of Stripe's PaymentIntents, as far as a server needs them.

Written from Stripe's documentation, and checked against its OpenAPI description by a test.
"""

import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from dataflow.fake_provider.book import (
    CANCELED,
    DECLINED,
    REQUIRES_ACTION,
    SUCCEEDED,
    Payment,
    Refused,
    Saved,
)
from dataflow.fake_provider.provider import Call, Problem, Provider

_LARGEST = 99_999_999
_OWN_CODES = {
    "authentication_required",
    "expired_card",
    "incorrect_cvc",
    "incorrect_number",
    "processing_error",
}
"""Declines whose `code` is not `card_declined`."""
_QUERY = re.compile(r"metadata\[['\"]paymentId['\"]\]:['\"](?P<id>.*)['\"]", re.DOTALL)
_CREATE = "POST /v1/payment_intents"


def _json(status: int, body: Any) -> Saved:
    return Saved(status, json.dumps(body).encode())


def _error(status: int, message: str, **more: Any) -> Saved:
    error = {"type": "invalid_request_error", "message": message} | more
    return _json(status, {"error": error})


def _intent(payment: Payment) -> dict[str, Any]:
    status = "requires_payment_method" if payment.status == DECLINED else payment.status
    return {
        "id": payment.id,
        "object": "payment_intent",
        "amount": payment.amount,
        "cancellation_reason": "abandoned" if payment.status == CANCELED else None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "created": int(payment.created_s),
        "currency": payment.currency,
        "customer": payment.customer,
        "livemode": False,
        "metadata": {"paymentId": payment.payment_id},
        "payment_method": payment.method,
        "payment_method_types": ["card"],
        "status": status,
        "last_payment_error": _decline(payment) if payment.status == DECLINED else None,
        "next_action": (
            {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
            if payment.status == REQUIRES_ACTION
            else None
        ),
    }


def _decline(payment: Payment) -> dict[str, Any]:
    code = payment.code or "generic_decline"
    error = {
        "type": "card_error",
        "code": code if code in _OWN_CODES else "card_declined",
        "decline_code": code,
        "message": f"Your card was declined ({code}).",
    }
    return error | ({"advice_code": payment.advice} if payment.advice else {})


def _problem_of_headers(request: web.Request, key: str) -> Saved | None:
    if not request.headers.get("Stripe-Version"):
        return _error(400, "The fake wants a pinned Stripe-Version.")
    if not 1 <= len(key) <= 255:  # noqa: PLR2004  (Stripe's limit)
        return _error(400, "The fake wants an Idempotency-Key of 1 to 255 characters.")
    return None


def _problem_of_form(form: dict[str, str]) -> Saved | None:
    for name in ("amount", "currency", "payment_method", "customer"):
        if not form.get(name):
            message = f"Missing required param: {name}."
            return _error(400, message, code="parameter_missing", param=name)
    amount = int(form["amount"]) if re.fullmatch("[0-9]{1,12}", form["amount"]) else 0
    for fits, message, more in (
        (
            form.get("confirm") == form.get("off_session") == "true",
            "The fake only confirms at once, off session.",
            {},
        ),
        (
            form.get("payment_method_types[]") == "card",
            "A confirmation without `return_url` takes card payments only.",
            {},
        ),
        (
            re.fullmatch("[a-z]{3}", form["currency"]),
            "Invalid currency.",
            {"code": "invalid_currency", "param": "currency"},
        ),
        (
            amount > 0,
            "Invalid integer.",
            {"code": "parameter_invalid_integer", "param": "amount"},
        ),
        (
            amount <= _LARGEST,
            "Amount must be no more than 999,999.99.",
            {"code": "amount_too_large", "param": "amount"},
        ),
        (
            form["customer"] != "cus_missing",
            "No such customer.",
            {"code": "resource_missing", "param": "customer"},
        ),
    ):
        if not fits:
            return _error(400, message, **more)
    return None


_PROBLEMS = {
    Problem.UNAUTHORIZED: _error(401, "Invalid API Key provided."),
    Problem.TOO_MANY: _error(429, "Too many requests.", code="rate_limit"),
    Problem.IN_FLIGHT: _error(409, "The key is in use.", code="idempotency_key_in_use"),
    Problem.OTHER_CONTENT: _error(
        400, "Keys can only be used with the same parameters.", type="idempotency_error"
    ),
    Problem.NO_METHOD: _error(
        400, "No such PaymentMethod.", code="resource_missing", param="payment_method"
    ),
    Problem.UNAVAILABLE: _error(503, "Service unavailable.", type="api_error"),
    Problem.INTERNAL: _error(500, "Something went wrong.", type="api_error"),
}


class StripeShape:
    """Requests and answers of `POST /v1/payment_intents`."""

    prefix = "pi_"

    def read(self, request: web.Request, body: bytes) -> Call | Saved:
        """Read a form."""
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
        form = dict(pairs)
        key = request.headers.get("Idempotency-Key", "")
        problem = _problem_of_headers(request, key) or _problem_of_form(form)
        if problem is not None:
            return problem
        return Call(
            endpoint=_CREATE,
            key=key,
            content=json.dumps(sorted(pairs)),
            payment_id=form.get("metadata[paymentId]", ""),
            customer=form["customer"],
            method=form["payment_method"],
            amount=int(form["amount"]),
            currency=form["currency"],
        )

    def answer(self, payment: Payment) -> Saved:
        """Return 402 for a decline, and 200 for everything else."""
        if payment.status == DECLINED:
            return _json(402, {"error": {**_decline(payment), "payment_intent": _intent(payment)}})
        return _json(200, _intent(payment))

    def problem(self, problem: Problem) -> Saved:
        """Return the answer to a problem."""
        return _PROBLEMS[problem]


SHAPE = StripeShape()


class StripeApi:
    """The paths below `/v1/payment_intents`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[web.RouteDef]:
        """Return what the server has to serve."""
        path = "/v1/payment_intents"
        return [
            web.post(path, self._create),
            web.get(path, self._list),
            web.get(f"{path}/search", self._search),
            web.get(f"{path}/{{id}}", self._get),
            web.post(f"{path}/{{id}}/cancel", self._cancel),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        return await self._provider.charge(request, SHAPE)

    async def _list(self, request: web.Request) -> web.Response:
        if self._provider.settings.is_another_account and request.query.get("customer"):
            return _response(
                _error(400, "No such customer.", code="resource_missing", param="customer")
            )
        since_s = float(request.query.get("created[gte]", "0"))
        until_s = float(request.query.get("created[lt]", "inf"))
        now_s = time.time()
        found = [
            each
            for each in self._known(request.query.get("customer", ""), since_s)
            if each.created_s <= now_s and int(each.created_s) < until_s
        ]
        return self._page(request, found)

    async def _search(self, request: web.Request) -> web.Response:
        match = _QUERY.fullmatch(request.query.get("query", ""))
        seen_s = time.time() - self._provider.settings.search_lag_s
        self._provider.book.finish_due(time.time())
        found = [
            each
            for each in self._provider.book.everything()
            if match and each.payment_id == match["id"] and each.created_s <= seen_s
        ]
        return self._page(request, found)

    async def _get(self, request: web.Request) -> web.Response:
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        self._provider.book.finish_due(time.time())
        payment = self._provider.book.payment(request.match_info["id"])
        if payment is None:
            return _response(_error(404, "No such payment_intent.", code="resource_missing"))
        return _response(_json(200, _intent(payment)))

    async def _cancel(self, request: web.Request) -> web.Response:
        await request.read()
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        book, payment_id = self._provider.book, request.match_info["id"]
        endpoint, key = request.path, request.headers.get("Idempotency-Key", "")
        life_s = self._provider.settings.key_life_s
        claimed = book.claim(endpoint, key, "", time.time(), life_s)
        if isinstance(claimed, Saved):
            return _response(claimed)
        if isinstance(claimed, Refused):
            return _response(SHAPE.problem(Problem.IN_FLIGHT))
        book.finish_due(time.time())
        answer = self._cancelled(payment_id)
        book.execute(endpoint, key, answer, None)
        return _response(answer)

    def _cancelled(self, payment_id: str) -> Saved:
        payment = self._provider.book.payment(payment_id)
        if payment is None:
            return _error(404, "No such payment_intent.", code="resource_missing")
        if payment.status in {SUCCEEDED, CANCELED}:
            return _error(
                400,
                f"You cannot cancel this PaymentIntent: its status is {payment.status}.",
                code="payment_intent_unexpected_state",
                payment_intent=_intent(payment),
            )
        self._provider.book.set_status(payment_id, CANCELED)
        payment.status = CANCELED
        return _json(200, _intent(payment))

    def _known(self, customer: str, since_s: float) -> list[Payment]:
        self._provider.book.finish_due(time.time())
        if customer:
            return self._provider.book.of_customer(customer, since_s)
        newest_first = reversed(self._provider.book.everything())
        return [each for each in newest_first if each.created_s >= since_s]

    def _page(self, request: web.Request, found: list[Payment]) -> web.Response:
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        limit = int(request.query.get("limit", "10"))
        after = request.query.get("starting_after")
        ids = [each.id for each in found]
        start = ids.index(after) + 1 if after in ids else 0
        page = found[start : start + limit]
        more = len(found) > start + limit
        body = {"object": "list", "url": request.path, "has_more": more}
        return _response(_json(200, body | {"data": [_intent(each) for each in page]}))


def _response(answer: Saved) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type="application/json")
