"""All calls of a process to its gateway: what is asked when, and what an answer means.

The workers' threads hand payments over and take answers out; everything else happens on one event
loop in one thread.

1. As many calls are in flight as the window allows, and the rate. Which payment is next is the rule
   of `dataflow.core.call_queue`.
2. How to ask, and when to ask again, is the rule of `dataflow.core.retry_schedule`.
3. While the breaker is open nothing is asked, except for probes. A definite answer to any call ends
   it; then everything that waits is due, and the window opens step by step.
4. Whoever reads records asks for credit first. There is none in a hold (`dataflow.core.hold`).
5. Refused requests are declines, unless all are refused: that is a hold, too, and none of them is
   published (`dataflow.core.refusals`).

Long because it is the one place that all parts of the rules come together in; they are elsewhere.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import NamedTuple

import structlog

from dataflow.core import persons_decisions, retry_schedule
from dataflow.core.answer_latency import AnswerLatency
from dataflow.core.breaker import Breaker
from dataflow.core.call_queue import CallQueue
from dataflow.core.call_rate import CallRate
from dataflow.core.call_window import CallWindow
from dataflow.core.charging import ChargingFigures
from dataflow.core.hold import Hold
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, QueuedBatch
from dataflow.core.refusals import ROW, Refusals
from dataflow.core.retry_schedule import Ask, parked_s, soon_s
from dataflow.gateways.call_counts import DEFINITE
from dataflow.gateways.calls import Calls, reason_of
from dataflow.gateways.loop_thread import LoopThread
from dataflow.gateways.port import (
    Approved,
    BatchGateway,
    DeclineBasis,
    Declined,
    Definite,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
)
from dataflow.observability import tracing
from dataflow.service.fail_fast import fail_fast
from schemas.decisions import PersonsDecision
from schemas.headers import Headers
from schemas.pending import seconds

_log = structlog.get_logger()

_AT_ONCE_S = 0.1
"""The time to wait for a gateway that answers batches without waiting for anything."""
_UNLIMITED = 1_000_000
"""Credit where something else bounds a batch."""
_OUTAGE_SHARE = 0.9
"""Of a batch that is charged at once, so much has no answer in an outage."""
_ASKED_MOST_S = 10.0
"""A provider that demands a longer pause is probed, or asked for others, meanwhile."""


class Limits(NamedTuple):
    """The limits of the use of a gateway by one process."""

    concurrency: int = 256
    """Calls in flight."""
    rate: float | None = None
    """Calls in a second; None for no limit."""
    park_after_s: float = 5.0
    """The longest that a lane waits for an answer."""
    parked: int = 20_000
    """Payments that may be parked before the process holds, without those that are unresolved."""
    epoch_s: float = 0.2
    """From reading a record to the proof that its claim is committed, about."""
    has_peers: bool = False
    """True if there are lanes in other processes."""


class Dispatcher:
    """The calls of one process. The thread starts with the first payment.

    Attributes:
        sources: The input partitions of this process, which share its credit.
        has_peers: True if there are lanes in other processes.
        is_one_by_one: True if payments are charged one by one, each in its time.
    """

    def __init__(
        self,
        gateway: Gateway,
        limits: Limits,
        board: LaneBoard,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.sources: set[int] = set()
        self.has_peers = limits.has_peers
        self._gateway = gateway
        # Nothing in a batch is looked up first, however old its key is, nor declined by its amount.
        takes_all = gateway.traits.key_life_s is None and gateway.traits.decimals is None
        self._batches = gateway if isinstance(gateway, BatchGateway) and takes_all else None
        self.is_one_by_one = self._batches is None
        self._limits = limits
        self._board = board
        self._draw = draw
        self._calls = Calls(gateway)
        self._thread = LoopThread(gateway.close)
        # Between the threads: each operation on these is one of the interpreter's.
        self._answers: dict[int, deque[Answer | BatchAnswer]] = {}
        self._ripe: deque[int] = deque()
        self._claimed: dict[int, int] = {}
        # On the loop.
        self._breaker = Breaker()
        self._refusals = Refusals()
        self._hold = Hold(self._breaker, limits.parked)
        self._window = CallWindow(limits.concurrency)
        self._rate = CallRate(limits.rate, time.monotonic())
        self._latency = AnswerLatency(limits.park_after_s)
        self._queue = CallQueue()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: set[Charge] = set()

    @property
    def traits(self) -> Traits:
        """The facts about the provider."""
        return self._gateway.traits

    # ---- called by the lanes ----

    def charge(self, charges: Sequence[Charge]) -> None:
        """Have payments charged, each until there is a definite answer."""
        self._thread.loop().call_soon_threadsafe(self._accept, list(charges))

    def charge_batches(self, batches: Sequence[QueuedBatch]) -> bool:
        """Have batches charged as a whole; False if the gateway takes payments one by one only."""
        if self._batches is None or self._breaker.is_open:
            return False
        charged = self._charge_batches(self._batches, batches)
        charging = asyncio.run_coroutine_threadsafe(charged, self._thread.loop())
        charging.add_done_callback(_raise_what_ended)
        # It is there by then; and if it is not, the lanes get it later, as from any gateway.
        wait([charging], _AT_ONCE_S)
        return True

    def decide(self, charge: Charge, decision: PersonsDecision) -> None:
        """Carry out a person's decision about what is parked, if the provider does not answer."""
        self._thread.loop().call_soon_threadsafe(self._decide, charge, decision)

    def answers(self, lane: int) -> deque[Answer | BatchAnswer]:
        """Return the answers for a lane, for it to take out."""
        found = self._answers.get(lane)
        return self._answers.setdefault(lane, deque()) if found is None else found

    def park_after_s(self) -> float:
        """Return how long a lane should wait for an answer."""
        return self._latency.park_after_s(self._queue.new, self._window.limit)

    def note_claimed(self, lane: int, payments: int) -> None:
        """Note how many payments of a lane wait for their claim to be committed."""
        self._claimed[lane] = payments

    def peer_holds(self, partition: int, *, holds: bool) -> None:
        """Note that the process that reads a partition holds, or does so no longer."""
        if partition not in self.sources:
            self._hold.peer(partition, time.monotonic(), holds=holds)

    # ---- called by the sources ----

    def credit(self, partition: int) -> int:
        """Return how many records the source of a partition may read now."""
        now_s = time.monotonic()
        self._hold.note_parked(self._board.parked - self._board.unresolved, now_s)
        if self._hold.is_full:
            # The loop does not notice by itself what lanes park, and what is parked may wait long.
            self._thread.call(self._tick)
        if self._hold.held(now_s) is not None:
            return int(self._hold.is_trial_due(partition, now_s))
        if self._batches is not None:
            return _UNLIMITED
        claimed = sum(list(self._claimed.values()))
        outstanding = claimed + self._queue.outstanding + self._window.in_flight
        room = self._latency.credit(outstanding, self._window.limit, self._limits.epoch_s)
        if self._rate.limit is not None:
            most = int(self._rate.limit * (self.park_after_s() / 2 + self._limits.epoch_s)) + 1
            room = max(0, min(room, most - outstanding))
        # Rounded up: with less room than sources, nobody would read anything.
        return -(-room // max(1, len(self.sources)))

    def to_wake(self, epoch: int) -> tuple[int, ...]:
        """Return the lanes of this process that have something to do in this epoch."""
        lanes = {self._ripe.popleft() for _ in range(len(self._ripe))}
        lanes |= self._board.to_wake(epoch, time.monotonic(), self.park_after_s())
        return tuple(sorted(lanes))

    def wake(self, lanes: Iterable[int]) -> None:
        """Wake lanes of this process in the next epoch."""
        self._ripe.extend(lanes)

    def lowest(self, partition: int) -> int | None:
        """Return below which offset of a partition no lane of this process has anything queued."""
        return self._board.lowest(partition)

    def hold_to_announce(self) -> bool | None:
        """Return True if the other processes are to hold, False if not any longer, else None."""
        return self._hold.to_announce(time.monotonic())

    def figures(self) -> ChargingFigures:
        """Return the state of the calls."""
        now_s, parked, counts = time.monotonic(), self._board.parked, self._calls.counts
        held = self._hold.held(now_s)
        parked_since_s = self._board.parked_since_s
        return ChargingFigures(
            in_flight=self._window.in_flight,
            queued=self._queue.new,
            waiting=self._queue.waiting,
            parked=parked,
            parked_most=self._limits.parked,
            oldest_parked_for_s=(
                None if parked_since_s is None else max(0.0, time.time() - parked_since_s)
            ),
            unresolved=self._board.unresolved,
            window=self._window.limit,
            rate_limit=self._rate.limit,
            mean_latency_s=self._latency.mean_s,
            hold_cause=None if held is None else held.cause,
            held_for_s=None if held is None else now_s - held.since_s,
            hold_reason="" if held is None else held.reason,
            times_held=self._breaker.times_opened,
            calls=counts.calls,
            replies=counts.replies,
            key_replays=counts.key_replays,
            durations=counts.durations,
        )

    def close(self) -> None:
        """Close the gateway and end the thread; never raises, and may be called again."""
        self._thread.close()

    # ---- on the loop ----

    @fail_fast
    def _accept(self, charges: list[Charge]) -> None:
        """Queue payments; what was asked for before waits until it is due again."""
        now_s = time.time()
        for charge in charges:
            if charge.decision is not None:
                continue  # A person was quicker.
            if charge.parked is not None and not charge.posted_s:
                charge.posted_s = time.monotonic()
            if not charge.attempts:
                # A lane waits for it; what is parked must not take the room of what is new.
                (self._queue.add if charge.parked is None else self._queue.add_due)(charge)
            elif charge.parked is None:
                self._charge_again_later(charge, None)
            elif charge.next_attempt_s is None or charge.next_attempt_s <= now_s:
                self._queue.add_due(charge)
            else:
                self._put_off(charge, charge.next_attempt_s - now_s)
        self._fill()

    def _fill(self) -> None:
        """Begin as many calls as may be in flight; none once the thread is to end."""
        if self._thread.is_closed:
            return
        while self._window.free and not self._breaker.is_open:
            if self._rate.wait_s(time.monotonic()) > 0:
                break
            charge = self._queue.next()
            if charge is None:
                break
            self._begin(charge)
        self._set_timer()

    def _begin(self, charge: Charge) -> None:
        self._window.began()
        self._rate.sent(time.monotonic())
        self._in_flight.add(charge)
        self._run(self._charge(charge))

    def _run(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        _raise_what_ended(task)

    async def _charge(self, charge: Charge) -> None:
        """Ask once, and see to what follows from the reply."""
        began_s = time.monotonic()
        decision = charge.decision
        reply = await self._calls.reply(charge)
        seconds = time.monotonic() - began_s
        self._take(charge, reply, seconds, is_of_decision=decision is charge.decision)

    @fail_fast
    def _take(
        self, charge: Charge, reply: Reply | None, seconds: float, *, is_of_decision: bool
    ) -> None:
        self._in_flight.discard(charge)
        reply = self._believed(reply)
        is_first = not charge.attempts
        charge.attempts += 1
        charge.attempts_parked += charge.parked is not None
        self._window.ended(definite=type(reply) in DEFINITE)
        if isinstance(reply, Approved | Declined):
            self._note_answer(charge, reply, seconds, first=is_first)
            self._end(charge, reply, None)
        else:
            charge.reason = reason_of(reply)
            self._note_indefinite(charge.reason, reply, first=is_first)
            if charge.decision is None:
                self._keep(charge, reply)
            elif is_of_decision:
                self._keep_decided(charge, charge.decision, reply)
            else:
                # A call that was in flight when the decision came.
                self._look_up_for(charge)
        self._fill()

    async def _charge_batches(self, gateway: BatchGateway, batches: Sequence[QueuedBatch]) -> None:
        """Have whole batches charged by a gateway that answers at once."""
        requests = [each.batch.parsed[record] for each in batches for record in each.due]
        self._calls.counts.key_replays += sum(
            len(each.batch.claimed_before.intersection(each.due))
            for each in batches
            if each.batch.claimed_before
        )
        headers = _headers_of(batches) if tracing.is_on() else []
        replies = await self._calls.replies(gateway, requests, headers)  # type: ignore[arg-type]
        self._take_batches(batches, replies)

    @fail_fast
    def _take_batches(self, batches: Sequence[QueuedBatch], replies: list[Reply]) -> None:
        reasons: list[str] = []
        start = 0
        for queued in batches:
            end = start + len(queued.due)
            answer = _batch_answer(queued, replies[start:end])
            start = end
            reasons += answer.reasons.values()
            self._put(queued.lane, answer)
        # They were asked for side by side, so there is no row of them.
        if len(reasons) < len(replies) * _OUTAGE_SHARE:
            self._note_definite(first=True, count=len(replies) - len(reasons))
        else:
            for reason in reasons:
                self._note_indefinite(reason, Unknown(reason), first=True)
        self._fill()

    def _end(self, charge: Charge, reply: Definite, decision: PersonsDecision | None) -> None:
        charge.is_answered = True
        self._put(charge.lane, Answer(charge, reply, decision))

    def _put(self, lane: int, answer: Answer | BatchAnswer) -> None:
        self.answers(lane).append(answer)
        self._ripe.append(lane)

    # ---- what a reply means ----

    def _believed(self, reply: Reply | None) -> Reply | None:
        """Return a reply; a refusal that all payments may have is one of us."""
        if not isinstance(reply, Declined) or not reply.is_refusal:
            return reply
        is_believed = self._refusals.refused()
        if self._refusals.is_witness_due:
            self._ask_witness()
        if is_believed:
            return reply
        return Misconfigured(f"{ROW} requests in a row were refused, the last: {reply.message}")

    def _note_answer(self, charge: Charge, reply: Definite, seconds: float, *, first: bool) -> None:
        """Note what a definite answer shows of the provider."""
        if isinstance(reply, Approved):
            self._refusals.witness = charge.request
        elif reply.basis is DeclineBasis.NOT_SENT:
            return
        self._latency.answered(seconds)
        decided = isinstance(reply, Approved) or not reply.is_refusal
        self._note_definite(first=first, decided=decided)

    def _note_definite(self, *, first: bool, count: int = 1, decided: bool = True) -> None:
        """Note that the provider answers; `decided` if that was more than a refusal."""
        if decided:
            self._refusals.decided()
        held_s = self._held_s()
        if not self._breaker.definite(first=first, count=count):
            if self._hold.is_release_due(time.monotonic()):
                self._queue.release()
            return
        self._window.shut()
        self._queue.release()
        _log.warning(
            "gateway answers again: the flow goes on",
            held_s=round(held_s, 1),
            parked=self._board.parked,
        )

    def _note_indefinite(self, reason: str, reply: Reply | None, *, first: bool) -> None:
        """Note that there was no definite answer: it may be an outage, or too fast for them."""
        now_s, opened = time.monotonic(), False
        if isinstance(reply, Misconfigured):
            opened = self._breaker.misconfigured(reason, now_s)
        elif isinstance(reply, NotExecuted | Unknown):  # else the provider is well
            # One call too many is no sign of an outage, whether it was a first attempt or not.
            opened = self._breaker.indefinite(reason, now_s, first=first and not reply.too_many)
            demanded_s = _demanded_s(reply)
            if reply.too_many or demanded_s is not None:
                self._rate.too_fast(demanded_s, now_s)
        if opened:
            self._hold.opened(now_s)
            _log.warning(
                "gateway is away: the flow holds, and goes on by itself",
                reason=reason,
                parked=self._board.parked,
            )

    def _keep(self, charge: Charge, reply: Reply | None) -> None:
        """Keep a payment without an answer: to be asked for again, or for a person."""
        if isinstance(reply, Pending) or (isinstance(reply, Unknown) and reply.saved):
            charge.look_up = True
        way = self._calls.way(charge)
        charge.is_unresolved = (
            charge.is_unresolved
            or way is Ask.NOTHING
            # Of a young key, a charge may still be on its way.
            or (way is Ask.LOOK_UP and reply is None)
            or _parked_for_s(charge) > retry_schedule.UNRESOLVED_AFTER_S
        )
        charge.next_attempt_s = None
        if way is not Ask.NOTHING:
            self._charge_again_later(charge, _demanded_s(reply))
        if charge.parked is not None:
            self._put(charge.lane, Answer(charge, None))

    # ---- decisions of persons: the rules are those of `dataflow.core.persons_decisions` ----

    @fail_fast
    def _decide(self, charge: Charge, decision: PersonsDecision) -> None:
        if charge.is_answered:
            return  # Its lane finds the answer.
        charge.decision, charge.fruitless = decision, 0
        if charge not in self._in_flight:
            self._queue.remove(charge)
            self._look_up_for(charge)
            self._fill()

    def _look_up_for(self, charge: Charge) -> None:
        """Have the provider asked once more before a decision stands."""
        # What an earlier run may have posted has no age: its record may have waited long for that.
        if charge.may_be_charged and not charge.posted_s:
            charge.posted_s = time.monotonic()
        if charge.may_be_charged or not self._calls.has_old_key(charge):
            charge.quiet_until_s = charge.posted_s + persons_decisions.QUIET_S
        self._put_off(charge, max(0.0, charge.quiet_until_s - time.monotonic()))

    def _keep_decided(self, charge: Charge, decision: PersonsDecision, reply: Reply | None) -> None:
        # A probe, or the end of an outage, may have come before that.
        quiet_s = charge.quiet_until_s - time.monotonic()
        charge.fruitless += isinstance(reply, Unknown)
        decided = None
        if quiet_s <= 0:
            decided = persons_decisions.outcome(decision, reply, charge.fruitless)
        if decided is not None:
            self._end(charge, decided, decision)
            return
        self._put_off(charge, max(quiet_s, parked_s(charge.fruitless, self._draw())))
        self._put(charge.lane, Answer(charge, None))

    def _charge_again_later(self, charge: Charge, demanded_s: float | None) -> None:
        if charge.parked is None:
            pause_s = soon_s(charge.attempts, self._draw())
        else:
            pause_s = parked_s(charge.attempts_parked, self._draw())
        self._put_off(charge, max(pause_s, min(demanded_s or 0.0, _ASKED_MOST_S)))

    def _put_off(self, charge: Charge, pause_s: float) -> None:
        charge.next_attempt_s = time.time() + pause_s
        self._queue.put_off(charge, time.monotonic() + pause_s)

    def _held_s(self) -> float:
        since_s = self._hold.since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    # ---- time ----

    @fail_fast
    def _tick(self) -> None:
        """Queue what is due, and send a probe if it is time for one."""
        if self._thread.is_closed:
            return
        now_s = time.monotonic()
        self._queue.advance(now_s)
        if self._hold.is_probe_due(now_s) and self._window.in_flight < self._window.most:
            self._probe()
        self._fill()

    def _probe(self) -> None:
        if not self._refusals.are_believed:
            self._ask_witness()
        charge = self._queue.probe()
        if charge is not None:
            self._begin(charge)
        elif not self._window.in_flight:
            # There is no payment to try it with.
            self._run(self._probe_without_a_payment())

    async def _probe_without_a_payment(self) -> None:
        self._take_probe(await self._calls.probe())

    def _ask_witness(self) -> None:
        """Look up a payment that was approved before: is it us whom the provider does not know?"""
        witness = self._refusals.witness
        can_ask = self._gateway.traits.has_lookup and not self._thread.is_closed
        if witness is not None and can_ask:
            self._run(self._look_for(Charge(0, witness, time.time())))

    async def _look_for(self, witness: Charge) -> None:
        self._take_witness(await self._calls.look_up(witness))

    @fail_fast
    def _take_witness(self, reply: Reply | None) -> None:
        if isinstance(reply, Approved):
            self._note_definite(first=False)
            self._fill()

    @fail_fast
    def _take_probe(self, reply: Reply | None) -> None:
        if reply is None:
            # It works for any account.
            if self._refusals.are_believed:
                self._note_definite(first=False, decided=False)
        elif self._breaker.is_open:
            self._note_indefinite(reason_of(reply), reply, first=False)
        self._fill()

    def _set_timer(self) -> None:
        """Have `_tick` called when the next thing is due."""
        now_s = time.monotonic()
        times_s = [self._queue.next_s, self._hold.next_probe_s]
        if self._queue.is_ready and not self._breaker.is_open:
            wait_s = self._rate.wait_s(now_s)
            times_s.append(now_s + wait_s if wait_s > 0 else None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = min((each for each in times_s if each is not None), default=None)
        if at_s is not None:
            pause_s = max(0.0, at_s - now_s)
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._tick)


@fail_fast
def _raise_what_ended(task: "asyncio.Task[None] | Future[None]") -> None:
    """Raise what has ended a task: its payments would never be answered, and nothing waits."""
    if not task.cancelled():
        task.result()


def _demanded_s(reply: Reply | None) -> float | None:
    """Return the pause that the provider demands, if it does."""
    return reply.retry_after_s if isinstance(reply, NotExecuted) else None


def _headers_of(batches: Sequence[QueuedBatch]) -> list[Headers]:
    """Return the headers of each payment that is due; nothing at all if none has any."""
    if not any(each.batch.headers for each in batches):
        return []
    return [
        each.batch.headers.get(each.batch.offsets[record], [])
        for each in batches
        for record in each.due
    ]


def _parked_for_s(charge: Charge) -> float:
    """Return for how long a payment is parked; its key may seem older, by a record's timestamp."""
    return 0.0 if charge.parked is None else time.time() - seconds(charge.parked.parked_at)


def _batch_answer(queued: QueuedBatch, replies: list[Reply]) -> BatchAnswer:
    """Return the replies about a batch, with the reasons of those that are no answers."""
    answers: list[Definite | None] = replies  # type: ignore[assignment]
    reasons = {}
    if not DEFINITE.issuperset(map(type, replies)):
        for number, reply in enumerate(replies):
            if type(reply) not in DEFINITE:
                reasons[number] = reason_of(reply)
                answers[number] = None
    return BatchAnswer(queued, answers, reasons)
