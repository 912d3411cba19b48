"""All visible records of a topic within bounds, for tools that look at a cluster from outside.

They read as a `read_committed` reader does, beside the flow or without it. Nothing is written, and
no offset is committed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflow.config.settings import KafkaSettings
from dataflow.core.unwrapped import Unwrapped
from dataflow.errors import ConsumeError
from dataflow.kafka import client_config
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, offsets_at, partitions_of
from dataflow.kafka.record_headers import headers_of
from dataflow.kafka.retry import retry_briefly
from schemas.requests import Rejected

_TIMEOUT_S = 30.0
_SLICE_S = 0.2
_AT_ONCE = 20_000
_QUEUE_KBYTES = 64 * 1024
"""Fetched but unread records of all partitions together."""
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001  (local codes have no public names)


AsJson = Callable[[str, Sequence[bytes | None]], Unwrapped]
"""Returns records of a topic as JSON. Raises `ConsumeError` if their schemas are not there."""


class Bounds(NamedTuple):
    """The begin and the end of one partition; offsets of the next record."""

    low: int
    """The first offset that retention has left."""
    stable: int
    """The offset up to which a `read_committed` reader can read."""
    high: int
    """The end, open transactions included."""


class Chunk(NamedTuple):
    """Some records of one partition, in aligned lists, offsets ascending."""

    partition: int
    offsets: list[int]
    times_ms: list[int]
    """Their timestamps, in milliseconds since 1970; negative where there is none."""
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Any]
    """As the client gives them."""
    refused: Mapping[int, Rejected] = {}
    """Requests that cannot be read by their schema, by their number."""


class TopicScan:
    """A reader of any topic of a cluster. Errors of the cluster are `dataflow.errors.Fault`s.

    Args:
        kafka: Where, and as whom.
        timeout_s: How long to wait for an open transaction to end.
        name: The tool.
        as_json: Turns records that name a schema into JSON; without it, they stay as they are.
    """

    def __init__(
        self, kafka: KafkaSettings, timeout_s: float, name: str, as_json: AsJson | None = None
    ) -> None:
        self.admin = AdminClient(client_config.client(kafka, name))
        self._kafka = kafka
        self._timeout_s = timeout_s
        self._name = name
        self._as_json = as_json
        self._stuck: dict[tuple[str, int], int] = {}

    # ---- bounds ----

    def bounds_now(self, topic: str, since_ms: int | None = None) -> dict[int, Bounds]:
        """Return the bounds of all partitions of a topic.

        Args:
            topic: Its name.
            since_ms: Without the records before the first one that is not older.
        """
        try:
            partitions = retry_briefly(lambda: partitions_of(self.admin, topic))
            found = self.bounds(topic, partitions)
            if since_ms is None:
                return found
            spec: OffsetSpec = OffsetSpec.for_timestamp(since_ms)
            begins = self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED)
        except KafkaException as error:
            raise ConsumeError(f"topic {topic}: {error.args[0].str()}") from error
        # -1: there is no such record.
        return {
            n: each._replace(low=each.high if begins[n] < 0 else begins[n])
            for n, each in found.items()
        }

    def bounds(self, topic: str, partitions: list[int]) -> dict[int, Bounds]:
        """Return the bounds of some partitions. Raises `KafkaException`."""
        committed, uncommitted = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        low = self._offsets(topic, partitions, EARLIEST, uncommitted)
        high = self._offsets(topic, partitions, LATEST, uncommitted)
        stable = self._offsets(topic, partitions, LATEST, committed)
        return {n: Bounds(low[n], stable[n], high[n]) for n in partitions}

    def _offsets(
        self, topic: str, partitions: list[int], spec: OffsetSpec, level: IsolationLevel
    ) -> dict[int, int]:
        return retry_briefly(lambda: offsets_at(self.admin, topic, partitions, spec, level))

    # ---- reading ----

    def read(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield all visible records within the bounds; end early where it is `stuck`."""
        ends = {n: bound.high for n, bound in bounds.items() if bound.high > bound.low}
        positions = {n: bounds[n].low for n in ends}
        consumer = self.consumer(len(ends))
        moved_s = time.monotonic()
        try:
            consumer.assign([TopicPartition(topic, n, positions[n]) for n in ends])
            while ends:
                messages = consumer.consume(_AT_ONCE, _SLICE_S)
                yield from self.chunks_of(topic, messages, ends)
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

    def read_all(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield all visible records within the bounds.

        Raises:
            ConsumeError: an open transaction hides the rest, or Kafka does not answer.
        """
        yield from self.read(topic, bounds)
        for (stuck, partition), offset in self._stuck.items():
            if stuck == topic:
                raise ConsumeError(
                    f"{topic}[{partition}]: a transaction is open from offset {offset} on, and has"
                    f" not ended within {self._timeout_s:g} s (--timeout). If the flow is running,"
                    " try again; if it is not, start it: that ends its transactions"
                )

    def _give_up(self, topic: str, ends: dict[int, int], positions: dict[int, int]) -> None:
        """Find out why nothing came for a long time: a transaction, or Kafka being away."""
        try:
            now = self.bounds(topic, sorted(ends))
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
        consumer = self.consumer(1)
        deadline_s = time.monotonic() + _TIMEOUT_S
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            while time.monotonic() < deadline_s:
                for message in consumer.consume(1, _SLICE_S):
                    error = message.error()
                    if error is None:
                        [chunk] = self.chunks_of(topic, [message], {})
                        return chunk.values[0], True
                    if error.code() == _END_OF_PARTITION:
                        return None, False
        finally:
            consumer.close()
        return None, False

    def chunks_of(
        self, topic: str, messages: Iterable[Message], ends: Mapping[int, int]
    ) -> Iterator[Chunk]:
        """Yield the records of a topic below the ends, by partition."""
        for chunk in _chunks(messages, ends):
            if self._as_json is None:
                yield chunk
            else:
                values, refused = self._as_json(topic, chunk.values)
                yield chunk._replace(values=values, refused=refused)

    def consumer(self, partitions: int) -> Consumer:
        """Return a consumer that shares its memory between so many partitions."""
        return Consumer(
            client_config.consumer(self._kafka, self._name, partitions)
            | {
                # Retention may delete records in front of us; what is missing is found then.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": max(1024, _QUEUE_KBYTES // max(1, partitions)),
                "fetch.message.max.bytes": 1024 * 1024,
            }
        )


def _chunks(messages: Iterable[Message], ends: Mapping[int, int]) -> Iterator[Chunk]:
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
        chunk.headers.append(headers_of(message))
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
