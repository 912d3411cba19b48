"""process: has the gateway charge what is to be charged, decides each outcome, and never waits.

The rules are those of `dataflow.core.lane_queue`. A lane acts when it gets an item: then it takes
in the answers that have come, and emits what may leave its queue. The sources see to it that it
gets one when there is something to do (`Signal.WAKE`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from dataflow.core.charging import LaneCharging
from dataflow.core.decision import GatewayDecision, decide, decide_all, due
from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, DedupedBatch, OutcomeBatch, PendingChange, Signal
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import Answer, Charge, LaneQueue, QueuedBatch
from dataflow.core.origins import origin
from dataflow.core.parked import Restored, after_an_attempt, charge_of, entry_of
from dataflow.observability import tracing
from dataflow.service.fail_fast import fail_fast
from dataflow.steps.person import Person
from schemas.decisions import PersonsDecision
from schemas.events import Records
from schemas.replies import Definite

LaneName = str
Timed = Callable[[float, int, str | None], None]
"""A callback with the seconds from reading to decision, the number of records, a trace of one."""
_QUIET = {Signal.OPEN, Signal.RESTORE}
"""While the lanes open and restore, none may have a transaction open."""
_OURS = {Signal.WAKE, Signal.FLUSH, Signal.HOLD, Signal.RESUME}
"""The signals that go no further."""
_FLUSHING = {Signal.FLUSH, Signal.DRAIN, Signal.RESTART}


class Pending(Protocol):
    """The pending topic."""

    def of(self, lane: int, fenced: Fenced) -> Sequence[Restored]:
        """Return what is pending in a lane."""

    def decisions(self, lane: int) -> Sequence[PersonsDecision]:
        """Return the decisions of persons that have come for a lane since the last call."""


class NothingPending:
    """The pending topic of a flow that has no past."""

    def of(self, _lane: int, _fenced: Fenced) -> Sequence[Restored]:
        """Return nothing."""
        return ()

    def decisions(self, _lane: int) -> Sequence[PersonsDecision]:
        """Return none."""
        return ()


class _Lane:
    """A lane, and what one call of the step does with it."""

    def __init__(self, number: int) -> None:
        self.queue = LaneQueue(number)
        self.flushes: list[tuple[int, int]] = []
        self.has_restored = False


class Process:
    """The mapper of the step; shared by the workers, each of which has its own lanes.

    Args:
        input_topic: Where the records came from: part of every event.
        charging: The gateway.
        pending: What earlier runs have parked.
        board: Shows the sources what is queued.
        timed: Called once for each batch.
    """

    def __init__(
        self,
        input_topic: str,
        charging: LaneCharging,
        pending: Pending,
        board: LaneBoard,
        timed: Timed,
    ) -> None:
        self._input_topic = input_topic
        self._charging = charging
        self._pending = pending
        self._board = board
        self._timed = timed
        self._lanes: dict[LaneName, _Lane] = {}
        self._person = Person(pending.decisions, charging)

    @fail_fast
    def __call__(
        self, items: list[tuple[LaneName, DedupedBatch | ControlMessage]]
    ) -> list[tuple[LaneName, OutcomeBatch | ControlMessage]]:
        """Take in what the lanes get; return what they have to publish now."""
        out: list[tuple[LaneName, OutcomeBatch | ControlMessage]] = []
        now_s = time.monotonic()
        committed: list[QueuedBatch] = []
        touched: dict[LaneName, _Lane] = {}
        for name, item in items:
            lane = self._lanes.get(name) or self._lanes.setdefault(name, _Lane(int(name)))
            if item.epoch > lane.queue.epoch:
                committed += lane.queue.begin(item.epoch, now_s)
            if isinstance(item, DedupedBatch):
                touched[name] = lane
                out += ((name, each) for each in _queue_up(lane.queue, item))
                continue
            if item.signal not in _QUIET:
                touched[name] = lane
            if (control := self._obey(lane, item)) is not None:
                out.append((name, control))
        self._charge(committed)
        for name, lane in touched.items():
            out += ((name, each) for each in self._publish(lane, now_s))
            self._charging.note_claimed(lane.queue.lane, lane.queue.claimed)
            self._board.show(lane.queue)
        return out

    def _obey(self, lane: _Lane, control: ControlMessage) -> ControlMessage | None:
        """Act on a signal; return it as it goes on, if it does."""
        signal = control.signal
        if control.fenced and not lane.has_restored:
            # Each input partition sends one.
            lane.has_restored = True
            self._restore(lane.queue, control.fenced)
        elif signal in _FLUSHING:
            lane.flushes.append((control.partition, control.next_offset))
        elif signal in {Signal.HOLD, Signal.RESUME}:
            self._charging.peer_holds(control.partition, holds=signal is Signal.HOLD)
        elif signal is Signal.REFRESH_OFFSETS:
            # The lane's own position, which is lower while something is queued.
            lowest = lane.queue.lowest().get(control.partition, control.next_offset)
            return replace(control, next_offset=min(lowest, control.next_offset))
        return None if signal in _OURS else control

    def _charge(self, committed: list[QueuedBatch]) -> None:
        """Charge the batches whose claims are committed."""
        # What has left already is parked: each of those has its own charge.
        waiting = [queued for queued in committed if not queued.has_left]
        one_by_one = [queued for queued in committed if queued.has_left]
        if waiting and not self._charging.charge_batches(waiting):
            one_by_one = committed
        now_s = time.time()
        charges = [
            queued.charge(number, now_s) for queued in one_by_one for number in queued.unanswered()
        ]
        if charges:
            self._charging.charge(charges)

    def _restore(self, queue: LaneQueue, fenced: Fenced) -> None:
        """Take over what earlier runs have parked, and ask for it again."""
        charges = [charge_of(queue.lane, each) for each in self._pending.of(queue.lane, fenced)]
        queue.restore(charges)
        for charge in charges:
            self._hold(charge)
        if charges:
            self._charging.charge(charges)

    def _hold(self, charge: Charge) -> None:
        """Keep the id of what is parked from being forgotten."""
        entry = charge.parked
        assert entry is not None
        at = origin(entry.source.partition, entry.source.offset)
        self._board.held(charge.lane)[charge.request.identity()] = at
        self._person.note_parked(entry.event_id, charge)

    # ---- publishing ----

    def _publish(self, lane: _Lane, now_s: float) -> Iterable[OutcomeBatch]:
        queue = lane.queue
        answers = self._charging.answers(queue.lane)
        if answers:
            taken = [answers.popleft() for _ in range(len(answers))]
            if again := queue.take(taken, time.time()):
                self._charging.charge(again)
        left = queue.leave(now_s, self._charging.park_after_s())
        for partition, upto in lane.flushes:
            left += queue.flush(partition, upto)
        lane.flushes.clear()
        for queued in left:
            yield self._decide(queue, queued)
        if resolved := queue.resolved():
            yield self._resolve(queue, resolved)
        if done := self._person.take(queue.lane):
            yield OutcomeBatch(decided_at=time.time(), decisions_done=done)

    def _decide(self, queue: LaneQueue, queued: QueuedBatch) -> OutcomeBatch:
        batch = queued.batch
        replies: list[Definite | None] = [None] * len(batch.offsets)
        for record, reply in zip(queued.due, queued.replies, strict=True):
            replies[record] = reply
        parked = {queued.due[number]: number for number in queued.unanswered()}
        if parked:
            return self._decide_in_part(queue, queued, parked, replies)
        outcomes = decide_all(batch.parsed, batch.verdicts, batch.first_origins, replies)
        records = Records(self._input_topic, batch.partition)
        now = time.time()
        self._timed(now - batch.read_at, len(outcomes), tracing.trace_id(batch.headers.values()))
        return OutcomeBatch(
            position=(batch.partition, batch.next_offset),
            times_ms=batch.times_ms,
            # Once for all branches.
            event_ids=records.event_ids(batch.offsets),
            sources=records.sources(batch.offsets),
            outcomes=outcomes,
            decided_at=now,
            headers={records.event_id(at): each for at, each in batch.headers.items()},
        )

    def _decide_in_part(
        self,
        queue: LaneQueue,
        queued: QueuedBatch,
        parked: dict[int, int],
        replies: list[Definite | None],
    ) -> OutcomeBatch:
        """Decide what can be decided of a batch, and park the rest."""
        batch, now = queued.batch, time.time()
        records = Records(self._input_topic, batch.partition)
        headers = {records.event_id(at): each for at, each in batch.headers.items()}
        position = (batch.partition, batch.next_offset)
        out = OutcomeBatch(position=position, decided_at=now, headers=headers)
        decided = []
        for record, offset in enumerate(batch.offsets):
            event_id = records.event_id(offset)
            if record in parked:
                charge = queued.charge(parked[record], now)
                time_ms = int(batch.times_ms[record])
                entry = entry_of(charge, event_id, records.source(offset), time_ms, now)
                queue.park(charge, entry)
                self._hold(charge)
                change = PendingChange(event_id, entry, is_new=True, headers=charge.headers)
                out.pending.append(change)
                continue
            decided.append(record)
            out.event_ids.append(event_id)
            out.sources.append(records.source(offset))
            out.outcomes.append(
                decide(
                    batch.parsed[record],
                    batch.verdicts[record],
                    batch.first_origins[record],
                    replies[record],
                )
            )
        out.times_ms = batch.times_ms[np.array(decided, np.int64)]
        self._timed(now - batch.read_at, len(decided), tracing.trace_id(batch.headers.values()))
        return out

    def _resolve(self, queue: LaneQueue, news: Sequence[Answer]) -> OutcomeBatch:
        """Return the outcomes of what was parked, and the entries of what still is."""
        out = OutcomeBatch(decided_at=time.time())
        times_ms = []
        for answer in news:
            charge = answer.charge
            entry = charge.parked
            assert entry is not None
            if answer.reply is None:
                queue.park(charge, after_an_attempt(charge, entry))
                change = PendingChange(entry.event_id, charge.parked, headers=charge.headers)
                out.pending.append(change)
                continue
            queue.park(charge, None)
            # Once the lane log was lost, a copy may be parked beside it.
            self._board.held(charge.lane).pop(charge.request.identity(), None)
            self._person.end(entry.event_id, answer, out)
            out.pending.append(PendingChange(entry.event_id, None))
            out.event_ids.append(entry.event_id)
            out.sources.append(entry.source)
            if charge.headers:
                out.headers[entry.event_id] = charge.headers
            out.outcomes.append(GatewayDecision(charge.request, answer.reply))
            times_ms.append(entry.record_time_ms)
        out.times_ms = np.array(times_ms, np.int64)
        return out


def _queue_up(queue: LaneQueue, batch: DedupedBatch) -> Iterable[OutcomeBatch]:
    """Queue a batch; return its claims, which go ahead."""
    queue.add(batch, due(batch.parsed, batch.verdicts))
    if batch.entries:
        yield OutcomeBatch(entries=batch.entries, remembered=batch.remembered)
