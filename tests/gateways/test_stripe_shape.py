"""Requests to Stripe, and answers of the fake, have the shape of Stripe's own description.

`make tools` fetches it, as a file in the module of Stripe's mock server; it is 8 MB, so it is not
in the repository.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from jsonschema import Draft202012Validator

from dataflow.config.secret import Secret
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import stripe, stripe_answers
from dataflow.gateways.http_client import HttpClient, Response
from dataflow.gateways.port import idempotency_key
from tests import ROOT
from tests.gateways.sample_requests import make_request, new_id

DESCRIPTION = ROOT / ".tools" / "stripe-v0.203.0.json"
SHA256 = "f0e0fc8fffbffda45bf5f3df59846443c1d47a3cfcbfae232eedf4743124ebee"
INTENTS = "/v1/payment_intents"
Json = dict[str, Any]


@cache
def description() -> Json:
    if not DESCRIPTION.exists():
        pytest.skip("Stripe's description of its API is not here: make tools")
    content = DESCRIPTION.read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    return dict(json.loads(content))


@cache
def components() -> Json:
    """Return all schemas, with what OpenAPI 3.0 writes in its own way in JSON Schema's."""
    return dict(_in_json_schema(description()["components"]))


def _in_json_schema(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_json_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {name: _in_json_schema(each) for name, each in value.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if value.get("nullable") is True else plain


def problems(schema: Json, value: object) -> list[str]:
    root = {**_in_json_schema(schema), "components": components()}
    return [each.message for each in Draft202012Validator(root).iter_errors(value)]


def form_schema(path: str) -> Json:
    content = description()["paths"][path]["post"]["requestBody"]["content"]
    return dict(content["application/x-www-form-urlencoded"]["schema"])


def as_object(form: dict[str, str], schema: Json) -> Json:
    """Return what a server makes of a form: lists, objects, numbers and booleans."""
    found: Json = {}
    for name, text in form.items():
        match = re.fullmatch(r"([a-z_]+)(?:\[(\w*)\])?", name)
        assert match, name
        outer, inner = match[1], match[2]
        if inner is None:
            found[outer] = _typed(text, schema["properties"].get(outer, {}))
        elif inner:
            found.setdefault(outer, {})[inner] = text
        else:
            found.setdefault(outer, []).append(text)
    return found


def _typed(text: str, schema: Json) -> Any:
    types = {schema.get("type"), *(each.get("type") for each in schema.get("anyOf", []))}
    if "integer" in types:
        return int(text)
    return text == "true" if "boolean" in types and text in {"true", "false"} else text


class Wire:
    """The requests of a gateway, and their answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str, bytes, Response]] = []
        send = HttpClient.send

        async def recording(client: HttpClient, method: str, path: str, **more: Any) -> Any:
            response = await send(client, method, path, **more)
            assert isinstance(response, Response)
            self.calls.append((method, path, more.get("body", b""), response))
            return response

        monkeypatch.setattr(HttpClient, "send", recording)


@pytest.fixture
def wire(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Return all that is exchanged about a payment of each kind."""
    wire = Wire(monkeypatch)
    provider.change(finish_after_s=0.1)

    async def play() -> None:
        gateway = stripe.StripeGateway(Secret("sk_test_fake"), timeout_s=10, url=provider.url)
        for method in METHODS:
            request = make_request(new_id(), userId="cus_shape", paymentMethod=method)
            key = idempotency_key(request.payment_id)
            await gateway.charge(request, key)
            await gateway.lookup(request, key)
        await gateway.probe()
        await gateway.close()

    asyncio.run(play())
    return wire


METHODS = [
    "pm_card_visa",
    "pm_card_visa_chargeDeclinedInsufficientFunds",
    "pm_card_chargeDeclinedExpiredCard",
    "pm_advised_do_not_honor-try_again_later",
    "pm_processing",
    "pm_requires_action",
    "pm_acts_late",
    "pm_missing",
]


def test_every_request_has_the_shape_that_stripe_describes(wire: Wire) -> None:
    checked = set()
    for method, path, body, _ in wire.calls:
        parts = urlsplit(path)
        template = re.sub(r"/pi_\w+", "/{intent}", parts.path)
        operation = description()["paths"][template][method.lower()]
        known = {each["name"] for each in operation.get("parameters", [])}
        assert {name.partition("[")[0] for name in dict(parse_qsl(parts.query))} <= known
        if method == "POST":
            schema = form_schema(template)
            sent = as_object(dict(parse_qsl(body.decode())), schema)
            assert problems(schema, sent) == []
        checked.add((method, template))
    assert checked == {
        ("POST", INTENTS),
        ("GET", INTENTS),
        ("POST", f"{INTENTS}/{{intent}}/cancel"),
    }


def test_every_answer_of_the_fake_has_the_shape_that_stripe_describes(wire: Wire) -> None:
    schemas = components()["schemas"]
    statuses = set()
    for _, path, _, response in wire.calls:
        answer = json.loads(response.body)
        statuses.add(response.status)
        if response.status != 200:
            assert problems(schemas["error"], answer) == []
        elif path.startswith(f"{INTENTS}?"):
            for each in answer["data"]:
                assert problems(schemas["payment_intent"], each) == []
        else:
            assert problems(schemas["payment_intent"], answer) == []
    assert statuses == {200, 400, 402}


def test_the_pinned_version_is_that_of_the_description() -> None:
    assert description()["info"]["version"] == stripe.API_VERSION


def test_the_statuses_that_are_known_are_those_of_the_description() -> None:
    known = components()["schemas"]["payment_intent"]["properties"]["status"]["enum"]
    for status in known:
        reply = stripe_answers.of_intent(stripe_answers.Intent("pi_1", status))
        assert reply is not None
    assert {"succeeded", "processing", "requires_action", "canceled"} <= set(known)


@pytest.mark.parametrize(
    "breaking",
    [
        lambda form: form | {"amount": "1.5"},
        lambda form: form | {"foo": "1"},
        lambda form: {name: text for name, text in form.items() if name != "currency"},
    ],
)
def test_the_check_notices(breaking: Callable[[dict[str, str]], dict[str, str]]) -> None:
    form = stripe.form_of(make_request(userId="cus_1", paymentMethod="pm_1"))
    assert isinstance(form, dict)
    schema = form_schema(INTENTS)
    assert problems(schema, as_object(form, schema)) == []
    with pytest.raises((AssertionError, ValueError)):
        assert problems(schema, as_object(breaking(form), schema)) == []
    intent = components()["schemas"]["payment_intent"]
    assert problems(intent, {"id": "pi_1", "object": "payment_intent", "status": "new"})
