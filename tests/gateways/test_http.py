"""The gateway `http`: the contract, the shapes of a mapping, and trouble on the way."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from dataflow.config.secret import Secret
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import json_pointer, mapping
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.http_client import Response
from dataflow.gateways.mapping_shape import HttpMapping, Rule
from dataflow.gateways.port import (
    Approved,
    Declined,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
    idempotency_key,
)
from schemas.outcomes import DECLINE_CODES, ErrorCode
from schemas.requests import PaymentRequest
from tests import ROOT
from tests.gateways.contract import play
from tests.gateways.provider_contract import ProviderContract
from tests.gateways.sample_requests import make_request, new_id
from tests.support.kafka import certificates
from tests.support.kafka.certificates import Certificates

T = TypeVar("T")
KEY = Secret("sk_test_fake")
CONTRACT = yaml.safe_load((ROOT / "docs" / "gateway-api.yaml").read_text())


def http(
    url: str,
    shape: HttpMapping | None = None,
    *,
    credentials: Secret | None = KEY,
    timeout_s: float = 60,
    tls: ssl.SSLContext | None = None,
) -> HttpGateway:
    return HttpGateway(
        url, shape or mapping.contract(), credentials=credentials, timeout_s=timeout_s, tls=tls
    )


class TestHttp(ProviderContract):
    def build(self) -> Gateway:
        return http(self.provider.url)


class TestHttpWithoutLookup(ProviderContract):
    def build(self) -> Gateway:
        shape = mapping.contract()
        shape.lookup = None
        return http(self.provider.url, shape)


# ---- the published contract ----


def test_the_contract_is_valid_openapi() -> None:
    validate(CONTRACT)


def test_the_contract_has_every_code_of_ours() -> None:
    known = CONTRACT["components"]["schemas"]["Declined"]["properties"]["code"]["anyOf"][0]["enum"]
    assert known == sorted(DECLINE_CODES)


def schema(name: str) -> Draft202012Validator:
    root = {"$ref": f"#/components/schemas/{name}", "components": CONTRACT["components"]}
    return Draft202012Validator(root)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
    st.sampled_from([0.5, 99.9, "99.990", "1e2", 100, "100.00", "0.10", "999999999999.99"]),
)
def test_requests_obey_the_contract(payment_id: str, amount: object) -> None:
    shape = mapping.contract()
    request = make_request(payment_id, amount=amount)
    body = shape.body_of(request, "key", shape.units())
    assert body is not None
    schema("Charge").validate(json.loads(body))


def test_equal_contents_are_sent_alike() -> None:
    """A copy with another spelling is no conflict, and must not be one at the provider."""
    shape = mapping.contract()
    requests = [
        make_request(amount="99.990", metadata={"order": 1}),
        make_request(amount="9.999e1", metadata={"order": 2}),
        make_request(amount=99.99),
    ]
    assert len({shape.body_of(each, "key", shape.units()) for each in requests}) == 1


def test_every_answer_of_the_fake_is_as_the_contract_has_it(provider: FakeProvider) -> None:
    names = {200: ("Approved", "Declined", "Pending"), 202: ("Pending",), 404: ("NotFound",)}
    for ending in ("", ":decline_insufficient_funds", ":processing", ":missing"):
        request = make_request(new_id() + ending)
        key = idempotency_key(request.payment_id)
        for call in ("lookup", "charge", "lookup"):
            status, body = exchanged(provider, call, request, key)
            assert any(schema(name).is_valid(body) for name in names[status]), (status, body)


def exchanged(
    provider: FakeProvider, call: str, request: PaymentRequest, key: str
) -> tuple[int, Any]:
    """Return the status and the document of a call."""
    found: list[tuple[int, Any]] = []
    gateway = http(provider.url)
    decide = gateway._reply

    def recording(name: Any, response: Any, *asked: Any) -> Reply | None:
        found.append((response.status, json.loads(response.body)))
        return decide(name, response, *asked)

    gateway._reply = recording  # type: ignore[assignment]
    play(gateway, lambda: getattr(gateway, call)(request, key))
    return found[0]


# ---- behaviour, against the fake ----


def charge_and_look_up(
    provider: FakeProvider, payment_id: str, **options: Any
) -> tuple[Reply, Reply | None]:
    request, gateway = make_request(payment_id), http(provider.url, **options)
    key = idempotency_key(payment_id)

    async def both() -> tuple[Reply, Reply | None]:
        return await gateway.charge(request, key), await gateway.lookup(request, key)

    return play(gateway, both)


@pytest.mark.parametrize(
    ("fault", "charged", "found"),
    [
        ("reset_before", Unknown, None),
        ("hang_before", Unknown, None),
        ("html_before", Unknown, None),
        ("unavailable", NotExecuted, None),
        ("unsaved_500_before", Unknown, None),
        ("reset_after", Unknown, Approved),
        ("hang_after", Unknown, Approved),
        ("half_a_body", Unknown, Approved),
        ("html_after", Unknown, Approved),
    ],
)
def test_a_lost_answer_is_unknown_and_the_charge_happens_once(
    provider: FakeProvider, fault: str, charged: type[Reply], found: type[Reply] | None
) -> None:
    payment_id, by_default = new_id(), http(provider.url)
    provider.change(faults=[{"fault": fault}])
    gateway = http(provider.url, timeout_s=1 if fault.startswith("hang") else 60)
    key = idempotency_key(payment_id)
    reply = play(gateway, lambda: gateway.charge(make_request(payment_id), key))
    assert type(reply) is charged
    if found is not None:
        # A client that gives up is not waited for.
        while not [each for each in provider.book() if each.payment_id == payment_id]:
            time.sleep(0.02)
    looked_up = play(by_default, lambda: by_default.lookup(make_request(payment_id), key))
    assert looked_up is None if found is None else isinstance(looked_up, found)
    provider.change(faults=[])
    reply, looked_up = charge_and_look_up(provider, payment_id)
    assert isinstance(reply, Approved)
    assert reply == looked_up
    assert len([each for each in provider.book() if each.payment_id == payment_id]) == 1


def test_a_pending_payment_is_found_when_it_is_decided(provider: FakeProvider) -> None:
    provider.change(finish_after_s=0.5)
    payment_id = f"{new_id()}:processing"
    reply, found = charge_and_look_up(provider, payment_id)
    assert isinstance(reply, Pending)
    while isinstance(found, Pending):
        _, found = charge_and_look_up(provider, payment_id)
    assert found == Approved(reply.reference)


def test_limits_and_outages_have_not_charged(provider: FakeProvider) -> None:
    payment_id = new_id()
    provider.change(max_in_flight=0, retry_after_s=7)
    reply, found = charge_and_look_up(provider, payment_id)
    assert (type(reply), found) == (NotExecuted, None)
    assert reply == NotExecuted(reply.reason, 7, too_many=True)  # type: ignore[union-attr]
    provider.outage(3600)
    reply, found = charge_and_look_up(provider, payment_id)
    assert isinstance(reply, NotExecuted)
    assert isinstance(found, Unknown), "it says nothing about the charge"


def test_wrong_credentials_are_misconfigured_everywhere(provider: FakeProvider) -> None:
    secret = Secret("sk_wrong")
    replies = [*charge_and_look_up(provider, new_id(), credentials=secret)]
    gateway = http(provider.url, credentials=secret)
    replies.append(play(gateway, gateway.probe))
    assert {type(each) for each in replies} == {Misconfigured}
    assert "sk_wrong" not in repr(replies)


def test_a_wrong_address_is_misconfigured(provider: FakeProvider) -> None:
    gateway = http(f"{provider.url}/wrong")
    key = idempotency_key("a")

    async def both() -> list[Reply | None]:
        request = make_request("a")
        return [await gateway.charge(request, key), await gateway.lookup(request, key)]

    assert {type(each) for each in play(gateway, both)} == {Misconfigured}


def test_other_content_under_a_key_is_never_taken_for_ours(provider: FakeProvider) -> None:
    payment_id = new_id()
    charge_and_look_up(provider, payment_id)
    gateway = http(provider.url)
    other = make_request(payment_id, amount=1)
    reply = play(gateway, lambda: gateway.charge(other, idempotency_key(payment_id)))
    assert isinstance(reply, Misconfigured), "a lookup would find the other payment"


# ---- other shapes ----

OTHER = """
[charge]
path = "/v3/charges?expand=all"

[charge.body]
"/merchant" = { constant = "Acme" }
"/amount/value" = "amount"
"/amount/currency" = "currency"
"/card/token" = "paymentMethod"
"/reference" = "paymentId"
"/idempotency" = "key"

[key]
header = "X-Request-Id"
format = "quoted"
life_hours = 744
saves_errors = true

[auth]
scheme = "header"
header = "X-Api-Key"

[amount]
format = "minor"
decimals = { CLP = 2, ISK = 2, CVE = 0 }
currencies = ["USD", "CLP", "ISK", "CVE", "KWD"]

[lookup]
path = "/v3/charges/by-reference/{paymentId}"

[echo]
"/merchantReference" = "paymentId"
"/amount/value" = "amount"

[[rules]]
status = 200
when = { "/resultCode" = "Authorised" }
reply = "approved"
reference = "/pspReference"

[[rules]]
status = 200
when = { "/resultCode" = "Refused" }
reply = "declined"
code = "/refusal/0/code"
message = "/refusal/0/text"
retryable = "/refusal/0/again"
codes = { "51" = "insufficient_funds", "54" = "card_expired" }

[[rules]]
status = [200, 202]
when = { "/resultCode" = "Received" }
reply = "pending"
reference = "/pspReference"

[[rules]]
status = 429
reply = "not_executed"

[[rules]]
status = "4xx"
reply = "misconfigured"

[[rules]]
status = 500
reply = "unknown"
saved = true
"""


@asynccontextmanager
async def served(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Serve every path with one handler; the address."""
    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", handler)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answered(
    status: int,
    body: object,
    call: str = "charge",
    headers: dict[str, str] | None = None,
    payment_id: str = "a/b",
) -> tuple[Reply | None, list[tuple[str, Mapping[str, str], Any]]]:
    """Return the reply to one answer of the other shape, and what the provider was sent."""
    requests: list[tuple[str, Mapping[str, str], Any]] = []

    async def handler(request: web.Request) -> web.Response:
        sent = await request.read()
        requests.append((request.raw_path, request.headers, sent and json.loads(sent)))
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers)

    async def life() -> Reply | None:
        async with served(handler) as url:
            gateway = http(url, mapping.read(OTHER), credentials=Secret("k-1"))
            reply: Reply | None = await getattr(gateway, call)(make_request(payment_id), "key-1")
            await gateway.close()
            return reply

    return asyncio.run(life()), requests


def test_a_charge_is_sent_in_the_shape_of_the_mapping() -> None:
    reply, [(path, headers, body)] = answered(
        200, {"resultCode": "Authorised", "pspReference": "8515131751004933"}
    )
    assert reply == Approved("8515131751004933")
    assert path == "/v3/charges?expand=all"
    assert headers["X-Request-Id"] == '"key-1"'
    assert headers["X-Api-Key"] == "k-1"
    assert body == {
        "merchant": "Acme",
        "amount": {"value": 9999, "currency": "USD"},
        "card": {"token": "credit_card"},
        "reference": "a/b",
        "idempotency": "key-1",
    }


def test_a_lookup_has_the_payment_in_its_path() -> None:
    reply, [(path, _, _)] = answered(
        200, {"resultCode": "Received", "pspReference": "p"}, call="lookup"
    )
    assert reply == Pending("p")
    assert path == "/v3/charges/by-reference/a%2Fb"


@pytest.mark.parametrize("payment_id", [".", "..", "../admin", "a/../b", "a\\..\\b", "a/."])
def test_a_payment_whose_id_leads_to_another_path_is_not_looked_up(payment_id: str) -> None:
    reply, requests = answered(404, {}, call="lookup", payment_id=payment_id)
    assert isinstance(reply, Unknown), "a 404 there would stop all others"
    assert requests == []
    charged, _ = answered(200, {"resultCode": "Authorised"}, payment_id=payment_id)
    assert isinstance(charged, Approved)


def test_dots_in_an_id_lead_nowhere() -> None:
    _, [(path, _, _)] = answered(404, {}, call="lookup", payment_id="..a/v1.2")
    assert path == "/v3/charges/by-reference/..a%2Fv1.2"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            200,
            {"resultCode": "Refused", "refusal": [{"code": "51", "text": "No.", "again": True}]},
            Declined(ErrorCode.INSUFFICIENT_FUNDS, "No.", retryable=True, provider_code="51"),
        ),
        (
            200,
            {"resultCode": "Refused", "refusal": [{"code": "99", "text": "No.", "again": "yes"}]},
            Declined(ErrorCode.DECLINED, "No.", retryable=False, provider_code="99"),
        ),
        (
            200,
            {"resultCode": "Refused", "refusal": [{"code": 54, "text": "No."}]},
            Declined(ErrorCode.CARD_EXPIRED, "No.", retryable=False, provider_code="54"),
        ),
        (202, {"resultCode": "Received", "pspReference": "p"}, Pending("p")),
        (429, {}, NotExecuted("HTTP 429, by rule 4", too_many=True)),
        (404, "<html>", Misconfigured("HTTP 404, by rule 5")),
        (500, "<html>", Unknown("HTTP 500, by rule 6", saved=True)),
        # what no rule has
        (200, "<html>", Unknown("HTTP 200, for which there is no rule")),
        (200, [], Unknown("HTTP 200, for which there is no rule")),
        (200, {"resultCode": "Later"}, Unknown("HTTP 200, for which there is no rule")),
        (200, {"resultCode": ["Authorised"]}, Unknown("HTTP 200, for which there is no rule")),
        (201, {"resultCode": "Authorised"}, Unknown("HTTP 201, for which there is no rule")),
        (502, "<html>", Unknown("HTTP 502, for which there is no rule")),
        (302, "", Unknown("HTTP 302, for which there is no rule")),
    ],
)
def test_the_first_rule_that_fits_decides(status: int, body: object, expected: Reply) -> None:
    reply, _ = answered(status, body)
    assert reply == expected


def reply_of(status: int, *, saves_errors: bool, rule: str = "") -> Reply | None:
    """Return the reply to an answer of the least mapping, with one more rule."""
    key = f"[key]\nsaves_errors = {str(saves_errors).lower()}\n[[rules]]"
    shape = mapping.read(MINIMAL.replace("[[rules]]", key) + rule)
    return http("http://localhost", shape)._reply("charge", Response(status, {}, b"<html>"))


@pytest.mark.parametrize(
    ("status", "saved"),
    [(500, True), (501, True), (599, True), (502, False), (503, False), (504, False), (418, False)],
)
@pytest.mark.parametrize("saves_errors", [True, False])
@pytest.mark.parametrize("rule", ["", '\n[[rules]]\nstatus = "5xx"\nreply = "unknown"\n'])
def test_a_failure_is_saved_if_the_mapping_states_that_of_the_provider(
    status: int, rule: str, *, saved: bool, saves_errors: bool
) -> None:
    """With or without a rule. To post it again would bring the same answer until the key is old."""
    reply = reply_of(status, saves_errors=saves_errors, rule=rule)
    assert isinstance(reply, Unknown)
    assert reply.saved == (saved and saves_errors)


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("saves_errors", [True, False])
@pytest.mark.parametrize("status", [500, 503])
def test_a_rule_decides_whether_its_answer_is_saved(
    status: int, *, saved: bool, saves_errors: bool
) -> None:
    written = f"saved = {str(saved).lower()}"
    rule = f'\n[[rules]]\nstatus = {status}\nreply = "unknown"\n{written}\n'
    reply = reply_of(status, saves_errors=saves_errors, rule=rule)
    assert isinstance(reply, Unknown)
    assert reply.saved == saved


@pytest.mark.parametrize("refusal", [True, False])
def test_a_rule_states_whether_its_decline_is_a_refusal(*, refusal: bool) -> None:
    when = 'when = { "/error" = "no_such_customer" }'
    rule = f'\n[[rules]]\nstatus = 422\n{when}\nreply = "declined"\n'
    shape = mapping.read(MINIMAL + rule + ("refusal = true\n" if refusal else ""))
    response = Response(422, {}, b'{"error": "no_such_customer"}')
    reply = http("http://localhost", shape)._reply("charge", response)
    assert isinstance(reply, Declined)
    assert reply.is_refusal == refusal


def test_a_look_up_that_is_one_call_too_many_slows_down_and_proves_nothing() -> None:
    found, _ = answered(429, {}, "lookup")
    assert found == Unknown("HTTP 429, by rule 4", too_many=True)


def test_one_call_too_many_slows_down_without_a_rule_for_it() -> None:
    shape = mapping.read(MINIMAL)
    reply = http("http://localhost", shape)._reply("charge", Response(429, {}, b"{}"))
    assert reply == Unknown("HTTP 429, for which there is no rule", too_many=True)


@pytest.mark.parametrize("call", ["charge", "lookup"])
@pytest.mark.parametrize("result", ["Authorised", "Refused", "Received"])
@pytest.mark.parametrize(
    ("repeated", "ours"),
    [
        ({"merchantReference": "a/b", "amount": {"value": 9999}}, True),
        ({"merchantReference": "a/b"}, True),
        ({"merchantReference": "a/c"}, False),
        ({"merchantReference": None}, False),
        ({"merchantReference": "a/b", "amount": {"value": 999}}, False),
        ({"amount": {"value": "9999"}}, False),
    ],
)
def test_an_answer_about_another_payment_decides_nothing(
    call: str, result: str, repeated: dict[str, object], *, ours: bool
) -> None:
    reply, _ = answered(200, {"resultCode": result, "pspReference": "p"} | repeated, call=call)
    assert isinstance(reply, Approved | Declined | Pending) is ours
    assert ours or reply == Unknown("the answer is about another payment")


def test_the_contract_has_the_payment_in_its_answers() -> None:
    async def handler(_request: web.Request) -> web.Response:
        body = {"status": "approved", "reference": "ch_1", "paymentId": "pay_124"}
        return web.json_response(body)

    async def life() -> list[Reply]:
        async with served(handler) as url:
            gateway = http(url)
            replies = [await gateway.charge(make_request(n), "key") for n in ("pay_123", "pay_124")]
            await gateway.close()
            return replies

    other, ours = asyncio.run(life())
    assert isinstance(other, Unknown)
    assert ours == Approved("ch_1")


def test_an_approval_without_a_reference_stays_an_approval() -> None:
    reply, _ = answered(200, {"resultCode": "Authorised"})
    assert isinstance(reply, Approved)


def test_our_own_code_is_not_the_providers() -> None:
    body = {"status": "declined", "code": "card_expired", "message": "No.", "retryable": False}

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response(body)

    async def life() -> Reply:
        async with served(handler) as url:
            gateway = http(url)
            reply = await gateway.charge(make_request(), "key")
            await gateway.close()
            return reply

    assert asyncio.run(life()) == Declined(ErrorCode.CARD_EXPIRED, "No.", retryable=False)


def test_a_redirect_is_not_followed() -> None:
    """It would send the charge, and the credentials, to another address."""
    reply, requests = answered(307, "", headers={"Location": "/elsewhere"})
    assert isinstance(reply, Unknown)
    assert len(requests) == 1


def test_an_endless_answer_is_not_read() -> None:
    reply, _ = answered(200, "x" * (2 * 1024 * 1024))
    assert isinstance(reply, Unknown)


@pytest.mark.parametrize(
    ("currency", "amount", "sent"),
    [
        ("USD", "1.5", 150),
        ("CLP", "7", 700),
        ("ISK", "7", 700),
        ("CVE", "7", 7),
        ("CVE", "7.5", None),
        ("KWD", "1.234", 1234),
        ("EUR", "1", None),
    ],
)
def test_an_amount_in_minor_units_is_by_the_table(
    currency: str, amount: str, sent: int | None
) -> None:
    shape = mapping.read(OTHER)
    body = shape.body_of(make_request(currency=currency, amount=amount), "k", shape.units())
    assert sent == (None if body is None else json.loads(body)["amount"]["value"])


def test_an_amount_that_the_provider_does_not_take_is_declined_without_a_call() -> None:
    gateway = http("http://127.0.0.1:1", mapping.read(OTHER))
    euro = make_request(currency="EUR")
    for call in (gateway.charge, gateway.lookup):
        reply = play(gateway, lambda call=call: call(euro, "key"))  # type: ignore[misc]
        assert isinstance(reply, Declined)
        assert reply.code is ErrorCode.METHOD_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("amount", "units"), [("900719925474.0991", 2**53 - 1), ("900719925474.0992", None)]
)
def test_an_integer_that_is_no_exact_float_is_not_sent(amount: str, units: int | None) -> None:
    text = MINIMAL.replace("[[rules]]", '[amount]\nformat = "minor"\n[[rules]]')
    shape = mapping.read(text)
    body = shape.body_of(make_request(amount=amount, currency="CLF"), "key", shape.units())
    assert (None if body is None else json.loads(body)["a"]) == units
    shape = mapping.read(MINIMAL)
    assert shape.body_of(make_request(amount=amount, currency="CLF"), "key", shape.units())


def test_the_traits_are_those_of_the_mapping() -> None:
    traits = http("http://localhost", mapping.read(OTHER)).traits
    assert traits.key_life_s == 744 * 3600
    assert traits.saves_errors
    assert traits.has_lookup
    assert traits.decimals == {"USD": 2, "CLP": 2, "ISK": 2, "CVE": 0, "KWD": 3}
    assert http("http://localhost").traits.key_life_s == 24 * 3600


@pytest.mark.parametrize(
    ("scheme", "header", "value"),
    [
        ("bearer", "Authorization", "Bearer user:pass"),
        ("basic", "Authorization", "Basic dXNlcjpwYXNz"),
        ("header", "X-Key", "user:pass"),
        ("none", "Authorization", None),
    ],
)
def test_credentials_are_sent_as_the_mapping_has_it(
    scheme: str, header: str, value: str | None
) -> None:
    given_headers: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        given_headers.append(request.headers.get(header))
        return web.Response(status=204)

    async def life() -> None:
        shape = mapping.read(mapping.CONTRACT + f'[auth]\nscheme="{scheme}"\nheader="{header}"')
        async with served(handler) as url:
            gateway = http(url, shape, credentials=Secret("user:pass"))
            await gateway.probe()
            await gateway.close()

    asyncio.run(life())
    assert given_headers == [value]


MINIMAL = """
[charge]
path = "/x"
[charge.body]
"/a" = "amount"
"/c" = "currency"
"/m" = "paymentMethod"
[[rules]]
status = 200
reply = "approved"
"""


def test_the_least_mapping_is_enough() -> None:
    assert mapping.read(MINIMAL).lookup is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("path", "paht", "unknown field `paht`"),
        ('"amount"', '"total"', "Invalid enum value 'total'"),
        ('"approved"', '"aproved"', "Invalid enum value 'aproved'"),
        ('"/a"', '"a"', "'a' is no JSON pointer"),
        ('"/c"', '"/a/b"', "leads through a value"),
        ('"/a" = "amount"', "", "charge.body sends no amount"),
        ("200", '"200"', "expected a number, several, or 2xx to 5xx, got '200'"),
        ("200", '"4xx"', "rule 1: a whole class of failed requests cannot be approved"),
        ('"approved"', '"declined"', "no rule has the reply approved"),
        ('"approved"', '"not_found"', 'needs call = "lookup"'),
        ("status", "when = { x = 1 }\nstatus", "'x' is no JSON pointer"),
        ("status", 'codes = { "1" = "malformed" }\nstatus', "is of invalid records"),
        ("status", 'codes = { "1" = "no_money" }\nstatus', "Invalid enum value"),
        ("[[rules]]", '[lookup]\npath = "/x"\n[[rules]]', "lookup.path needs {key}"),
        ("[[rules]]", "[amount]\ndecimals = { ABC = 2 }\n[[rules]]", "no such currency: ABC"),
        ("[[rules]]", "[amount]\ndecimals = { USD = 9 }\n[[rules]]", "expected 0 to 4"),
        ("[charge]", "[charge", "Expected"),
        ('"/x"', '"x"', "expected a path that begins with '/', got 'x'"),
        ("[[rules]]", '[key]\nheader = "X Y"\n[[rules]]', "'X Y' is no name of an HTTP header"),
        ("[[rules]]", '[auth]\nheader = "a:b"\n[[rules]]', "'a:b' is no name of an HTTP header"),
        ("[[rules]]", "[key]\nlife_hours = 0\n[[rules]]", "a number that is more than 0"),
        ("[[rules]]", "[key]\nlife_hours = nan\n[[rules]]", "a number that is more than 0"),
        ("[[rules]]", "[key]\nlife_hours = inf\n[[rules]]", "a number that is more than 0"),
        ("[[rules]]", '[key]\nheader = "Content-Type"\n[[rules]]', "a meaning of its own"),
        ("[[rules]]", '[auth]\nheader = "host"\n[[rules]]', "a meaning of its own"),
        ("[[rules]]", '[key]\nheader = "authorization"\n[[rules]]', "of the key and of auth"),
        ("[[rules]]", "[amount]\ncurrencies = []\n[[rules]]", "expected one at least"),
        ('"/x"', '"/x/{paymentId}"', "a place that nothing is put into"),
        ('"/x"', '"/x#y"', "expected a path that begins with '/'"),
        ("[[rules]]", '[lookup]\npath = "/{key}/{userId}"\n[[rules]]', "nothing is put into"),
        ("[[rules]]", '[echo]\nx = "amount"\n[[rules]]', "'x' is no JSON pointer"),
        ("200", "[]", "expected a number, several, or 2xx to 5xx, got []"),
        ("200", "20", "expected a number, several, or 2xx to 5xx, got 20"),
        ("200", "[200, 409]", "approved needs when"),
        ("[[rules]]", '[[rules]]\nstatus = "4xx"\nreply = "declined"\n[[rules]]', "needs when"),
        ("[[rules]]", '[[rules]]\nstatus = 422\nreply = "declined"\n[[rules]]', "needs when"),
    ],
)
def test_a_wrong_mapping_is_refused(old: str, new: str, problem: str) -> None:
    assert old in MINIMAL
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared below)
        mapping.read(MINIMAL.replace(old, new, 1))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        'status = [200, 201]\nreply = "approved"',
        'status = "2xx"\nreply = "approved"',
        # With some providers a 409 is the replay.
        'status = [200, 409]\nwhen = { "/state" = "paid" }\nreply = "approved"',
        'status = 402\nreply = "declined"',
        'status = "4xx"\nwhen = { "/state" = "refused" }\nreply = "declined"',
    ],
)
def test_a_rule_for_several_statuses_is_taken(rule: str) -> None:
    assert len(mapping.read(f"{MINIMAL}\n[[rules]]\n{rule}").rules) == 2


# ---- JSON pointers ----


def test_a_pointer_finds_what_rfc_6901_has() -> None:
    document = {"foo": ["bar", "baz"], "a/b": 1, "m~n": 8, "": 0, "k": {"l": None}}
    for pointer, value in {
        "": document,
        "/foo": ["bar", "baz"],
        "/foo/0": "bar",
        "/": 0,
        "/a~1b": 1,
        "/m~0n": 8,
        "/k/l": None,
    }.items():
        assert json_pointer.find(document, pointer) == value
    for pointer in ("/foo/2", "/foo/-1", "/foo/x", "/nothing", "/k/l/m", "/foo/0/0"):
        assert json_pointer.find(document, pointer) is json_pointer.MISSING


@given(st.dictionaries(st.text(), st.integers(), max_size=5), st.text(max_size=5))
def test_added_ids_are_found(document: dict[str, Any], name: str) -> None:
    pointer = "/new~1/" + name.replace("~", "~0").replace("/", "~1")
    document.pop("new/", None)
    json_pointer.put(document, pointer, "value")
    assert json_pointer.find(document, pointer) == "value"


def test_true_is_not_one() -> None:
    rule = Rule(200, "approved", when={"/paid": True})
    assert rule.is_for("charge", 200)
    assert rule.has_values({"paid": True})
    assert not rule.has_values({"paid": 1})
    assert not Rule(200, "approved", when={"/paid": 1}).has_values({"paid": True})


# ---- TLS ----


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.write(tmp_path_factory.mktemp("tls"))


def charged_by_tls(tls: Certificates, client: ssl.SSLContext) -> Reply:
    """Return the reply of a server that demands a client certificate."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca)
    server.load_cert_chain(tls.server)
    server.verify_mode = ssl.CERT_REQUIRED

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"status": "approved", "reference": "ch_1"})

    async def life() -> Reply:
        async with served(handler, server) as url:
            gateway = http(url, tls=client)
            reply = await gateway.charge(make_request(), "key")
            await gateway.close()
            return reply

    return asyncio.run(life())


def test_a_client_certificate_is_sent(tls: Certificates) -> None:
    client = ssl.create_default_context(cafile=tls.ca)
    client.load_cert_chain(tls.server)
    assert charged_by_tls(tls, client) == Approved("ch_1")


def test_nothing_is_approved_without_a_client_certificate(tls: Certificates) -> None:
    reply = charged_by_tls(tls, ssl.create_default_context(cafile=tls.ca))
    assert isinstance(reply, NotExecuted | Unknown)


def test_a_certificate_that_is_not_trusted_is_misconfigured(tls: Certificates) -> None:
    assert isinstance(charged_by_tls(tls, ssl.create_default_context()), Misconfigured)


def test_a_server_without_tls_has_not_charged(provider: FakeProvider) -> None:
    gateway = http(provider.url.replace("http:", "https:"))
    reply = play(gateway, lambda: gateway.charge(make_request(), "key"))
    assert isinstance(reply, NotExecuted)
