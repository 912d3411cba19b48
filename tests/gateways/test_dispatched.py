"""The calls of a process to a provider behind sockets, whose book has what was charged."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflow.config.secret import Secret
from dataflow.core import call_rate, hold
from dataflow.core.hold import HoldCause
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, Charge
from dataflow.core.refusals import ROW
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import dispatcher, mapping
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.port import Approved, Declined, Gateway, idempotency_key
from dataflow.gateways.stripe import StripeGateway
from tests.gateways.sample_requests import make_request, new_id

WAIT_S = 120.0
"""Only a failure takes as long."""
KEY = Secret("sk_test_fake")
Made = Callable[[Gateway], Dispatcher]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setattr(dispatcher, "soon_s", lambda *_: 0.02)
    monkeypatch.setattr(hold, "PROBE_LEAST_S", 0.02)
    every: list[Dispatcher] = []

    def make(gateway: Gateway) -> Dispatcher:
        every.append(Dispatcher(gateway, Limits(), LaneBoard()))
        return every[-1]

    yield make
    for each in every:
        each.close()


def http(url: str, *, saves_errors: bool = False) -> HttpGateway:
    shape = mapping.contract()
    shape.key.saves_errors = saves_errors
    return HttpGateway(url, shape, credentials=KEY, timeout_s=60)


def stripe(url: str) -> StripeGateway:
    return StripeGateway(KEY, timeout_s=60, url=url)


def until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def begin(calls: Dispatcher, names: list[str], **changes: str) -> None:
    """Have payments charged."""
    requests = [make_request(name, **changes) for name in names]
    calls.charge([Charge(0, each, time.time(), is_unsent=True) for each in requests])


def replied(calls: Dispatcher) -> dict[str, object]:
    """Return the replies that have come so far, by paymentId."""
    found = [each for each in list(calls.answers(0)) if isinstance(each, Answer)]
    return {each.charge.request.payment_id: each.reply for each in found}


def charged(calls: Dispatcher, names: list[str], **changes: str) -> dict[str, object]:
    """Have payments charged; return their replies."""
    begin(calls, names, **changes)
    until(lambda: len(calls.answers(0)) == len(names))
    found = replied(calls)
    calls.answers(0).clear()
    return found


def booked(*providers: FakeProvider) -> list[str]:
    """Return the paymentIds of all charges, in order."""
    return sorted(each.payment_id for provider in providers for each in provider.book())


def test_calls_slow_down_after_too_many_and_come_back(
    made: Made, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names no pause. Nothing is lost, nothing is charged twice, and there is no hold."""
    monkeypatch.setattr(call_rate, "_GROWTH", 2.0)
    calls, before = made(http(provider.url)), booked(provider)
    names = [new_id() for _ in range(60)]
    provider.change(max_in_flight=2, latency_s=0.02)
    replies = charged(calls, names)
    assert {type(each) for each in replies.values()} == {Approved}
    figures = calls.figures()
    assert figures.replies["NotExecuted"] > 0
    assert figures.times_held == 0
    assert figures.rate_limit is not None
    provider.heal()
    while calls.figures().rate_limit is not None:
        names.append(new_id())
        charged(calls, names[-1:])
    assert booked(provider) == sorted([*before, *names])


def test_a_lost_answer_is_one_charge_in_the_books_of_two_providers(
    made: Made, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else could charge it: the first provider may have done so."""
    names, before = [new_id() for _ in range(10)], booked(provider)
    with FakeProvider(tmp_path / "second.db") as second:
        monkeypatch.setenv("SECOND_PROVIDER", second.url)
        provider.change(faults=[{"fault": "reset_after", "payment_ids": names, "times": 10}])
        replies = charged(made(http(provider.url)), names)
        assert {type(each) for each in replies.values()} == {Approved}
        assert booked(provider, second) == sorted([*before, *names])


def test_a_saved_failure_is_looked_up(made: Made, provider: FakeProvider) -> None:
    """The key gets no other answer for as long as it lives, though the payment is charged."""
    name, before = new_id(), booked(provider)
    provider.change(faults=[{"fault": "saved_500_after", "payment_ids": [name]}])
    replies = charged(made(http(provider.url, saves_errors=True)), [name])
    assert {type(each) for each in replies.values()} == {Approved}
    assert booked(provider) == sorted([*before, name])
    assert provider.asked(idempotency_key(name)) == 1


OF_STRIPE = {"userId": "cus_1", "paymentMethod": "pm_1"}


@pytest.mark.parametrize("is_before", [True, False])
def test_the_key_of_another_account_declines_no_more_than_a_few_payments(
    made: Made, provider: FakeProvider, *, is_before: bool
) -> None:
    """Stripe refuses each customer of ours then. Once that is mended, each is charged once.

    Also if there is a witness: it is not found.
    """
    names, before, calls = (
        [new_id() for _ in range(100)],
        booked(provider),
        made(stripe(provider.url)),
    )
    if is_before:
        before += charged(calls, [new_id()], **OF_STRIPE)
    provider.change(is_another_account=True)
    begin(calls, names, **OF_STRIPE)
    until(lambda: calls.figures().hold_cause is HoldCause.MISCONFIGURED)
    asked = calls.figures().replies["Declined"]
    until(lambda: calls.figures().replies["Declined"] > asked + ROW)
    declined = replied(calls)
    assert {type(each) for each in declined.values()} == {Declined}
    assert len(declined) == ROW - 1
    assert booked(provider) == sorted(before)
    provider.change(is_another_account=False)
    until(lambda: len(replied(calls)) == len(names))
    assert booked(provider) == sorted([*before, *(set(names) - set(declined))])
    assert calls.figures().hold_cause is None


def test_many_payments_with_a_card_that_is_not_there_are_declined(
    made: Made, provider: FakeProvider
) -> None:
    """The payment that was approved before is still there, so it is not us."""
    calls = made(stripe(provider.url))
    charged(calls, [new_id()], **OF_STRIPE)
    replies = charged(
        calls, [new_id() for _ in range(100)], userId="cus_1", paymentMethod="pm_missing"
    )
    assert {type(each) for each in replies.values()} == {Declined}
    assert calls.figures().hold_cause is None
