"""Whatever a provider answers is a reply of the port, and money moved only if it states so."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from dataflow.gateways import mapping
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.http_client import Response
from dataflow.gateways.port import (
    Approved,
    Declined,
    Misconfigured,
    NotExecuted,
    Pending,
    Unknown,
)
from dataflow.gateways.stripe_answers import ToCancel, of_cancel, of_charge, of_probe
from tests import explore

KINDS = (Approved, Declined, NotExecuted, Unknown, Pending, Misconfigured)
STATUSES = (
    "succeeded processing requires_action canceled requires_payment_method requires_capture"
    " requires_confirmation approved declined pending not_found"
)
TYPES = "card_error idempotency_error insufficient_funds amount_too_large customer pi_1 x"
FIELDS = (
    "status id error type code decline_code message param reference payment_intent"
    " last_payment_error metadata data has_more retryable"
)
WORDS = st.sampled_from(STATUSES.split() + TYPES.split())
KEYS = st.sampled_from(FIELDS.split())
values = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
intents = st.fixed_dictionaries(
    {"id": st.just("pi_1"), "status": st.sampled_from(STATUSES.split())},
    optional={"reference": WORDS, "code": values, "message": values, "error": values},
)
bodies = st.booleans().flatmap(lambda one: intents if one else values).map(
    lambda value: json.dumps(value).encode()
) | st.binary(max_size=30)
statuses = st.one_of(
    st.sampled_from([200, 201, 402]),
    st.sampled_from([202, 204, 301, 400, 401, 403, 404, 409, 422, 424, 429, 500, 502, 503, 504]),
    st.integers(100, 599),
)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Stripe-Should-Retry"]),
    st.sampled_from(["true", "false", "5", "-1", "1e9", "9" * 30, "Wed, 21 Oct 2026 07:28:00 GMT"]),
)
GATEWAY = HttpGateway("http://localhost", mapping.contract(), credentials=None, timeout_s=1)


def document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def states(body: bytes, status: str) -> bool:
    found = document(body)
    return isinstance(found, dict) and found.get("status") == status


@explore.examples(500)
@given(statuses, headers, bodies)
@example(200, {}, b'{"id": "pi_1", "status": "succeeded"}')
@example(402, {}, b'{"error": {"type": "card_error"}}')
@example(400, {}, b'{"error": {"payment_intent": {"id": "pi_1", "status": "succeeded"}}}')
@example(200, {}, b'{"status": "approved", "reference": "ch_1"}')
@example(200, {}, b'{"status": "approved"}')
@example(200, {}, b'{"status": "declined", "code": []}')
def test_any_answer_to_any_call(status: int, headers: dict[str, str], body: bytes) -> None:
    """Of every provider, as to make an example takes longer than to take it in."""
    a_charge_of_stripe(status, headers, body)
    a_cancellation_or_a_probe_of_stripe(status, headers, body)
    a_charge_or_a_look_up_of_the_contract(status, headers, body)


def a_charge_of_stripe(status: int, headers: dict[str, str], body: bytes) -> None:
    reply = of_charge(Response(status, headers, body))
    assert isinstance(reply, (*KINDS, ToCancel))
    if isinstance(reply, Approved | Pending | ToCancel):
        assert status == 200
    if isinstance(reply, Approved):
        assert states(body, "succeeded")
    if isinstance(reply, Declined):
        assert status in {200, 400, 402, 404}, "a 5xx is no decline"
    if isinstance(reply, NotExecuted):
        assert status == 429
        assert reply.retry_after_s is None or reply.retry_after_s >= 0


def a_cancellation_or_a_probe_of_stripe(status: int, headers: dict[str, str], body: bytes) -> None:
    response = Response(status, headers, body)
    reply = of_cancel(response, "pi_1")
    assert isinstance(reply, KINDS)
    assert not isinstance(reply, NotExecuted), "the charge itself was executed"
    if isinstance(reply, Approved):
        assert b"succeeded" in body
    probe = of_probe(response)
    assert (probe is None) == (status == 200)


def a_charge_or_a_look_up_of_the_contract(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    for call in ("charge", "lookup"):
        reply = GATEWAY._reply(call, Response(status, headers, body))
        assert reply is None or isinstance(reply, KINDS)
        if isinstance(reply, Approved):
            assert status == 200
            assert states(body, "approved")
        if isinstance(reply, Declined):
            assert status == 200
            assert states(body, "declined")
        if isinstance(reply, NotExecuted):
            assert status in {429, 503}
        if reply is None:
            assert call == "lookup"
            assert states(body, "not_found")
