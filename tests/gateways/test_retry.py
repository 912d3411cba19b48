"""The retry rule, shown with a gateway that follows a script and a clock that stands still."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.errors import GatewayFaultError
from dataflow.gateways.port import (
    Approved,
    Declined,
    Definite,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
    idempotency_key,
)
from dataflow.gateways.retry import charge_until_final
from dataflow.gateways.simulated import SimulatedGateway
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest
from tests.gateways.sample_requests import make_request, make_requests

DOWN = Unknown("HTTP 502")
NO_FUNDS = Declined(ErrorCode.INSUFFICIENT_FUNDS, "The balance is too low.", retryable=True)


def ok(name: object) -> Approved:
    return Approved(f"ref_{name}")


class Scripted(SimulatedGateway):
    """A gateway with replies as in the script, one line for each call; keeps what it was asked."""

    def __init__(self, script: Iterable[Any]) -> None:
        super().__init__()
        self.script = iter(script)
        self.asked: list[list[PaymentRequest]] = []

    async def charge_batch(self, requests: Sequence[PaymentRequest]) -> Sequence[Reply]:
        self.asked.append(list(requests))
        line = next(self.script)
        if isinstance(line, Exception):
            raise line
        return line  # type: ignore[no-any-return]


class Hanging(Scripted):
    """Never replies; when cancelled, ends with `ending` if there is one."""

    def __init__(self, ending: Exception | None = None) -> None:
        super().__init__([])
        self.ending = ending

    async def charge_batch(self, requests: Sequence[PaymentRequest]) -> Sequence[Reply]:
        self.asked.append(list(requests))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.ending is not None:
                raise self.ending from None
            raise
        raise AssertionError


class Time:
    """A clock that only moves when code sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pauses_s: list[float] = []

    async def sleep(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self.now_s += pause_s


def charged(
    gateway: Gateway,
    requests: Sequence[PaymentRequest],
    *,
    time: Time | None = None,
    draw: Callable[[], float] = lambda: 1.0,
    deadline_s: float = 30.0,
    **more: Any,
) -> list[Definite]:
    time = time or Time()
    return asyncio.run(
        charge_until_final(
            gateway,
            requests,
            deadline_s=deadline_s,
            clock=lambda: time.now_s,
            sleep=time.sleep,
            draw=draw,
            **more,
        )
    )


def fault(gateway: Gateway, requests: Sequence[PaymentRequest], **more: Any) -> GatewayFaultError:
    with pytest.raises(GatewayFaultError) as caught:
        charged(gateway, requests, **more)
    return caught.value


# --- Replies ---


def test_definite_replies_are_handed_on_after_one_call() -> None:
    gateway, requests = Scripted([(ok(0), NO_FUNDS, ok(2))]), make_requests(3)
    assert charged(gateway, requests) == [ok(0), NO_FUNDS, ok(2)]
    assert gateway.asked == [requests]


def test_an_empty_batch_is_settled_with_nothing() -> None:
    assert charged(Scripted([[]]), []) == []


def test_only_the_unavailable_ones_are_retried() -> None:
    a, b, c, d = requests = make_requests(4)
    gateway = Scripted([[DOWN, ok("b"), DOWN, NO_FUNDS], [DOWN, ok("c")], [NO_FUNDS]])
    assert charged(gateway, requests) == [NO_FUNDS, ok("b"), ok("c"), NO_FUNDS]
    assert gateway.asked == [[a, b, c, d], [a, c], [a]]


def test_a_payment_is_retried_under_the_same_idempotency_key() -> None:
    gateway = Scripted([[DOWN], [DOWN], [ok(1)]])
    charged(gateway, [make_request("pay_1")])
    assert [request.payment_id for (request,) in gateway.asked] == ["pay_1"] * 3


@given(st.lists(st.integers(0, 6), max_size=20))
def test_every_request_is_retried_until_it_is_answered_and_never_again(refusals: list[int]) -> None:
    """`refusals`: how often each request is unavailable before it is answered."""
    requests = make_requests(len(refusals))
    left = {r.payment_id: times for r, times in zip(requests, refusals, strict=True)}
    asked = dict.fromkeys(left, 0)

    class Flaky(Scripted):
        async def charge_batch(self, requests: Sequence[PaymentRequest]) -> Sequence[Reply]:
            replies: list[Reply] = []
            for request in requests:
                asked[request.payment_id] += 1
                done = asked[request.payment_id] > left[request.payment_id]
                replies.append(ok(request.payment_id) if done else DOWN)
            return replies

    assert charged(Flaky([]), requests) == [ok(request.payment_id) for request in requests]
    assert list(asked.values()) == [times + 1 for times in refusals]


# --- What may be charged again, and what is only looked up ---


class Single(SimulatedGateway):
    """A gateway without batches; its calls, in order, with the reply that the script has for each.

    The script has the replies of each paymentId; the last one is repeated.
    """

    def __init__(self, *, has_lookup: bool, **script: list[Any]) -> None:
        super().__init__()
        self.traits = Traits(key_life_s=None, saves_errors=True, has_lookup=has_lookup)
        self.script = script
        self.calls: list[tuple[str, str]] = []
        self.keys: set[tuple[str, str]] = set()

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        return self._reply("charge", request, key)

    async def lookup(self, request: PaymentRequest, key: str) -> Reply:
        return self._reply("lookup", request, key)

    def _reply(self, call: str, request: PaymentRequest, key: str) -> Reply:
        self.calls.append((call, request.payment_id))
        self.keys.add((request.payment_id, key))
        left = self.script[request.payment_id]
        reply: Reply = left.pop(0) if len(left) > 1 else left[0]
        return reply

    def calls_of(self, payment_id: str) -> list[str]:
        return [call for call, each in self.calls if each == payment_id]


CHARGED_AGAIN = [NotExecuted("HTTP 429"), NotExecuted("refused", 0.01), Unknown("timeout")]
LOOKED_UP = [Pending("pi_1"), Unknown("HTTP 500", saved=True)]


@pytest.mark.parametrize("reply", CHARGED_AGAIN)
def test_a_charge_that_may_be_repeated_is(reply: Reply) -> None:
    gateway = Single(has_lookup=True, pay=[reply, reply, ok(1)])
    assert charged(gateway, [make_request("pay")]) == [ok(1)]
    assert gateway.calls_of("pay") == ["charge"] * 3


@pytest.mark.parametrize("reply", LOOKED_UP)
@pytest.mark.parametrize("then", [None, *CHARGED_AGAIN, *LOOKED_UP])
def test_a_charge_with_a_saved_answer_is_never_repeated(reply: Reply, then: Reply | None) -> None:
    """Whatever the lookup says: a trouble of the lookup is no answer about the charge."""
    gateway = Single(has_lookup=True, pay=[reply, then, then, NO_FUNDS])
    assert charged(gateway, [make_request("pay")]) == [NO_FUNDS]
    assert gateway.calls_of("pay") == ["charge", "lookup", "lookup", "lookup"]


@pytest.mark.parametrize("reply", LOOKED_UP)
def test_a_provider_without_lookup_repeats_the_saved_answer(reply: Reply) -> None:
    gateway = Single(has_lookup=False, pay=[reply, ok(1)])
    assert charged(gateway, [make_request("pay")]) == [ok(1)]
    assert gateway.calls_of("pay") == ["charge", "charge"]


def test_a_payment_that_is_never_found_ends_at_the_deadline() -> None:
    gateway = Single(has_lookup=True, pay=[Unknown("HTTP 500", saved=True), None])
    assert "the provider has no payment under this key" in str(
        fault(gateway, [make_request("pay")])
    )
    assert set(gateway.calls_of("pay")[1:]) == {"lookup"}


def test_each_payment_is_requested_in_its_own_way_under_its_own_key() -> None:
    gateway = Single(
        has_lookup=True, a=[Pending("pi"), ok("a")], b=[Unknown("reset"), ok("b")], c=[NO_FUNDS]
    )
    assert charged(gateway, [make_request(each) for each in "abc"]) == [ok("a"), ok("b"), NO_FUNDS]
    assert [gateway.calls_of(each) for each in "abc"] == [
        ["charge", "lookup"],
        ["charge", "charge"],
        ["charge"],
    ]
    assert gateway.keys == {(each, idempotency_key(each)) for each in "abc"}


def test_a_misconfigured_gateway_is_a_fault_at_once() -> None:
    time = Time()
    gateway = Single(has_lookup=True, a=[ok(1)], b=[Misconfigured("HTTP 401: no such key")])
    error = fault(gateway, [make_request("a"), make_request("b")], time=time)
    assert str(error) == ("2 requests to the gateway: it is misconfigured: HTTP 401: no such key")
    assert time.pauses_s == []


@pytest.mark.parametrize(
    ("demanded_s", "pause_s"),
    [(2.0, 2.0), (0.001, 0.05), (3600.0, 5.0), (-1.0, 0.05), (None, 0.05)],
)
def test_a_pause_is_as_long_as_the_provider_demands_within_bounds(
    demanded_s: float | None, pause_s: float
) -> None:
    time = Time()
    gateway = Single(has_lookup=True, pay=[NotExecuted("HTTP 429", demanded_s), ok(1)])
    charged(gateway, [make_request("pay")], time=time)
    assert time.pauses_s == [pause_s]


def test_no_more_calls_are_in_flight_than_there_are_slots() -> None:
    flying, most = 0, 0

    class Counting(SimulatedGateway):
        async def charge(self, request: PaymentRequest, key: str) -> Reply:
            nonlocal flying, most
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(0)
            flying -= 1
            return await super().charge(request, key)

    async def two_batches() -> None:
        slots = asyncio.Semaphore(4)
        await asyncio.gather(
            *(
                charge_until_final(
                    Counting(), make_requests(10, prefix), deadline_s=30, slots=slots
                )
                for prefix in "ab"
            )
        )

    asyncio.run(two_batches())
    assert most == 4


# --- Pauses and the deadline ---


def test_the_longest_pause_doubles_from_50_ms_up_to_5_s() -> None:
    time = Time()
    charged(Scripted([[DOWN]] * 9 + [[ok(1)]]), make_requests(1), time=time)
    assert time.pauses_s == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_each_pause_is_drawn_between_zero_and_the_longest() -> None:
    time, draws = Time(), iter([0.0, 0.5, 0.25])
    charged(Scripted([[DOWN]] * 3 + [[ok(1)]]), make_requests(1), time=time, draw=draws.__next__)
    assert time.pauses_s == [0.0, 0.05, 0.05]


def test_it_gives_up_at_the_deadline_with_the_number_and_the_last_reason() -> None:
    time = Time()
    gateway = Scripted([[ok(0), DOWN, DOWN]] + [[DOWN, NotExecuted("HTTP 429")]] * 99)
    error = fault(gateway, make_requests(3), time=time)
    assert str(error) == (
        "no answer from the gateway for 2 of 3 requests within 30 s; last reason: HTTP 429"
        "; one of them is paymentId pay_2"
    )
    assert sum(time.pauses_s) < 30
    assert len(gateway.asked) == len(time.pauses_s) + 1 == 12


def test_a_very_long_reason_is_not_quoted_in_full() -> None:
    error = fault(Scripted([[Unknown("x" * 10_000)]] * 99), make_requests(1))
    assert len(str(error)) < 400


def test_a_callback_is_called_before_each_pause() -> None:
    waits: list[tuple[int, float, str]] = []
    gateway = Scripted([[DOWN, DOWN], [ok(0), DOWN], [ok(1)]])
    charged(gateway, make_requests(2), on_wait=lambda *wait: waits.append(wait))
    assert waits == [(2, 0.05, "HTTP 502"), (1, 0.1, "HTTP 502")]


def test_a_charge_that_never_returns_is_cut_off_at_the_deadline() -> None:
    error = fault(Hanging(), make_requests(3), deadline_s=0.02)
    assert str(error) == "3 requests to the gateway: it did not return by the deadline"


def test_a_charge_that_fails_when_it_is_cut_off_was_still_cut_off() -> None:
    error = fault(Hanging(ValueError("connection closed")), make_requests(1), deadline_s=0.02)
    assert "did not return by the deadline" in str(error)


def test_a_foreign_cancellation_is_not_mistaken_for_a_fault() -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(charge_until_final(Hanging(), make_requests(1), deadline_s=30))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


# --- A gateway that breaks the contract ---


@pytest.mark.parametrize("error", [ValueError("no such key"), TimeoutError("their own")])
def test_a_gateway_that_raises_is_a_fault_with_its_error_as_the_cause(error: Exception) -> None:
    raised = fault(Scripted([error]), make_requests(2))
    assert raised.__cause__ is error
    assert str(raised) == (
        f"2 requests to the gateway: it failed with {type(error).__name__}: {error}"
    )


def test_a_gateway_that_raises_on_a_retry_is_a_fault_too() -> None:
    raised = fault(Scripted([[ok(0), DOWN], OSError("reset")]), make_requests(2))
    assert str(raised) == "1 requests to the gateway: it failed with OSError: reset"


@pytest.mark.parametrize("replies", [[], [ok(0)], [ok(0), ok(1), ok(2)]])
def test_a_wrong_number_of_replies_is_a_fault(replies: list[Reply]) -> None:
    raised = fault(Scripted([replies]), make_requests(2))
    assert str(raised) == f"2 requests to the gateway: it gave {len(replies)} replies"


@pytest.mark.parametrize("reply", [None, "ok", {"reference": "r"}, Approved])
def test_a_reply_of_a_wrong_type_is_a_fault(reply: object) -> None:
    raised = fault(Scripted([[ok(0), reply]]), make_requests(2))
    assert f"it replied with {type(reply).__name__}" in str(raised)


def test_no_replies_at_all_is_a_fault() -> None:
    raised = fault(Scripted([None]), make_requests(1))
    assert isinstance(raised.__cause__, TypeError)
