"""The request source: one partition of the request topic, resumed in three phases.

A crash leaves some lanes one epoch ahead of the snapshots, and may leave a previous run alive. So
after every start, each phase being closed by its own epoch (`snapshot`):

1. *Open*: tell every lane to open, which fences the previous run, and have every living segment
   hand out what it remembers. Nothing else.
2. *Recall*: now that nobody else can commit, read how far each lane has committed, and emit the
   records from the snapshot up to the highest of them, so that the index knows every committed id
   before anything is decided. All partitions do so in the same epoch, and nothing else.
3. *Live*: the same records once more, to be remembered, and to decide those that their lane has not
   committed; then new ones.

Offsets are always those of the *next* record.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from dataflow import heap
from dataflow.batches import Fetched, Forget, Restore, Seal, Signal, Told
from dataflow.connectors import config
from dataflow.connectors.cluster import Cluster
from dataflow.connectors.names import metadata_of
from dataflow.connectors.offsets import LaneOffsets
from dataflow.connectors.patience import PASSING, Patience
from dataflow.connectors.start import Start, find_start
from dataflow.core.closing import Closing
from dataflow.core.epochs import Epochs
from dataflow.core.ledger import Ledger
from dataflow.core.pace import EPOCH_MOST, Pace
from dataflow.core.times import StreamTimes
from dataflow.core.timestamps import oldest_plausible_ms
from dataflow.errors import ConsumeError, FetchStalledError
from dataflow.faults import reported
from dataflow.lifecycle import Lifecycle
from dataflow.settings import Settings
from dataflow.status import Status
from schemas.state import SourceState, pack, unpack

Item = Fetched | Restore | Seal | Forget | Told

_log = structlog.get_logger()

_IDLE_AFTER_S = 1.0
"""A partition without records for so long polls less often: to wait must cost next to nothing."""
_BEAT_EVERY_S = 3600.0
"""Kafka forgets the offsets of a quiet group after days (offsets.retention.minutes)."""
_RECALLED = "recalled"
"""The segment of recalled ids, until they come again with their own."""
_TELLS = 64
"""The lanes hear of the stream time at least so often in a window."""
_ASK_S = 2.0
ASK_MOST_S = 60.0
"""Until a Kafka that is just coming back has answered everything a start asks."""
_SETTLED_MS = 60_000
"""Once a partition is read to its end, its stream time follows the clock at this distance."""


class Phase(Enum):
    """Where a partition is in its life; each ends when its epoch closes."""

    OPEN = auto()
    RECALL = auto()
    LIVE = auto()
    DRAINING = auto()
    DRAINED = auto()


class KafkaSource(FixedPartitionedSource[Item, bytes]):
    """The request topic, as the engine sees it."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        status: Status,
        lifecycle: Lifecycle,
        times: StreamTimes,
        epochs: Epochs,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._times = times
        self._epochs = epochs
        self._settings = settings
        self._cluster = cluster
        self._status = status
        self._lifecycle = lifecycle
        self._on_close = on_close
        self._patience = Patience(status, lifecycle)
        self._offsets = LaneOffsets(
            settings.kafka, settings.lanes, cluster.partitions, self._patience
        )

    @reported
    def list_parts(self) -> list[str]:
        """The partitions of the topic. Asked for once all processes of the cluster are there."""
        self._lifecycle.begin()
        return [f"{partition:05d}" for partition in self._cluster.partitions]

    @reported
    def build_part(
        self,
        step_id: str,  # noqa: ARG002  (the engine's signature)
        for_part: str,
        resume_state: bytes | None,
    ) -> "RequestPartition":
        """Resume one partition, or refuse to."""
        partition = int(for_part)
        self._status.expect([partition], lanes=0)
        state = None if resume_state is None else unpack(resume_state, SourceState)
        topic = self._settings.kafka.topic_requested
        consumer = Consumer(
            config.consumer(
                self._settings.kafka, f"source-{for_part}", len(self._cluster.partitions)
            )
            | {"error_cb": self._on_error}
        )
        kafka = self._settings.kafka
        start = find_start(consumer, kafka, self._cluster, partition, state, self._patience)
        consumer.assign([TopicPartition(topic, partition, start.offset)])
        _log.info(
            "source partition resumes",
            partition=partition,
            offset=start.offset,
            snapshot=state is not None,
        )
        ledger = Ledger(partition, self._settings.dedupe_window_ms, state.ledger if state else None)
        return RequestPartition(
            partition=partition,
            consumer=consumer,
            start=start,
            ledger=ledger,
            settings=self._settings,
            cluster_id=self._cluster.cluster_id,
            offsets=self._offsets,
            status=self._status,
            lifecycle=self._lifecycle,
            furthest_behind=lambda: self._times.furthest_behind(self._cluster.partitions),
            on_close=self._on_close,
            epochs=self._epochs,
        )

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  (no public name)
            self._status.broker_down(error.str())


class RequestPartition(StatefulSourcePartition[Item, bytes]):
    """One input partition."""

    def __init__(
        self,
        *,
        partition: int,
        consumer: Consumer,
        start: Start,
        ledger: Ledger,
        settings: Settings,
        cluster_id: str,
        offsets: LaneOffsets,
        status: Status,
        lifecycle: Lifecycle,
        furthest_behind: Callable[[], int],
        on_close: Callable[[], None],
        epochs: Epochs,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._epochs = epochs
        self._closing = Closing() if epochs.shared else None
        self._on_close = on_close
        self._furthest_behind = furthest_behind
        self._consumer = consumer
        self._partition = partition
        self._start = start
        self._ledger = ledger
        self._settings = settings
        self._topic = settings.kafka.topic_requested
        self._patience_s = settings.kafka.transaction_timeout_ms / 1000
        self._told_ms = 0  # stream time that the lanes know of
        self._at_end: int | None = None  # position, if everything is read
        self._failed: KafkaError | None = None  # met after good records, to be raised next
        self._cluster_id = cluster_id
        self._offsets = offsets
        self._status = status
        self._lifecycle = lifecycle
        self._clock = clock
        self._next_offset = start.offset
        self._phase = Phase.OPEN
        self._emitted = False  # whether the phase's one batch is out
        self._restored = False  # whether the lanes were told that there is no more to recall
        self._settled = False  # whether the first epoch with records has ended
        self._replay: tuple[list[Message], dict[int, int]] = ([], {})  # recalled, not yet decided
        self._held: list[Message] = []  # read, but beyond what the replay may emit
        self._durable: int | None = None  # position of an epoch that is about to be durable
        self._plain_offset: int | None = None  # last one committed to the plain group
        self._beat_at = clock()
        self._pace = Pace()
        self._batch: tuple[int, float] = (0, time.monotonic())  # size and time of the last one
        self._epoch_records = 0
        self._hurry = True  # the first batch belongs to the epoch that we resume in

    # ---- called by the engine ----

    @reported
    def next_batch(self) -> list[Item]:
        """What this phase has to emit now."""
        if self._closing:
            self._closing.asked(time.monotonic())
        if self._phase is Phase.LIVE:
            return self._live()
        if self._phase is Phase.DRAINED:
            self._commit_plain()
            raise StopIteration
        if self._emitted:
            return self._rest()
        self._emitted = True
        if self._phase is Phase.OPEN:
            return self._open()
        if self._phase is Phase.RECALL:
            return self._recall()
        # Whoever shares the cluster has to stop as well, in the same epoch.
        return [self._tell(Signal.RESTART if self._lifecycle.restart_wanted else Signal.DRAIN)]

    def next_awake(self) -> datetime | None:
        """At the next instant of all, or at once if there is more; later while an epoch closes."""
        now = time.time()
        awake_at = now
        if not self._hurry:
            is_idle = time.monotonic() - self._batch[1] > _IDLE_AFTER_S
            awake_at = self._epochs.next_s(now, idle=is_idle)
        if self._closing and self._phase is Phase.LIVE:
            awake_at = max(awake_at, now + self._closing.pause_s)
        return datetime.fromtimestamp(awake_at, UTC) if awake_at > now else None

    @reported
    def snapshot(self) -> bytes:
        """The epoch is complete: go on to the next phase, if this one's batch was in it."""
        self._durable = self._next_offset
        if self._closing and self._phase is Phase.LIVE:
            self._closing.ended(time.monotonic())
        if self._emitted:
            self._emitted = False
            self._phase = {
                Phase.OPEN: Phase.RECALL,
                Phase.RECALL: Phase.LIVE,
                Phase.DRAINING: Phase.DRAINED,
            }[self._phase]
            if self._phase is Phase.LIVE:
                self._status.partition_live(self._partition)
            self._hurry = True
        elif self._phase is Phase.LIVE and not self._settled:
            # The indexes are built, and the snapshots that were taken for it are stored.
            self._settled = True
            heap.give_back()
        self._look_at_the_end()
        self._epoch_records = 0
        self._status.epoch_closed()
        kafka = self._settings.kafka
        return pack(
            SourceState(
                cluster=self._cluster_id,
                topic=self._topic,
                group=kafka.group_id,
                lanes=self._settings.lanes,
                start_offset=self._start.began_at,
                next_offset=self._next_offset,
                ledger=self._ledger.state(),
            )
        )

    def close(self) -> None:
        """Leave Kafka. Also called after a crash: nothing may be committed here."""
        self._on_close()
        self._consumer.close()

    # ---- the phases ----

    def _open(self) -> list[Item]:
        segments = self._ledger.segments
        restores = [
            Restore(
                self._partition,
                self._ledger.name(segment),
                segment.newest_ms,
                min(segment.end_offset, self._next_offset),
                segment.records,
                sealed=segment is not segments[-1],
            )
            for segment in segments
        ]
        return [self._tell(Signal.OPEN), *restores]

    def _recall(self) -> list[Item]:
        at_most_s = self._patience_s + ASK_MOST_S
        with self._status.waiting("the previous run's transactions", at_most_s):
            committed = self._offsets.of(self._partition, self._next_offset, self._start.lanes)
        self._start.check(committed, self._settings.kafka, self._partition)
        messages = self._read_up_to(committed.highest)
        self._status.replayed(len(messages))
        if not messages:
            return []
        self._replay = (messages, committed.by_lane)
        times_ms = _times_ms(messages)
        newest_ms = min(int(self._clock() * 1000), int(times_ms.max()))
        by_lane = committed.by_lane
        return [
            self._fetched(messages, times_ms, _RECALLED, newest_ms, committed=by_lane, recall=True)
        ]

    def _live(self) -> list[Item]:
        self._commit_plain()
        if not self._restored:
            self._restored = True
            return [self._tell(Signal.RESTORED)]
        if self._lifecycle.stopping:
            self._lifecycle.announce()
            self._phase = Phase.DRAINING
            return self.next_batch()
        size, at_s = self._batch
        if size:
            seconds = time.monotonic() - at_s
            self._pace.measured(size, seconds)
            self._batch = (0, at_s)
            if seconds > self._patience_s / 4:
                self._epoch_records = EPOCH_MOST  # transactions are open: let the epoch end
        if self._epoch_records >= EPOCH_MOST:
            return self._rest()
        items: list[Item] = [Forget(name) for name in self._ledger.expire(self._furthest_behind())]
        if self._ledger.stream_time_ms - self._told_ms > self._settings.dedupe_window_ms // _TELLS:
            self._told_ms = self._ledger.stream_time_ms
            items.append(self._tell(Signal.TIME))
        if self._clock() - self._beat_at > _BEAT_EVERY_S:
            self._beat_at = self._clock()
            self._plain_offset = None
            items.append(self._tell(Signal.BEAT))
        messages, committed = self._next_messages()
        if messages:
            items += self._remembered(messages, committed)
            self._batch = (len(messages), time.monotonic())
            self._report_position()
            self._epoch_records += len(messages)
        else:
            self._expect_fetching()
        self._hurry = len(messages) > self._pace.limit // 2
        return items

    def _tell(self, signal: Signal) -> Told:
        return Told(signal, self._partition, self._next_offset, self._ledger.stream_time_ms)

    def _remembered(self, messages: list[Message], committed: dict[int, int]) -> list[Item]:
        """The records, under their segment; with them the position moves on."""
        times_ms = _times_ms(messages)
        oldest_ms, now_ms = int(times_ms.min()), int(self._clock() * 1000)
        self._ledger.advance(oldest_ms, now_ms)
        end_offset = _offset(messages[-1]) + 1
        waiting_since_s = oldest_plausible_ms(times_ms, now_ms) / 1000
        self._status.in_flight(self._partition, end_offset, waiting_since_s)
        newest_ms = min(int(times_ms.max()), now_ms)
        written = self._ledger.segments[-1:]
        segment = self._ledger.add(_offset(messages[0]), end_offset, len(messages), newest_ms)
        full = [each for each in written if each.number != segment.number]
        self._next_offset = end_offset
        name = self._ledger.name(segment)
        return [
            self._fetched(messages, times_ms, name, segment.newest_ms, committed=committed),
            *(Seal(self._ledger.name(each)) for each in full),
        ]

    def _next_messages(self) -> tuple[list[Message], dict[int, int]]:
        """The replay, then what was read with it, then new ones."""
        if self._replay[0]:
            replay, self._replay = self._replay, ([], {})
            return replay
        messages, self._held = self._held, []
        return messages or self._consume(self._pace.limit, 0.0), {}

    def _rest(self) -> list[Item]:
        self._hurry = False
        return []

    # ---- reading ----

    def _read_up_to(self, end_offset: int) -> list[Message]:
        """All records from the position to `end_offset`; what comes after it is held back."""
        messages: list[Message] = []
        deadline_s = time.monotonic() + self._patience_s
        position = self._next_offset
        with self._status.waiting("replay", self._patience_s):
            while position < end_offset:
                if time.monotonic() > deadline_s:
                    raise ConsumeError(
                        f"{self._topic}[{self._partition}]: no record between {position} and"
                        f" {end_offset} came within {self._patience_s:g} s, though a lane has"
                        " committed them; were they deleted?"
                    )
                batch = self._consume(10_000, 0.2)
                messages += batch
                is_away = self._status.kafka_reachable is False
                if is_away:
                    self._lifecycle.end_if_signalled()
                if batch or is_away:
                    deadline_s = time.monotonic() + self._patience_s
                # The consumer also passes the markers of transactions, which are no records.
                position = self._position()
        self._held = [message for message in messages if _offset(message) >= end_offset]
        return messages[: len(messages) - len(self._held)]

    def _position(self) -> int:
        wanted = [TopicPartition(self._topic, self._partition)]
        position = self._consumer.position(wanted)[0].offset
        return position if position >= 0 else self._next_offset

    def _consume(self, at_most: int, timeout_s: float) -> list[Message]:
        """Records only; an error that cannot pass by itself is raised after the last good one."""
        if self._failed is not None:
            raise ConsumeError(self._explain(self._failed))
        messages = self._consumer.consume(at_most, timeout_s)
        errors = [error for message in messages if (error := message.error()) is not None]
        if not errors:
            return messages
        good = [message for message in messages if message.error() is None]
        for error in errors:
            if error.code() in PASSING:  # the client itself goes on after these
                _log.warning("consumer", partition=self._partition, error=error.str())
            else:
                # The client tells us once, and reads no further.
                self._failed = self._failed or error
        return good if good or self._failed is None else self._consume(at_most, timeout_s)

    def _expect_fetching(self) -> None:
        """Nothing came: that must not go on for long while Kafka has records for us."""
        if stall := self._status.nothing_came(self._partition, self._position()):
            raise FetchStalledError(
                f"{self._topic}[{self._partition}]: for {stall.seconds:.0f} s the Kafka client has"
                f" delivered nothing from {stall.position} on, though readers may have all below"
                f" the last stable offset, {stall.stable_offset}. It has stopped fetching; a"
                " restart reads on with a new client"
            )

    def _explain(self, error: KafkaError) -> str:
        where = f"{self._topic}[{self._partition}] at {self._next_offset}"
        expired = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001
        if error.code() in expired:
            return f"{where}: the offset has expired or never existed: {error.str()}"
        return f"{where}: {error.str()}"

    def _fetched(
        self,
        messages: list[Message],
        times_ms: NDArray[np.int64],
        segment: str,
        dated_ms: int,
        *,
        committed: dict[int, int],
        recall: bool = False,
    ) -> Fetched:
        return Fetched(
            partition=self._partition,
            segment=segment,
            dated_ms=dated_ms,
            offsets=np.array([message.offset() for message in messages], np.int64),
            times_ms=times_ms,
            values=[message.value() for message in messages],
            next_offset=_offset(messages[-1]) + 1,
            read_at=self._clock(),
            committed=committed,
            recall=recall,
        )

    # ---- once an epoch ----

    def _commit_plain(self) -> None:
        """Once an epoch is durable, tell the plain group, for lag tools and for lost snapshots."""
        offset, self._durable = self._durable, None
        if offset is None or self._phase in {Phase.OPEN, Phase.RECALL}:
            return
        offset = max(offset, self._at_end or 0)
        self._status.committed_at(self._partition, offset)
        if offset == self._plain_offset:
            return
        metadata = metadata_of(self._settings.lanes)
        position = TopicPartition(self._topic, self._partition, offset, metadata)
        try:
            if self._phase is Phase.DRAINED:
                # The consumer is about to be closed, which would not wait for it.
                self._consumer.commit(offsets=[position], asynchronous=False)
            else:
                self._consumer.commit(offsets=[position])
        except KafkaException as error:
            # Only lag tools suffer; the next epoch tries again.
            _log.warning("plain offset", partition=self._partition, error=error.args[0].str())
            return
        self._plain_offset = offset

    def _report_position(self) -> int:
        """Tell the probes where the partition stands; where it ends, as far as is known here."""
        where = TopicPartition(self._topic, self._partition)
        high: int = self._consumer.get_watermark_offsets(where, cached=True)[1]
        self._status.partition_at(self._partition, self._next_offset, high)
        return high

    def _look_at_the_end(self) -> None:
        """Report where the partition stands; at its end, let stream time follow the clock."""
        where = TopicPartition(self._topic, self._partition)
        try:
            high = self._report_position()
            if high < 0:
                return
            pending = self._epoch_records or self._held or self._replay[0]
            self._at_end = None
            if self._phase is Phase.RECALL or pending or self._position() < high:
                return
            # The markers of transactions are behind the last record, and are done with as well.
            self._at_end = self._position()
            now_ms = int(self._clock() * 1000)
            behind_ms = now_ms - _SETTLED_MS - self._ledger.stream_time_ms
            if behind_ms > self._settings.dedupe_window_ms // _TELLS:
                # Ask Kafka itself: what is cached may be old, if only we cannot reach it.
                _, high = self._consumer.get_watermark_offsets(where, timeout=_ASK_S)
                if self._position() >= high:
                    self._ledger.advance(now_ms - _SETTLED_MS, now_ms)
        except KafkaException as error:
            _log.debug("watermark", partition=self._partition, error=error.args[0].str())


def _offset(message: Message) -> int:
    offset: Any = message.offset()
    return int(offset)


def _times_ms(messages: list[Message]) -> NDArray[np.int64]:
    """The records' timestamps in milliseconds since 1970; now, where there is none."""
    found = np.array([message.timestamp()[1] for message in messages], np.int64)
    return np.where(found >= 0, found, int(time.time() * 1000))
