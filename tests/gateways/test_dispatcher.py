"""The dispatcher: each payment is asked for until it is answered; in an outage the flow holds."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from msgspec import Raw
from msgspec.structs import replace

from dataflow.core import call_rate, hold, persons_decisions, refusals
from dataflow.core.charging import CallKind
from dataflow.core.hold import HoldCause
from dataflow.core.items import DedupedBatch, Remembered
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, LaneQueue
from dataflow.gateways import dispatcher
from dataflow.gateways.calls import Calls
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.gateways.port import (
    Approved,
    DeclineBasis,
    Declined,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
    idempotency_key,
)
from dataflow.service import fail_fast
from schemas import events
from schemas.decisions import PersonsDecision
from schemas.events import Source
from schemas.outcomes import ErrorCode
from schemas.pending import PendingEntry, PendingState
from schemas.requests import PaymentRequest
from tests.gateways.sample_requests import make_request

DAY_S = 24 * 3600.0
WAIT_S = 120.0
"""Only a failure takes as long."""
Script = Callable[[PaymentRequest], Reply]


class Provider:
    """A gateway whose answers a test may change while it runs; it remembers what it was asked."""

    def __init__(self, answer: Script, **traits: Any) -> None:
        self.traits = Traits(
            **{"key_life_s": DAY_S, "saves_errors": False, "has_lookup": True} | traits
        )
        self.answer = answer
        self.found: Reply | None = None
        self.charged: list[tuple[str, str]] = []
        self.looked_up: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = 0
        self.probed = 0
        self.trouble: Reply | None = None

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        self.charged.append((request.payment_id, key))
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        await asyncio.sleep(0.001)
        self.in_flight -= 1
        return self.answer(request)

    async def lookup(self, request: PaymentRequest, key: str) -> Reply | None:
        assert key == idempotency_key(request.payment_id)
        self.looked_up.append(request.payment_id)
        return self.found

    async def probe(self) -> Reply | None:
        self.probed += 1
        return self.trouble

    async def close(self) -> None:
        self.closed += 1


class AtOnce(Provider):
    def __init__(self, answer: Script, **traits: Any) -> None:
        super().__init__(answer, **{"key_life_s": None} | traits)

    async def charge_batch(self, requests: Sequence[PaymentRequest]) -> list[Reply]:
        self.charged += [(each.payment_id, "") for each in requests]
        return [self.answer(each) for each in requests]


def approve(request: PaymentRequest) -> Reply:
    return Approved("ch_" + request.payment_id)


def fail(_: PaymentRequest) -> Reply:
    return NotExecuted("connection refused")


def charge(payment_id: str = "pay_1", lane: int = 0, age_s: float = 0.0, **how: Any) -> Charge:
    return Charge(lane, make_request(payment_id), time.time() - age_s, **how)


def entry(payment_id: str = "pay_1", age_s: float = 0.0, **how: Any) -> PendingEntry:
    return PendingEntry(
        event_id=f"e-{payment_id}",
        payment_id=payment_id,
        request=Raw(b"{}"),
        source=Source("requested", 0, 7),
        record_time_ms=1_767_225_600_000,
        parked_at=events.instant(time.time() - age_s),
        first_attempt_at="2026-01-01T00:00:00.000Z",
        attempts=1,
        attempts_parked=0,
        is_unsent=False,
        next_attempt_at=None,
        reason="",
        **how,
    )


def queued(*names: str) -> Any:
    """Return a batch of payments that are to be charged, all of one lane."""
    count = len(names)
    batch = DedupedBatch(
        partition=0,
        next_offset=count,
        read_at=0.0,
        offsets=list(range(count)),
        times_ms=np.zeros(count, np.int64),
        verdicts=[0] * count,
        first_origins=[0] * count,
        parsed=[make_request(name) for name in names],
        entries=b"",
        remembered=Remembered(0, 0),
    )
    return LaneQueue(0).add(batch, list(range(count)))


class Pauses:
    """The pause before what is parked is asked for again; a test may change it."""

    parked_s = 0.02


class Clock:
    """The time of the dispatcher, if it is not to pass by itself."""

    now_s = 1_000.0
    time = staticmethod(time.time)

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _without_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "soon_s", lambda *_: 0.01)
    monkeypatch.setattr(dispatcher, "parked_s", lambda *_: Pauses.parked_s)
    monkeypatch.setattr(Pauses, "parked_s", Pauses.parked_s)
    monkeypatch.setattr(hold, "PROBE_LEAST_S", 0.01)
    # What comes by itself now and then comes where a test is about it: on a slow machine, at any
    # moment.
    monkeypatch.setattr(hold, "TRIAL_LEAST_S", 3600.0)
    monkeypatch.setattr(hold, "ANNOUNCED_EVERY_S", 3600.0)
    monkeypatch.setattr(hold, "BELIEVED_FOR_S", 3600.0)


Made = Callable[..., Dispatcher]


@pytest.fixture
def made() -> Iterator[Made]:
    every: list[Dispatcher] = []

    def make(provider: Provider, **limits: Any) -> Dispatcher:
        every.append(Dispatcher(provider, Limits(**limits), LaneBoard()))
        return every[-1]

    yield make
    for each in every:
        each.close()


def until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def answers(calls: Dispatcher, count: int, lane: int = 0) -> list[Any]:
    """Return so many answers, as soon as they are there."""
    until(lambda: len(calls.answers(lane)) >= count)
    return [calls.answers(lane).popleft() for _ in range(count)]


# ---- one payment ----


def test_an_answer_comes_to_its_lane_and_wakes_it(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked = charge(lane=3)
    calls.charge([asked])
    assert answers(calls, 1, lane=3) == [Answer(asked, Approved("ch_pay_1"))]
    assert calls.to_wake(1) == (3,)
    assert calls.to_wake(1) == ()
    assert provider.charged == [("pay_1", idempotency_key("pay_1"))]


def test_a_payment_without_an_answer_is_sent_again_under_the_same_key(made: Made) -> None:
    script: list[Reply] = [Unknown("timeout"), NotExecuted("refused"), Approved("ch_1")]
    replies = iter(script)
    provider = Provider(lambda _: next(replies))
    calls = made(provider)
    asked = charge()
    calls.charge([asked])
    assert answers(calls, 1) == [Answer(asked, Approved("ch_1"))]
    assert provider.charged == [("pay_1", idempotency_key("pay_1"))] * 3
    assert (asked.attempts, asked.attempts_parked) == (3, 0)


def test_a_parked_payment_brings_news_of_each_attempt(made: Made) -> None:
    script: list[Reply] = [Unknown("timeout"), Approved("ch_1")]
    replies = iter(script)
    provider = Provider(lambda _: next(replies))
    calls = made(provider)
    asked = charge(parked=entry(), attempts=1)
    calls.charge([asked])
    news = answers(calls, 2)
    assert news == [Answer(asked, None), Answer(asked, Approved("ch_1"))]
    assert (asked.attempts, asked.attempts_parked, asked.reason) == (3, 2, "timeout")


def test_a_parked_payment_that_is_not_due_waits(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    calls.charge([charge("late", parked=entry(), attempts=1, next_attempt_s=time.time() + 3600)])
    calls.charge([charge("now")])
    answers(calls, 1)
    assert [name for name, _ in provider.charged] == ["now"]
    assert calls.figures().waiting == 1


def test_a_saved_answer_is_looked_up(made: Made) -> None:
    provider = Provider(lambda _: Unknown("500", saved=True))
    provider.found = Declined(ErrorCode.DECLINED, "No.", retryable=False)
    calls = made(provider)
    calls.charge([charge()])
    assert answers(calls, 1)[0].reply == provider.found
    assert (len(provider.charged), len(provider.looked_up)) == (1, 1)


@pytest.mark.parametrize(
    ("decimals", "is_taken"),
    [
        (None, True),
        ({"USD": 2}, True),
        ({"USD": 3}, True),
        ({"USD": 1}, False),
        ({"EUR": 2}, False),
        ({}, False),
    ],
)
def test_an_amount_that_the_provider_does_not_take_is_declined_without_a_call(
    made: Made, decimals: dict[str, int] | None, *, is_taken: bool
) -> None:
    """Also for a gateway of another package, which might round it."""
    provider = Provider(approve, decimals=decimals)
    calls = made(provider)
    calls.charge([charge(is_unsent=True)])  # 99.99 USD
    reply = answers(calls, 1)[0].reply
    assert isinstance(reply, Approved if is_taken else Declined)
    assert len(provider.charged) == is_taken
    if isinstance(reply, Declined):
        assert reply.code is ErrorCode.METHOD_NOT_SUPPORTED


def test_a_charge_of_an_earlier_run_counts_before_the_decimals(made: Made) -> None:
    """They may have been others then."""
    provider = Provider(approve, decimals={})
    provider.found = Approved("ch_before")
    calls = made(provider)
    calls.charge([charge(may_be_charged=True)])
    assert answers(calls, 1)[0].reply == Approved("ch_before")


def test_a_decision_to_come_later_is_looked_up(made: Made) -> None:
    provider = Provider(lambda _: Pending("pi_1"))
    provider.found = Approved("pi_1")
    calls = made(provider)
    calls.charge([charge()])
    assert answers(calls, 1)[0].reply == Approved("pi_1")
    assert len(provider.charged) == 1


def test_nothing_is_posted_under_an_old_key(made: Made) -> None:
    provider = Provider(approve)
    provider.found = Approved("ch_before")
    calls = made(provider)
    calls.charge([charge(age_s=DAY_S, parked=entry(), attempts=3)])
    assert answers(calls, 1)[0].reply == Approved("ch_before")
    assert provider.charged == []


def test_an_old_key_without_a_charge_is_left_to_a_person(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked = charge(age_s=DAY_S, parked=entry(), attempts=3)
    calls.charge([asked])
    assert answers(calls, 1) == [Answer(asked, None)]
    assert asked.is_unresolved
    assert provider.charged == []


def test_an_old_key_without_a_look_up_is_left_to_a_person(made: Made) -> None:
    provider = Provider(approve, has_lookup=False)
    calls = made(provider)
    asked = charge(age_s=DAY_S, parked=entry(), attempts=3)
    calls.charge([asked])
    assert answers(calls, 1) == [Answer(asked, None)]
    assert asked.is_unresolved
    assert asked.next_attempt_s is None
    assert not provider.charged
    assert not provider.looked_up


def test_a_payment_that_waits_for_a_person_is_never_posted(made: Made) -> None:
    """Even if its key lives for ever: the person may have paid it in another way."""
    provider = Provider(fail, key_life_s=None)
    calls = made(provider)
    asked = charge(parked=entry(age_s=4 * DAY_S), is_unsent=True)
    calls.charge([asked])
    until(lambda: asked.is_unresolved)
    posted = len(provider.charged)
    provider.answer = approve
    until(lambda: len(provider.looked_up) > 2)
    assert len(provider.charged) == posted
    provider.found = Approved("ch_found")
    until(lambda: answers(calls, 1)[0].reply == Approved("ch_found"))


def test_a_payment_waits_for_a_person_also_after_a_look_up_that_fails(made: Made) -> None:
    provider = Provider(approve)
    provider.found = Unknown("timeout")
    calls = made(provider)
    asked = charge(age_s=DAY_S, parked=entry(), attempts=3, is_unresolved=True)
    calls.charge([asked])
    answers(calls, 2)
    assert asked.is_unresolved


def test_an_old_claim_that_was_never_charged_is_posted_after_a_look_up(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    calls.charge([charge(age_s=DAY_S, may_be_charged=True)])
    assert answers(calls, 1)[0].reply == Approved("ch_pay_1")
    assert (len(provider.looked_up), len(provider.charged)) == (1, 1)


def test_an_old_claim_that_was_charged_is_not_posted(made: Made) -> None:
    provider = Provider(approve)
    provider.found = Approved("ch_before")
    calls = made(provider)
    calls.charge([charge(age_s=DAY_S, may_be_charged=True)])
    assert answers(calls, 1)[0].reply == Approved("ch_before")
    assert provider.charged == []


def test_a_claim_of_an_earlier_run_is_looked_up_however_young_its_key_seems(made: Made) -> None:
    """Its age is by the record's timestamp, and a sender's clock may be days ahead."""
    provider = Provider(approve)
    provider.found = Approved("ch_before")
    calls = made(provider)
    calls.charge([charge(age_s=-DAY_S, may_be_charged=True)])
    assert answers(calls, 1)[0].reply == Approved("ch_before")
    assert provider.charged == []


def test_a_young_key_that_a_look_up_does_not_find_keeps_its_age(made: Made) -> None:
    """A post of the run before may still be on its way."""
    provider = Provider(approve)
    calls = made(provider)
    asked = charge(age_s=DAY_S / 2, may_be_charged=True)
    calls.charge([asked])
    answers(calls, 1)
    assert (len(provider.looked_up), len(provider.charged)) == (1, 1)
    assert time.time() - asked.first_asked_s > DAY_S / 3


def test_a_claim_of_an_earlier_run_is_posted_where_nothing_can_be_looked_up(made: Made) -> None:
    provider = Provider(approve, has_lookup=False)
    calls = made(provider)
    calls.charge([charge(may_be_charged=True)])
    assert answers(calls, 1)[0].reply == Approved("ch_pay_1")
    assert provider.looked_up == []


@pytest.mark.parametrize("days", [1, 1_000])
def test_a_payment_that_an_outage_kept_from_being_sent_is_charged_after_a_look_up(
    made: Made, days: int
) -> None:
    """Its key seems old by then, but was never used; look-ups that fail do not change that."""
    provider = Provider(approve)
    provider.found = Unknown("timeout")
    calls = made(provider)
    late = charge(age_s=days * DAY_S, parked=entry(), is_unsent=True)
    calls.charge([late])
    assert answers(calls, 1) == [Answer(late, None)]
    assert not late.is_unresolved
    provider.found = None
    until(lambda: answers(calls, 1) == [Answer(late, Approved("ch_pay_1"))])
    assert len(provider.charged) == 1


def test_a_payment_that_was_sent_is_not_posted_under_an_old_key(made: Made) -> None:
    provider = Provider(lambda _: Unknown("timeout"))
    calls = made(provider)
    asked = charge(parked=entry(), is_unsent=True)
    calls.charge([asked])
    until(lambda: provider.charged)
    asked.first_asked_s -= DAY_S
    until(lambda: asked.is_unresolved)
    posted = len(provider.charged)
    until(lambda: len(provider.looked_up) > 2)
    assert len(provider.charged) == posted


def test_a_payment_that_was_certainly_not_charged_is_charged_after_an_outage(made: Made) -> None:
    """However often it was tried: its key is old by then, but was never used."""
    provider = Provider(fail)
    calls = made(provider)
    asked = charge(parked=entry(), is_unsent=True)
    calls.charge([asked])
    until(lambda: asked.attempts > 1)
    asked.first_asked_s -= DAY_S
    until(lambda: provider.looked_up)
    provider.answer = approve
    until(lambda: answers(calls, 1)[0].reply == Approved("ch_pay_1"))
    assert not asked.is_unresolved


def test_a_payment_that_may_have_been_charged_before_is_not_taken_for_a_new_one(
    made: Made,
) -> None:
    script: list[Reply] = [Unknown("timeout"), NotExecuted("refused")]
    provider = Provider(lambda _: script.pop(0) if script else NotExecuted("refused"))
    calls = made(provider)
    asked = charge(parked=entry(), is_unsent=True)
    calls.charge([asked])
    until(lambda: asked.attempts > 2)
    assert not asked.is_unsent


@pytest.mark.parametrize(
    "bad", [RuntimeError("a defect"), asyncio.CancelledError(), "no reply at all"]
)
def test_a_gateway_that_breaks_its_contract_has_not_answered(made: Made, bad: Any) -> None:
    script: list[Any] = [bad, Approved("ch_1")]

    def answer(_: PaymentRequest) -> Reply:
        found = script.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found  # type: ignore[no-any-return]

    calls = made(Provider(answer))
    calls.charge([charge()])
    assert answers(calls, 1)[0].reply == Approved("ch_1")


# ---- many payments ----


def test_no_more_calls_are_in_flight_than_allowed(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider, concurrency=3)
    calls.charge([charge(f"pay_{n}") for n in range(40)])
    answers(calls, 40)
    assert provider.most_in_flight == 3


def test_calls_that_a_gateway_cancels_give_their_place_back(made: Made) -> None:
    script: list[Any] = [asyncio.CancelledError()] * 3

    def answer(request: PaymentRequest) -> Reply:
        if script:
            raise script.pop()
        return approve(request)

    calls = made(Provider(answer), concurrency=2)
    calls.charge([charge(f"pay_{n}") for n in range(4)])
    answers(calls, 4)
    until(lambda: calls.figures().in_flight == 0)


@pytest.mark.parametrize(
    ("provider", "call"), [(Provider(approve), "reply"), (AtOnce(approve), "replies")]
)
def test_a_defect_of_ours_in_a_call_ends_the_process(
    made: Made, monkeypatch: pytest.MonkeyPatch, provider: Provider, call: str
) -> None:
    """Else its payments are never answered, and their places in the window are lost."""
    defects: list[BaseException] = []
    ended = threading.Event()
    monkeypatch.setattr(fail_fast, "_end_process", True)
    monkeypatch.setattr(fail_fast, "_report", defects.append)
    monkeypatch.setattr(fail_fast, "_end", ended.set)
    calls = made(provider)
    defect = RuntimeError("a defect")

    async def raising(*_: object) -> None:
        raise defect

    monkeypatch.setattr(Calls, call, raising)
    # As this process goes on, they would report it as well.
    calls._thread.loop().set_exception_handler(lambda *_: None)
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "disabled", True)
    if not calls.charge_batches([queued("pay_1")]):
        calls.charge([charge()])
    assert ended.wait(WAIT_S)
    assert defects[0] is defect


def test_a_rate_is_kept(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second's worth may come at once; the others wait."""
    clock = Clock()
    monkeypatch.setattr(dispatcher, "time", clock)
    provider = Provider(approve)
    calls = made(provider, rate=5.0)
    calls.charge([charge(f"pay_{n}") for n in range(8)])
    answers(calls, 5)
    clock.now_s += 0.25
    answers(calls, 1)
    assert len(provider.charged) == 6
    clock.now_s += 0.5
    answers(calls, 2)


@pytest.mark.parametrize(
    "too_many",
    [
        NotExecuted("HTTP 429", too_many=True),
        NotExecuted("HTTP 503", retry_after_s=0.0),
        Unknown("HTTP 429 to a look-up", too_many=True),
    ],
)
def test_one_call_too_many_slows_all_calls_down(
    made: Made, monkeypatch: pytest.MonkeyPatch, too_many: Reply
) -> None:
    """Whatever pause the provider demands, and also if it demands none."""
    clock = Clock()
    monkeypatch.setattr(dispatcher, "time", clock)
    script = [too_many]
    provider = Provider(lambda each: script.pop() if script else approve(each))
    calls = made(provider, concurrency=1)
    calls.charge([charge(f"pay_{n}") for n in range(8)])
    until(lambda: calls.figures().rate_limit is not None or len(calls.answers(0)) == 7)
    limit = calls.figures().rate_limit
    assert limit is not None
    until(lambda: not calls.figures().in_flight)
    assert len(provider.charged) == 1, "nothing is sent in the pause"
    clock.now_s += call_rate.PAUSE_S + 1.01 / limit
    answers(calls, 1)
    until(lambda: not calls.figures().in_flight)
    assert len(provider.charged) < 8, "and then it is slower"
    while len(calls.answers(0)) < 7:
        clock.now_s += 5.0
        time.sleep(0.01)
    clock.now_s += 60.0
    until(lambda: calls.figures().queued == 0)
    assert calls.figures().held_for_s is None


def test_very_many_calls_too_many_are_no_outage(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_rate, "PAUSE_S", 0.0)
    monkeypatch.setattr(call_rate, "_LEAST", 10_000.0)
    provider = Provider(lambda _: NotExecuted("HTTP 429", too_many=True))
    calls = made(provider)
    asked = [charge(f"pay_{n}", is_unsent=True) for n in range(100)]
    calls.charge(asked)
    until(lambda: all(each.attempts > 2 for each in asked) or calls.figures().times_held)
    assert calls.figures().times_held == 0
    provider.answer = approve
    answers(calls, 100)


def test_an_outage_is_noticed_between_calls_too_many(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no answers about a payment, so they do not end a row of failures either."""
    monkeypatch.setattr(call_rate, "PAUSE_S", 0.0)
    monkeypatch.setattr(call_rate, "_LEAST", 10_000.0)
    calls = made(
        Provider(
            lambda each: (
                NotExecuted("HTTP 429", too_many=True) if "busy" in each.payment_id else fail(each)
            )
        )
    )
    for number in range(20):
        calls.charge([charge(f"busy_{number}"), charge(f"pay_{number}")])
    until(lambda: calls.figures().hold_cause is HoldCause.OUTAGE)


def test_calls_too_many_for_ever_end_in_a_hold_for_what_is_parked(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stated end, if a provider answers nothing else: and that ends by itself."""
    monkeypatch.setattr(call_rate, "PAUSE_S", 0.0)
    monkeypatch.setattr(call_rate, "_LEAST", 10_000.0)
    monkeypatch.setattr(call_rate, "_GROWTH", 1_000.0)
    provider = Provider(lambda _: NotExecuted("HTTP 429", too_many=True))
    calls, queue = made(provider, parked=30), LaneQueue(0)
    names = [f"pay_{n}" for n in range(30)]
    batch = queued(*names)
    asked = [batch.charge(number, time.time()) for number in range(30)]
    calls.charge(asked)
    until(lambda: all(each.attempts for each in asked))
    assert calls.figures().hold_cause is None
    # The lane has waited for as long as it may.
    for each in asked:
        queue.park(each, entry(each.request.payment_id))
    calls._board.show(queue)
    assert calls.credit(0) == 0
    assert calls.figures().hold_cause is HoldCause.PARKED
    provider.answer = approve
    until(lambda: calls.credit(0) == 0 and len(ended(calls)) == 30)
    assert {each.charge.request.payment_id for each in ended(calls)} == set(names)
    for each in asked:
        queue.park(each, None)
    calls._board.show(queue)
    assert calls.credit(0) > 0
    until(lambda: calls.figures().rate_limit is None)


def test_retries_do_not_shut_out_what_is_new_nor_the_other_way_round(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider, concurrency=1)
    old = [charge(f"old_{n}", parked=entry(f"old_{n}"), attempts=1) for n in range(4)]
    calls.charge([*(charge(f"new_{n}") for n in range(12)), *old])
    answers(calls, 16)
    kinds = [name[:3] for name, _ in provider.charged]
    assert kinds == ["new", "new", "new", "old"] * 4


# ---- outages ----


def test_an_outage_stops_the_reading_and_ends_by_itself(made: Made) -> None:
    provider = Provider(fail)
    calls = made(provider)
    asked = [charge(f"pay_{n}") for n in range(30)]
    calls.charge(asked)
    until(lambda: calls.figures().held_for_s is not None)
    assert calls.credit(0) == 0
    assert calls.figures().hold_reason == "connection refused"
    provider.answer = approve
    assert {each.charge.request.payment_id for each in answers(calls, 30)} == {
        f"pay_{n}" for n in range(30)
    }
    assert calls.figures().held_for_s is None
    assert calls.credit(0) > 0


def test_probes_go_round_what_is_parked(made: Made) -> None:
    """One that never gets an answer must not be the only probe."""
    provider = Provider(fail)
    calls = made(provider)
    calls.charge([charge(f"pay_{n}", parked=entry(f"pay_{n}")) for n in range(25)])
    until(lambda: calls.figures().held_for_s is not None)
    seen = len(provider.charged)
    until(lambda: len({name for name, _ in provider.charged[seen:]}) >= 25)


def test_the_gateway_is_probed_by_itself_without_a_payment_to_try(made: Made) -> None:
    provider = AtOnce(fail)
    provider.trouble = NotExecuted("connection refused")
    calls = made(provider)
    # Their lane parks none of them, and does not ask for them again either.
    calls.charge_batches([queued(*(f"pay_{n}" for n in range(20)))])
    until(lambda: provider.probed > 2)
    assert calls.figures().held_for_s is not None
    assert calls.figures().hold_cause is HoldCause.OUTAGE
    provider.trouble = Misconfigured("401")
    until(lambda: calls.figures().hold_cause is HoldCause.MISCONFIGURED)
    assert calls.figures().hold_reason == "401"
    provider.trouble = None
    until(lambda: calls.figures().held_for_s is None)
    assert calls.figures().hold_reason == ""
    assert calls.figures().calls[CallKind.PROBE] == provider.probed


def test_wrong_credentials_stop_the_reading_at_once(made: Made) -> None:
    provider = Provider(lambda _: Misconfigured("401"))
    calls = made(provider)
    calls.charge([charge()])
    until(lambda: calls.figures().held_for_s is not None)
    assert calls.figures().hold_cause is HoldCause.MISCONFIGURED
    assert calls.credit(0) == 0
    provider.answer = approve
    answers(calls, 1)
    assert calls.figures().held_for_s is None


def refuse(request: PaymentRequest) -> Reply:
    message = f"No such customer: {request.user_id}"
    return Declined(
        ErrorCode.INVALID_PAYMENT_METHOD, message, retryable=False, basis=DeclineBasis.REFUSAL
    )


def not_sent(_: PaymentRequest) -> Reply:
    return Declined(
        ErrorCode.METHOD_NOT_SUPPORTED, "No.", retryable=False, basis=DeclineBasis.NOT_SENT
    )


def test_refusals_of_everybody_are_a_hold_and_are_not_published(made: Made) -> None:
    """As with the key of another account. It ends once the provider decides about a payment."""
    provider = Provider(refuse)
    calls = made(provider)
    asked = [charge(f"pay_{n}", is_unsent=True) for n in range(200)]
    calls.charge(asked)
    until(lambda: calls.figures().held_for_s is not None)
    until(lambda: len(provider.charged) > 300)
    assert len(ended(calls)) == refusals.ROW - 1, "so many are wrong, and no more"
    assert calls.figures().hold_cause is HoldCause.MISCONFIGURED
    assert calls.figures().hold_reason == (
        "20 requests in a row were refused, the last: No such customer: user_456"
    )
    assert calls.credit(0) == 0
    # What was refused was not executed; while it is posted, that is not known.
    until(lambda: all(each.is_unsent for each in asked))
    provider.answer = approve
    until(lambda: len(ended(calls)) == 200)
    replies = [type(each.reply) for each in ended(calls)]
    assert replies == [Declined] * (refusals.ROW - 1) + [Approved] * (201 - refusals.ROW)
    assert calls.figures().held_for_s is None


def test_refusals_among_decisions_are_declines(made: Made) -> None:
    """However many they are, as long as the provider decides about one of twenty."""
    provider = Provider(
        lambda each: approve(each) if each.payment_id.endswith("9") else refuse(each)
    )
    calls = made(provider, concurrency=1)
    calls.charge([charge(f"pay_{n}") for n in range(200)])
    replies = [type(each.reply) for each in answers(calls, 200)]
    assert replies.count(Declined) == 180
    assert calls.figures().times_held == 0


def test_the_refusals_of_a_hold_are_declines_once_the_provider_decides(made: Made) -> None:
    """Many bad requests, and no witness: the first good one ends the hold. None needs a person."""
    provider = Provider(lambda each: approve(each) if "good" in each.payment_id else refuse(each))
    calls = made(provider, concurrency=4)
    calls.charge([charge(f"bad_{n}", parked=entry(f"bad_{n}")) for n in range(25)])
    until(lambda: calls.figures().held_for_s is not None)
    calls.charge([charge("good")])
    until(lambda: len(ended(calls)) == 26)
    assert {type(each.reply) for each in ended(calls)} == {Approved, Declined}


def test_a_payment_that_was_approved_shows_that_refusals_are_of_those_payments(
    made: Made,
) -> None:
    """Any number of bad requests of one sender holds nothing for long."""
    provider = Provider(approve)
    calls = made(provider, concurrency=1)
    calls.charge([charge("good")])
    answers(calls, 1)
    provider.answer, provider.found = refuse, Approved("ch_good")
    calls.charge([charge(f"bad_{n}") for n in range(100)])
    assert {type(each.reply) for each in answers(calls, 100)} == {Declined}
    assert set(provider.looked_up) == {"good"}
    assert calls.figures().held_for_s is None


@pytest.mark.parametrize(
    "found", [None, Unknown("HTTP 400"), Declined(ErrorCode.DECLINED, "", retryable=False)]
)
def test_a_witness_that_the_provider_does_not_have_ends_no_hold(
    made: Made, found: Reply | None
) -> None:
    """It approved that payment: it is another account now."""
    provider = Provider(approve)
    calls = made(provider)
    calls.charge([charge("good")])
    answers(calls, 1)
    provider.answer, provider.found = refuse, found
    calls.charge([charge(f"pay_{n}") for n in range(60)])
    until(lambda: calls.figures().held_for_s is not None)
    until(lambda: len(provider.looked_up) > 5)
    assert len(ended(calls)) == refusals.ROW - 1
    provider.answer = approve
    until(lambda: len(ended(calls)) == 60)
    assert len({each.charge.request.payment_id for each in ended(calls)}) == 60


def test_neither_an_outage_nor_a_decline_without_a_call_ends_a_row_of_refusals(made: Made) -> None:
    """Nor does a probe that works, as it does for any account."""
    provider = Provider(
        lambda each: not_sent(each) if "not_sent" in each.payment_id else refuse(each)
    )
    calls = made(provider, concurrency=1)
    for number in range(40):
        calls.charge([charge(f"pay_{number}"), charge(f"not_sent_{number}")])
    until(lambda: calls.figures().hold_cause is HoldCause.MISCONFIGURED)
    provider.answer = fail
    until(lambda: calls.figures().hold_cause is HoldCause.OUTAGE)
    provider.answer = lambda each: not_sent(each) if "not_sent" in each.payment_id else refuse(each)
    until(lambda: calls.figures().hold_cause is HoldCause.MISCONFIGURED)
    # A stop may have parked what waits, and taken it from the calls.
    calls._thread.call(lambda: calls._take_probe(None))
    charged = len(provider.charged)
    until(lambda: len(provider.charged) > charged + 30)
    refused = [each for each in ended(calls) if "not_sent" not in each.charge.request.payment_id]
    assert len(refused) == refusals.ROW - 1
    assert calls.figures().hold_cause is HoldCause.MISCONFIGURED


def test_a_decline_without_a_call_ends_no_outage(made: Made) -> None:
    """It shows nothing about the provider."""
    provider = Provider(fail)
    calls = made(provider)
    calls.charge([charge(f"pay_{n}", parked=entry(f"pay_{n}")) for n in range(30)])
    until(lambda: calls.figures().held_for_s is not None)
    provider.answer = lambda each: not_sent(each) if "not_sent" in each.payment_id else fail(each)
    calls.charge([charge(f"not_sent_{n}") for n in range(3)])
    until(lambda: len(ended(calls)) == 3)
    assert calls.figures().times_held == 1
    assert calls.figures().held_for_s is not None


def test_payments_that_alone_get_no_answer_are_no_outage(made: Made) -> None:
    provider = Provider(lambda each: fail(each) if "poison" in each.payment_id else approve(each))
    calls = made(provider)
    calls.charge([charge(f"poison_{n}") for n in range(3)])
    calls.charge([charge(f"pay_{n}") for n in range(50)])
    answers(calls, 50)
    until(lambda: len(provider.charged) > 150)
    assert calls.figures().held_for_s is None


def test_the_window_opens_step_by_step_after_an_outage(made: Made) -> None:
    provider = Provider(fail)
    calls = made(provider, concurrency=64)
    calls.charge([charge(f"pay_{n}") for n in range(64)])
    until(lambda: calls.figures().held_for_s is not None and not provider.in_flight)
    provider.most_in_flight = 0
    windows: list[int] = []

    def note(each: PaymentRequest) -> Reply:
        windows.append(calls.figures().window)
        return approve(each)

    provider.answer = note
    answers(calls, 64)
    assert windows[1] < 8
    assert provider.most_in_flight < 64


def test_now_and_then_a_hold_lets_a_single_record_in(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "TRIAL_LEAST_S", 0.05)
    calls = made(Provider(fail))
    calls.charge([charge(f"pay_{n}") for n in range(20)])
    until(lambda: calls.figures().held_for_s is not None)
    # Of the pause after the first one.
    monkeypatch.setattr(hold, "TRIAL_LEAST_S", 3600.0)
    until(lambda: calls.credit(0) == 1)
    assert calls.credit(0) == 0


def test_a_trial_reaches_a_source_beside_one_without_records(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "TRIAL_LEAST_S", 0.05)
    calls = made(Provider(fail))
    calls.sources = {0, 1}
    calls.charge([charge(f"pay_{n}") for n in range(20)])
    until(lambda: calls.figures().held_for_s is not None)
    until(lambda: calls.credit(0) == 1)
    assert calls.credit(1) == 1


def park(calls: Dispatcher, queue: LaneQueue, state: PendingState, count: int = 2) -> list[Charge]:
    """Park payments in a lane, in the view of the calls."""
    parked = [charge(f"pay_{n}") for n in range(count)]
    for each in parked:
        queue.park(each, entry(each.request.payment_id, state=state))
    calls._board.show(queue)
    return parked


def test_too_much_that_is_parked_stops_the_reading(made: Made) -> None:
    calls, queue = made(Provider(approve), parked=2), LaneQueue(0)
    one, _ = park(calls, queue, PendingState.PENDING)
    assert calls.credit(0) == 0
    figures = calls.figures()
    assert figures.held_for_s is not None
    assert figures.hold_cause is HoldCause.PARKED
    assert figures.hold_reason == "GATEWAY_PARKED_MAX is 2"
    queue.park(one, None)
    calls._board.show(queue)
    assert calls.credit(0) > 0
    assert calls.figures().held_for_s is None


def test_payments_that_wait_for_a_person_stop_no_reading(made: Made) -> None:
    calls, queue = made(Provider(approve), parked=2), LaneQueue(0)
    park(calls, queue, PendingState.UNRESOLVED, 5)
    assert calls.credit(0) > 0
    park(calls, queue, PendingState.PENDING, 2)
    assert calls.credit(0) == 0


def test_a_hold_for_what_is_parked_ends_while_the_provider_is_well(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it would be due: restored entries may be so in hours. One probe is enough."""
    monkeypatch.setattr(hold, "PROBE_LEAST_S", 3600.0)
    provider = Provider(approve)
    calls, queue = made(provider, parked=2), LaneQueue(0)
    late = park(calls, queue, PendingState.PENDING, 5)
    for each in late:
        each.attempts, each.next_attempt_s = 6, time.time() + 12 * 3600
    calls.charge(late)
    until(lambda: calls.figures().waiting == 5)
    until(lambda: not calls.credit(0) and len(calls.answers(0)) == 5)
    for answer in answers(calls, 5):
        queue.park(answer.charge, None)
    calls._board.show(queue)
    assert calls.credit(0) > 0
    assert calls.figures().hold_cause is None


def test_a_hold_is_announced_again_and_again_and_its_end_once(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider(fail)
    calls = made(provider)
    assert calls.hold_to_announce() is None
    calls.charge([charge(f"pay_{n}") for n in range(20)])
    until(lambda: calls.figures().held_for_s is not None)
    assert calls.hold_to_announce() is True
    assert calls.hold_to_announce() is None
    monkeypatch.setattr(hold, "ANNOUNCED_EVERY_S", 0.05)
    until(lambda: calls.hold_to_announce() is True)
    provider.answer = approve
    answers(calls, 20)
    assert calls.hold_to_announce() is False
    assert calls.hold_to_announce() is None


def test_another_process_that_holds_stops_the_reading(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = made(Provider(approve))
    calls.sources = {0, 1}
    calls.peer_holds(1, holds=True)
    assert calls.credit(0) > 0, "it is our own"
    calls.peer_holds(2, holds=True)
    assert calls.credit(0) == 0
    assert calls.figures().hold_cause is HoldCause.PEER
    assert calls.figures().hold_reason == "another process of the cluster holds"
    calls.peer_holds(2, holds=False)
    assert calls.credit(0) > 0
    monkeypatch.setattr(hold, "BELIEVED_FOR_S", 0.01)
    calls.peer_holds(2, holds=True)
    until(lambda: calls.credit(0) > 0)


# ---- credit ----


def test_credit_is_what_the_window_can_take(made: Made) -> None:
    calls = made(Provider(approve), concurrency=10)
    calls.sources = {0}
    most = calls.credit(0)
    assert most >= 10
    calls.note_claimed(0, most)
    assert calls.credit(0) == 0
    calls.note_claimed(0, 0)
    calls.sources = {0, 1}
    assert calls.credit(0) == -(-most // 2)


def test_credit_reaches_a_source_even_where_there_is_less_of_it_than_sources(made: Made) -> None:
    """Or nothing would ever be read, and nothing answered."""
    calls = made(Provider(approve), concurrency=1)
    calls.sources = set(range(12))
    assert calls.credit(0) == 1


def test_restored_payments_leave_credit_for_new_ones(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider, rate=1.0)
    calls.sources = {0}
    calls.charge([charge(f"old_{n}", parked=entry(f"old_{n}")) for n in range(500)])
    until(lambda: calls.figures().waiting > 400)
    assert calls.credit(0) > 0
    assert calls.figures().queued == 0


def test_a_gateway_that_answers_at_once_gives_credit_without_end(made: Made) -> None:
    calls = made(AtOnce(approve))
    calls.note_claimed(0, 10_000)
    assert calls.credit(0) > 100_000


# ---- batches ----


def test_a_gateway_with_keys_that_expire_gets_one_payment_at_a_time(made: Made) -> None:
    """A batch may have been claimed long ago, by this run or the one before it."""
    provider = AtOnce(approve, key_life_s=DAY_S)
    assert not made(provider).charge_batches([queued("pay_1")])
    assert provider.charged == []


def test_a_gateway_with_decimals_of_its_own_gets_one_payment_at_a_time(made: Made) -> None:
    provider = AtOnce(approve, decimals={"EUR": 2})
    assert not made(provider).charge_batches([queued("pay_1")])
    assert provider.charged == []


def test_a_batch_is_answered_at_once(made: Made) -> None:
    calls = made(AtOnce(approve))
    batch = queued("pay_1", "pay_2")
    assert calls.charge_batches([batch])
    assert answers(calls, 1) == [
        BatchAnswer(batch, [Approved("ch_pay_1"), Approved("ch_pay_2")], {})
    ]


def test_other_gateways_take_payments_one_by_one(made: Made) -> None:
    assert not made(Provider(approve)).charge_batches([queued("pay_1")])


def test_a_few_payments_of_a_batch_without_an_answer_are_no_outage(made: Made) -> None:
    calls = made(AtOnce(lambda each: fail(each) if "no" in each.payment_id else approve(each)))
    names = [f"no_{n}" for n in range(60)] + [f"pay_{n}" for n in range(60)]
    calls.charge_batches([queued(*names)])
    [answer] = answers(calls, 1)
    assert list(answer.reasons) == list(range(60))
    assert answer.replies[:60] == [None] * 60
    assert calls.figures().held_for_s is None


def test_a_batch_without_any_answer_is_an_outage(made: Made) -> None:
    provider = AtOnce(fail)
    # Else the first probe, which comes at once here, would end it before it is seen.
    provider.trouble = NotExecuted("connection refused")
    calls = made(provider)
    calls.charge_batches([queued(*(f"pay_{n}" for n in range(20)))])
    until(lambda: calls.figures().held_for_s is not None)
    assert not calls.charge_batches([queued("pay_1")])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("a defect"), "RuntimeError: a defect"),
        (asyncio.CancelledError(), "RuntimeError: the gateway cancelled the call"),
    ],
)
def test_a_batch_that_raises_has_no_answer(made: Made, error: BaseException, reason: str) -> None:
    def raising(_: PaymentRequest) -> Reply:
        raise error

    calls = made(AtOnce(raising))
    calls.charge_batches([queued("pay_1")])
    [answer] = answers(calls, 1)
    assert answer.reasons == {0: reason}


# ---- what is counted ----


def test_every_call_is_counted_with_its_reply_and_its_duration(made: Made) -> None:
    script: list[Reply] = [Unknown("500", saved=True)]
    provider = Provider(lambda _: script[0])
    provider.found = Declined(ErrorCode.DECLINED, "No.", retryable=False)
    calls = made(provider)
    calls.charge([charge(is_unsent=True)])
    answers(calls, 1)
    figures = calls.figures()
    assert figures.calls == {CallKind.CHARGE: 1, CallKind.LOOK_UP: 1, CallKind.PROBE: 0}
    assert figures.replies == {"Unknown": 1, "Declined": 1}
    assert {each: found.buckets[-1][1] for each, found in figures.durations.items()} == {
        True: 1,
        False: 1,
    }
    # The provider takes a millisecond, and the look-up no time.
    assert figures.durations[False].sum_s >= 0.001


def test_a_charge_under_a_used_key_is_counted(made: Made) -> None:
    """The first call here was certainly never executed."""
    script: list[Reply] = [
        NotExecuted("refused"),
        Unknown("timeout"),
        NotExecuted("refused"),
        Approved("ch_1"),
    ]
    replies = iter(script)
    calls = made(Provider(lambda _: next(replies)))
    calls.charge([charge(is_unsent=True)])
    answers(calls, 1)
    assert calls.figures().key_replays == 2


def test_a_first_charge_and_a_look_up_use_no_key_again(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    calls.charge([charge("pay_1", is_unsent=True)])
    # A run before may have charged it; the provider has nothing of it.
    calls.charge([charge("pay_2", is_unsent=True, may_be_charged=True)])
    answers(calls, 2)
    assert provider.looked_up == ["pay_2"]
    assert calls.figures().key_replays == 0


def test_a_charge_that_a_run_before_may_have_made_is_counted_without_a_look_up(made: Made) -> None:
    calls = made(Provider(approve, has_lookup=False))
    calls.charge([charge(is_unsent=True, may_be_charged=True)])
    answers(calls, 1)
    assert calls.figures().key_replays == 1


def test_a_batch_is_counted_by_its_payments(made: Made) -> None:
    calls = made(AtOnce(lambda each: fail(each) if "no" in each.payment_id else approve(each)))
    batch = queued("no_1", "pay_2", "pay_3")
    batch.batch.claimed_before = frozenset({1, 2, 7})
    calls.charge_batches([batch])
    answers(calls, 1)
    figures = calls.figures()
    assert figures.calls[CallKind.CHARGE] == 3
    assert figures.replies == {"NotExecuted": 1, "Approved": 2}
    assert figures.key_replays == 2


def test_parked_payments_have_the_age_of_the_oldest_of_all_lanes(made: Made) -> None:
    calls = made(Provider(approve))
    assert calls.figures().oldest_parked_for_s is None
    for lane, years, state in (
        (0, (2026, 2025), PendingState.PENDING),
        (1, (2026,), PendingState.UNRESOLVED),
    ):
        queue = LaneQueue(lane)
        entries = [
            replace(
                entry(f"pay_{lane}_{year}", state=state), parked_at=f"{year}-01-01T00:00:00.000Z"
            )
            for year in years
        ]
        queue.restore(
            [
                charge(each.payment_id, lane, parked=each, is_unresolved=lane == 1)
                for each in entries
            ]
        )
        calls._board.show(queue)
    figures = calls.figures()
    assert figures.oldest_parked_for_s == pytest.approx(
        time.time() - datetime(2025, 1, 1, tzinfo=UTC).timestamp(), abs=60
    )
    assert (figures.parked, figures.unresolved) == (3, 1)


# ---- the end ----


def test_closing_closes_the_gateway_once(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    calls.charge([charge()])
    answers(calls, 1)
    calls.close()
    calls.close()
    assert provider.closed == 1
    assert "gateway" not in {thread.name for thread in threading.enumerate()}


def test_closing_does_not_wait_for_calls_that_hang(made: Made) -> None:
    provider = Provider(approve)

    async def hang(request: PaymentRequest, key: str) -> Reply:
        await asyncio.sleep(3600)
        return await Provider.charge(provider, request, key)

    provider.charge = hang  # type: ignore[method-assign]
    calls = made(provider)
    calls.charge([charge()])
    until(lambda: calls.figures().in_flight == 1)
    calls.close()
    assert provider.closed == 1


def test_an_answer_that_comes_while_it_closes_begins_no_other_call(made: Made) -> None:
    """It would be torn off in the middle, and nothing waits for it."""
    provider = Provider(approve)

    async def answer_in_the_end(request: PaymentRequest, key: str) -> Reply:
        provider.charged.append((request.payment_id, key))
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return approve(request)

    provider.charge = answer_in_the_end  # type: ignore[method-assign]
    calls = made(provider, concurrency=1)
    calls._thread._close_gateway = lambda: asyncio.sleep(0.1)
    first = charge("pay_1")
    calls.charge([first, charge("pay_2")])
    until(lambda: provider.charged)
    calls.close()
    assert answers(calls, 1) == [Answer(first, Approved("ch_pay_1"))]
    assert [name for name, _ in provider.charged] == ["pay_1"]


def test_a_probe_that_is_due_while_it_closes_is_not_sent(made: Made) -> None:
    provider = Provider(fail)
    calls = made(provider)
    calls.charge([charge(f"pay_{n}") for n in range(20)])
    until(lambda: calls.figures().held_for_s is not None)
    asked: list[int] = []

    async def slow() -> None:
        asked.append(len(provider.charged))
        await asyncio.sleep(0.2)
        asked.append(len(provider.charged))

    calls._thread._close_gateway = slow
    calls.close()
    assert asked[0] == asked[1]


def test_a_process_that_charges_nothing_starts_no_thread(made: Made) -> None:
    made(Provider(approve)).close()
    assert "gateway" not in {thread.name for thread in threading.enumerate()}


# ---- decisions of persons ----


def decision(**how: Any) -> PersonsDecision:
    fields = {"event_id": "e-pay_1", "payment_id": "pay_1", "reference": "ch_by_ann"}
    who = {"by": "ann", "at": "2026-01-01T00:00:00.000Z", "reason": "ticket 7"}
    return PersonsDecision(**{**fields, **who, **how})


def ended(calls: Dispatcher) -> list[Answer]:
    """Return the answers that end a payment, and leave them to the lane."""
    each = [found for found in calls.answers(0) if isinstance(found, Answer)]
    return [found for found in each if found.reply is not None]


def unresolved(calls: Dispatcher, provider: Provider, **how: Any) -> Charge:
    """Return a payment that was asked for once, and is unresolved: its key is old."""
    asked = charge(age_s=DAY_S, parked=entry(), attempts=3, **how)
    soon_s, Pauses.parked_s = Pauses.parked_s, DAY_S
    calls.charge([asked])
    answers(calls, 1)
    Pauses.parked_s = soon_s
    assert asked.is_unresolved
    provider.looked_up.clear()
    return asked


def test_a_persons_decision_stands_if_the_provider_has_no_such_charge(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked, given = unresolved(calls, provider), decision()
    calls.decide(asked, given)
    assert answers(calls, 1) == [Answer(asked, Approved("ch_by_ann"), given)]
    assert (provider.charged, len(provider.looked_up)) == ([], 1)
    time.sleep(0.1)
    assert len(provider.looked_up) == 1, "it is over"


def test_the_providers_answer_counts_before_a_persons_decision(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked = unresolved(calls, provider)
    provider.found = Approved("ch_theirs")
    calls.decide(asked, decision(reference=None, code=ErrorCode.DECLINED))
    assert answers(calls, 1) == [Answer(asked, Approved("ch_theirs"), None)]


def test_a_persons_decision_waits_for_a_provider_that_is_away(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked, given = unresolved(calls, provider), decision()
    provider.found = NotExecuted("connection refused")
    calls.decide(asked, given)
    assert [each.reply for each in answers(calls, 8)] == [None] * 8
    provider.found = None
    until(lambda: ended(calls))
    assert [each.decision for each in ended(calls)] == [given]
    assert provider.charged == []


def test_a_look_up_that_never_answers_does_not_hold_up_a_decision_for_ever(made: Made) -> None:
    provider = Provider(approve)
    calls = made(provider)
    asked, given = unresolved(calls, provider), decision()
    provider.found = Unknown("timeout")
    calls.decide(asked, given)
    *news, last = answers(calls, persons_decisions.LOOK_UPS_MOST)
    assert [each.reply for each in news] == [None] * (persons_decisions.LOOK_UPS_MOST - 1)
    assert last.decision is given


def test_a_decision_without_a_look_up_stands(made: Made) -> None:
    provider = Provider(approve, has_lookup=False)
    calls = made(provider)
    asked, given = unresolved(calls, provider), decision()
    calls.decide(asked, given)
    assert answers(calls, 1) == [Answer(asked, Approved("ch_by_ann"), given)]
    assert provider.looked_up == []


def test_nothing_is_posted_once_a_person_has_decided(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a young key, and what was posted before has the time to arrive."""
    monkeypatch.setattr(persons_decisions, "QUIET_S", 0.3)
    provider = Provider(lambda _: Unknown("timeout"))
    calls = made(provider)
    asked, given = charge(parked=entry(), attempts=1), decision(force=True)
    calls.charge([asked])
    answers(calls, 3)
    calls.decide(asked, given)
    until(lambda: asked.decision is given and not calls.figures().in_flight)
    posted = len(provider.charged)
    until(lambda: ended(calls))
    assert time.monotonic() - asked.posted_s >= 0.3
    assert len(provider.charged) == posted
    assert provider.looked_up
    assert [each.decision for each in ended(calls)] == [given]


@pytest.mark.parametrize("age_s", [0.0, DAY_S])
def test_a_post_of_an_earlier_run_has_the_time_to_arrive(
    made: Made, monkeypatch: pytest.MonkeyPatch, age_s: float
) -> None:
    """It was claimed by that run, and this one has parked it without having asked for it.

    Also if its record is so old that its key would be, had it been posted when it came.
    """
    monkeypatch.setattr(persons_decisions, "QUIET_S", 3600.0)
    calls = made(Provider(approve))
    asked = charge(age_s=age_s, may_be_charged=True, is_unsent=True, parked=entry())
    calls.decide(asked, decision(force=True))
    until(lambda: asked.quiet_until_s)
    assert asked.quiet_until_s > time.monotonic() + 3000


def test_the_end_of_an_outage_does_not_cut_the_quiet_time_short(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then everything that waits is due, but what was posted may still be on its way."""
    monkeypatch.setattr(persons_decisions, "QUIET_S", 3600.0)
    provider = Provider(lambda _: Unknown("timeout"))
    calls = made(provider)
    asked, given = charge(parked=entry(), attempts=1), decision(force=True)
    calls.charge([asked])
    answers(calls, 1)
    calls.decide(asked, given)

    def release() -> None:
        calls._queue.release()
        calls._fill()

    until(lambda: asked.quiet_until_s)
    calls._thread.loop().call_soon_threadsafe(release)
    until(lambda: provider.looked_up)
    until(lambda: not calls.figures().in_flight)
    assert ended(calls) == []
    asked.quiet_until_s = 0.0
    calls._thread.loop().call_soon_threadsafe(release)
    until(lambda: ended(calls))


async def passed(event: threading.Event) -> None:
    """Wait for an event that a test sets, on the loop."""
    await asyncio.to_thread(event.wait, WAIT_S)


def test_a_call_in_flight_is_answered_before_a_decision(made: Made) -> None:
    """The payment that is being charged is not decided by what a person has seen before."""
    provider = Provider(approve)
    calls = made(provider)
    asked = charge(parked=entry(), attempts=1)
    slow, go_on = provider.charge, threading.Event()

    async def charge_slowly(request: PaymentRequest, key: str) -> Reply:
        await passed(go_on)
        return await slow(request, key)

    provider.charge = charge_slowly  # type: ignore[method-assign]
    calls.charge([asked])
    until(lambda: calls.figures().in_flight == 1)
    calls.decide(asked, decision(force=True, reference=None, code=ErrorCode.DECLINED))
    until(lambda: asked.decision)
    go_on.set()
    assert answers(calls, 1) == [Answer(asked, Approved("ch_pay_1"), None)]
    time.sleep(0.05)
    assert not calls.answers(0)


def test_a_call_in_flight_without_an_answer_carries_out_no_decision(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began before: only a look-up since shows that there is no charge."""
    monkeypatch.setattr(persons_decisions, "QUIET_S", 0.1)
    provider = Provider(approve)
    provider.found = Approved("ch_theirs")
    calls = made(provider)
    asked, go_on = charge(parked=entry(), attempts=1), threading.Event()

    async def charge_slowly(request: PaymentRequest, key: str) -> Reply:  # noqa: ARG001
        await passed(go_on)
        return Unknown("500", saved=True)

    provider.charge = charge_slowly  # type: ignore[method-assign]
    calls.charge([asked])
    until(lambda: calls.figures().in_flight == 1)
    calls.decide(asked, decision(force=True))
    until(lambda: asked.decision)
    go_on.set()
    until(lambda: ended(calls))
    assert ended(calls) == [Answer(asked, Approved("ch_theirs"), None)]


def test_a_payment_that_is_answered_is_not_decided(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lane has not seen the answer yet: two answers would be one too many."""
    monkeypatch.setattr(persons_decisions, "QUIET_S", 0.0)
    provider = Provider(approve)
    calls = made(provider)
    asked = charge(parked=entry(), attempts=1)
    calls.charge([asked])
    until(lambda: calls.answers(0))
    calls.decide(asked, decision(force=True))
    time.sleep(0.1)
    assert answers(calls, 1) == [Answer(asked, Approved("ch_pay_1"), None)]
    assert not calls.answers(0)


def test_a_payment_that_a_person_has_decided_is_not_charged_by_its_lane(made: Made) -> None:
    """It was parked before its claim was committed: the lane asks for it once that is."""
    provider = Provider(approve)
    calls = made(provider)
    asked = unresolved(calls, provider)
    provider.found = NotExecuted("connection refused")
    calls.decide(asked, decision())
    answers(calls, 1)
    asked.first_asked_s = time.time()
    calls.charge([asked])
    time.sleep(0.1)
    assert provider.charged == []
