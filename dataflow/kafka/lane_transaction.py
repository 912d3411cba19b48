"""One lane: one producer, and one transaction for each epoch.

What a lane writes in an epoch, on all topics, and how far it has read the input, is committed
together or not at all. The order of a commit:

1. `write_batch` opens the transaction and hands the records to the producer;
2. `snapshot`, at the end of the epoch, writes what the lane has claimed to the lane's log;
3. it waits until Kafka has taken every record;
4. it adds the lane's input offsets to the transaction, under the group `<group>.lane-<n>`, unless
   all that there is are claims, which go ahead of the outcomes;
5. it commits the transaction;
6. only then does the engine store the snapshots of the epoch.

A crash before 5 leaves nothing; a crash after it leaves a lane that is ahead of the snapshots: at
the restart it drops what it has committed, and its log has what it has claimed. Any error that is
not plainly retriable ends the process: what became of an uncertain commit is seen at the restart
from the committed offsets.

Long because what the failure of a call to the producer means depends on where it is in the order
above.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import numpy as np
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from numpy.typing import NDArray

from dataflow.core.commit_counts import CommitCounts
from dataflow.core.items import (
    ControlMessage,
    LaneProgress,
    OutputBatch,
    Remembered,
    Signal,
    SinkItem,
)
from dataflow.core.lane_log import ENTRY, headers, most_record_bytes, newest_ms, pieces
from dataflow.core.lanes import lane_name
from dataflow.core.timestamps import plausible
from dataflow.errors import CommitError, Fault, FencedError
from dataflow.kafka import client_config
from dataflow.kafka.commit_pool import CommitPool
from dataflow.kafka.lane_names import Metadata, lane_group, transactional_id
from dataflow.kafka.lane_offsets import group_metadata
from dataflow.kafka.pending_topic import PARTITION
from dataflow.kafka.retry import OutageRetry
from dataflow.observability import tracing
from dataflow.observability.tracing import Span
from dataflow.process_context import ProcessContext
from dataflow.service.fail_fast import fail_fast
from schemas.headers import Headers

_FENCED = {
    KafkaError._FENCED,  # noqa: SLF001  (the client's own code for it; it has no public name)
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
_SLICE_S = 1.0
_OPENING_SLICE_S = 5.0
_GRACE_S = 2.0
"""The time a commit may be late before the client is given up."""


class Lane(StatefulSinkPartition[SinkItem, bytes]):
    """One lane: the only writer of everything that concerns its paymentIds."""

    def __init__(
        self,
        context: ProcessContext,
        lane: int,
        commits: CommitPool,
        on_close: Callable[[], None],
    ) -> None:
        kafka, cluster, lanes = context.settings.kafka, context.cluster, context.settings.lanes
        self._lifecycle = context.lifecycle
        self._outage_retry = OutageRetry(context.status, context.lifecycle)
        self._on_close = on_close
        self._commits = commits
        self._lane = lane
        self._name = lane_name(lane)
        self._topic = kafka.topic_requested
        self._cluster = cluster
        self._metadata = Metadata(
            lanes, cluster.topic_id, cluster.log_id, pending_id=cluster.pending_id
        )
        self._without_beat = set(cluster.partitions)
        self._log_topic = kafka.topic_lane_log
        self._log_partition = lane % cluster.log_partitions
        self._log_headers = headers(lane, lanes)
        self._pending_topic = kafka.topic_pending
        self._pending_record = {"headers": self._log_headers, "partition": PARTITION}
        self._log_most_bytes = most_record_bytes(kafka.message_max_bytes)
        self._remembered = Remembered(0, 0)
        self._timeout_s = kafka.transaction_timeout_ms / 1000
        self._status = context.status
        self._metrics = context.metrics
        self._failure: tuple[KafkaError, Message] | None = None
        self._group = group_metadata(kafka, lane_group(kafka.group_id, lane))
        producer_config = client_config.producer(kafka, transactional_id(kafka.group_id, lane))
        self._producer = Producer(producer_config | {"on_delivery": self._on_failure})
        self._clear()
        # Side by side with the worker's other lanes, until the end of the open epoch.
        self._opening: Future[None] | None = commits.submit(self._initialise)

    def _initialise(self) -> None:
        """Fence the previous run, however long Kafka is away: nothing is open yet."""
        self._outage_retry(self._try_to_initialise)

    def _try_to_initialise(self) -> None:
        what = "be initialised"
        try:
            # The client goes on with it in the next call.
            self._producer.init_transactions(_OPENING_SLICE_S)
        except KafkaException as error:
            if error.args[0].retriable():
                raise
            raise self._fault(what, error) from error
        except SystemError as error:
            raise self._lost(what, error) from error

    def _clear(self) -> None:
        self._open = False
        self._has_beat = False
        self._positions: dict[int, int] = {}
        self._counts = CommitCounts()
        self._entries: list[bytes] = []
        self._times_ms: list[NDArray[np.int64]] = []
        self._traced: list[tuple[int | None, Headers]] = []

    @fail_fast
    def write_batch(self, values: list[SinkItem]) -> None:
        """Take what the epoch's transaction is to commit; records go to the producer at once."""
        for item in values:
            if isinstance(item, OutputBatch):
                self._write(item)
            else:
                self._advance(item)
        self._serve(self._producer.poll, 0)

    def _write(self, batch: OutputBatch) -> None:
        self._begin_transaction()
        more = self._pending_record if batch.topic == self._pending_topic else {}
        if any(batch.headers):
            self._write_with_headers(batch, more)
        else:
            for key, value in zip(batch.keys, batch.values, strict=True):
                self._produce(batch.topic, key, value, **more)
        for key in batch.tombstones:
            self._produce(batch.topic, key, None, **more)
        written = len(batch.values) + len(batch.tombstones)
        produced = self._counts.produced
        produced[batch.topic] = produced.get(batch.topic, 0) + written

    def _write_with_headers(self, batch: OutputBatch, more: Mapping[str, Any]) -> None:
        ours: Headers = more.get("headers", [])
        for key, value, theirs in zip(batch.keys, batch.values, batch.headers, strict=True):
            self._produce(batch.topic, key, value, **{**more, "headers": ours + theirs})

    def _advance(self, progress: LaneProgress) -> None:
        if progress.control:
            self._obey(progress.control)
        if progress.position or progress.entries:
            self._begin_transaction()
        if progress.position:
            partition, offset = progress.position
            self._positions[partition] = max(offset, self._positions.get(partition, 0))
        self._entries.append(progress.entries)
        self._remembered = progress.remembered or self._remembered
        self._counts.add(progress.counts)
        self._times_ms.append(progress.times_ms)
        self._traced += progress.traced

    def _begin_transaction(self) -> None:
        if not self._open:
            self._finish_opening()
            self._producer.begin_transaction()
            self._open = True
            self._commits.expect(self)

    def _obey(self, control: ControlMessage) -> None:
        if control.signal is Signal.REFRESH_OFFSETS:
            self._has_beat = True
            self._without_beat.discard(control.partition)
        if control.signal in {Signal.DRAIN, Signal.RESTART}:
            self._lifecycle.request_stop(
                "a process of the cluster is stopping", restart=control.signal is Signal.RESTART
            )

    @fail_fast
    def snapshot(self) -> bytes:
        """Commit the epoch's transaction. The state is empty: Kafka has all there is."""
        self._finish_opening()
        if self._open:
            with self._status.waiting("Kafka commit", self._timeout_s):
                duration_s = self._wait_for_commit()
            self._status.record_commit(self._lane)
            self._metrics.committed(self._counts, duration_s)
            self._observe_latency()
            if self._traced:
                self._trace(duration_s)
            self._clear()
            if not self._without_beat:
                # All lanes have had the beats in these epochs: this is true of all of them once
                # the epoch has closed, and so in the next commit.
                partitions = len(self._cluster.partitions)
                self._metadata = self._metadata._replace(partitions=partitions)
        return b""

    def _finish_opening(self) -> None:
        """Finish the opening: from here on the previous run is fenced."""
        if self._opening is not None:
            with self._status.waiting("Kafka lanes"):
                self._opening.result()
            self._opening = None
            self._status.lane_open(self._lane)

    def _wait_for_commit(self) -> float:
        # When a coordinator goes away, librdkafka may ignore the timeout of a call, and never come
        # back from it.
        client_timeout_s = self._timeout_s + _GRACE_S
        try:
            return self._commits.wait_for(self, client_timeout_s)
        except TimeoutError as error:
            raise CommitError(
                f"lane {self._name}: the Kafka client did not end its commit within"
                f" {client_timeout_s:g} s (KAFKA_TRANSACTION_TIMEOUT, and {_GRACE_S:g} s)"
            ) from error

    def commit(self) -> float:
        """Commit what was written; the seconds it took. Raises a `Fault` if that is uncertain."""
        started_s = time.monotonic()
        self._commit(started_s + self._timeout_s)
        return time.monotonic() - started_s

    def close(self) -> None:
        """Let go. Also called after a crash: an open transaction stays open, for Kafka to abort."""
        self._on_close()

    def _commit(self, deadline_s: float) -> None:
        self._write_log()
        while len(self._producer):
            self._serve(self._producer.flush, _SLICE_S)
            if len(self._producer) and time.monotonic() > deadline_s:
                raise CommitError(
                    f"lane {self._name}: Kafka did not take {len(self._producer)} records within"
                    f" {self._timeout_s:g} s (KAFKA_TRANSACTION_TIMEOUT)"
                )
        self._check()
        self._end_transaction(deadline_s)

    def _write_log(self) -> None:
        """Write one record for an epoch, or a few: what is in few records is quick to read back."""
        if self._has_beat:
            # Without any entry: if our clock is far ahead of Kafka's, it is refused, and nothing
            # is forgotten by it.
            self._log(b"", int(time.time() * 1000))
        for piece in pieces(b"".join(self._entries), self._log_most_bytes):
            self._log(piece, newest_ms(piece))
            self._counts.log_entries += len(piece) // ENTRY.itemsize
            self._counts.log_bytes += len(piece)

    def _log(self, value: bytes, time_ms: int) -> None:
        self._produce(
            self._log_topic,
            None,
            value,
            partition=self._log_partition,
            headers=self._log_headers,
            timestamp=time_ms,
        )

    def _end_transaction(self, deadline_s: float) -> None:
        ids, since_s = self._remembered
        metadata = str(self._metadata._replace(ids=ids, since_s=since_s))
        offsets = [
            TopicPartition(self._topic, partition, position, metadata)
            for partition, position in self._positions.items()
        ]

        def send_offsets(timeout_s: float) -> None:
            self._producer.send_offsets_to_transaction(offsets, self._group, timeout_s)

        if offsets:
            self._retry("add its offsets to the transaction", send_offsets, deadline_s)
        self._retry("commit", self._producer.commit_transaction, deadline_s)

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, **more)
            except BufferError:
                # The queue is full: let Kafka take some. A failure ends the wait.
                with self._status.waiting("room in the producer queue", self._timeout_s):
                    self._serve(self._producer.poll, _SLICE_S)
            except KafkaException as error:
                # The client takes nothing more once a record was refused: that one is the cause.
                self._serve(self._producer.poll, _SLICE_S)
                raise self._fault(f"write to {topic}", error) from error
            else:
                return

    def _retry(self, what: str, call: Callable[[float], Any], deadline_s: float) -> None:
        """Make a transactional call until it succeeds, fails for good, or time is up."""
        while True:
            try:
                call(max(_SLICE_S, deadline_s - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline_s:
                    raise self._fault(what, error) from error
                time.sleep(0.05)
            except SystemError as error:
                raise self._lost(what, error) from error
            else:
                return

    def _fault(self, what: str, error: KafkaException) -> Fault:
        reason: KafkaError = error.args[0]
        if reason.code() == KafkaError._FATAL:  # noqa: SLF001  (no public name)
            # It only reports that there was a fatal error before; any transactional call names it.
            try:
                self._producer.abort_transaction(_SLICE_S)
            except KafkaException as fatal:
                reason = fatal.args[0]
        if reason.code() in _FENCED:
            return FencedError(
                f"lane {self._name}: could not {what}: {reason.str()}. Another execution of this"
                " flow has taken over (only one may run for each KAFKA_GROUP_ID), or Kafka has"
                f" ended a transaction that was open for {self._timeout_s:g} s"
                " (KAFKA_TRANSACTION_TIMEOUT)"
            )
        if reason.code() == KafkaError.INVALID_TIMESTAMP:
            return CommitError(
                f"lane {self._name}: could not {what}: {reason.str()}. The clock of this machine"
                f" says {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, which is too far ahead of"
                " Kafka's (message.timestamp.after.max.ms): set it right"
            )
        return CommitError(f"lane {self._name}: could not {what}: {reason.str()}")

    def _lost(self, what: str, error: SystemError) -> Fault:
        """Return the fault of a fatal error whose exception the client has lost.

        The client loses it when it runs callbacks after the error, but raises it again at any call.
        An abort is no loss by now.
        """
        try:
            self._producer.abort_transaction(_SLICE_S)
        except KafkaException as fatal:
            return self._fault(what, fatal)
        return CommitError(f"lane {self._name}: could not {what}: {error}")

    def _serve(self, serve: Callable[[float], int], timeout_s: float) -> None:
        """Have the client deliver and report; the first failure that it reports is raised."""
        try:
            serve(timeout_s)
        except KafkaException as error:
            raise self._fault("write", error) from error
        except SystemError as error:
            raise self._lost("write", error) from error
        self._check()

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        """Note a record that was refused or lost: the transaction must not be committed.

        It may run with an exception of the client's pending, in which every call fails, and the
        release of a lock: so it calls nothing.
        """
        if error is not None and self._failure is None:
            self._failure = error, message

    def _check(self) -> None:
        if self._failure is not None:
            error, message = self._failure
            self._metrics.delivery_failed(message.topic() or "")
            raise self._fault("deliver a record", KafkaException(error))

    def _observe_latency(self) -> None:
        """Observe the time from the records' timestamps to now, when their outcomes are visible."""
        times_ms = np.concatenate(self._times_ms)
        believed_ms = times_ms[plausible(times_ms, int(time.time() * 1000))]
        self._metrics.implausible(len(times_ms) - len(believed_ms))
        # Records of one instant share an observation: to the millisecond, there are not many.
        for time_ms, count in zip(*np.unique(believed_ms, return_counts=True), strict=True):
            self._metrics.visible(time.time() - int(time_ms) / 1000, int(count))

    def _trace(self, duration_s: float) -> None:
        """Make the spans of this commit; each is an example of what the latency is made of."""
        now_ns = time.time_ns()
        requests = [each for _, each in self._traced]
        tracing.record(Span.COMMIT, requests, now_ns - int(duration_s * 1e9), now_ns)
        for time_ms, each in self._traced:
            if time_ms is not None and plausible(np.array([time_ms]), now_ns // 1_000_000)[0]:
                self._metrics.traced(now_ns / 1e9 - time_ms / 1000, tracing.trace_id([each]))
