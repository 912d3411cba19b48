"""The calls of a process to a provider behind sockets, whose book has what was charged."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataflow.config.secret import Secret
from dataflow.core import call_rate
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, Charge
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import dispatcher, mapping
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.port import Approved, Gateway, idempotency_key
from tests.gateways.sample_requests import make_request, new_id

WAIT_S = 120.0
"""Only a failure takes as long."""
KEY = Secret("sk_test_fake")
Made = Callable[[Gateway], Dispatcher]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setattr(dispatcher, "soon_s", lambda *_: 0.02)
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


def until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def charged(calls: Dispatcher, names: list[str]) -> dict[str, object]:
    """Have payments charged; return their replies."""
    calls.charge([Charge(0, make_request(name), time.time(), is_unsent=True) for name in names])
    until(lambda: len(calls.answers(0)) == len(names))
    found = [each for each in calls.answers(0) if isinstance(each, Answer)]
    calls.answers(0).clear()
    return {each.charge.request.payment_id: each.reply for each in found}


def booked(*providers: FakeProvider) -> list[str]:
    """Return the paymentIds of all charges, in order."""
    return sorted(each.payment_id for provider in providers for each in provider.book())


def test_calls_slow_down_for_a_provider_that_says_too_many_and_come_back(
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
