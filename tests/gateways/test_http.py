"""The port fits a provider on the far side of an unreliable network, without any change to it.

The provider here takes 100 ms, and fails half of the calls: some before it has charged, some
after, so that only the idempotency key keeps it from charging twice.
"""

import asyncio
from collections import Counter
from hashlib import sha256
from http import HTTPStatus
from random import Random

import httpx

from dataflow.gateways.port import (
    Approved,
    Declined,
    Gateway,
    NotExecuted,
    Reply,
    Traits,
    Unknown,
    idempotency_key,
)
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest
from tests.gateways.contract import GatewayContract, definite
from tests.gateways.sample_requests import make_requests


class Provider:
    """The far side: charges each idempotency key once, whatever becomes of the replies."""

    def __init__(self, latency_s: float, failing: float, seed: int = 7) -> None:
        self.latency_s = latency_s
        self.failing = failing
        self.charges: Counter[str] = Counter()
        self._random = Random(seed)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.latency_s)
        fate, key = self._random.random() / self.failing, request.headers["Idempotency-Key"]
        if fate < 0.5:
            return httpx.Response(HTTPStatus.SERVICE_UNAVAILABLE)
        self.charges[key] += key not in self.charges
        if fate < 1:
            raise httpx.ReadTimeout("the reply is lost")
        digest = sha256(key.encode()).hexdigest()
        if digest[0] == "0":
            return httpx.Response(HTTPStatus.PAYMENT_REQUIRED, json={"reason": "no funds"})
        return httpx.Response(HTTPStatus.CREATED, json={"id": f"ch_{digest[:24]}"})


class HttpGateway(Gateway):
    """An example of an adapter for a real provider."""

    traits = Traits(key_life_s=86_400, saves_errors=False, has_lookup=False)

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._client = httpx.AsyncClient(transport=transport, base_url="https://provider.test")

    async def close(self) -> None:
        await self._client.aclose()

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        try:
            response = await self._client.post(
                "/charges",
                headers={"Idempotency-Key": key},
                json={"amount": request.minor_units, "currency": request.currency},
            )
        except httpx.TransportError as err:
            return Unknown(type(err).__name__)
        if response.status_code == HTTPStatus.PAYMENT_REQUIRED:
            return Declined(ErrorCode.INSUFFICIENT_FUNDS, response.json()["reason"], retryable=True)
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            return NotExecuted(f"HTTP {response.status_code}")
        response.raise_for_status()
        return Approved(response.json()["id"])


class TestHttp(GatewayContract):
    def setup_method(self) -> None:
        self.provider = Provider(latency_s=0.1, failing=0.5)

    def teardown_method(self) -> None:
        assert set(self.provider.charges.values()) <= {1}, "money was moved twice"

    def build(self) -> Gateway:
        return HttpGateway(httpx.MockTransport(self.provider))

    def flaky_requests(self) -> list[PaymentRequest]:
        return make_requests(20)

    def test_every_payment_was_charged_exactly_once(self) -> None:
        requests = make_requests(100)
        for _ in range(2):
            self.play(lambda gateway: definite(gateway, requests))
        keys = [idempotency_key(request.payment_id) for request in requests]
        assert self.provider.charges == dict.fromkeys(keys, 1)
