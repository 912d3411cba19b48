"""The committed input offsets of the lanes: what a previous run has published for good."""

import threading
from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from dataflow.connectors import config
from dataflow.connectors.names import lane_group, lanes_in, transactional_id
from dataflow.connectors.patience import patiently
from dataflow.errors import ConsumeError, Fault, StartRefusedError
from dataflow.settings import KafkaSettings

_TIMEOUT_S = 30.0


class Committed(NamedTuple):
    """How far the lanes have committed one input partition."""

    by_lane: dict[int, int]
    """Next offset of each lane that has ever committed one."""
    highest: int
    """The highest of them and of lanes there were before, 0 if there is none: up to here, some
    lane's outcomes are public."""


class LaneOffsets:
    """Reads the lanes' offsets once for all partitions of a process, after they are fenced.

    Args:
        kafka: Where to read.
        lanes: How many lanes this run has.
        partitions: All partitions of the request topic.
    """

    def __init__(self, kafka: KafkaSettings, lanes: int, partitions: Iterable[int]) -> None:
        self._kafka = kafka
        self._lanes = lanes
        self._partitions = list(partitions)
        self._lock = threading.Lock()
        self._read: dict[int, list[TopicPartition]] = {}
        self._admin: AdminClient | None = None

    def of(self, partition: int, resume_offset: int, lanes_before: int | None) -> Committed:
        """What the lanes have committed of one partition.

        Only to be called once every lane of this run is open: until then the previous run may
        still commit.

        Args:
            partition: Of the request topic.
            resume_offset: Where this run resumes.
            lanes_before: How many lanes the previous run had, as far as is known.

        Raises:
            StartRefusedError: `LANES` was changed while some lanes were ahead of the others.
        """
        with self._lock:
            by_lane = {lane: self._lane(lane)[partition] for lane in range(self._lanes)}
            seen = (lanes_in(found.metadata) or 0 for found in by_lane.values())
            others = range(self._lanes, max(lanes_before or 0, *seen))
            for lane in others:
                if lane not in self._read:
                    self._fence(lane)
            every = by_lane | {lane: self._lane(lane)[partition] for lane in others}
        for lane, found in every.items():
            lanes_then = lanes_in(found.metadata)
            if found.offset > resume_offset and lanes_then not in {None, self._lanes}:
                raise StartRefusedError(
                    f"LANES was changed from {lanes_then} to {self._lanes} while work was in"
                    f" flight: lane {lane} has committed partition {partition} up to"
                    f" {found.offset}, the others only up to {resume_offset}. Start once with"
                    f" LANES={lanes_then}, stop it with SIGTERM, then change LANES."
                )
        offsets = {lane: found.offset for lane, found in by_lane.items() if found.offset >= 0}
        return Committed(offsets, max(0, *(found.offset for found in every.values())))

    def _lane(self, lane: int) -> list[TopicPartition]:
        """The lane's offsets of all partitions, read once; without an offset they are negative."""
        if lane not in self._read:
            group = lane_group(self._kafka.group_id, lane)
            try:
                found = patiently(lambda: self._ask(group))
            except KafkaException as error:
                raise _unreadable(group, error.args[0]) from error
            self._read[lane] = sorted(found, key=lambda each: each.partition)
        return self._read[lane]

    def _ask(self, group: str) -> list[TopicPartition]:
        self._admin = self._admin or AdminClient(config.client(self._kafka, "lane-offsets"))
        topic = self._kafka.topic_requested
        wanted = [TopicPartition(topic, partition) for partition in self._partitions]
        answer = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, wanted)],
            # An offset whose transaction is just being committed is waited for.
            require_stable=True,
            request_timeout=_TIMEOUT_S,
        )[group].result()
        for found in answer.topic_partitions:
            if found.error is not None:
                raise KafkaException(found.error)
        return list(answer.topic_partitions)

    def _fence(self, lane: int) -> None:
        """End a lane that only the previous run had."""
        name = transactional_id(self._kafka.group_id, lane)
        Producer(config.producer(self._kafka, name)).init_transactions(_TIMEOUT_S)


def _unreadable(group: str, error: KafkaError) -> Fault:
    if error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
        # All lanes are fenced by now, which has ended their transactions.
        return StartRefusedError(
            f"The committed offsets of group {group} still wait for the end of a transaction that"
            " is over: Kafka has lost it. Some 4.x do so when a broker restarts while a partition"
            " has no other replica (KAFKA-20734). See docs/recovery.md, *a transaction without an"
            " end*."
        )
    return ConsumeError(f"cannot read the committed offsets of group {group}: {error.str()}")
