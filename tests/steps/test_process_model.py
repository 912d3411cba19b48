"""A lane against all that may happen to it: epochs, answers, parking, crashes at any moment.

The steps are the real ones, from `decode` to the branches. What Kafka keeps is played by `Kafka`,
which takes a lane's transaction as a whole or not at all; the provider by `Provider`, whose book
outlives all crashes. One lane of two commits, and the process is killed: the state is torn. After a
clean stop there may be another number of lanes, whatever is parked.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.committable_position import CommittablePosition
from dataflow.core.decision import GatewayDecision, Repeated
from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, OutcomeBatch, RecordBatch, Signal
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_log import Entries, entries_in
from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, LaneQueue, QueuedBatch
from dataflow.core.lanes import lane_name, lane_of_key
from dataflow.core.origins import place
from dataflow.core.parked import Restored
from dataflow.dedupe.remembered import RememberedIds
from dataflow.dedupe.tiered import TieredIndex
from dataflow.steps.decode import Decode
from dataflow.steps.dedupe import Dedupe, Expiry, NoLog
from dataflow.steps.process import Process
from schemas import pending
from schemas.decisions import PersonsDecision
from schemas.parsing import parse
from schemas.replies import Approved, Declined
from schemas.requests import PaymentRequest, key_of
from tests.explore import examples
from tests.steps.step_samples import MAX_BYTES, payment
from tests.support.signals import opening, restoring

PARTITIONS = 2
DAY_MS = 24 * 3600 * 1000
FOR_EVER_S = 1e9
QUIET_TURNS = 10
Place = tuple[int, int]


class Kafka:
    """The committed part of everything."""

    def __init__(self, partitions: Sequence[Sequence[bytes | None]]) -> None:
        self.partitions = partitions
        self.lanes = 2
        self.log: list[bytes] = []
        self.positions: dict[int, dict[int, int]] = defaultdict(dict)
        self.kept = [0] * PARTITIONS
        """The position of each source, in its store."""
        self.stopped_at = [0] * PARTITIONS
        """The same at the last clean stop; it is in the group, too."""
        self.outcomes: dict[str, tuple[PaymentRequest, str]] = {}
        """Processed or failed, by the eventId."""
        self.repeats: dict[str, tuple[Place, str, Place]] = {}
        self.audited: Counter[Place] = Counter()
        self.pending: dict[str, bytes] = {}

    def commit(self, lane: int, batches: Sequence[OutcomeBatch]) -> None:
        """Take a transaction."""
        for batch in batches:
            self.log.append(batch.entries)
            if batch.position is not None:
                partition, next_offset = batch.position
                before = self.positions[lane].get(partition, 0)
                assert next_offset >= before, "a position that goes back"
                self.positions[lane][partition] = next_offset
            for change in batch.pending:
                if change.entry is None:
                    del self.pending[change.event_id]
                else:
                    assert change.is_new == (change.event_id not in self.pending)
                    self.pending[change.event_id] = pending.encode(change.entry)
            for event_id, source, outcome in zip(
                batch.event_ids, batch.sources, batch.outcomes, strict=True
            ):
                where = source.partition, source.offset
                self.audited[where] += 1
                if isinstance(outcome, GatewayDecision):
                    assert event_id not in self.outcomes
                    self.outcomes[event_id] = outcome.request, type(outcome.reply).__name__
                elif isinstance(outcome, Repeated):
                    first = place(outcome.first_origin)
                    kind = outcome.event_type.value.removeprefix("payment.")
                    self.repeats[event_id] = where, kind, first

    def is_any_ahead(self) -> bool:
        """Return whether a lane is ahead of the sources: then another number of them is refused."""
        return any(
            offset > self.kept[partition]
            for offsets in self.positions.values()
            for partition, offset in offsets.items()
        )

    def claims(self) -> Entries:
        return entries_in(b"".join(self.log))


class Provider:
    """The book of the provider: one movement for each key, with the content it was asked for."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.book: dict[str, tuple[bytes, str]] = {}

    def charge(self, request: PaymentRequest) -> Approved | Declined:
        claimed = {
            (entry["key"].tobytes(), int(entry["fingerprint"])) for entry in self.kafka.claims()
        }
        identity = request.identity()
        mine = identity[:16], int.from_bytes(identity[16:], "little")
        assert mine in claimed, "charged before the claim is committed"
        kind = "Declined" if "decline" in request.payment_id else "Approved"
        content, kind = self.book.setdefault(request.payment_id, (identity, kind))
        assert content == identity, "the key was used with other content"
        if kind == "Approved":
            return Approved("ch_" + request.payment_id)
        return Declined("declined", "No.", retryable=False)  # type: ignore[arg-type]


class Charging:
    """The gateway of one run: charges at once, and answers when the test wants it to."""

    def __init__(self, provider: Provider, *, in_batches: bool) -> None:
        self.provider = provider
        self.in_batches = in_batches
        self.wait_s = FOR_EVER_S
        self.under_way: list[Charge] = []
        self.batches: list[QueuedBatch] = []
        self.by_lane: dict[int, deque[Answer | BatchAnswer]] = defaultdict(deque)

    def charge(self, charges: Sequence[Charge]) -> None:
        for charge in charges:
            assert charge not in self.under_way, "asked for twice at once"
            self.provider.charge(charge.request)
        self.under_way += charges

    def charge_batches(self, batches: Sequence[QueuedBatch]) -> bool:
        if self.in_batches:
            for queued in batches:
                for record in queued.due:
                    self.provider.charge(queued.batch.parsed[record])  # type: ignore[arg-type]
            self.batches += batches
        return self.in_batches

    def answer(self, *, definite: bool, which: int) -> None:
        """Answer one of the calls that are under way."""
        if self.batches:
            queued = self.batches.pop(which % len(self.batches))
            replies: list[Approved | Declined | None] = []
            reasons = {}
            for number, record in enumerate(queued.due):
                request = queued.batch.parsed[record]
                if definite or number % 2:
                    replies.append(self.provider.charge(request))  # type: ignore[arg-type]
                else:
                    replies.append(None)
                    reasons[number] = "no answer"
            self.by_lane[queued.lane].append(BatchAnswer(queued, replies, reasons))
        elif self.under_way:
            charge = self.under_way[which % len(self.under_way)]
            charge.attempts += 1
            if definite:
                self.under_way.remove(charge)
                reply = self.provider.charge(charge.request)
                self.by_lane[charge.lane].append(Answer(charge, reply))
            elif charge.parked is not None:
                self.by_lane[charge.lane].append(Answer(charge, None))

    @property
    def is_idle(self) -> bool:
        return not (self.under_way or self.batches or any(self.by_lane.values()))

    def answers(self, lane: int) -> deque[Answer | BatchAnswer]:
        return self.by_lane[lane]

    def park_after_s(self) -> float:
        return self.wait_s

    def decide(self, charge: Charge, decision: PersonsDecision) -> None: ...

    def note_claimed(self, lane: int, payments: int) -> None: ...

    def peer_holds(self, partition: int, *, holds: bool) -> None: ...


class _Log(NoLog):
    """The lanes' log, as it was when the run began."""

    def __init__(self, entries: Entries, lanes: int) -> None:
        self.entries, self.lanes = entries, lanes
        self.indexes: dict[int, TieredIndex] = {}

    def expect(self, lane: int, index: TieredIndex) -> None:
        self.indexes[lane] = index

    def restore(self, lane: int, _fenced: Fenced) -> dict[int, int]:
        keys = [each["key"].tobytes() for each in self.entries]
        lanes = np.array([lane_of_key(key, self.lanes) for key in keys], int)
        self.indexes[lane].restore(self.entries[lanes == lane])
        return {}


class _Pending:
    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka

    def decisions(self, _lane: int) -> list[PersonsDecision]:
        return []

    def of(self, lane: int, _fenced: Fenced) -> list[Restored]:
        entries = map(pending.decode, self.kafka.pending.values())
        lanes = self.kafka.lanes
        mine = (each for each in entries if lane_of_key(key_of(each.payment_id), lanes) == lane)
        return [Restored(each, []) for each in mine]


class _Board(LaneBoard):
    """The view of one process of two: the lanes of the other are hidden."""

    def show(self, queue: LaneQueue) -> None:
        if queue.lane == 0:
            super().show(queue)


class Run:
    """One run of the flow, from its start to a crash or to the end."""

    def __init__(self, kafka: Kafka, charging: Charging, *, sees_all: bool) -> None:
        self.kafka, self.charging = kafka, charging
        lanes = range(kafka.lanes)
        self.board = LaneBoard() if sees_all else _Board()
        self.on_their_way: list[RecordBatch | ControlMessage] = []
        """Items that the sources have emitted, and the lanes not got."""
        self.decode = Decode(kafka.lanes, MAX_BYTES, lambda *_: None)
        build = Dedupe.builder(
            lambda *_: None,
            _Log(kafka.claims(), kafka.lanes),
            RememberedIds(DAY_MS, 2**24).open,
            Expiry(DAY_MS, range(PARTITIONS), self.board.held),
            MAX_BYTES,
        )
        self.lanes = {lane_name(lane): build(None) for lane in lanes}
        self.process = Process("requested", charging, _Pending(kafka), self.board, lambda *_: None)
        self.epoch = 0
        self.open: dict[int, list[OutcomeBatch]] = defaultdict(list)
        self.next = list(kafka.kept)
        self.committable = [CommittablePosition(at, at, sees_all=sees_all) for at in kafka.kept]
        self.committed = {
            partition: {lane: kafka.positions[lane].get(partition, 0) for lane in lanes}
            for partition in range(PARTITIONS)
        }
        for signal in (opening, restoring):
            for partition in range(PARTITIONS):
                self.emit(signal(partition, epoch=self.epoch))
                self.deliver()
                charging.answer(definite=True, which=0)
            assert not self.open, "something was emitted while lanes restore"
            self.end_epoch(kafka.lanes)

    def control(self, signal: Signal, partition: int, offset: int = 0) -> ControlMessage:
        return ControlMessage(signal, partition, offset, epoch=self.epoch)

    def emit(self, item: RecordBatch | ControlMessage) -> None:
        self.on_their_way.append(item)

    def deliver(self) -> None:
        """Let the lanes have what is on its way: in order, but all at once or one by one."""
        items, self.on_their_way = self.on_their_way, []
        for item in items:
            judged = []
            for name, each in self.decode(item):
                judged += [(name, one) for one in self.lanes[name].on_batch([each])[0]]
            for name, one in self.process(judged):
                if isinstance(one, OutcomeBatch):
                    self.open[int(name)].append(one)

    def read(self, partition: int, count: int) -> None:
        values = self.kafka.partitions[partition]
        start = self.next[partition]
        end = min(start + count, len(values))
        if start == end:
            return
        self.next[partition] = end
        self.committable[partition].read(end, self.epoch, 0.0)
        self.emit(
            RecordBatch(
                partition=partition,
                offsets=np.arange(start, end),
                times_ms=np.arange(start, end) + 1_767_225_600_000,
                values=list(values[start:end]),
                next_offset=end,
                read_at=1_767_225_600.0,
                epoch=self.epoch,
                committed=self.committed[partition],
            )
        )

    def wake(self) -> None:
        self.emit(self.control(Signal.WAKE, 0))

    def flush(self, partition: int) -> None:
        upto = self.committable[partition].to_flush(1.0)
        if upto is not None:
            self.committable[partition].flushed(upto)
            self.emit(self.control(Signal.FLUSH, partition, upto))

    def end_epoch(self, lanes_that_commit: int) -> bool:
        """End the epoch; return False if the process was killed in it.

        The sources make their snapshots while their last items are still on their way.
        """
        kept = [
            position.end_epoch(self.epoch, self.board.lowest(partition))
            for partition, position in enumerate(self.committable)
        ]
        self.deliver()
        for lane in range(lanes_that_commit):
            self.kafka.commit(lane, self.open.pop(lane, []))
        if lanes_that_commit < self.kafka.lanes:
            return False
        self.kafka.kept = kept
        self.epoch += 1
        return True

    def stop(self, lanes: int) -> None:
        """Stop in order, and have so many lanes from then on."""
        for partition, position in enumerate(self.committable):
            self.emit(self.control(Signal.DRAIN, partition, self.next[partition]))
            position.drain()
        assert self.end_epoch(self.kafka.lanes)
        assert self.kafka.kept == self.next
        if not self.kafka.is_any_ahead():
            self.kafka.stopped_at = self.kafka.kept
            self.kafka.lanes = lanes

    def finish(self) -> None:
        """Go on until everything is read and answered, and some turns more."""
        self.charging.wait_s = FOR_EVER_S
        quiet = 0
        for turn in range(200):
            for partition in range(PARTITIONS):
                self.read(partition, 3)
                self.flush(partition)
            self.charging.answer(definite=True, which=turn)
            self.wake()
            assert self.end_epoch(self.kafka.lanes)
            quiet = quiet + 1 if self.is_done() else 0
            if quiet == QUIET_TURNS:
                break
        assert self.charging.is_idle

    def is_done(self) -> bool:
        """Return whether nothing is left to do."""
        lengths = [len(values) for values in self.kafka.partitions]
        return self.kafka.kept == lengths and self.charging.is_idle and not self.kafka.pending


IDS = [*(f"pay_{n}" for n in range(5)), "decline_1"]
HAPPENS = {
    "read": ((0, 1), (1, 2, 3)),
    "answer": ((True, True, False), (0, 1, 5)),
    "wake": (),
    "deliver": (),
    "flush": ((0, 1),),
    "wait": ((0.0, FOR_EVER_S),),
    "end": (),
    "crash": ((0, 1),),
    "lose the store": (),
    "stop": ((1, 2, 3, 5),),
}
OFTEN = (
    *["read"] * 4,
    *["answer"] * 4,
    *["wake"] * 2,
    *["deliver"] * 3,
    "flush",
    "wait",
    *["end"] * 6,
)
"""The events of a run, each as often as here; runs are long, as few crashes as they have."""


def story(seed: int) -> list[tuple[Any, ...]]:
    """Return what happens in several runs; lists that are drawn one by one would be too short."""
    draw = Random(seed)
    names = draw.choices(
        [*OFTEN, *OFTEN, "crash", "lose the store", "stop"], k=draw.randrange(20, 120)
    )
    return [(name, *map(draw.choice, HAPPENS[name])) for name in names]


def records(seed: int) -> list[list[bytes | None]]:
    """Return the records of all partitions; few ids, so that copies meet."""
    draw = Random(seed)
    made = [payment(name, amount) for name in IDS for amount in (5, 5, 6)]
    return [
        draw.choices([*made, None, b"garbage"], k=draw.randrange(12)) for _ in range(PARTITIONS)
    ]


def play(run: Run, steps: Sequence[tuple[Any, ...]]) -> tuple[bool, int]:
    """Play steps until the process ends; return whether it did, and how many were played."""
    for number, (what, *how) in enumerate(steps, 1):
        if what in ENDS:
            end(run, what, *how)
            return True, number
        if what == "read":
            run.read(*how)
        elif what == "answer":
            run.charging.answer(definite=how[0], which=how[1])
        elif what == "wake":
            run.wake()
        elif what == "deliver":
            run.deliver()
        elif what == "flush":
            run.flush(*how)
        elif what == "wait":
            run.charging.wait_s = how[0]
        elif what == "end":
            run.end_epoch(run.kafka.lanes)
    return False, len(steps)


ENDS = {"crash", "lose the store", "stop"}


def end(run: Run, what: str, *how: int) -> None:
    """End the process."""
    if what == "crash":
        run.end_epoch(*how)
    elif what == "stop":
        run.stop(*how)
    else:
        run.kafka.kept = run.kafka.stopped_at


def assert_exact(kafka: Kafka, provider: Provider) -> None:
    requests = {
        (partition, offset): parse(value, MAX_BYTES)
        for partition, values in enumerate(kafka.partitions)
        for offset, value in enumerate(values)
    }
    assert not kafka.pending
    assert kafka.audited == dict.fromkeys(requests, 1)
    published = {request.payment_id: (request, kind) for request, kind in kafka.outcomes.values()}
    assert len(published) == len(kafka.outcomes), "two outcomes of a payment"
    valid = {at: each for at, each in requests.items() if isinstance(each, PaymentRequest)}
    assert published.keys() == {each.payment_id for each in valid.values()}
    assert provider.book == {
        payment_id: (request.identity(), kind) for payment_id, (request, kind) in published.items()
    }
    for where, kind, first in kafka.repeats.values():
        same = valid[where].identity() == valid[first].identity()
        assert kind == ("duplicate" if same else "conflict")
        assert published[valid[where].payment_id][0].identity() == valid[first].identity()


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@examples(200)
def test_each_payment_is_charged_as_it_is_published(
    seed: int,
    in_batches: bool,  # noqa: FBT001  (drawn)
    sees_all: bool,  # noqa: FBT001
) -> None:
    kafka = Kafka(records(seed))
    provider = Provider(kafka)
    steps = story(seed)
    run = Run(kafka, Charging(provider, in_batches=in_batches), sees_all=sees_all)
    while steps:
        crashed, played = play(run, steps)
        steps = steps[played:]
        if crashed:
            run = Run(kafka, Charging(provider, in_batches=in_batches), sees_all=sees_all)
    run.finish()
    assert_exact(kafka, provider)
    assert kafka.kept == [len(values) for values in kafka.partitions]
