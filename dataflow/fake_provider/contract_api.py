"""The provider in the shape of our own contract: `docs/gateway-api.yaml`."""

import json
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from aiohttp import web
from iso4217 import Currency

from dataflow.fake_provider.book import (
    CANCELED,
    DECLINED,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
    Payment,
    Saved,
)
from dataflow.fake_provider.provider import Call, Problem, Provider

_FIELDS = {"paymentId", "userId", "amount", "currency", "paymentMethod"}
_EXPONENTS = {each.code: each.exponent for each in Currency if each.exponent is not None}
_CODES = {
    "insufficient_funds": ("insufficient_funds", True),
    "expired_card": ("card_expired", False),
    "fraudulent": ("fraud_suspected", False),
    "card_velocity_exceeded": ("limit_exceeded", True),
    "card_not_supported": ("method_not_supported", False),
    "authentication_required": ("authentication_required", True),
    "incorrect_number": ("invalid_payment_method", False),
}
"""Our code, and whether another try may succeed, by the code of the issuer."""
_OURS = {ours: (ours, retryable) for ours, retryable in _CODES.values()}


def _json(status: int, body: Any) -> Saved:
    return Saved(status, json.dumps(body).encode())


def _problem(status: int, message: str) -> Saved:
    return _json(status, {"message": message})


_PROBLEMS = {
    Problem.UNAUTHORIZED: _problem(401, "wrong credentials"),
    Problem.TOO_MANY: _problem(429, "too many requests"),
    Problem.IN_FLIGHT: _problem(409, "this key is in use by a request in flight"),
    Problem.OTHER_CONTENT: _problem(422, "this key was used with other content"),
    Problem.NO_METHOD: _json(
        200,
        {
            "status": "declined",
            "code": "invalid_payment_method",
            "message": "There is no such payment method.",
            "retryable": False,
        },
    ),
    Problem.UNAVAILABLE: _problem(503, "not executed: try again later"),
    Problem.INTERNAL: _problem(500, "something went wrong"),
}


class ContractShape:
    """Requests and answers of `POST /v1/payments`."""

    prefix = "ch_"

    def read(self, request: web.Request, body: bytes) -> Call | Saved:
        """Read a JSON object."""
        try:
            fields = json.loads(body)
        except ValueError:
            return _problem(400, "not JSON")
        if not isinstance(fields, dict) or set(fields) != _FIELDS:
            return _problem(400, f"expected an object with {sorted(_FIELDS)}")
        if not all(isinstance(value, str) and value for value in fields.values()):
            return _problem(400, "expected strings")
        exponent = _EXPONENTS.get(fields["currency"])
        if exponent is None or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", fields["amount"]):
            return _problem(400, "no such currency, or no decimal number as amount")
        key = request.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= 255:  # noqa: PLR2004  (the contract's limit)
            return _problem(400, "Idempotency-Key: expected 1 to 255 characters")
        return Call(
            endpoint="POST /v1/payments",
            key=key,
            content=json.dumps(fields, sort_keys=True),
            payment_id=fields["paymentId"],
            customer=fields["userId"],
            method=fields["paymentMethod"],
            amount=int(Decimal(fields["amount"]).scaleb(exponent)),
            currency=fields["currency"],
        )

    def answer(self, payment: Payment) -> Saved:
        """Return what became of a payment."""
        if payment.status == DECLINED:
            issuer = payment.code or "generic_decline"
            code, retryable = _CODES.get(issuer) or _OURS.get(issuer) or ("declined", False)
            body = {
                "status": "declined",
                "code": code,
                "message": f"The issuer declined: {issuer}.",
            }
            body |= {"paymentId": payment.payment_id}
            return _json(200, body | {"retryable": retryable, "providerCode": issuer})
        found = {"reference": payment.id, "paymentId": payment.payment_id}
        if payment.status in {PROCESSING, REQUIRES_ACTION}:
            return _json(202, {"status": "pending"} | found)
        return _json(200, {"status": "approved"} | found)

    def problem(self, problem: Problem) -> Saved:
        """Return the answer to a problem."""
        return _PROBLEMS[problem]


SHAPE = ContractShape()


class ContractApi:
    """The paths of the contract."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[web.RouteDef]:
        """Return what the server has to serve."""
        return [
            web.post("/v1/payments", self._create),
            web.get("/v1/payments", self._list),
            web.get("/v1/payments/{key}", self._get),
            web.get("/v1/health", self._health),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        return await self._provider.charge(request, SHAPE)

    async def _get(self, request: web.Request) -> web.Response:
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        if not self._provider.settings.has_lookup:
            return _response(_problem(404, "no such path"))
        now_s = time.time()
        self._provider.book.finish_due(now_s)
        payments = self._provider.book.under_key(request.match_info["key"])
        ours = [each for each in payments if each.id.startswith(SHAPE.prefix)]
        seen = [each for each in ours if each.created_s <= now_s]
        if not seen:
            return _response(_json(404, {"status": "not_found"}))
        return _response(SHAPE.answer(seen[0]))

    async def _list(self, request: web.Request) -> web.Response:
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        try:
            since_s, until_s = (_seconds(request.query[name]) for name in ("since", "until"))
        except (KeyError, ValueError):
            return _response(_problem(400, "expected the instants since and until"))
        now_s = time.time()
        self._provider.book.finish_due(now_s)
        after, size = request.query.get("after", ""), self._provider.settings.page_size
        # One more, to see whether there is a next page.
        found = self._provider.book.page(
            SHAPE.prefix, since_s, min(until_s, now_s), after, size + 1
        )
        body: dict[str, Any] = {"payments": [_listed(each) for each in found[:size]]}
        return _response(_json(200, body | {"next": found[size - 1].id if found[size:] else None}))

    async def _health(self, request: web.Request) -> web.Response:
        if not self._provider.is_authorised(request):
            return _response(SHAPE.problem(Problem.UNAUTHORIZED))
        return web.Response(status=204)


def _listed(payment: Payment) -> dict[str, str]:
    """Return a payment as the list has it."""
    states = {SUCCEEDED: "approved", DECLINED: "declined", CANCELED: "declined"}
    created = datetime.fromtimestamp(payment.created_s, UTC).isoformat(timespec="milliseconds")
    return {
        "paymentId": payment.payment_id,
        "reference": payment.id,
        "amount": f"{Decimal(payment.amount).scaleb(-(_EXPONENTS[payment.currency] or 0)):f}",
        "currency": payment.currency,
        "status": states.get(payment.status, "pending"),
        "createdAt": created.replace("+00:00", "Z"),
    }


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def _response(answer: Saved) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type="application/json")
