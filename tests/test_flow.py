"""The whole flow, in memory: from records on several partitions to the events of three topics.

What Kafka does for it (offsets, transactions) is played by a few lists: `Topics` keeps what was
committed, `Lane` commits a lane's epoch at once or not at all, and `Partition` speaks the source's
protocol: open, restore, live. With the real Kafka: `tests/integration`.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import bytewax.visualize
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, Sink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config.settings import Settings
from dataflow.core.committable_position import CommittablePosition
from dataflow.core.fenced import Fenced
from dataflow.core.items import (
    ControlMessage,
    LaneProgress,
    OutputBatch,
    RecordBatch,
    Signal,
    SinkItem,
    SourceItem,
)
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_log import entries_in
from dataflow.core.lanes import lane_name, lane_of_key
from dataflow.core.origins import place
from dataflow.core.parked import Restored
from dataflow.dedupe.remembered import RememberedIds
from dataflow.dedupe.tiered import TieredIndex
from dataflow.flow import flow
from dataflow.gateways.dispatcher import Dispatcher, Limits
from dataflow.gateways.port import Approved, Declined, Reply, Unknown
from dataflow.gateways.simulated import ImmediateGateway, SimulatedGateway
from dataflow.runtime import Runtime
from schemas.decisions import PersonsDecision
from schemas.events import EVENT_OVERHEAD_BYTES
from schemas.outcomes import ErrorCode
from schemas.parsing import parse
from schemas.pending import PendingEntry, decode
from schemas.requests import PaymentRequest, key_of
from tests import ROOT, published
from tests.explore import examples
from tests.support.answered_source import AnsweredSource
from tests.support.required import REQUIRED
from tests.support.signals import opening, restoring

LANES = 3
BATCH = 3
EVERY_BATCH = timedelta(0)
"""An epoch for each batch."""
PROCESSED = "payments.payment-processed"
FAILED = "payments.payment-failed"
AUDIT = "audit.payment-events"
PENDING = "payments.payment-pending"
FOR_LANES = {Signal.WAKE, Signal.FLUSH, Signal.HOLD, Signal.RESUME}
"""Signals that lanes act on, and do not pass on."""
START: list[SourceItem] = [opening(), restoring()]


def payment(payment_id: str, amount: object = 5, **changes: object) -> bytes:
    fields = {
        "paymentId": payment_id,
        "userId": "user_456",
        "amount": amount,
        "currency": "USD",
        "paymentMethod": "credit_card",
    }
    return json.dumps(fields | changes).encode()


def batch(partition: int, first_offset: int, values: list[bytes | None], **how: Any) -> RecordBatch:
    offsets = np.arange(first_offset, first_offset + len(values))
    return RecordBatch(
        partition=partition,
        offsets=offsets,
        times_ms=offsets * 1000,
        values=values,
        next_offset=first_offset + len(values),
        read_at=1_767_225_600 + first_offset + partition / 10,
        **how,
    )


def made_runtime() -> Runtime:
    environ = {"LANES": str(LANES), "SIMULATED_DECLINE_RATE": "0"}
    return Runtime(Settings.from_env(REQUIRED | environ))


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = made_runtime()
    with closing(made.charging):
        yield made


def execute(graph: Dataflow, workers: int = 1, recovery: RecoveryConfig | None = None) -> None:
    how: dict[str, Any] = {"epoch_interval": EVERY_BATCH, "recovery_config": recovery}
    if workers == 1:
        run_main(graph, **how)  # type: ignore[no-untyped-call]
    else:
        cluster_main(graph, [], 0, worker_count_per_proc=workers, **how)  # type: ignore[no-untyped-call]


class Topics:
    """The input, and what is visible of the output."""

    generation = 0

    def __init__(self, *partitions: list[bytes | None]) -> None:
        self.partitions = partitions
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.positions: dict[int, dict[int, int]] = {lane: {} for lane in range(LANES)}
        self.logs: dict[int, list[bytes]] = {lane: [] for lane in range(LANES)}
        self.indexes: dict[int, TieredIndex] = {}
        self.pending: dict[bytes, PendingEntry] = {}

    # ---- as the pending topic ----

    def decisions(self, _lane: int) -> list[PersonsDecision]:
        return []

    def of(self, lane: int, _fenced: Fenced) -> list[Restored]:
        return [
            Restored(entry, [])
            for entry in self.pending.values()
            if lane_of_key(key_of(entry.payment_id), LANES) == lane
        ]

    # ---- as the log of the lanes ----

    def expect(self, lane: int, index: TieredIndex) -> None:
        self.indexes[lane] = index

    def restore(self, lane: int, _fenced: Fenced) -> dict[int, int]:
        """Restore what the files do not have; each lane has a partition of its own."""
        index, log = self.indexes[lane], self.logs[lane]
        position = index.position.get(lane, 0)
        assert position <= len(log)
        index.restore(entries_in(b"".join(log[position:])))
        index.committed({lane: len(log)}, wait=True)
        return {lane: len(log)}

    def ends(self) -> dict[int, int]:
        return {lane: len(log) for lane, log in self.logs.items()}

    # ---- as the output topics ----

    def publish(self, outgoing: SinkItem) -> None:
        if isinstance(outgoing, LaneProgress):
            return
        if outgoing.topic == PENDING:
            written = [*zip(outgoing.keys, outgoing.values, strict=True)]
            for _, value in written:
                published.assert_valid(published.PENDING, value)
            self.pending |= {key or b"": decode(value) for key, value in written}
            for tombstone in outgoing.tombstones:
                del self.pending[tombstone]
            return
        for key, value in zip(outgoing.keys, outgoing.values, strict=True):
            event = json.loads(value, parse_float=Decimal, parse_int=Decimal)
            assert key == (event["paymentId"] or "").encode() or key is event["paymentId"]
            self.events[outgoing.topic].append(event)

    def at(self, topic: str) -> dict[tuple[int, int], dict[str, Any]]:
        """Return the events of a topic by partition and offset of their record: one for each."""
        found = {
            (int(event["source"]["partition"]), int(event["source"]["offset"])): event
            for event in self.events[topic]
        }
        assert len(found) == len(self.events[topic]), "two events for one record"
        return found

    def types(self, partition: int) -> list[str]:
        """Return what became of the records of a partition, in their order."""
        audit = self.at(AUDIT)
        return [
            audit[partition, offset]["eventType"].removeprefix("payment.")
            for offset in range(len(self.partitions[partition]))
        ]


class TestOutcomes:
    """With Bytewax's own testing source and sink, on one worker and on two."""

    @pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
    def run(self, request: pytest.FixtureRequest, runtime: Runtime) -> Callable[..., Topics]:
        def run(*partitions: list[bytes | None]) -> Topics:
            topics = Topics(*partitions)
            source = [*START, *(batch(n, 0, values) for n, values in enumerate(partitions))]
            sink: list[tuple[str, SinkItem]] = []
            graph = flow(AnsweredSource(source, runtime), TestingSink(sink), runtime)
            execute(graph, workers=request.param)
            for _, outgoing in sink:
                topics.publish(outgoing)
            return topics

        return run

    def test_each_kind(self, run: Callable[..., Topics]) -> None:
        topics = run(
            [
                payment("pay_1"),
                payment("pay_1", 5.00),
                payment("pay_1", 6),
                payment("decline:card_expired"),
                payment("pay_2", -1),
                b"\xff",
                None,
            ]
        )
        assert topics.types(0) == [
            *("processed", "duplicate", "conflict"),
            *("failed", "failed", "failed", "failed"),
        ]
        assert [*topics.at(PROCESSED)] == [(0, 0)]
        codes = {offset: event["error"]["code"] for (_, offset), event in topics.at(FAILED).items()}
        assert codes == {3: "card_expired", 4: "invalid", 5: "malformed", 6: "tombstone"}

    def test_a_payment_is_charged_once_whichever_partition_its_copies_are_on(
        self, run: Callable[..., Topics]
    ) -> None:
        names = [f"pay_{n}" for n in range(50)]
        copies: list[bytes | None] = [payment(name) for name in names]
        topics = run(copies, copies[::-1], copies)
        assert Counter(topics.types(0) + topics.types(1) + topics.types(2)) == {
            "processed": 50,
            "duplicate": 100,
        }
        assert sorted(event["paymentId"] for event in topics.events[PROCESSED]) == sorted(names)

    def test_a_duplicate_names_the_first_one(self, run: Callable[..., Topics]) -> None:
        topics = run([payment("pay_1")], [payment("pay_1")])
        ((first_partition, _),) = topics.at(PROCESSED)
        duplicate = topics.at(AUDIT)[1 - first_partition, 0]
        assert duplicate["firstSource"] == {
            "topic": "payments.payment-requested",
            "partition": first_partition,
            "offset": 0,
        }

    def test_a_declined_payment_is_not_charged_again(self, run: Callable[..., Topics]) -> None:
        topics = run([payment("decline:declined"), payment("decline:declined")])
        assert topics.types(0) == ["failed", "duplicate"]

    def test_a_corrected_request_goes_through(self, run: Callable[..., Topics]) -> None:
        topics = run([payment("pay_1", 0), payment("pay_1", 7)])
        assert topics.types(0) == ["failed", "processed"]
        assert topics.events[PROCESSED][0]["amount"] == 7

    def test_signals_reach_every_lane_and_write_nothing(self, runtime: Runtime) -> None:
        sink: list[tuple[str, SinkItem]] = []
        control: list[SourceItem] = [ControlMessage(signal, 0, 7) for signal in Signal]
        execute(flow(TestingSource(control), TestingSink(sink), runtime))
        for lane in range(LANES):
            mine = [outgoing for name, outgoing in sink if name == lane_name(lane)]
            progress = [outgoing for outgoing in mine if isinstance(outgoing, LaneProgress)]
            assert progress == mine, "there is no record"
            passed_on = [each for each in Signal if each not in FOR_LANES]
            assert [each.control and each.control.signal for each in progress] == passed_on
            assert {each.control and each.control.lane for each in progress} == {lane}


# ---- a gateway whose words are unfit for an event ----

APPROVALS: dict[str, Any] = {
    "half a surrogate pair": "ch\ud800_1",
    "long": "x" * 10_000,
    "controls": "\x01" * 1_000_000,
    "none": None,
    "an object": {"id": "ch_1"},
}
DECLINES: dict[str, tuple[Any, Any, Any]] = {
    "an unknown code": ("do_not_honor", "Do not honor.", False),
    "a code of invalid records": ("malformed", "\udfff", False),
    "a long message": (ErrorCode.CARD_EXPIRED, "\x00" * 1_000_000, True),
    "wrong types": ([], {}, b""),
    "a card number": (ErrorCode.DECLINED, "No: 4111 1111 1111 1111", False),
}


class Hostile(SimulatedGateway):
    """Replies as above, to the paymentId of that name; at first it has no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    async def charge(self, request: PaymentRequest, _key: str) -> Reply:
        name = request.payment_id
        if name not in self.asked:
            self.asked.add(name)
            return Unknown(["\ud800"])  # type: ignore[arg-type]
        if name in APPROVALS:
            return Approved(APPROVALS[name])
        code, message, retryable = DECLINES[name]
        return Declined(code, message, retryable)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_words_of_a_gateway_stop_the_flow_or_lose_its_decision(
    runtime: Runtime, workers: int
) -> None:
    values: list[bytes | None] = [payment(name) for name in (*APPROVALS, *DECLINES)]
    topics = Topics(values, values)
    sink: list[tuple[str, SinkItem]] = []
    source = [*START, *(batch(n, 0, values) for n in range(2))]
    with closing(Dispatcher(Hostile(), Limits(), runtime.board)) as runtime.charging:
        execute(flow(AnsweredSource(source, runtime), TestingSink(sink), runtime), workers)
    for _, outgoing in sink:
        if isinstance(outgoing, OutputBatch):
            assert all(len(value) < EVENT_OVERHEAD_BYTES for value in outgoing.values)
        topics.publish(outgoing)
    assert Counter(topics.types(0) + topics.types(1)) == {
        "processed": len(APPROVALS),
        "failed": len(DECLINES),
        "duplicate": len(values),
    }
    processed = {event["paymentId"]: event for event in topics.events[PROCESSED]}
    failed = {event["paymentId"]: event for event in topics.events[FAILED]}
    assert processed.keys() == APPROVALS.keys()
    assert failed.keys() == DECLINES.keys()
    references = {name: event["gatewayReference"] for name, event in processed.items()}
    assert references == {
        "half a surrogate pair": "ch\ufffd_1",
        "long": "x" * 254 + "…",
        "controls": "\ufffd" * 254 + "…",
        "none": "(none)",
        "an object": "(none)",
    }
    assert {name: event["error"]["code"] for name, event in failed.items()} == {
        **dict.fromkeys(DECLINES, "declined"),
        "a long message": "card_expired",
    }
    assert failed["a card number"]["error"]["message"] == "No: **** **** **** ****"
    for event in topics.events[AUDIT]:
        twin = {**processed, **failed}[event["paymentId"]]
        if event["eventType"] != "payment.duplicate":
            assert event.get("gatewayReference") == twin.get("gatewayReference")
            assert event.get("error") == twin.get("error")


# ---- recovery ----


class Crash(Exception):  # noqa: N818  (not an error: the end of a process)
    """The process ends here."""


class MemorySource(FixedPartitionedSource[SourceItem, int]):
    def __init__(self, topics: Topics, runtime: Runtime) -> None:
        self.topics, self.runtime = topics, runtime

    def list_parts(self) -> list[str]:
        return [str(number) for number in range(len(self.topics.partitions))]

    def build_part(self, _step_id: str, for_part: str, resume_state: int | None) -> "Partition":
        return Partition(self.topics, self.runtime, int(for_part), resume_state)


class Partition(StatefulSourcePartition[SourceItem, int]):
    """The three phases of the real source, each closed by its snapshot."""

    def __init__(self, topics: Topics, runtime: Runtime, number: int, state: int | None) -> None:
        self.topics, self.number = topics, number
        self.charging = runtime.charging
        self.next_offset = state or 0
        self.committable = CommittablePosition(self.next_offset, self.next_offset, sees_all=True)
        self.phases = [opening, restoring]
        self.emitted = False
        self.epoch = 0

    def next_batch(self) -> list[SourceItem]:
        if not self.phases:
            return self.live()
        if self.emitted:
            return []
        self.emitted = True
        return [self.phases[0](self.number, self.next_offset, epoch=self.epoch)]

    def snapshot(self) -> int:
        self.committable.end_epoch(self.epoch, self.charging.lowest(self.number))
        self.epoch += 1
        if self.emitted:
            self.emitted = False
            self.phases.pop(0)
        return self.committable.offset

    def live(self) -> list[SourceItem]:
        values = self.topics.partitions[self.number]
        first = self.next_offset
        end = min(first + BATCH, len(values))
        items: list[SourceItem] = []
        if lanes := self.charging.to_wake(self.epoch):
            items.append(ControlMessage(Signal.WAKE, 0, 0, epoch=self.epoch, lanes=lanes))
        if first < end:
            self.next_offset = end
            self.committable.read(end, self.epoch, 0.0)
            how = {"committed": self.committed(), "epoch": self.epoch}
            items.append(batch(self.number, first, values[first:end], **how))
        elif self.committable.is_all:
            raise StopIteration
        return items

    def committed(self) -> dict[int, int]:
        return {
            lane: positions[self.number]
            for lane, positions in self.topics.positions.items()
            if self.number in positions
        }


class MemorySink(FixedPartitionedSink[SinkItem, None]):
    """Lanes that commit at the end of an epoch; after so many commits, the process ends."""

    def __init__(self, topics: Topics, crash_after: int | None) -> None:
        self.topics = topics
        self.commits = 0
        self.crash_after = crash_after

    def crash_if_due(self) -> None:
        if self.commits == self.crash_after:
            raise Crash

    def list_parts(self) -> list[str]:
        return [lane_name(lane) for lane in range(LANES)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, _step_id: str, for_part: str, _resume_state: None) -> "Lane":
        return Lane(self, int(for_part))


class Lane(StatefulSinkPartition[SinkItem, None]):
    def __init__(self, sink: MemorySink, lane: int) -> None:
        self.sink, self.lane = sink, lane
        self.open: list[SinkItem] = []

    def write_batch(self, values: list[SinkItem]) -> None:
        self.open += [
            outgoing
            for outgoing in values
            if isinstance(outgoing, OutputBatch) or outgoing.position or outgoing.entries
        ]

    def snapshot(self) -> None:
        if not self.open:
            return
        self.sink.crash_if_due()
        for outgoing in self.open:
            self.sink.topics.publish(outgoing)
            if isinstance(outgoing, LaneProgress):
                if outgoing.position is not None:
                    partition, offset = outgoing.position
                    self.sink.topics.positions[self.lane][partition] = offset
                self.sink.topics.logs[self.lane].append(outgoing.entries)
        self.open = []
        self.sink.commits += 1
        self.sink.crash_if_due()


def store(directory: Path) -> RecoveryConfig:
    """Return a new, empty recovery store."""
    directory.mkdir()
    init_db_dir(directory, 1)  # type: ignore[no-untyped-call]
    return RecoveryConfig(str(directory))  # type: ignore[no-untyped-call]


def run_until(
    crash_after: int | None,
    topics: Topics,
    recovery: RecoveryConfig | None,
    runtime: Runtime,
    workers: int = 1,
) -> bool:
    """Run to the end of the input, or to a crash; return whether it came to the end."""
    runtime.log = topics
    runtime.board = LaneBoard()
    runtime.charging = Dispatcher(ImmediateGateway(0.0), Limits(), runtime.board)
    runtime.pending = topics
    source: Source[SourceItem] = MemorySource(topics, runtime)
    sink: Sink[tuple[str, SinkItem]] = MemorySink(topics, crash_after)
    try:
        with closing(runtime.charging):
            execute(flow(source, sink, runtime), workers, recovery)
    except BytewaxRuntimeError as error:
        assert isinstance(error.__cause__, Crash)  # noqa: PT017  (everything else is raised)
        return False
    return True


records = st.one_of(
    st.builds(payment, st.sampled_from([f"pay_{n}" for n in range(6)]), st.sampled_from([5, 6])),
    st.builds(payment, st.sampled_from(["pay_1", "pay_2"]), st.just(0)),
    st.none() | st.sampled_from([b"garbage", b"{}"]),
)


def requests() -> Topics:
    """Return three partitions with all there is: copies near and far, conflicts, bad records."""
    partitions: list[list[bytes | None]] = [[], [], []]
    for n in range(10):
        partitions[n % 3] += [payment(f"pay_{n}"), payment(f"pay_{n}", 6) if n % 4 == 0 else None]
        partitions[(n + 1) % 3] += [payment(f"pay_{n}"), b"garbage %d" % n]
        partitions[(n + 2) % 3] += [payment(f"pay_{n // 2}"), payment(f"pay_{n}", -1)]
    return Topics(*partitions)


def assert_exactly_once(topics: Topics) -> None:
    """Check what must hold of the output, whatever happened on the way."""
    records = {
        (partition, offset): parse(value, 10_000)
        for partition, values in enumerate(topics.partitions)
        for offset, value in enumerate(values)
    }
    valid = {at: each for at, each in records.items() if isinstance(each, PaymentRequest)}
    audit, processed, failed = (topics.at(topic) for topic in (AUDIT, PROCESSED, FAILED))
    assert topics.pending == {}

    def audited(*types: str) -> set[tuple[int, int]]:
        return {at for at, event in audit.items() if event["eventType"].split(".")[1] in types}

    assert audit.keys() == records.keys()
    assert processed.keys() == audited("processed")
    assert failed.keys() == audited("failed") == records.keys() - valid.keys()
    # Each valid paymentId once; and what passes for a duplicate has the content that was charged.
    charged = {event["paymentId"]: valid[at] for at, event in processed.items()}
    assert len(charged) == len(processed)
    assert charged.keys() == {each.payment_id for each in valid.values()}
    for at in audited("duplicate"):
        assert valid[at].identity() == charged[valid[at].payment_id].identity()


class TestRecovery:
    def test_two_runs_without_a_crash(self, runtime: Runtime, tmp_path: Path) -> None:
        topics = requests()
        assert run_until(None, topics, store(tmp_path / "store"), runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("crash_after", range(16))
    def test_a_crash_after_any_commit(
        self, crash_after: int, runtime: Runtime, tmp_path: Path
    ) -> None:
        """Some lanes have committed the epoch, others have not, and no snapshot has it."""
        topics, recovery = requests(), store(tmp_path / "store")
        assert not run_until(crash_after, topics, recovery, runtime)
        assert run_until(None, topics, recovery, runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("crashes", [(1, 1, 1, 1), (4, 1, 2), (2, 3, 5), (7, 2, 1, 1), (5, 5)])
    def test_several_crashes(
        self, crashes: tuple[int, ...], runtime: Runtime, tmp_path: Path
    ) -> None:
        """Also while making up for the one before; what they leave in the store is harmless."""
        topics, recovery = requests(), store(tmp_path / "store")
        for crash_after in crashes:
            assert not run_until(crash_after, topics, recovery, runtime)
        assert run_until(None, topics, recovery, runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("crash_after", range(16))
    def test_a_lost_store(self, crash_after: int, runtime: Runtime, tmp_path: Path) -> None:
        """The committed outcomes are in the lanes' positions and in their logs."""
        topics = requests()
        assert not run_until(crash_after, topics, store(tmp_path / "lost"), runtime)
        assert run_until(None, topics, store(tmp_path / "new"), runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("crash_after", [1, 2, 4, 8, 15])
    def test_no_store_is_needed(self, crash_after: int, runtime: Runtime) -> None:
        topics = requests()
        for each in (crash_after, 1, 3, None):
            run_until(each, topics, None, runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("crash_after", range(1, 16))
    def test_an_old_copy_of_the_store(
        self, crash_after: int, runtime: Runtime, tmp_path: Path
    ) -> None:
        topics = requests()
        recovery = store(tmp_path / "store")
        run_until(2, topics, recovery, runtime)
        shutil.copytree(tmp_path / "store", tmp_path / "old")
        run_until(crash_after, topics, recovery, runtime)
        old = RecoveryConfig(str(tmp_path / "old"))  # type: ignore[no-untyped-call]
        assert run_until(None, topics, old, runtime)
        assert_exactly_once(topics)

    def test_claims_in_the_logs_are_the_published_outcomes(
        self, runtime: Runtime, tmp_path: Path
    ) -> None:
        """Each id once, by the very record whose outcome it is."""
        topics, recovery = requests(), store(tmp_path / "store")
        for crash_after in (4, 3, 5, None):
            run_until(crash_after, topics, recovery, runtime)
        claimed = [
            place(int(at))
            for log in topics.logs.values()
            for at in entries_in(b"".join(log))["origin"]
        ]
        assert sorted(claimed) == sorted(topics.at(PROCESSED))

    @given(
        st.lists(st.lists(records, max_size=12), min_size=1, max_size=3),
        st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=4),
    )
    @examples(30)
    def test_any_input_and_any_crashes(
        self, partitions: list[list[bytes | None]], crashes: list[tuple[int, bool]]
    ) -> None:
        topics = Topics(*partitions)
        runtime = made_runtime()
        with tempfile.TemporaryDirectory() as directory, closing(runtime.charging):
            recovery = store(Path(directory) / "store")
            for n, (crash_after, store_is_lost) in enumerate(crashes):
                run_until(crash_after, topics, recovery, runtime)
                if store_is_lost:
                    recovery = store(Path(directory) / f"new-{n}")
            assert run_until(None, topics, recovery, runtime)
        assert_exactly_once(topics)

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("crash_after", range(12))
    def test_crashes_with_files_of_ids(
        self, crash_after: int, workers: int, runtime: Runtime, tmp_path: Path
    ) -> None:
        """Every commit makes a file, and the next run reads the log from there on.

        A file with an id that was never committed would turn its only request into a duplicate.
        """
        topics, recovery = requests(), store(tmp_path / "store")
        for each in (crash_after, 2, 3, None):
            window_ms = runtime.context.settings.dedupe_window_ms
            runtime.ids = RememberedIds(window_ms, 0, tmp_path / "ids", "kafka", "log", LANES)
            run_until(each, topics, recovery, runtime, workers)
            runtime.ids.close()
        assert_exactly_once(topics)
        assert list(tmp_path.glob("ids/*/*.run"))

    def test_ids_are_remembered_after_a_clean_stop(self, runtime: Runtime, tmp_path: Path) -> None:
        topics, recovery = requests(), store(tmp_path / "store")
        run_until(None, topics, recovery, runtime)
        without_conflicts = [n for n in range(10) if n % 4]
        for values in topics.partitions:
            values += [payment(f"pay_{n}") for n in without_conflicts]
        run_until(None, topics, recovery, runtime)
        assert_exactly_once(topics)
        for number in range(3):
            assert topics.types(number)[-7:] == ["duplicate"] * 7

    def test_committed_payments_are_not_charged_again(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        charged: list[str] = []
        charge = ImmediateGateway.charge_batch

        async def recording(self: ImmediateGateway, batch: list[PaymentRequest]) -> list[Reply]:
            charged.extend(request.payment_id for request in batch)
            return await charge(self, batch)

        monkeypatch.setattr(ImmediateGateway, "charge_batch", recording)
        topics, recovery = requests(), store(tmp_path / "store")
        run_until(5, topics, recovery, runtime)
        committed = {event["paymentId"] for event in topics.events[PROCESSED]}
        charged.clear()
        run_until(None, topics, recovery, runtime)
        assert committed
        assert sorted(charged) == sorted({f"pay_{n}" for n in range(10)} - committed)

    def test_two_workers(self, runtime: Runtime, tmp_path: Path) -> None:
        topics, recovery = requests(), store(tmp_path / "store")
        every = [list(values) for values in topics.partitions]
        for end in (7, 13, max(map(len, every))):
            for now, then in zip(topics.partitions, every, strict=True):
                now[:] = then[:end]
            run_until(None, topics, recovery, runtime, workers=2)
        assert_exactly_once(topics)


# ---- the graph ----

GUARDED = """
import runpy, sys

FORBIDDEN = ("socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen",
             "os.mkdir", "os.remove", "os.rename", "signal.signal")

def refuse(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event in FORBIDDEN or writes:
        print("forbidden:", event, args, file=sys.stderr)
        sys.stderr.flush()
        import os
        os._exit(1)

sys.dont_write_bytecode = True
sys.argv = ["bytewax.visualize", "dataflow.flow"]
sys.addaudithook(refuse)
runpy.run_module("bytewax.visualize", run_name="__main__", alter_sys=True)
"""


class TestGraph:
    def visualize(self, *command: str) -> str:
        """Run Python without any variable of ours; return what it prints."""
        environ = {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def test_the_architecture_shows_it(self) -> None:
        document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        (shown,) = re.findall(
            r"<!-- diagram -->\n+```mermaid\n(.*?)```\n+<!-- /?diagram -->", document, re.DOTALL
        )
        assert shown == self.visualize("-m", "bytewax.visualize", "dataflow.flow")

    def test_printing_it_needs_nothing_and_starts_nothing(self) -> None:
        """No variable, no port, no connection, no file written, no signal taken."""
        assert self.visualize("-c", GUARDED).startswith("flowchart TD\n")

    def test_importing_it_starts_nothing(self) -> None:
        code = "import dataflow.flow, threading; print(threading.active_count())"
        assert self.visualize("-c", code) == "1\n"

    def test_its_step_ids_are_those_in_the_recovery_stores(self, runtime: Runtime) -> None:
        """Recovery is keyed by them: renaming one is a migration of data."""
        steps = bytewax.visualize.to_rendered(flow(runtime=runtime)).substeps
        assert [step.step_id for step in steps if step.step_id.count(".") == 1] == [
            f"payments.{name}"
            for name in (
                *("source", "decode", "dedupe", "process"),
                *("outcomes", "processed", "failed", "audit", "pending"),
                *("progress", "outgoing", "sink"),
            )
        ]
