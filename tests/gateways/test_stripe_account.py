"""Scenarios with an account at Stripe: against the fake, and against Stripe's own test mode.

The latter only with a key in STRIPE_TEST_KEY, and never in CI: the network is not ours to test.
"""

import json
import os
import urllib.request
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

import pytest

from dataflow.config.secret import Secret
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import stripe
from dataflow.gateways.port import (
    Approved,
    Declined,
    Misconfigured,
    Reply,
    Unknown,
    idempotency_key,
)
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest
from tests.gateways.contract import live
from tests.gateways.sample_requests import make_request

T = TypeVar("T")
TEST_KEY = os.environ.get("STRIPE_TEST_KEY", "")
if os.environ.get("CI") == "true":
    TEST_KEY = ""


class StripeScenarios:
    """The scenarios; a subclass has the account."""

    key: ClassVar[str] = "sk_test_fake"
    url = stripe.URL

    def customer_with(self, token: str) -> tuple[str, str]:
        """Return a new customer, and the payment method that a test token of Stripe is there."""
        raise NotImplementedError

    def request(self, token: str, **changes: object) -> PaymentRequest:
        customer, method = self.customer_with(token)
        fields = {"userId": customer, "paymentMethod": method} | changes
        return make_request(f"test-{uuid.uuid4()}", **fields)

    def play(self, scene: Callable[[stripe.StripeGateway], Awaitable[T]], key: str = "") -> T:
        return live(
            lambda: stripe.StripeGateway(Secret(key or self.key), timeout_s=30, url=self.url), scene
        )

    def charged_twice_and_looked_up(self, request: PaymentRequest) -> Reply:
        """Return the reply to a charge, which its replay and the lookup must repeat."""
        key = idempotency_key(request.payment_id)

        async def scene(gateway: stripe.StripeGateway) -> list[Reply | None]:
            calls = gateway.charge, gateway.charge, gateway.lookup
            return [await call(request, key) for call in calls]

        first, again, found = self.play(scene)
        assert first == again == found
        assert first is not None
        return first

    @pytest.mark.parametrize(
        ("currency", "amount"), [("USD", "99.99"), ("JPY", "100"), ("ISK", "500"), ("KWD", "1.5")]
    )
    def test_a_payment_is_approved_once(self, currency: str, amount: str) -> None:
        request = self.request("pm_card_visa", currency=currency, amount=amount)
        reply = self.charged_twice_and_looked_up(request)
        assert isinstance(reply, Approved)
        assert reply.reference.startswith("pi_")

    def test_a_payment_is_declined(self) -> None:
        reply = self.charged_twice_and_looked_up(self.request("pm_card_chargeCustomerFail"))
        assert isinstance(reply, Declined)
        assert (reply.code, reply.retryable) == (ErrorCode.DECLINED, False)

    def test_a_payer_who_has_to_confirm_is_not_there(self) -> None:
        reply = self.charged_twice_and_looked_up(self.request("pm_card_authenticationRequired"))
        assert isinstance(reply, Declined)
        assert (reply.code, reply.retryable) == (ErrorCode.AUTHENTICATION_REQUIRED, True)

    def test_a_payment_method_that_does_not_exist(self) -> None:
        request = self.request("pm_card_visa", paymentMethod="pm_missing")
        key = idempotency_key(request.payment_id)
        reply = self.play(lambda gateway: gateway.charge(request, key))
        assert isinstance(reply, Declined)
        assert reply.code is ErrorCode.INVALID_PAYMENT_METHOD

    def test_other_content_under_a_used_key(self) -> None:
        request = self.request("pm_card_visa")
        key = idempotency_key(request.payment_id)
        other = make_request(
            request.payment_id,
            userId=request.user_id,
            paymentMethod=request.payment_method,
            amount=1,
        )

        async def scene(gateway: stripe.StripeGateway) -> list[Reply]:
            return [await gateway.charge(each, key) for each in (request, other)]

        first, second = self.play(scene)
        assert isinstance(first, Approved)
        assert isinstance(second, Unknown)
        assert second.saved

    def test_a_payment_that_was_never_charged_is_not_found(self) -> None:
        request = self.request("pm_card_visa")
        assert self.play(lambda gateway: gateway.lookup(request, "key")) is None

    def test_the_probe_finds_a_wrong_key(self) -> None:
        assert self.play(lambda gateway: gateway.probe()) is None
        wrong = self.play(lambda gateway: gateway.probe(), key="sk_test_wrong")
        assert isinstance(wrong, Misconfigured)


class TestTheFake(StripeScenarios):
    @pytest.fixture(autouse=True)
    def _given(self, provider: FakeProvider) -> None:
        self.url = provider.url

    def customer_with(self, token: str) -> tuple[str, str]:
        return f"cus_{uuid.uuid4().hex}", token


if TEST_KEY:

    class TestStripe(StripeScenarios):
        key = TEST_KEY

        def customer_with(self, token: str) -> tuple[str, str]:
            customer = self._post("/v1/customers", {"description": "a test of the gateway"})["id"]
            path = f"/v1/payment_methods/{token}/attach"
            return customer, self._post(path, {"customer": customer})["id"]

        def _post(self, path: str, form: dict[str, str]) -> Any:
            headers = {"Authorization": f"Bearer {self.key}", "Stripe-Version": stripe.API_VERSION}
            data = urlencode(form).encode()
            request = urllib.request.Request(self.url + path, data, headers)  # noqa: S310  (https)
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return json.load(response)
