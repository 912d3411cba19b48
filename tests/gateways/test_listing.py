"""The lists of the gateways, from a provider in a process of its own."""

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from urllib.request import Request, urlopen

import pytest
from jsonschema import Draft202012Validator

from dataflow.config.secret import Secret
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import listing, mapping
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.http_client import Response
from dataflow.gateways.listing import ListedPayment, ListedState, ListError, ListingGateway
from dataflow.gateways.port import Approved, Gateway, Misconfigured, Unknown, idempotency_key
from dataflow.gateways.stripe import StripeGateway
from tests.gateways.sample_requests import make_request, new_id
from tests.gateways.test_http import CONTRACT

KEY = Secret("sk_test_fake")
Build = Callable[[str, Secret], Gateway]


def http(url: str, key: Secret) -> Gateway:
    return HttpGateway(url, mapping.contract(), credentials=key, timeout_s=60)


def stripe(url: str, key: Secret) -> Gateway:
    return StripeGateway(key, timeout_s=60, url=url)


@pytest.fixture(params=[http, stripe])
def build(request: pytest.FixtureRequest) -> Build:
    found: Build = request.param
    return found


def listed(gateway: Gateway, since_s: float, until_s: float) -> list[ListedPayment]:
    assert isinstance(gateway, ListingGateway)

    async def life() -> list[ListedPayment]:
        try:
            return [each async for each in gateway.payments(since_s, until_s)]
        finally:
            await gateway.close()

    return asyncio.run(life())


def charge(gateway: Gateway, *payments: tuple[str, str, str]) -> list[str]:
    """Charge payments, each with a currency and an amount; their references."""

    async def life() -> list[str]:
        references = []
        for payment_id, currency, amount in payments:
            request = make_request(
                payment_id,
                amount=amount,
                currency=currency,
                userId="cus_1",
                paymentMethod="pm_1",
            )
            reply = await gateway.charge(request, idempotency_key(payment_id))
            references.append(reply.reference if isinstance(reply, Approved) else "")
        await gateway.close()
        return references

    return asyncio.run(life())


def test_a_list_has_every_payment_once(build: Build, provider: FakeProvider) -> None:
    """Over several pages, with the amounts that were charged, and those that were declined."""
    provider.change(page_size=2)
    since_s = time.time() - 1
    ids = [new_id() for _ in range(5)]
    payments = [(ids[0], "USD", "99.99"), (ids[1], "JPY", "300"), (ids[2], "KWD", "1.5")]
    payments += [(ids[3], "ISK", "7"), (ids[4] + ":decline_expired_card", "EUR", "1")]
    references = charge(build(provider.url, KEY), *payments)
    found = {
        each.payment_id: each
        for each in listed(build(provider.url, KEY), since_s, time.time() + 60)
        if each.payment_id is not None
    }
    for (payment_id, currency, amount), reference in zip(payments, references, strict=True):
        each = found[payment_id]
        assert (each.currency, each.amount) == (currency, Decimal(amount))
        assert each.created_s is not None
        assert abs(each.created_s - time.time()) < 3600
        is_declined = "decline" in payment_id
        assert each.state is (ListedState.DECLINED if is_declined else ListedState.APPROVED)
        assert is_declined or each.reference == reference


def test_a_list_is_of_its_time(build: Build, provider: FakeProvider) -> None:
    payment_id = new_id()
    charge(build(provider.url, KEY), (payment_id, "USD", "1.00"))
    now_s = time.time()
    for since_s, until_s in ((now_s - 9_000, now_s - 3_600), (now_s + 3_600, now_s + 9_000)):
        found = listed(build(provider.url, KEY), since_s, until_s)
        assert payment_id not in {each.payment_id for each in found}


def test_wrong_credentials_give_no_list(build: Build, provider: FakeProvider) -> None:
    with pytest.raises(ListError, match="HTTP 401"):
        listed(build(provider.url, Secret("wrong")), 0.0, time.time())


def test_a_mapping_without_a_list_has_none(provider: FakeProvider) -> None:
    shape = mapping.contract()
    shape.list = None
    gateway = HttpGateway(provider.url, shape, credentials=KEY, timeout_s=60)
    with pytest.raises(ListError, match=r"\[list\]"):
        listed(gateway, 0.0, 1.0)


def test_the_fakes_list_is_as_the_contract_has_it(provider: FakeProvider) -> None:
    charge(http(provider.url, KEY), (new_id(), "KWD", "1.234"))
    query = "since=2020-01-01T00:00:00.000Z&until=2100-01-01T00:00:00.000Z"
    request = Request(  # noqa: S310  (the fake's own address)
        f"{provider.url}/v1/payments?{query}", headers={"Authorization": "Bearer sk_test_fake"}
    )
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        page = json.load(answer)
    assert page["payments"]
    root = {"$ref": "#/components/schemas/Page", "components": CONTRACT["components"]}
    Draft202012Validator(root).validate(page)


class Answers:
    """A client that has these answers, one after another."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    async def send(self, *_: object) -> object:
        return self.answers.pop(0)


def asked(*answers: object) -> tuple[Response, list[float]]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return asyncio.run(listing.get(Answers(*answers), "/", sleep)), pauses  # type: ignore[arg-type]


def test_a_page_is_read_again_until_there_is_one() -> None:
    good = Response(200, {}, b"{}")
    slow = Response(429, {"Retry-After": "7"}, b"")
    found, pauses = asked(Unknown("timeout"), slow, Response(500, {}, b""), good)
    assert (found, pauses) == (good, [0.5, 7.0, 2.0])


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([Misconfigured("its certificate is not trusted")], "its certificate is not trusted"),
        ([Response(404, {}, b"")], "HTTP 404 instead of a list"),
        ([Response(500, {}, b"")] * 6, "HTTP 500 instead of a list"),
    ],
)
def test_a_page_that_will_not_come_is_given_up(answers: list[object], reason: str) -> None:
    with pytest.raises(ListError, match=reason):
        asked(*answers)


def test_the_gateways_of_ours_with_a_list_fit_the_port(provider: FakeProvider) -> None:
    assert isinstance(http(provider.url, KEY), ListingGateway)
    assert isinstance(stripe(provider.url, KEY), ListingGateway)
