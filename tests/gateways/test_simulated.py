"""The simulated gateway: the contract, and how to provoke each of its replies."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.gateways import simulated
from dataflow.gateways.port import Approved, Declined, Gateway, Reply, Unknown
from dataflow.gateways.simulated import ImmediateGateway, SimulatedGateway
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest
from tests.gateways import contract
from tests.gateways.contract import GatewayContract
from tests.gateways.sample_requests import make_request, make_requests

DECLINES = [
    ErrorCode.DECLINED,
    ErrorCode.INSUFFICIENT_FUNDS,
    ErrorCode.CARD_EXPIRED,
    ErrorCode.FRAUD_SUSPECTED,
    ErrorCode.LIMIT_EXCEEDED,
    ErrorCode.METHOD_NOT_SUPPORTED,
    ErrorCode.AUTHENTICATION_REQUIRED,
    ErrorCode.INVALID_PAYMENT_METHOD,
]


class TestAtOnce(GatewayContract):
    def build(self) -> Gateway:
        return ImmediateGateway()

    def flaky_requests(self) -> list[PaymentRequest]:
        return [*make_requests(10), *make_requests(10, "unavailable:2:pay_")]


class TestWithLatency(TestAtOnce):
    def build(self) -> Gateway:
        return SimulatedGateway(latency_s=0.001)


def charge(gateway: SimulatedGateway, *payment_ids: str) -> list[Reply]:
    return asyncio.run(contract.charge(gateway, [make_request(each) for each in payment_ids]))


def test_a_known_payment_has_a_known_reference() -> None:
    """Pinned: a reply that changed with a release would break idempotency across a restart."""
    assert charge(SimulatedGateway(), "pay_123") == [Approved("sim_228f99a9f426db7d")]


@given(st.text(min_size=1, max_size=255))
def test_a_reply_depends_on_the_payment_id_alone(payment_id: str) -> None:
    first = charge(SimulatedGateway(), payment_id)
    assert charge(SimulatedGateway(latency_s=1e-6), payment_id) == first
    changed = make_request(payment_id, amount=1, userId="another")
    assert asyncio.run(ImmediateGateway().charge_batch([changed])) == first


@pytest.mark.parametrize("code", DECLINES)
@pytest.mark.parametrize("form", ["decline:{}", "pay_7:decline:{}", "decline:{}:pay_7"])
def test_a_payment_id_can_select_each_decline(form: str, code: ErrorCode) -> None:
    (reply,) = charge(SimulatedGateway(decline_rate=0), form.format(code))
    assert isinstance(reply, Declined)
    assert reply.code is code


@pytest.mark.parametrize("code", DECLINES)
def test_each_way_to_be_declined_is_documented(code: ErrorCode) -> None:
    assert simulated.__doc__ is not None
    assert f"decline:{code} " in simulated.__doc__


def test_an_unknown_reason_is_a_decline_without_one() -> None:
    (reply,) = charge(SimulatedGateway(decline_rate=0), "decline:bad_weather")
    assert isinstance(reply, Declined)
    assert reply.code is ErrorCode.DECLINED


def test_a_payment_id_can_select_a_period_of_unavailability() -> None:
    gateway = SimulatedGateway(decline_rate=0)
    replies = [charge(gateway, "pay_7:unavailable:2")[0] for _ in range(3)]
    assert replies[:2] == [Unknown("simulated, 1 of 2"), Unknown("simulated, 2 of 2")]
    assert isinstance(replies[2], Approved)


def test_unavailable_and_declined_can_be_combined() -> None:
    gateway = SimulatedGateway()
    replies = [charge(gateway, "unavailable:1:decline:card_expired")[0] for _ in range(2)]
    assert isinstance(replies[0], Unknown)
    assert isinstance(replies[1], Declined)


def test_nothing_is_remembered_of_a_payment_that_was_answered() -> None:
    gateway = SimulatedGateway()
    for _ in range(3):
        charge(gateway, "pay_7:unavailable:2", "pay_8")
    assert gateway._refusals == {}


def test_colons_in_other_payment_ids_mean_nothing() -> None:
    (reply,) = charge(SimulatedGateway(decline_rate=0), "urn:payment:7")
    assert isinstance(reply, Approved)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 1.0])
def test_the_decline_rate_is_kept_and_spread_over_all_codes(rate: float) -> None:
    requests = make_requests(20_000)
    replies = asyncio.run(ImmediateGateway(decline_rate=rate).charge_batch(requests))
    codes = Counter(reply.code for reply in replies if isinstance(reply, Declined))
    assert codes.total() == pytest.approx(20_000 * rate, rel=0.1)
    for code in DECLINES:
        assert codes[code] == pytest.approx(20_000 * rate / len(DECLINES), rel=0.4)


def test_a_higher_rate_only_ever_adds_declines() -> None:
    """So that a demo can turn the rate up without changing what was declined before."""
    requests = make_requests(500)
    low, high = (asyncio.run(ImmediateGateway(rate).charge_batch(requests)) for rate in (0.1, 0.4))
    assert all(was == now for was, now in zip(low, high, strict=True) if isinstance(was, Declined))
