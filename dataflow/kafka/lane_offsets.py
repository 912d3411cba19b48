"""The committed input offsets of the lanes: what previous runs have published for good."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from dataflow.config.settings import KafkaSettings
from dataflow.core.fenced import Fenced
from dataflow.errors import ConsumeError, Fault, StartRefusedError
from dataflow.kafka import client_config
from dataflow.kafka.lane_names import Metadata, lane_group, transactional_id
from dataflow.kafka.partition_offsets import wait_until_stable
from dataflow.kafka.retry import Retry, retry_briefly
from dataflow.process_context import Cluster

_TIMEOUT_S = 30.0
_STABLE_WITHIN_S = 10.0
"""The markers of a transaction that was just decided are there by then, if they ever come."""
_AT_ONCE = 16
_LOST = (
    "Kafka 4.3 may do so when a broker restarts while a partition has no other replica"
    " (KAFKA-20734). See docs/start-refusals.md, *Hanging transactions*."
)


class Offset(NamedTuple):
    """The offset that a lane has committed of one input partition."""

    offset: int
    metadata: Metadata


class Committed(NamedTuple):
    """The progress that the lanes have committed of one input partition."""

    by_lane: dict[int, int]
    """Next offset of each lane that has ever committed one."""
    highest: int
    """The highest of them and of lanes there were before, 0 if there is none: up to here, some
    lane's outcomes are public."""


class LaneOffsets:
    """A reader of the lanes' offsets, once for all partitions of a process, after they are fenced.

    Args:
        kafka: Where to read.
        lanes: How many lanes this run has.
        cluster: What the start has found; an offset of another topic of this name does not count.
        retry: How long to wait for an answer.
    """

    def __init__(
        self, kafka: KafkaSettings, lanes: int, cluster: Cluster, retry: Retry = retry_briefly
    ) -> None:
        self._retry = retry
        self._kafka = kafka
        self._lanes = lanes
        self._cluster = cluster
        self._lock = threading.Lock()
        self._fenced: set[int] = set()
        self._read: dict[int, dict[int, Offset]] = {}

    def of(
        self, fenced: Fenced, partition: int, resume_offset: int, lanes_before: int | None
    ) -> Committed:
        """Return what the lanes have committed of one partition.

        Args:
            fenced: Until then the previous run may still commit.
            partition: Of the request topic.
            resume_offset: Where this run resumes.
            lanes_before: How many lanes the previous run had, as far as is known.

        Raises:
            StartRefusedError: `LANES` was changed while some lanes were ahead of the others, or a
                transaction of the previous run has no end.
        """
        everything = self.all(fenced, lanes_before)
        found = {
            lane: offsets[partition] for lane, offsets in everything.items() if partition in offsets
        }
        for lane, (offset, metadata) in found.items():
            if offset > resume_offset and metadata.lanes not in {None, self._lanes}:
                raise StartRefusedError(
                    f"LANES was changed from {metadata.lanes} to {self._lanes} while work was in"
                    f" flight: lane {lane} has committed partition {partition} up to"
                    f" {offset}, the others only up to {resume_offset}. Start once with"
                    f" LANES={metadata.lanes}, stop it with SIGTERM, then change LANES."
                )
        by_lane = {lane: each.offset for lane, each in found.items() if lane < self._lanes}
        return Committed(by_lane, max((each.offset for each in found.values()), default=0))

    def all(
        self, _fenced: Fenced, lanes_before: int | None = None
    ) -> Mapping[int, Mapping[int, Offset]]:
        """Return the offsets of all lanes, of this run and of former ones, by lane and partition.

        Raises as `of`.
        """
        with self._lock:
            self._read_lanes(range(self._lanes))
            seen = [metadata.lanes or 0 for _, metadata in self._committed()]
            others = range(self._lanes, max(lanes_before or 0, *seen, 0))
            self._fence(set(others) - self._fenced)
            self._read_lanes(others)
            return dict(self._read)

    def _committed(self) -> Iterator[Offset]:
        return (each for offsets in self._read.values() for each in offsets.values())

    def _read_lanes(self, lanes: Iterable[int]) -> None:
        """Read each lane's offsets, once. Side by side: each group may have another coordinator."""
        missing = [lane for lane in lanes if lane not in self._read]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="offsets") as pool:
            self._read |= zip(missing, pool.map(self._lane, missing), strict=True)

    def _lane(self, lane: int) -> dict[int, Offset]:
        group = lane_group(self._kafka.group_id, lane)
        partitions = self._cluster.partitions
        try:
            found = self._retry(lambda: committed_offsets(self._kafka, group, partitions))
        except KafkaException as error:
            raise _unreadable(group, error.args[0]) from error
        return {
            partition: each
            for partition, each in found.items()
            if each.metadata.is_of(self._cluster.topic_id)
        }

    def _fence(self, lanes: set[int]) -> None:
        """End the lanes that only a previous run had, then see that all transactions are over."""
        if self._fenced and not lanes:
            return

        def fence(lane: int) -> None:
            name = transactional_id(self._kafka.group_id, lane)
            producer = Producer(client_config.producer(self._kafka, name))
            self._retry(lambda: producer.init_transactions(_TIMEOUT_S))

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fence") as pool:
            list(pool.map(fence, sorted(lanes)))
        self._expect_no_leftovers()
        # This run's own were fenced as they opened.
        self._fenced |= lanes | set(range(self._lanes))

    def _expect_no_leftovers(self) -> None:
        """Check that Kafka did end the transactions of all lanes, which are fenced.

        What a hanging transaction has written to a partition shares the outcome of the lane's
        next one there: payments would be doubled, or lost.
        """
        timeout_s = self._kafka.transaction_timeout_ms / 1000
        behind = wait_until_stable(self._kafka, timeout_s, self._retry)
        if behind:
            (topic, partition), (stable, end) = min(behind.items())
            raise StartRefusedError(
                f"{topic}[{partition}]: a transaction is still open at offset {stable} (the end is"
                f" {end}) {timeout_s:g} s after all of this flow's were ended, on"
                f" {len(behind)} partition(s): it hangs in Kafka, or another producer writes there."
                f" {_LOST}"
            )


def committed_offsets(
    kafka: KafkaSettings, group: str, partitions: Iterable[int], *, stable: bool = True
) -> dict[int, Offset]:
    """Return what a group has committed of the request topic; partitions without it are absent.

    It asks as a consumer that never joins the group. The client's `list_consumer_group_offsets`
    is no choice: librdkafka 2.16 reads through a null pointer in it when the group's coordinator
    has just moved, as it does whenever brokers restart.

    Args:
        kafka: Where to ask.
        group: The name of the group.
        partitions: Of the request topic.
        stable: Wait for an offset whose transaction is just being committed. Otherwise the offset
            before it is good enough.

    Raises:
        KafkaException: with `UNSTABLE_OFFSET_COMMIT` when that transaction does not end; or Kafka
            gave no answer.
    """
    level = "read_committed" if stable else "read_uncommitted"
    wanted = [TopicPartition(kafka.topic_requested, partition) for partition in partitions]
    consumer = Consumer(
        client_config.client(kafka, group) | {"group.id": group, "isolation.level": level}
    )
    try:
        if not stable:
            found = consumer.committed(wanted, timeout=_TIMEOUT_S)
        else:
            found = _stable(consumer, wanted) or _stable_by_now(kafka, group, consumer, wanted)
    finally:
        consumer.close()
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {
        each.partition: Offset(each.offset, Metadata.read(each.metadata))
        for each in found
        if each.offset >= 0
    }


def of_all_lanes(
    group: str, lanes: int, ask: Callable[[str], dict[int, Offset]]
) -> dict[int, dict[int, Offset]]:
    """Return what each lane has committed, by input partition, also those that there were before.

    Args:
        group: The flow's.
        lanes: How many lanes there are now.
        ask: Returns what a group has committed.
    """
    found: dict[int, dict[int, Offset]] = {}
    while len(found) < lanes:
        committed = found[len(found)] = ask(lane_group(group, len(found)))
        lanes = max(lanes, *(each.metadata.lanes or 0 for each in committed.values()), 0)
    return found


def group_metadata(kafka: KafkaSettings, group: str) -> Any:
    """Return what the broker requires of a group that has offsets, but no members."""
    consumer = Consumer(client_config.client(kafka, group) | {"group.id": group})
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()


def _stable(consumer: Consumer, wanted: list[TopicPartition]) -> list[TopicPartition] | None:
    """Return the offsets whose transactions are over; None if that took too long."""
    try:
        return consumer.committed(wanted, timeout=_STABLE_WITHIN_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001
            raise
        return None


def _stable_by_now(
    kafka: KafkaSettings, group: str, consumer: Consumer, wanted: list[TopicPartition]
) -> list[TopicPartition]:
    """Return the same from a Kafka that may have been away meanwhile, or is coming back.

    The client asks again and again, and does not report why it got no answer. If there is one for
    those who do not mind an open transaction, and then still none for those who do, it was that.
    """
    committed_offsets(kafka, group, [each.partition for each in wanted], stable=False)
    found = _stable(consumer, wanted)
    if found is None:
        raise KafkaException(KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))
    return found


def _unreadable(group: str, error: KafkaError) -> Fault:
    if error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
        # All lanes are fenced by now, which has ended their transactions.
        return StartRefusedError(
            f"The committed offsets of group {group} still wait for the end of a transaction that"
            f" is over: it hangs in Kafka. {_LOST}"
        )
    return ConsumeError(f"cannot read the committed offsets of group {group}: {error.str()}")
