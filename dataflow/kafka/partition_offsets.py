"""The offsets at which partitions begin and end, and up to which a `read_committed` reader gets."""

import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflow.config.settings import KafkaSettings
from dataflow.kafka import client_config
from dataflow.kafka.retry import Retry, retry_briefly

EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]

_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.1

Behind = dict[tuple[str, int], tuple[int, int]]
"""By topic and partition: where a `read_committed` reader stops, and how far it should get."""


class Ends:
    """The ends of a topic's partitions when they were looked up last.

    Attributes:
        offsets: By partition; replaced as a whole, so any thread may read it.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.offsets: dict[int, int] = {}

    def look(self, admin: AdminClient, timeout_s: float) -> None:
        """Look up those that are known again.

        Raises:
            KafkaException: no answer within `timeout_s`, or an error.
        """
        if self.offsets:
            self.offsets = offsets_at(admin, self._topic, self.offsets, LATEST, timeout_s=timeout_s)


def partitions_of(admin: AdminClient, topic: str) -> list[int]:
    """Return the partitions of a topic. Raises `KafkaException` if there is no such topic."""
    found = admin.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def offsets_at(
    admin: AdminClient,
    topic: str,
    partitions: Iterable[int],
    spec: OffsetSpec,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    timeout_s: float = _TIMEOUT_S,
) -> dict[int, int]:
    """Return the offset that `spec` means, of each partition; -1 where there is none.

    With `READ_COMMITTED` the latest one is the last stable offset: the first record of the oldest
    transaction that is still open.
    """
    wanted = {TopicPartition(topic, partition): spec for partition in partitions}
    answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=timeout_s)
    return {where.partition: each.result().offset for where, each in answers.items()}


def wait_until_stable(
    kafka: KafkaSettings, timeout_s: float, retry: Retry = retry_briefly
) -> Behind:
    """Wait until readers may pass all that is in the topics now that the lanes write to.

    Returns:
        Where they still may not after `timeout_s`, as a transaction has no end there.
    """
    admin = AdminClient(client_config.client(kafka, "outputs"))
    topics = kafka.topics_written

    def latest(topic: str, level: IsolationLevel) -> dict[int, int]:
        return retry(lambda: offsets_at(admin, topic, partitions_of(admin, topic), LATEST, level))

    ends = {topic: latest(topic, IsolationLevel.READ_UNCOMMITTED) for topic in topics}
    deadline_s = time.monotonic() + timeout_s
    while True:
        asked_s = time.monotonic()
        stable = {topic: latest(topic, IsolationLevel.READ_COMMITTED) for topic in topics}
        # Without an answer, Kafka could not end a transaction either.
        deadline_s += time.monotonic() - asked_s
        behind: Behind = {
            (topic, partition): (stable[topic][partition], end)
            for topic in topics
            for partition, end in ends[topic].items()
            if stable[topic][partition] < end
        }
        if not behind or time.monotonic() > deadline_s:
            return behind
        time.sleep(_LOOK_EVERY_S)


def unread(
    consumer: Consumer, topic: str, left: Mapping[int, int], ends: Mapping[int, int]
) -> dict[int, int]:
    """Return how far the partitions are read that are not read to their end."""
    at = {each.partition: each.offset for each in consumer.position(places(topic, left))}
    # A consumer that has not begun has no position.
    reached = {partition: max(before, at[partition]) for partition, before in left.items()}
    return {partition: offset for partition, offset in reached.items() if offset < ends[partition]}


def places(topic: str, partitions: Iterable[int]) -> list[TopicPartition]:
    """Return partitions as the client names them."""
    return [TopicPartition(topic, partition) for partition in partitions]
