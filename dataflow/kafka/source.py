"""The request source: one partition of the request topic, which starts in three phases.

A crash leaves some lanes ahead of the position that is kept, and may leave a previous run alive. So
after every start, each phase being closed by its own epoch (`snapshot`):

1. *Open*: have every lane open, which fences the previous run. Nothing else.
2. *Restore*: now that nothing else can commit, read how far each lane has committed, and have every
   lane read back its log. Nothing else: in an epoch with records, the lanes that are done would
   have transactions open, beyond whose records the others could not read.
3. *Live*: the records from the position on. `decode` drops those that their lane has committed.

Offsets are always those of the *next* record.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum, auto

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from dataflow.core.batch_size import EPOCH_MOST, BatchSizer
from dataflow.core.epoch_close import EpochCloseEstimator
from dataflow.core.items import ControlMessage, RecordBatch, Signal, SourceItem
from dataflow.core.state import SourceState, pack, unpack
from dataflow.core.timestamps import oldest_plausible_ms
from dataflow.errors import ConsumeError, FetchStalledError
from dataflow.kafka import client_config
from dataflow.kafka.lane_names import Metadata
from dataflow.kafka.lane_offsets import Committed, LaneOffsets
from dataflow.kafka.resume_point import ResumePoint, ResumePoints
from dataflow.kafka.retry import PASSING, OutageRetry
from dataflow.process_context import ProcessContext
from dataflow.service import malloc
from dataflow.service.fail_fast import fail_fast

_log = structlog.get_logger()

_IDLE_AFTER_S = 1.0
"""A partition without records for so long polls less often: to wait must cost next to nothing."""
_REFRESH_OFFSETS_EVERY_S = 3600.0
"""Kafka forgets the offsets of a quiet group after days (offsets.retention.minutes)."""
_FIRST_BEATS = 2
"""The number of epochs with a beat that come first. After the first one, every lane has an offset
of every partition; the second one has that committed beside the offsets (`Metadata.partitions`)."""
ASK_MOST_S = 60.0
"""The time until a Kafka that is just coming back has answered everything a start asks."""


class Phase(Enum):
    """The phase of a partition's life; each ends when its epoch closes."""

    OPEN = auto()
    RESTORE = auto()
    LIVE = auto()
    DRAINING = auto()
    DRAINED = auto()


class KafkaSource(FixedPartitionedSource[SourceItem, bytes]):
    """The request topic, as the engine sees it."""

    def __init__(
        self,
        context: ProcessContext,
        offsets: LaneOffsets,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._context = context
        self._cluster = context.cluster
        self._status = context.status
        self._lifecycle = context.lifecycle
        self._on_close = on_close
        self._offsets = offsets
        outage_retry = OutageRetry(context.status, context.lifecycle)
        self._positions = ResumePoints(context.settings, context.cluster, outage_retry)

    @fail_fast
    def list_parts(self) -> list[str]:
        """Return the partitions of the topic. Called once all processes of the cluster are up."""
        self._lifecycle.begin()
        return [f"{partition:05d}" for partition in self._cluster.partitions]

    @fail_fast
    def build_part(
        self,
        step_id: str,  # noqa: ARG002  (the engine's signature)
        for_part: str,
        resume_state: bytes | None,
    ) -> "RequestPartition":
        """Resume one partition, or refuse to."""
        partition = int(for_part)
        self._status.assign([partition], lanes=0)
        state = None if resume_state is None else unpack(resume_state, SourceState)
        kafka = self._context.settings.kafka
        consumer = Consumer(
            client_config.consumer(kafka, f"source-{for_part}", len(self._cluster.partitions))
            | {"error_cb": self._on_error}
        )
        start = self._positions.find(partition, state)
        consumer.assign([TopicPartition(kafka.topic_requested, partition, start.offset)])
        _log.info(
            "source partition resumes",
            partition=partition,
            offset=start.offset,
            snapshot=state is not None,
        )
        self._context.read_up_to[partition].ends_at(start.end_offset, start.looked_at_ms)
        return RequestPartition(
            self._context, partition, consumer, start, self._offsets, self._on_close
        )

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  (no public name)
            self._status.broker_down(error.str())


class RequestPartition(StatefulSourcePartition[SourceItem, bytes]):
    """One input partition."""

    def __init__(
        self,
        context: ProcessContext,
        partition: int,
        consumer: Consumer,
        start: ResumePoint,
        offsets: LaneOffsets,
        on_close: Callable[[], None],
    ) -> None:
        settings, cluster = context.settings, context.cluster
        self._epochs = context.epochs
        self._epoch_close = EpochCloseEstimator() if context.epochs.shared else None
        self._on_close = on_close
        self._consumer = consumer
        self._partition = partition
        self._start = start
        self._read_up_to = context.read_up_to[partition]
        self._settings = settings
        self._topic = settings.kafka.topic_requested
        self._transaction_timeout_s = settings.kafka.transaction_timeout_ms / 1000
        self._at_end: int | None = None  # position, if everything is read
        self._failed: KafkaError | None = None  # met after good records, to be raised next
        self._cluster = cluster
        self._metadata = str(Metadata(settings.lanes, cluster.topic_id))
        self._offsets = offsets
        self._status = context.status
        self._lifecycle = context.lifecycle
        self._next_offset = start.offset
        # After the last record: beyond it there were only markers, which no lane commits.
        self._records_end = start.offset if start.durable is None else start.durable
        self._phase = Phase.OPEN
        self._emitted = False  # whether the phase's one batch is out
        self._first_epoch_closed = False  # whether the first epoch with records has ended
        self._committed = Committed({}, 0)  # by the lanes, in previous runs
        self._durable: int | None = None  # position of an epoch that is about to be durable
        self._group_offset: int | None = None  # last one committed to the group
        self._beat_at_s = time.monotonic()
        self._first_beats = _FIRST_BEATS  # as many are left
        self._has_beat = False  # in this epoch
        self._is_clock_right = False  # as Kafka has taken a record of each lane that shows it
        self._batch_sizer = BatchSizer()
        self._batch: tuple[int, float] = (0, time.monotonic())  # size and time of the last one
        self._epoch = 0  # of this run: all partitions begin in the one it resumes in
        self._epoch_records = 0
        self._hurry = True  # the first batch belongs to the epoch that we resume in

    # ---- called by the engine ----

    @fail_fast
    def next_batch(self) -> list[SourceItem]:
        """Return what this phase has to emit now."""
        if self._epoch_close:
            self._epoch_close.asked(time.monotonic())
        if self._phase is Phase.LIVE:
            return self._live()
        if self._phase is Phase.DRAINED:
            self._commit_group_offset()
            raise StopIteration
        if self._emitted:
            return self._rest()
        self._emitted = True
        if self._phase is Phase.OPEN:
            return self._open()
        if self._phase is Phase.RESTORE:
            return self._restore()
        # All processes of the cluster have to stop as well, in the same epoch.
        return [self._control(Signal.RESTART if self._lifecycle.restart_wanted else Signal.DRAIN)]

    def next_awake(self) -> datetime | None:
        """Return the next instant of all, or now if there is more; later while an epoch closes."""
        now = time.time()
        awake_at = now
        if not self._hurry:
            is_idle = time.monotonic() - self._batch[1] > _IDLE_AFTER_S
            awake_at = self._epochs.next_s(now, idle=is_idle)
        if self._epoch_close and self._phase is Phase.LIVE:
            awake_at = max(awake_at, now + self._epoch_close.pause_s)
        return datetime.fromtimestamp(awake_at, UTC) if awake_at > now else None

    @fail_fast
    def snapshot(self) -> bytes:
        """End the epoch: go on to the next phase, if this one's batch was in it."""
        self._durable = self._next_offset
        self._epoch += 1
        if self._epoch_close and self._phase is Phase.LIVE:
            self._epoch_close.ended(time.monotonic())
        if self._emitted:
            self._emitted = False
            self._phase = {
                Phase.OPEN: Phase.RESTORE,
                Phase.RESTORE: Phase.LIVE,
                Phase.DRAINING: Phase.DRAINED,
            }[self._phase]
            if self._phase is Phase.LIVE:
                self._status.partition_live(self._partition)
            self._hurry = True
        elif self._phase is Phase.LIVE and not self._first_epoch_closed:
            # The indexes are built, and what they were built from is let go.
            self._first_epoch_closed = True
            malloc.give_back()
        self._look_at_the_end()
        self._epoch_records = 0
        self._is_clock_right |= self._has_beat
        self._has_beat = False
        self._status.epoch_closed()
        kafka = self._settings.kafka
        return pack(
            SourceState(
                cluster=self._cluster.cluster_id,
                topic=self._topic,
                topic_id=self._cluster.topic_id,
                group=kafka.group_id,
                lanes=self._settings.lanes,
                start_offset=self._start.began_at,
                next_offset=self._records_end,
                position=max(self._next_offset, self._at_end or 0),
            )
        )

    def close(self) -> None:
        """Leave Kafka. Also called after a crash: nothing may be committed here."""
        self._on_close()
        self._consumer.close()

    # ---- the phases ----

    def _open(self) -> list[SourceItem]:
        return [self._control(Signal.OPEN)]

    def _restore(self) -> list[SourceItem]:
        at_most_s = self._transaction_timeout_s + ASK_MOST_S
        with self._status.waiting("the previous run's transactions", at_most_s):
            committed = self._offsets.of(self._partition, self._next_offset, self._start.lanes)
        self._start.check(committed, self._settings.kafka, self._partition)
        self._committed = committed
        return [self._control(Signal.RESTORE)]

    def _live(self) -> list[SourceItem]:
        self._commit_group_offset()
        if self._lifecycle.stopping:
            self._lifecycle.announce()
            self._phase = Phase.DRAINING
            return self.next_batch()
        size, at_s = self._batch
        if size:
            seconds = time.monotonic() - at_s
            self._batch_sizer.measured(size, seconds)
            self._batch = (0, at_s)
            if seconds > self._transaction_timeout_s / 4:
                self._epoch_records = EPOCH_MOST  # transactions are open: let the epoch end
        if self._epoch_records >= EPOCH_MOST:
            return self._rest()
        items: list[SourceItem] = []
        if self._is_beat_due():
            self._beat_at_s = time.monotonic()
            self._first_beats -= self._first_beats > 0
            self._has_beat = True
            self._group_offset = None
            items.append(self._control(Signal.REFRESH_OFFSETS))
        messages = self._consume(self._batch_sizer.limit, 0.0)
        if messages:
            items.append(self._fetched(messages))
            self._batch = (len(messages), time.monotonic())
            self._report_position()
            self._epoch_records += len(messages)
        else:
            self._expect_fetching()
        if self._has_come_further():
            items.append(self._control(Signal.WATERMARK))
        self._hurry = len(messages) > self._batch_sizer.limit // 2
        return items

    def _has_come_further(self) -> bool:
        if not self._is_clock_right or not self._read_up_to.is_waiting():
            return False
        return self._read_up_to.advance(self._position())

    def _is_beat_due(self) -> bool:
        # Not while records are read again: some lanes have committed more than the position then.
        if self._has_beat or self._next_offset < self._committed.highest:
            return False
        return (
            self._first_beats > 0 or time.monotonic() - self._beat_at_s > _REFRESH_OFFSETS_EVERY_S
        )

    def _control(self, signal: Signal) -> ControlMessage:
        time_ms = self._read_up_to.time_ms
        return ControlMessage(signal, self._partition, self._next_offset, time_ms, self._epoch)

    def _rest(self) -> list[SourceItem]:
        self._hurry = False
        return []

    # ---- reading ----

    def _position(self) -> int:
        wanted = [TopicPartition(self._topic, self._partition)]
        position = self._consumer.position(wanted)[0].offset
        return max(position, self._next_offset)

    def _consume(self, at_most: int, timeout_s: float) -> list[Message]:
        """Return records only; an error that cannot pass is raised after the last good record."""
        if self._failed is not None:
            raise ConsumeError(self._explain(self._failed))
        messages = self._consumer.consume(at_most, timeout_s)
        errors = [error for message in messages if (error := message.error()) is not None]
        if not errors:
            return messages
        good = [message for message in messages if message.error() is None]
        for error in errors:
            if error.code() in PASSING:  # the client itself goes on after these
                _log.warning("consumer error", partition=self._partition, error=error.str())
            else:
                # The client reports it once, and reads no further.
                self._failed = self._failed or error
        return good if good or self._failed is None else self._consume(at_most, timeout_s)

    def _expect_fetching(self) -> None:
        """Check that nothing coming does not go on for long while Kafka has records for us."""
        if stall := self._status.nothing_came(self._partition, self._position()):
            raise FetchStalledError(
                f"{self._topic}[{self._partition}]: for {stall.seconds:.0f} s the Kafka client has"
                f" delivered nothing from {stall.position} on, though records up to the last stable"
                f" offset, {stall.stable_offset}, can be read. The client has stopped fetching; a"
                " restart reads on with a new one"
            )

    def _explain(self, error: KafkaError) -> str:
        where = f"{self._topic}[{self._partition}] at {self._next_offset}"
        expired = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001
        if error.code() in expired:
            return f"{where}: the offset has expired or never existed: {error.str()}"
        return f"{where}: {error.str()}"

    def _fetched(self, messages: list[Message]) -> RecordBatch:
        """Return the records, and move the position past them."""
        times_ms = _times_ms(messages)
        offsets = np.array([message.offset() for message in messages], np.int64)
        self._next_offset = self._records_end = int(offsets[-1]) + 1
        waiting_since_s = oldest_plausible_ms(times_ms, int(time.time() * 1000)) / 1000
        self._status.in_flight(self._partition, self._next_offset, waiting_since_s)
        again = int(np.searchsorted(offsets, self._committed.highest))
        if again:
            self._status.replayed(again)
        return RecordBatch(
            partition=self._partition,
            offsets=offsets,
            times_ms=times_ms,
            values=[message.value() for message in messages],
            next_offset=self._next_offset,
            read_at=time.time(),
            epoch=self._epoch,
            committed=self._committed.by_lane if again else {},
        )

    # ---- once an epoch ----

    def _commit_group_offset(self) -> None:
        """Commit the group's offset once an epoch is durable, for lag tools and lost snapshots."""
        offset, self._durable = self._durable, None
        if offset is None or self._phase in {Phase.OPEN, Phase.RESTORE}:
            return
        offset = max(offset, self._at_end or 0)
        self._status.committed_at(self._partition, offset)
        if offset == self._group_offset:
            return
        position = TopicPartition(self._topic, self._partition, offset, self._metadata)
        try:
            if self._phase is Phase.DRAINED:
                # The consumer is about to be closed, which would not wait for it.
                self._consumer.commit(offsets=[position], asynchronous=False)
            else:
                self._consumer.commit(offsets=[position])
        except KafkaException as error:
            # Only lag tools suffer; the next epoch tries again.
            _log.warning(
                "group offset commit failed", partition=self._partition, error=error.args[0].str()
            )
            return
        self._group_offset = offset

    def _report_position(self) -> int:
        """Report to the probes where the partition stands; return its end, as far as is known."""
        where = TopicPartition(self._topic, self._partition)
        high: int = self._consumer.get_watermark_offsets(where, cached=True)[1]
        self._status.partition_at(self._partition, self._next_offset, high)
        return high

    def _look_at_the_end(self) -> None:
        """Report where the partition stands; note it if that is beyond the last record."""
        self._at_end = None
        try:
            high = self._report_position()
            if high < 0 or self._phase in {Phase.OPEN, Phase.RESTORE} or self._epoch_records:
                return
            # The markers of transactions are behind the last record, and are done with as well.
            position = self._position()
            self._at_end = position if position >= high else None
        except KafkaException as error:
            _log.debug(
                "end offset lookup failed", partition=self._partition, error=error.args[0].str()
            )


def _times_ms(messages: list[Message]) -> NDArray[np.int64]:
    """Return the records' timestamps in milliseconds since 1970; now, where there is none."""
    found = np.array([message.timestamp()[1] for message in messages], np.int64)
    return np.where(found >= 0, found, int(time.time() * 1000))
