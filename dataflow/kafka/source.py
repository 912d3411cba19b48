"""The request source: one partition of the request topic, which starts in three phases.

A crash leaves some lanes ahead of the position that is kept, and may leave a previous run alive. So
after every start, each phase being closed by its own epoch (`snapshot`):

1. *Open*: have every lane open, which fences the previous run. Nothing else.
2. *Restore*: now that nothing else can commit, read how far each lane has committed, and have every
   lane read back its log. Nothing else: in an epoch with records, the lanes that are done would
   have transactions open, beyond whose records the others could not read.
3. *Live*: the records from the position on. `decode` drops those that their lane has committed.

What is read waits in its lane for the gateway, so the position that is kept lags behind that of
reading (`dataflow.core.committable_position`). A source reads no more than the gateway can take,
and nothing in a hold. In a stop it reads nothing, gives its lanes the time for their answers, and
then has them park the rest.

The table of all phases is `dataflow.core.phases`; how a partition is read, `partition_reader`; what
lag tools see, `group_offset`; how much is read and when, `dataflow.core.read_pace`.

Offsets are always those of the *next* record.

Long because the engine's calls and what each phase emits share the state of one partition.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, TopicPartition

from dataflow.core.epoch_close import EpochCloseEstimator
from dataflow.core.items import ControlMessage, RecordBatch, Signal, SourceItem
from dataflow.core.lane_signals import LaneSignals
from dataflow.core.offset_refresh import OffsetRefresh
from dataflow.core.phases import Emission, Phase, PhaseSequence
from dataflow.core.read_pace import ReadPace
from dataflow.core.state import SourceState, pack, unpack
from dataflow.core.timestamps import oldest_plausible_ms
from dataflow.kafka import client_config
from dataflow.kafka.group_offset import GroupOffset
from dataflow.kafka.lane_offsets import Committed, LaneOffsets
from dataflow.kafka.partition_reader import PartitionReader, Records
from dataflow.kafka.resume_point import ResumePoint, ResumePoints
from dataflow.kafka.retry import OutageRetry
from dataflow.process_context import ProcessContext
from dataflow.service import malloc
from dataflow.service.fail_fast import fail_fast

_log = structlog.get_logger()

ASK_MOST_S = 60.0
"""The time until a Kafka that is just coming back has answered everything a start asks."""


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
        now_s = time.monotonic()
        self._context = context
        self._status = context.status
        self._lifecycle = context.lifecycle
        self._read_up_to = context.read_up_to[partition]
        self._transaction_timeout_s = context.settings.kafka.transaction_timeout_ms / 1000
        self._partition = partition
        self._start = start
        self._offsets = offsets
        self._on_close = on_close
        self._reader = PartitionReader(context, partition, consumer, start)
        self._group_offset = GroupOffset(context, partition, consumer, start.began_at)
        self._phases = PhaseSequence()
        self._charging = context.charging
        # Not with other workers: they would have to close the epoch as well, and wait for theirs.
        closes_early = self._charging.is_one_by_one and not context.epochs.shared
        self._pace = ReadPace(self._transaction_timeout_s, now_s, closes_early=closes_early)
        self._signals = LaneSignals(
            context.charging, partition, start.offset, self._reader.records_end
        )
        self._committable = self._signals.committable
        self._refresh = OffsetRefresh(now_s)
        self._epoch_close = EpochCloseEstimator() if context.epochs.shared else None
        self._epoch = 0  # of this run: all partitions begin in the one it resumes in
        self._committed = Committed({}, 0)  # by the lanes, in previous runs
        self._first_epoch_closed = False  # whether the first epoch with records has ended

    # ---- called by the engine ----

    @fail_fast
    def next_batch(self) -> list[SourceItem]:
        """Return what the partition's phase has to emit now."""
        if self._epoch_close:
            self._epoch_close.asked(time.monotonic())
        if self._phases.phase is Phase.LIVE:
            self._group_offset.commit()
        is_due = self._lifecycle.stopping and self._signals.may_stop(time.monotonic())
        if is_due and self._phases.stop():
            self._lifecycle.announce()
        return self._emit(self._phases.emit())

    def next_awake(self) -> datetime | None:
        """Return the next instant of all, or now if there is more; later while an epoch closes."""
        now = time.time()
        awake_at = now
        if not (self._pace.is_hurried or self._pace.is_early):
            is_idle = self._pace.is_idle(time.monotonic())
            awake_at = self._context.epochs.next_s(now, idle=is_idle)
        if self._epoch_close and self._phases.phase is Phase.LIVE:
            awake_at = max(awake_at, now + self._epoch_close.pause_s)
        return datetime.fromtimestamp(awake_at, UTC) if awake_at > now else None

    @fail_fast
    def snapshot(self) -> bytes:
        """End the epoch: go on to the next phase, if this one's batch was in it."""
        self._signals.epoch_closed(self._epoch, drained=self._phases.phase is Phase.DRAINING)
        self._epoch += 1
        if self._epoch_close and self._phases.phase is Phase.LIVE:
            self._epoch_close.ended(time.monotonic())
        if self._phases.epoch_closed():
            self._pace.phase_began()
            if self._phases.phase is Phase.LIVE:
                self._status.partitions.live(self._partition)
        elif self._phases.phase is Phase.LIVE and not self._first_epoch_closed:
            # The indexes are built, and what they were built from is let go.
            self._first_epoch_closed = True
            malloc.give_back()
        position = self._committable_offset()
        self._group_offset.epoch_closed(position, self._committable.records_end)
        self._pace.epoch_closed()
        self._refresh.epoch_closed()
        self._status.epoch_closed()
        settings, cluster = self._context.settings, self._context.cluster
        return pack(
            SourceState(
                cluster=cluster.cluster_id,
                topic=settings.kafka.topic_requested,
                topic_id=cluster.topic_id,
                group=settings.kafka.group_id,
                lanes=settings.lanes,
                start_offset=self._start.began_at,
                next_offset=self._committable.records_end,
                position=position,
            )
        )

    def close(self) -> None:
        """Leave Kafka. Also called after a crash: nothing may be committed here."""
        self._on_close()
        self._reader.close()

    def _committable_offset(self) -> int:
        """Return the position that is durable once this epoch is, for the snapshot and the group.

        All below it has left its lanes. The markers of transactions behind the last record are done
        with as well, but not before the epoch of that record is closed.
        """
        is_starting = self._phases.phase in {Phase.OPEN, Phase.RESTORE}
        is_all = self._committable.is_all
        with_markers = is_all and not is_starting and not self._pace.epoch_records
        position = self._reader.committable_offset(with_markers=with_markers)
        if is_all:
            self._committable.pass_markers(position)
        return self._committable.offset

    # ---- what is emitted ----

    def _emit(self, emission: Emission) -> list[SourceItem]:
        match emission:
            case Emission.NOTHING:
                return self._rest()
            case Emission.OPEN:
                return [self._control(Signal.OPEN)]
            case Emission.RESTORE:
                return self._restore()
            case Emission.RECORDS:
                return self._live()
            case Emission.STOP:
                # All processes of the cluster have to stop as well, in the same epoch.
                restart = self._lifecycle.restart_wanted
                return [self._control(Signal.RESTART if restart else Signal.DRAIN)]
            case Emission.END:
                self._group_offset.commit_last()
                raise StopIteration

    def _restore(self) -> list[SourceItem]:
        fenced = self._phases.fenced()
        at_most_s = self._transaction_timeout_s + ASK_MOST_S
        with self._status.waiting("the previous run's transactions", at_most_s):
            committed = self._offsets.of(
                fenced, self._partition, self._reader.next_offset, self._start.lanes
            )
        self._start.check(committed, self._context.settings.kafka, self._partition)
        self._committed = committed
        return [replace(self._control(Signal.RESTORE), fenced=fenced)]

    def _live(self) -> list[SourceItem]:
        if not self._pace.asked(time.monotonic()):
            return self._rest()
        now_s = time.monotonic()
        to_lanes = [self._control(*each) for each in self._signals.due(self._epoch, now_s)]
        if self._pace.is_early:
            self._pace.rest()
            return [*to_lanes]
        return [*to_lanes, *self._offset_refresh(), *self._records(), *self._watermark()]

    def _offset_refresh(self) -> list[ControlMessage]:
        is_replay = self._reader.next_offset < self._committed.highest
        if is_replay or not self._refresh.is_due(time.monotonic()):
            return []
        self._refresh.emitted(time.monotonic())
        self._group_offset.renew()
        return [self._control(Signal.REFRESH_OFFSETS)]

    def _records(self) -> list[RecordBatch]:
        room = 0 if self._lifecycle.stopping else self._charging.credit(self._partition)
        at_most = min(self._pace.limit, room)
        records = self._reader.read(at_most) if at_most else None
        now_s = time.monotonic()
        if records is None:
            self._pace.read(0, now_s)
            return []
        batch = self._batch(records)
        self._committable.read(self._reader.next_offset, self._epoch, now_s)
        self._pace.read(len(records.values), now_s)
        self._reader.report_position()
        return [batch]

    def _watermark(self) -> list[ControlMessage]:
        return [self._control(Signal.WATERMARK)] if self._has_come_further() else []

    def _has_come_further(self) -> bool:
        if not self._refresh.is_clock_confirmed or not self._read_up_to.is_waiting():
            return False
        return self._read_up_to.advance(self._reader.position())

    def _rest(self) -> list[SourceItem]:
        self._pace.rest()
        return []

    def _control(
        self, signal: Signal, position: int | None = None, lanes: tuple[int, ...] | None = None
    ) -> ControlMessage:
        position = self._reader.next_offset if position is None else position
        time_ms = self._read_up_to.time_ms
        return ControlMessage(signal, self._partition, position, time_ms, self._epoch, lanes)

    def _batch(self, records: Records) -> RecordBatch:
        offset, read_at = self._reader.next_offset, time.time()
        waiting_since_s = oldest_plausible_ms(records.times_ms, int(read_at * 1000)) / 1000
        self._status.partitions.in_flight(self._partition, offset, waiting_since_s)
        again = int(np.searchsorted(records.offsets, self._committed.highest))
        if again:
            self._status.replayed(again)
        return RecordBatch(
            partition=self._partition,
            offsets=records.offsets,
            times_ms=records.times_ms,
            values=records.values,
            next_offset=offset,
            read_at=read_at,
            epoch=self._epoch,
            committed=self._committed.by_lane if again else {},
            headers=records.headers,
            refused=records.refused,
        )
