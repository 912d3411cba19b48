"""A reader of a real cluster. Nothing is written, and no offset is committed."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec

from dataflow.config.settings import Settings
from dataflow.errors import ConsumeError
from dataflow.kafka import client_config
from dataflow.kafka.lane_names import lane_group
from dataflow.kafka.lane_offsets import Offset, committed_offsets
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, offsets_at
from dataflow.kafka.retry import retry_briefly
from dataflow.verify.reader import Bounds, Chunk, LanePosition, Positions, Snapshot

_log = structlog.get_logger()

_TIMEOUT_S = 30.0
_SLICE_S = 0.2
_AT_ONCE = 20_000
_QUEUE_KBYTES = 64 * 1024
"""Fetched but unread records of all partitions together."""
_LOOK_EVERY_S = 5.0
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001  (local codes have no public names)


class KafkaReader:
    """The six topics of a flow, by its own settings; see `dataflow.verify.reader.Reader`.

    Args:
        settings: Of the flow.
        timeout_s: How long to wait for an open transaction to end.
    """

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        kafka = settings.kafka
        self._settings = settings
        self._kafka = kafka
        self._timeout_s = timeout_s
        # In this order: see `Snapshot`.
        self._topics = [
            kafka.topic_pending,
            kafka.topic_processed,
            kafka.topic_failed,
            kafka.topic_audit,
            kafka.topic_lane_log,
            kafka.topic_requested,
        ]
        self._admin = AdminClient(client_config.client(kafka, "verify"))
        self._stuck: dict[tuple[str, int], int] = {}

    # ---- how it stands ----

    def look(self) -> Snapshot:
        """Return the state of the cluster now."""
        try:
            found = retry_briefly(lambda: self._admin.list_topics(timeout=_TIMEOUT_S)).topics
            partitions = {topic: sorted(found[topic].partitions) for topic in self._topics}
            positions = self._positions(partitions[self._kafka.topic_requested])
            bounds = {topic: self._bounds(topic, partitions[topic]) for topic in self._topics}
        except KafkaException as error:
            raise ConsumeError(f"Kafka does not answer: {error.args[0].str()}") from error
        return Snapshot(positions, bounds, list(self._compacted()))

    def _bounds(self, topic: str, partitions: list[int]) -> dict[int, Bounds]:
        committed, uncommitted = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        low = self._offsets(topic, partitions, EARLIEST, uncommitted)
        high = self._offsets(topic, partitions, LATEST, uncommitted)
        stable = self._offsets(topic, partitions, LATEST, committed)
        return {n: Bounds(low[n], stable[n], high[n]) for n in partitions}

    def _offsets(
        self, topic: str, partitions: list[int], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[int, int]:
        return retry_briefly(lambda: offsets_at(self._admin, topic, partitions, spec, level))

    def _positions(self, partitions: list[int]) -> Positions:
        group = self._kafka.group_id
        plain = {at: each.offset for at, each in self._committed(group, partitions).items()}
        lanes: dict[int, dict[int, LanePosition]] = {}
        most = self._settings.lanes
        lane = 0
        while lane < most:
            lanes[lane] = {
                at: LanePosition(each.offset, each.metadata.lanes)
                for at, each in self._committed(lane_group(group, lane), partitions).items()
            }
            # There may have been more of them.
            most = max(most, *(each.lanes or 0 for each in lanes[lane].values()), 0)
            lane += 1
        return Positions(plain, lanes)

    def _committed(self, group: str, partitions: list[int]) -> dict[int, Offset]:
        def ask(*, stable: bool) -> dict[int, Offset]:
            return committed_offsets(self._kafka, group, partitions, stable=stable)

        try:
            return retry_briefly(lambda: ask(stable=True))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNSTABLE_OFFSET_COMMIT:
                raise
            # A transaction that does not end, which is found to be open elsewhere.
            return ask(stable=False)

    def _compacted(self) -> Iterator[str]:
        wanted = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in self._topics]
        answers = self._admin.describe_configs(wanted, request_timeout=_TIMEOUT_S)
        for resource, answer in answers.items():
            try:
                policy = str(answer.result()["cleanup.policy"].value)
            except (KafkaException, KeyError) as error:
                # Not every user may read it.
                _log.debug(
                    "cleanup.policy could not be read", topic=resource.name, error=str(error)
                )
                continue
            if "compact" in policy:
                yield resource.name

    # ---- reading ----

    def read(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield all visible records within the bounds; end early where it is `stuck`."""
        ends = {n: bound.high for n, bound in bounds.items() if bound.high > bound.low}
        positions = {n: bounds[n].low for n in ends}
        consumer = self._consumer(len(ends))
        moved_s = time.monotonic()
        try:
            consumer.assign([TopicPartition(topic, n, positions[n]) for n in ends])
            while ends:
                messages = consumer.consume(_AT_ONCE, _SLICE_S)
                yield from _chunks(messages, ends)
                moved = dict(filter(None, map(_position, messages)))
                if moved:
                    positions |= moved
                    moved_s = time.monotonic()
                for partition in [n for n, end in ends.items() if positions[n] >= end]:
                    del ends[partition]
                    consumer.pause([TopicPartition(topic, partition)])
                if time.monotonic() - moved_s > self._timeout_s:
                    self._give_up(topic, ends, positions)
                    return
        finally:
            consumer.close()

    def _give_up(self, topic: str, ends: dict[int, int], positions: dict[int, int]) -> None:
        """Find out why nothing came for a long time: a transaction, or Kafka being away."""
        try:
            now = self._bounds(topic, sorted(ends))
        except KafkaException as error:
            raise ConsumeError(f"cannot read {topic}: {error.args[0].str()}") from error
        for partition, end in ends.items():
            if now[partition].stable >= end:
                raise ConsumeError(
                    f"cannot read {topic}[{partition}] from {positions[partition]} to {end}:"
                    f" nothing came within {self._timeout_s:g} s"
                )
            self._stuck[topic, partition] = now[partition].stable

    def stuck(self) -> dict[tuple[str, int], int]:
        """Return topic and partition of each `read` that has ended early, and where."""
        return dict(self._stuck)

    def record(self, topic: str, partition: int, offset: int) -> tuple[bytes | None, bool]:
        """Return the value of the first visible record from `offset` on, and whether it exists."""
        consumer = self._consumer(1)
        deadline_s = time.monotonic() + _TIMEOUT_S
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            while time.monotonic() < deadline_s:
                for message in consumer.consume(1, _SLICE_S):
                    error = message.error()
                    if error is None:
                        return message.value(), True
                    if error.code() == _END_OF_PARTITION:
                        return None, False
        finally:
            consumer.close()
        return None, False

    def follow(self, on: Callable[[], bool]) -> Iterator[tuple[str, list[Chunk]]]:
        """Yield all six topics from their beginnings, as they grow, as long as `on`.

        Whatever happens to the cluster meanwhile is waited out. Yields an empty list when nothing
        has come for a moment.
        """
        consumer = self._consumer(1)
        assigned: set[tuple[str, int]] = set()
        looked_s = -_LOOK_EVERY_S
        try:
            while on():
                if time.monotonic() - looked_s > _LOOK_EVERY_S:
                    looked_s = time.monotonic()
                    self._assign_new(consumer, assigned)
                by_topic: dict[str, list[Message]] = {}
                for message in consumer.consume(_AT_ONCE, _SLICE_S):
                    by_topic.setdefault(str(message.topic()), []).append(message)
                for topic, messages in by_topic.items():
                    yield topic, [*_chunks(messages, {})]
                if not by_topic:
                    yield "", []
        finally:
            consumer.close()

    def _assign_new(self, consumer: Consumer, assigned: set[tuple[str, int]]) -> None:
        try:
            found = self._admin.list_topics(timeout=_LOOK_EVERY_S).topics
        except KafkaException as error:
            _log.debug("metadata request failed", error=error.args[0].str())
            return
        there = {
            (topic, partition)
            for topic in self._topics
            if topic in found
            for partition in found[topic].partitions
        }
        if new := sorted(there - assigned):
            assigned |= there
            # 0, not the low watermark: if that has moved, the client goes to the earliest.
            consumer.incremental_assign([TopicPartition(*each, 0) for each in new])

    def _consumer(self, partitions: int) -> Consumer:
        return Consumer(
            client_config.consumer(self._kafka, "verify", partitions)
            | {
                # Retention may delete records in front of us; what is missing is found then.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": max(1024, _QUEUE_KBYTES // max(1, partitions)),
                "fetch.message.max.bytes": 1024 * 1024,
            }
        )


def _chunks(messages: Iterable[Message], ends: Mapping[int, int]) -> Iterator[Chunk]:
    """Yield the records below the ends, by partition."""
    chunks: dict[int, Chunk] = {}
    for message in messages:
        partition, offset = message.partition(), message.offset()
        if message.error() is not None or partition is None or offset is None:
            continue
        if offset >= ends.get(partition, offset + 1):
            continue
        chunk = chunks.get(partition)
        if chunk is None:
            chunk = chunks[partition] = Chunk(partition, [], [], [], [], [])
        chunk.offsets.append(offset)
        chunk.times_ms.append(message.timestamp()[1])
        chunk.keys.append(message.key())
        chunk.values.append(message.value())
        chunk.headers.append(message.headers())
    yield from chunks.values()


def _position(message: Message) -> tuple[int, int] | None:
    """Return a message's partition and how far its reader is then; None for an error."""
    partition, offset, error = message.partition(), message.offset(), message.error()
    if partition is None or offset is None:
        return None
    if error is None:
        return partition, offset + 1
    # It also counts what is behind the last record: the markers of transactions.
    return (partition, offset) if error.code() == _END_OF_PARTITION else None
