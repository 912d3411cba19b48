"""process: charges what is claimed for good, never waits, and never mixes up two replies.

What crashes do to it is in `test_process_model.py`.
"""

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from dataflow.core.decision import GatewayDecision, Repeated
from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, DedupedBatch, OutcomeBatch, Remembered, Signal
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, QueuedBatch
from dataflow.core.origins import origin
from dataflow.core.parked import Restored
from dataflow.core.verdicts import Verdict
from dataflow.steps.process import NothingPending, Process
from schemas.decisions import PersonsDecision
from schemas.events import Records, Resolution
from schemas.headers import Headers
from schemas.outcomes import ErrorCode, EventType
from schemas.pending import PendingEntry, PendingState, decode, encode, seconds
from schemas.replies import Approved, Declined, Definite
from schemas.requests import PaymentRequest, Rejected
from tests import published
from tests.steps.step_samples import CONFLICT, DUPLICATE, FIRST, READ_AT, judged, rejected, request
from tests.support.signals import restoring

Item = tuple[str, DedupedBatch | ControlMessage]
Out = list[tuple[str, OutcomeBatch | ControlMessage]]
LONG_S = 1e9


def reply_to(each: PaymentRequest) -> Definite:
    if "decline" in each.payment_id:
        return Declined(ErrorCode.DECLINED, each.payment_id, retryable=False)
    return Approved(each.payment_id)


class Gateway:
    """A gateway that a test answers for; or one that answers batches at once."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.wait_s = LONG_S
        self.asked: list[list[str]] = []
        self.charges: list[Charge] = []
        self.by_lane: dict[int, deque[Answer | BatchAnswer]] = defaultdict(deque)
        self.claimed: dict[int, int] = {}
        self.holds: list[tuple[int, bool]] = []
        self.decided: list[tuple[Charge, PersonsDecision]] = []

    def charge(self, charges: Sequence[Charge]) -> None:
        self.asked.append([each.request.payment_id for each in charges])
        self.charges += charges

    def charge_batches(self, batches: Sequence[QueuedBatch]) -> bool:
        if not self.at_once:
            return False
        self.asked.append([])
        for queued in batches:
            replies: list[Definite | None] = []
            reasons = {}
            for number, record in enumerate(queued.due):
                each = queued.batch.parsed[record]
                assert isinstance(each, PaymentRequest)
                self.asked[-1].append(each.payment_id)
                if "silent" in each.payment_id:
                    reasons[number] = "no answer"
                replies.append(None if number in reasons else reply_to(each))
            self.by_lane[queued.lane].append(BatchAnswer(queued, replies, reasons))
        return True

    def answer(self, *payment_ids: str) -> None:
        """Answer payments that were asked for one by one."""
        for charge in list(self.charges):
            if charge.request.payment_id in payment_ids:
                self.charges.remove(charge)
                charge.attempts += 1
                self.by_lane[charge.lane].append(Answer(charge, reply_to(charge.request)))

    def fail(self, payment_id: str, **state: Any) -> None:
        """Let an attempt bring no answer."""
        [charge] = [each for each in self.charges if each.request.payment_id == payment_id]
        charge.attempts += 1
        charge.attempts_parked += charge.parked is not None
        for name, value in state.items():
            setattr(charge, name, value)
        self.by_lane[charge.lane].append(Answer(charge, None))

    def answers(self, lane: int) -> deque[Answer | BatchAnswer]:
        return self.by_lane[lane]

    def park_after_s(self) -> float:
        return self.wait_s

    def decide(self, charge: Charge, decision: PersonsDecision) -> None:
        self.decided.append((charge, decision))

    def note_claimed(self, lane: int, payments: int) -> None:
        self.claimed[lane] = payments

    def peer_holds(self, partition: int, *, holds: bool) -> None:
        self.holds.append((partition, holds))


class Kept:
    """A pending topic."""

    def __init__(self, *entries: PendingEntry | Restored) -> None:
        self.entries = [
            each if isinstance(each, Restored) else Restored(each, []) for each in entries
        ]
        self.decided: list[PersonsDecision] = []

    def decisions(self, lane: int) -> Sequence[PersonsDecision]:
        found, self.decided = self.decided if lane == 0 else [], []
        return found

    def of(self, lane: int, _fenced: Fenced) -> Sequence[Restored]:
        return self.entries if lane == 0 else ()


class Step:
    """The step, and the epochs around it."""

    def __init__(
        self, gateway: Gateway, *pending: PendingEntry | Restored, timed: Any = None
    ) -> None:
        self.gateway = gateway
        self.board = LaneBoard()
        self.kept = Kept(*pending)
        kept = self.kept if pending else NothingPending()
        timed = timed or (lambda *_: None)
        self.process = Process("requested", gateway, kept, self.board, timed)
        self.epoch = 0

    def take(self, *items: Item) -> Out:
        return self.process(list(items))

    def next_epoch(self, *lanes: str) -> Out:
        """Begin an epoch, of which each lane gets a signal."""
        self.epoch += 1
        wake = ControlMessage(Signal.WAKE, 0, 0, epoch=self.epoch)
        return self.take(*((lane, wake) for lane in lanes or ("000",)))


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def batches(out: Out) -> list[OutcomeBatch]:
    return [each for _, each in out if isinstance(each, OutcomeBatch)]


def with_outcomes(out: Out) -> list[OutcomeBatch]:
    return [each for each in batches(out) if each.outcomes or each.pending]


def words(*outcomes: OutcomeBatch) -> list[str]:
    """Return the gateway's answers, in the order of the records."""
    return [
        each.reply.reference if isinstance(each.reply, Approved) else each.reply.message
        for batch in outcomes
        for each in batch.outcomes
        if isinstance(each, GatewayDecision)
    ]


class TestCharging:
    def test_only_a_first_request_is_charged(self, gateway: Gateway) -> None:
        first, other = request("pay_1"), request("pay_2")
        step = Step(gateway)
        step.take(
            (
                "000",
                judged(
                    (first, FIRST),
                    (first, DUPLICATE),
                    (other, CONFLICT),
                    (rejected(), FIRST),
                    first_origin=42,
                ),
            )
        )
        [batch] = batches(step.next_epoch())
        assert gateway.asked == [["pay_1"]]
        assert batch.outcomes == [
            GatewayDecision(first, Approved("pay_1")),
            Repeated(first, EventType.DUPLICATE, 42),
            Repeated(other, EventType.CONFLICT, 42),
            rejected(),
        ]

    def test_claims_go_ahead_and_nothing_is_charged_in_their_epoch(self, gateway: Gateway) -> None:
        step = Step(gateway)
        [claims] = batches(step.take(("000", judged((request(), FIRST)))))
        assert (claims.entries, claims.remembered) == (b"entries", Remembered(7, 5))
        assert claims.outcomes == []
        assert claims.position is None
        assert gateway.claimed == {0: 1}
        assert gateway.asked == []
        step.take(("000", judged((request("pay_2"), FIRST))))
        assert gateway.asked == [], "an item of the same epoch proves nothing"
        step.next_epoch()
        assert gateway.asked == [["pay_123", "pay_2"]]
        assert gateway.claimed == {0: 0}

    def test_the_gateway_sees_no_call_without_a_first_request(self, gateway: Gateway) -> None:
        step = Step(gateway)
        out = step.take(("000", judged((request(), DUPLICATE), (rejected(), FIRST))))
        assert len(with_outcomes(out)) == 1, "and nothing is waited for"
        step.next_epoch()
        assert gateway.asked == []

    def test_all_lanes_are_charged_at_once(self, gateway: Gateway) -> None:
        names = [f"{n:03}" for n in range(3)]
        step = Step(gateway)
        step.take(*((name, judged((request(f"pay_{name}"), FIRST))) for name in names))
        step.next_epoch(*names)
        assert gateway.asked == [["pay_000", "pay_001", "pay_002"]]

    @given(
        st.lists(st.lists(st.sampled_from([*Verdict, None]), max_size=6), max_size=5),
        st.booleans(),
    )
    def test_each_request_gets_its_own_reply(
        self,
        lanes: list[list[Verdict | None]],
        at_once: bool,  # noqa: FBT001  (drawn)
    ) -> None:
        """However lanes, verdicts and the order of the answers fall together."""
        gateway = Gateway(at_once=at_once)
        step = Step(gateway)
        items: list[Item] = []
        expected, everybody = [], []
        for lane, verdicts in enumerate(lanes):
            names = [f"{'decline_' * (n % 2)}{lane}_{n}" for n in range(len(verdicts))]
            records = [
                (rejected(), FIRST) if verdict is None else (request(name), verdict)
                for name, verdict in zip(names, verdicts, strict=True)
            ]
            items.append((f"{lane:03}", judged(*records)))
            expected += [
                name for name, verdict in zip(names, verdicts, strict=True) if verdict is FIRST
            ]
            everybody.append(f"{lane:03}")
        out = step.take(*items)
        if lanes:
            out += step.next_epoch(*everybody)
            gateway.answer(*expected[::-1])
            out += step.next_epoch(*everybody)
        by_lane = sorted(((name, each) for name, each in out), key=lambda pair: pair[0])
        assert words(*batches(by_lane)) == expected

    def test_a_payment_of_a_batch_without_an_answer_is_sent_by_itself(
        self, gateway: Gateway
    ) -> None:
        step = Step(gateway)
        step.take(("000", judged((request("pay_1"), FIRST), (request("silent_1"), FIRST))))
        assert with_outcomes(step.next_epoch()) == []
        assert gateway.asked == [["pay_1", "silent_1"], ["silent_1"]]
        [silent] = gateway.charges
        assert (silent.attempts, silent.reason, silent.is_unsent) == (1, "no answer", False)
        gateway.answer("silent_1")
        [batch] = with_outcomes(step.next_epoch())
        assert words(batch) == ["pay_1", "silent_1"]


class TestHeaders:
    """Headers go with every outcome of their record, now or later."""

    HEADERS: ClassVar[dict[int, Headers]] = {
        7: [("traceparent", b"7")],
        8: [("baggage", b"8"), ("baggage", None)],
        10: [("traceparent", b"10")],
    }

    def by_event(self) -> dict[str, Headers]:
        records = Records("requested", 2)
        return {records.event_id(offset): each for offset, each in self.HEADERS.items()}

    def read(self, step: Step) -> None:
        first = request("pay_1")
        records: list[tuple[PaymentRequest | Rejected, Verdict]] = [
            (first, FIRST),
            (request("pay_2"), FIRST),
            (request("pay_3"), FIRST),
            (rejected(), FIRST),
            (first, DUPLICATE),
        ]
        step.take(("000", judged(*records, partition=2, first_offset=7, headers=self.HEADERS)))
        step.next_epoch()

    def test_outcomes_have_the_headers_of_their_records(self) -> None:
        step = Step(Gateway(at_once=False))
        self.read(step)
        step.gateway.answer("pay_1", "pay_2", "pay_3")
        [batch] = with_outcomes(step.next_epoch())
        assert len(batch.event_ids) == 5
        assert batch.headers == self.by_event()

    def parked(self, step: Step) -> OutcomeBatch:
        """Park the second of the payments."""
        self.read(step)
        step.gateway.answer("pay_1", "pay_3")
        step.gateway.wait_s = 0
        [batch] = with_outcomes(step.next_epoch())
        return batch

    def test_a_parked_payment_keeps_its_headers_until_its_outcome(self) -> None:
        step = Step(Gateway(at_once=False))
        batch = self.parked(step)
        assert {each: batch.headers[each] for each in batch.event_ids if each in batch.headers} == {
            each: headers for each, headers in self.by_event().items() if each in batch.event_ids
        }
        [change] = batch.pending
        assert change.headers == self.HEADERS[8]
        step.gateway.fail("pay_2")
        [batch] = batches(step.next_epoch())
        assert [each.headers for each in batch.pending] == [self.HEADERS[8]], "written once more"
        step.gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert batch.headers == {change.event_id: self.HEADERS[8]}

    def test_a_restart_gives_a_parked_payment_its_headers_back(self) -> None:
        [change] = self.parked(Step(Gateway(at_once=False))).pending
        assert change.entry is not None
        step = Step(Gateway(at_once=False), Restored(change.entry, change.headers))
        step.take(("000", restoring()))
        step.gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert batch.headers == {change.event_id: self.HEADERS[8]}


class TestOrder:
    def test_a_batch_waits_for_the_one_before_it(self) -> None:
        gateway = Gateway(at_once=False)
        step = Step(gateway)
        step.take(
            ("000", judged((request("pay_1"), FIRST), first_offset=0)),
            ("000", judged((request("pay_2"), FIRST), first_offset=1)),
        )
        step.next_epoch()
        gateway.answer("pay_2")
        assert with_outcomes(step.next_epoch()) == []
        gateway.answer("pay_1")
        assert words(*with_outcomes(step.next_epoch())) == ["pay_1", "pay_2"]

    def test_lanes_do_not_wait_for_each_other(self) -> None:
        gateway = Gateway(at_once=False)
        step = Step(gateway)
        step.take(
            ("000", judged((request("pay_1"), FIRST))), ("001", judged((request("pay_2"), FIRST)))
        )
        step.next_epoch("000", "001")
        gateway.answer("pay_2")
        assert words(*batches(step.next_epoch("000", "001"))) == ["pay_2"]

    def test_sources_see_what_is_queued(self) -> None:
        gateway = Gateway(at_once=False)
        step = Step(gateway)
        step.take(("000", judged((request(), FIRST), partition=3, first_offset=7)))
        assert step.board.lowest(3) == 7
        assert step.board.to_wake(1, time.monotonic(), LONG_S) == {0}
        step.next_epoch()
        assert step.board.to_wake(9, time.monotonic(), LONG_S) == set()
        gateway.answer("pay_123")
        step.next_epoch()
        assert step.board.lowest(3) is None

    def test_a_refresh_of_the_offsets_carries_the_lane_s_own_position(self) -> None:
        gateway = Gateway(at_once=False)
        step = Step(gateway)
        step.take(("000", judged((request(), FIRST), partition=3, first_offset=7)))
        refresh = ControlMessage(Signal.REFRESH_OFFSETS, 3, 20)
        [(_, queued)] = step.take(("000", refresh))
        [(_, empty)] = step.take(("001", refresh))
        assert isinstance(queued, ControlMessage)
        assert isinstance(empty, ControlMessage)
        assert (queued.next_offset, empty.next_offset) == (7, 20)


class TestParking:
    def park(self, step: Step) -> OutcomeBatch:
        """Park the middle one of three payments."""
        names = ["pay_1", "pay_2", "pay_3"]
        step.take(
            (
                "000",
                judged(*((request(each), FIRST) for each in names), partition=2, first_offset=7),
            )
        )
        step.next_epoch()
        step.gateway.answer("pay_1", "pay_3")
        assert with_outcomes(step.next_epoch()) == []
        step.gateway.wait_s = 0
        [batch] = with_outcomes(step.next_epoch())
        return batch

    def test_a_payment_without_an_answer_in_time_is_parked_and_the_rest_goes_on(self) -> None:
        step = Step(Gateway(at_once=False))
        batch = self.park(step)
        assert words(batch) == ["pay_1", "pay_3"]
        assert batch.position == (2, 10)
        assert batch.times_ms.tolist() == [70, 90]
        [change] = batch.pending
        entry = change.entry
        assert entry is not None
        assert change.is_new
        assert change.event_id == entry.event_id == Records("requested", 2).event_id(8)
        assert entry.payment() == request("pay_2")
        assert (entry.source.partition, entry.source.offset) == (2, 8)
        assert (entry.state, entry.attempts) == (PendingState.PENDING, 0)
        assert (entry.is_unsent, entry.record_time_ms) == (True, 80)
        assert (step.board.parked, step.board.unresolved) == (1, 0)
        assert step.board.parked_since_s == seconds(entry.parked_at)
        assert step.board.held(0) == {request("pay_2").identity(): origin(2, 8)}

    def test_its_copies_are_answered_at_once(self) -> None:
        step = Step(Gateway(at_once=False))
        self.park(step)
        out = step.take(("000", judged((request("pay_2"), DUPLICATE), first_offset=20)))
        assert len(with_outcomes(out)) == 1

    def test_an_answer_resolves_it(self) -> None:
        step = Step(Gateway(at_once=False))
        [change] = self.park(step).pending
        step.gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert words(batch) == ["pay_2"]
        assert batch.event_ids == [change.event_id]
        assert batch.times_ms.tolist() == [80], "its latency counts from its record, too"
        assert [(each.event_id, each.entry) for each in batch.pending] == [(change.event_id, None)]
        assert batch.position is None
        assert (step.board.parked, step.board.parked_since_s) == (0, None)
        assert step.board.held(0) == {}
        assert batches(step.next_epoch()) == []

    def test_an_attempt_without_an_answer_is_noted(self) -> None:
        step = Step(Gateway(at_once=False))
        self.park(step)
        at_s = 1_800_000_000.0
        step.gateway.fail("pay_2", reason="timeout", next_attempt_s=at_s)
        [batch] = batches(step.next_epoch())
        [change] = batch.pending
        assert change.entry is not None
        assert not change.is_new
        assert (change.entry.attempts, change.entry.attempts_parked) == (1, 1)
        assert change.entry.reason == "timeout"
        assert change.entry.next_attempt_at == "2027-01-15T08:00:00.000Z"

    def test_a_payment_without_a_way_to_learn_its_outcome_is_left_to_a_person(self) -> None:
        step = Step(Gateway(at_once=False))
        self.park(step)
        step.gateway.fail("pay_2", is_unresolved=True)
        [batch] = batches(step.next_epoch())
        assert batch.pending[0].entry is not None
        assert batch.pending[0].entry.state is PendingState.UNRESOLVED
        assert (step.board.parked, step.board.unresolved) == (1, 1)
        again = Step(Gateway(at_once=False), batch.pending[0].entry)
        again.take(("000", restoring()))
        again.next_epoch()
        assert (again.board.parked, again.board.unresolved) == (1, 1)
        step.gateway.answer("pay_2")
        step.next_epoch()
        assert (step.board.parked, step.board.unresolved) == (0, 0)

    def test_a_flush_parks_what_is_not_even_charged_and_charges_it_later(self) -> None:
        """Not before its claim is committed."""
        gateway = Gateway()
        step = Step(gateway)
        step.take(("000", judged((request(), FIRST))))
        [batch] = with_outcomes(step.take(("000", ControlMessage(Signal.FLUSH, 0, 1))))
        assert len(batch.pending) == 1
        assert gateway.asked == []
        step.next_epoch()
        assert gateway.asked == [["pay_123"]]
        gateway.answer("pay_123")
        assert words(*batches(step.next_epoch())) == ["pay_123"]

    def test_a_flush_leaves_what_was_read_later(self) -> None:
        step = Step(Gateway(at_once=False))
        step.take(
            ("000", judged((request("pay_1"), FIRST), first_offset=0)),
            ("000", judged((request("pay_2"), FIRST), first_offset=1)),
        )
        [batch] = with_outcomes(step.take(("000", ControlMessage(Signal.FLUSH, 0, 1))))
        assert batch.position == (0, 1)

    @pytest.mark.parametrize("signal", [Signal.DRAIN, Signal.RESTART])
    def test_a_stop_parks_everything_and_goes_on_to_the_sink(self, signal: Signal) -> None:
        step = Step(Gateway(at_once=False))
        step.take(("000", judged((request(), FIRST))))
        out = step.take(("000", ControlMessage(signal, 0, 1)))
        assert [len(each.pending) for each in batches(out)] == [1]
        assert [each.signal for _, each in out if isinstance(each, ControlMessage)] == [signal]

    def test_an_answer_that_comes_while_it_is_parked_is_not_lost(self, gateway: Gateway) -> None:
        """Of a batch that was charged as a whole, and has left its queue meanwhile."""
        step = Step(gateway)
        step.take(("000", judged((request("pay_1"), FIRST), (request("silent_1"), FIRST))))
        late: list[Answer | BatchAnswer] = []
        answers = gateway.by_lane[0]
        charge_batches = gateway.charge_batches

        def slow(batches: Sequence[QueuedBatch]) -> bool:
            charge_batches(batches)
            late.extend(answers)
            answers.clear()
            return True

        gateway.charge_batches = slow  # type: ignore[method-assign]
        gateway.wait_s = 0
        [parked] = with_outcomes(step.next_epoch())
        assert len(parked.pending) == 2
        answers.extend(late)
        [batch] = with_outcomes(step.next_epoch())
        assert words(batch) == ["pay_1"]
        gateway.answer("silent_1")
        assert words(*batches(step.next_epoch())) == ["silent_1"]


class TestDecisions:
    """Decisions of persons about parked payments."""

    def parked(self, **state: Any) -> tuple[Gateway, Step, PendingEntry]:
        """Return a step that has restored a payment, which is unresolved."""
        [entry] = TestRestart().entries()
        entry = structs.replace(entry, **{"state": PendingState.UNRESOLVED, **state})
        gateway = Gateway(at_once=False)
        step = Step(gateway, entry)
        step.take(("000", restoring()))
        return gateway, step, entry

    def decision(self, entry: PendingEntry, **how: Any) -> PersonsDecision:
        fields = {"event_id": entry.event_id, "payment_id": entry.payment_id, "reference": "ch_7"}
        who = {"by": "ann", "at": "2026-01-01T00:00:00.000Z", "reason": "ticket 7"}
        return PersonsDecision(**{**fields, **who, **how})

    def test_a_decision_goes_to_the_gateway_and_ends_with_the_outcome(self) -> None:
        gateway, step, entry = self.parked()
        decision = self.decision(entry)
        step.kept.decided = [decision]
        assert batches(step.next_epoch()) == [], "the outcome comes from the gateway"
        [(charge, given)] = gateway.decided
        assert given is decision
        gateway.by_lane[0].append(Answer(charge, decision.reply, decision))
        [batch] = batches(step.next_epoch())
        assert words(batch) == ["ch_7"]
        resolution = Resolution("ann", "2026-01-01T00:00:00.000Z", "ticket 7")
        assert batch.resolutions == {entry.event_id: resolution}
        assert batch.decisions_done == [entry.event_id]
        assert [each.entry for each in batch.pending] == [None]

    def test_the_providers_answer_ends_a_decision_without_a_resolution(self) -> None:
        gateway, step, entry = self.parked()
        step.kept.decided = [self.decision(entry)]
        step.next_epoch()
        gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert (words(batch), batch.resolutions) == (["pay_2"], {})
        assert batch.decisions_done == [entry.event_id]

    def test_a_decision_about_a_payment_with_an_outcome_has_no_effect(self) -> None:
        gateway, step, entry = self.parked()
        gateway.answer("pay_2")
        step.kept.decided = [self.decision(entry)]
        first, second = batches(step.next_epoch())
        assert words(first) == ["pay_2"]
        assert (second.decisions_done, second.outcomes) == ([entry.event_id], [])
        assert second.position is None
        assert gateway.decided == []

    @pytest.mark.parametrize(
        ("state", "how", "has_effect"),
        [
            ({}, {}, True),
            ({"state": PendingState.PENDING}, {}, False),
            ({"state": PendingState.PENDING}, {"force": True}, True),
            ({}, {"payment_id": "another"}, False),
            ({}, {"event_id": "another"}, False),
        ],
    )
    def test_only_an_unresolved_payment_is_decided_without_force(
        self, state: dict[str, Any], how: dict[str, Any], *, has_effect: bool
    ) -> None:
        gateway, step, entry = self.parked(**state)
        decision = self.decision(entry, **how)
        step.kept.decided = [decision]
        done = [each.decisions_done for each in batches(step.next_epoch())]
        assert done == ([] if has_effect else [[decision.event_id]])
        assert bool(gateway.decided) is has_effect

    def test_a_decision_is_not_looked_at_before_the_lane_is_restored(self) -> None:
        [entry] = TestRestart().entries()
        step = Step(Gateway(at_once=False), entry)
        step.kept.decided = [self.decision(entry)]
        assert step.take(("000", restoring()))
        assert step.kept.decided


class TestRestart:
    def entries(self) -> list[PendingEntry]:
        step = Step(Gateway(at_once=False))
        batch = TestParking().park(step)
        return [each.entry for each in batch.pending if each.entry is not None]

    def test_a_parked_payment_is_sent_again_and_resolved(self) -> None:
        [entry] = self.entries()
        gateway = Gateway(at_once=False)
        step = Step(gateway, entry)
        restore = restoring()
        step.take(("000", restore), ("001", restore))
        step.take(("000", restoring(1)))
        assert gateway.asked == [["pay_2"]], "once, though each partition sends a signal"
        assert step.board.held(0) == {request("pay_2").identity(): origin(2, 8)}
        gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert words(batch) == ["pay_2"]
        assert batch.event_ids == [entry.event_id]
        assert batch.sources == [entry.source]

    def test_two_copies_that_are_parked_are_resolved_at_once(self) -> None:
        """The second one was taken for new once the lane log was lost."""
        [entry] = self.entries()
        copy = structs.replace(
            entry, event_id="e-2", source=structs.replace(entry.source, offset=99)
        )
        gateway = Gateway(at_once=False)
        step = Step(gateway, entry, copy)
        step.take(("000", restoring()))
        gateway.answer("pay_2")
        [batch] = batches(step.next_epoch())
        assert words(batch) == ["pay_2", "pay_2"]
        assert step.board.held(0) == {}

    def test_nothing_is_emitted_while_lanes_restore(self) -> None:
        gateway = Gateway(at_once=False)
        step = Step(gateway, *self.entries())
        restore = restoring()
        assert batches(step.take(("000", restore))) == []
        gateway.answer("pay_2")
        assert batches(step.take(("000", restoring(1)))) == []
        assert len(batches(step.next_epoch())) == 1

    def test_a_payment_claimed_by_an_earlier_run_may_be_charged_already(
        self, gateway: Gateway
    ) -> None:
        gateway.at_once = False
        step = Step(gateway)
        batch = judged((request("pay_1"), FIRST), (request("pay_2"), FIRST), first_offset=100)
        batch.claimed_before = frozenset({1})
        step.take(("000", batch))
        step.next_epoch()
        assert [each.may_be_charged for each in gateway.charges] == [False, True]
        assert all(each.is_unsent for each in gateway.charges)
        assert gateway.charges[1].first_asked_s == 1.01, "no earlier than its record"

    def test_a_key_is_as_old_as_the_reading_of_its_record(self, gateway: Gateway) -> None:
        """The process may be suspended before it charges it, and another run does so meanwhile."""
        gateway.at_once = False
        step = Step(gateway)
        step.take(("000", judged((request("pay_1"), FIRST))))
        step.next_epoch()
        [charge] = gateway.charges
        assert charge.first_asked_s == READ_AT
        assert charge.is_unsent
        assert not charge.may_be_charged

    def test_a_payment_parked_before_its_first_answer_may_be_charged_already(self) -> None:
        """It may have been sent after its entry was written, or by the run before that one."""
        [sent] = self.entries()
        sent = structs.replace(sent, attempts=1, is_unsent=False)
        unsent = structs.replace(sent, event_id="e-2", attempts=0)
        gateway = Gateway(at_once=False)
        step = Step(gateway, sent, unsent)
        step.take(("000", restoring()))
        assert [(each.may_be_charged, each.is_unsent) for each in gateway.charges] == [
            (False, False),
            (True, True),
        ]

    def test_a_payment_keeps_over_restarts_what_was_found_out_about_its_key(self) -> None:
        """Claimed by one run, looked up in vain by the next one, and asked for by a third one."""
        gateway = Gateway(at_once=False)
        step = Step(gateway)
        batch = judged((request("pay_1"), FIRST), first_offset=100)
        batch.claimed_before = frozenset({0})
        step.take(("000", batch))
        step.next_epoch()
        gateway.fail("pay_1", reason="timeout of the look-up")
        gateway.wait_s = 0
        [parked] = with_outcomes(step.next_epoch())
        [change] = parked.pending
        assert change.entry is not None
        assert change.entry.first_attempt_at == "1970-01-01T00:00:01.000Z"
        third = Step(Gateway(at_once=False), change.entry)
        third.take(("000", restoring()))
        [charge] = third.gateway.charges
        assert (charge.attempts, charge.may_be_charged, charge.is_unsent) == (1, True, True)
        # A look-up finds nothing, and it is posted.
        third.gateway.fail("pay_1", is_unsent=False, first_asked_s=1_800_000_000.0)
        [news] = batches(third.next_epoch())
        [change] = news.pending
        assert change.entry is not None
        assert change.entry.first_attempt_at == "2027-01-15T08:00:00.000Z"
        assert not change.entry.is_unsent

    def test_an_entry_reads_back_as_it_was_written(self) -> None:
        [entry] = self.entries()
        assert decode(encode(entry)) == entry

    def test_an_entry_is_valid_by_its_published_schema(self) -> None:
        [entry] = self.entries()
        for state in PendingState:
            for next_attempt_at in (entry.next_attempt_at, None):
                changed = structs.replace(entry, state=state, next_attempt_at=next_attempt_at)
                published.assert_valid(published.PENDING, encode(changed))


def test_a_hold_of_another_process_reaches_the_gateway_and_goes_no_further(
    gateway: Gateway,
) -> None:
    step = Step(gateway)
    hold, resume = (ControlMessage(each, 3, 0) for each in (Signal.HOLD, Signal.RESUME))
    assert step.take(("000", hold), ("000", resume)) == []
    assert gateway.holds == [(3, True), (3, False)]


def test_other_signals_go_on(gateway: Gateway) -> None:
    watermark = ControlMessage(Signal.WATERMARK, 0, 0)
    assert Step(gateway).take(("000", watermark)) == [("000", watermark)]


def test_records_keep_their_lane_and_position(gateway: Gateway) -> None:
    step = Step(gateway)
    step.take(("002", judged((request(), FIRST), (rejected(), FIRST), partition=3, first_offset=7)))
    [(lane, result)] = step.next_epoch("002")
    assert lane == "002"
    assert isinstance(result, OutcomeBatch)
    assert [source.offset for source in result.sources] == [7, 8]
    assert {source.topic for source in result.sources} == {"requested"}
    assert len(set(result.event_ids)) == 2
    assert result.position == (3, 9)
    assert result.times_ms.tolist() == [70, 80]


def test_the_time_until_the_decision_is_measured(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[float, int, str | None]] = []
    step = Step(gateway, timed=lambda *numbers: measured.append(numbers))
    step.take(("000", judged((request(), FIRST), (rejected(), FIRST))))
    monkeypatch.setattr(time, "time", lambda: READ_AT + 0.25)
    [batch] = batches(step.next_epoch())
    assert measured == [(0.25, 2, None)]
    assert batch.decided_at == READ_AT + 0.25
