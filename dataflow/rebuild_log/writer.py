"""The writing of a lane log from outside: as the lanes themselves, while the flow is stopped.

1. Each lane is opened under its transactional id first: a flow that still runs is fenced, and ends.
2. A lane's ids are written in transactions. The last one also commits the lane's offsets: the same
   ones, with marks that name this log and the number of ids. Until then a start refuses the log.
3. So it may be interrupted, and run again: an id that is in the log twice counts once.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from confluent_kafka import KafkaException, Producer, TopicPartition

from dataflow.config.settings import Settings
from dataflow.console.progress import Progress
from dataflow.core.lane_log import Entries, headers, most_record_bytes, newest_ms, pieces
from dataflow.core.lanes import lane_name, lanes_of
from dataflow.errors import CommitError, Fault
from dataflow.kafka import client_config, lane_marks
from dataflow.kafka.lane_names import Metadata, lane_group, transactional_id
from dataflow.kafka.lane_offsets import Offset, committed_offsets, group_metadata, of_all_lanes
from dataflow.kafka.retry import retry_briefly
from dataflow.process_context import Cluster

_AT_ONCE = 16
_TIMEOUT_S = 30.0
_RECORDS_IN_A_TRANSACTION = 32


class NotRebuiltError(Fault):
    """The log cannot be made again like this: the message has the reason, and what to do."""


class Lanes(NamedTuple):
    """The lanes of a flow, and what they have committed."""

    lanes: int
    committed: Mapping[int, Mapping[int, Offset]]

    @property
    def since_s(self) -> int:
        """The time since which every lane remembers ids, in seconds since 1970."""
        return min(lane_marks.since_s(self.committed, lane) for lane in range(self.lanes))


def read(settings: Settings, cluster: Cluster) -> Lanes:
    """Return the lanes, as they are.

    Raises:
        NotRebuiltError: there are none yet, or `LANES` is not what they were.
    """
    kafka = settings.kafka

    def ask(group: str) -> dict[int, Offset]:
        found = retry_briefly(lambda: committed_offsets(kafka, group, cluster.partitions))
        return {at: each for at, each in found.items() if each.metadata.is_of(cluster.topic_id)}

    found = Lanes(settings.lanes, of_all_lanes(kafka.group_id, settings.lanes, ask))
    marks = [each.metadata for offsets in found.committed.values() for each in offsets.values()]
    if not marks:
        raise NotRebuiltError(
            f"KAFKA_GROUP_ID: no lane of group {kafka.group_id} has committed anything about"
            f" {kafka.topic_requested}: there is nothing to remember, or the group is another one"
        )
    counts = {each.lanes for each in marks if each.lanes}
    if counts and settings.lanes not in counts:
        raise NotRebuiltError(
            f"LANES is {settings.lanes}, but the lanes have committed with"
            f" {' and '.join(map(str, sorted(counts)))}: set it to the value the flow had"
        )
    return found


class Writer:
    """The producers of all lanes; once they are open, no other execution can write.

    Args:
        settings: Of the flow.
        cluster: What is there.
        lanes: How many lanes there are, those of before included.
    """

    def __init__(self, settings: Settings, cluster: Cluster, lanes: int) -> None:
        self._kafka = settings.kafka
        self._lanes = settings.lanes
        self._cluster = cluster
        self._record_bytes = most_record_bytes(settings.kafka.message_max_bytes)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lane") as pool:
            self._producers = list(pool.map(self._open, range(lanes)))

    def write(self, found: Lanes, entries: Entries, progress: Progress) -> int:
        """Write each lane's ids, and return how many those are.

        Raises:
            CommitError: Kafka did not take all of it; what is missing is written by another run.
        """
        lanes, written = lanes_of(entries["key"], self._lanes), 0
        for lane, producer in enumerate(self._producers):
            ours = entries[lanes == lane]
            ours = ours[ours["date_s"] >= lane_marks.since_s(found.committed, lane)]
            offsets = found.committed.get(lane, {})
            try:
                self._write(lane, producer, ours)
                self._mark(lane, producer, offsets, len(ours))
            except KafkaException as error:
                raise CommitError(
                    f"lane {lane_name(lane)}: its ids could not be written:"
                    f" {error.args[0].str()}. If the flow was started meanwhile, stop it; then run"
                    " this again: nothing counts twice"
                ) from error
            written += len(ours)
            progress("writing", written, len(entries))
        return written

    def _open(self, lane: int) -> Producer:
        name = transactional_id(self._kafka.group_id, lane)
        producer = Producer(client_config.producer(self._kafka, name))
        try:
            retry_briefly(lambda: producer.init_transactions(_TIMEOUT_S))
        except KafkaException as error:
            raise CommitError(
                f"lane {lane_name(lane)}: could not be opened: {error.args[0].str()}"
            ) from error
        return producer

    def _write(self, lane: int, producer: Producer, entries: Entries) -> None:
        values = list(pieces(entries.tobytes(), self._record_bytes))
        for start in range(0, len(values), _RECORDS_IN_A_TRANSACTION):
            producer.begin_transaction()
            for value in values[start : start + _RECORDS_IN_A_TRANSACTION]:
                producer.produce(
                    self._kafka.topic_lane_log,
                    value,
                    partition=lane % self._cluster.log_partitions,
                    headers=headers(lane, self._lanes),
                    timestamp=newest_ms(value),
                )
            producer.commit_transaction(_TIMEOUT_S)

    def _mark(self, lane: int, producer: Producer, offsets: Mapping[int, Offset], ids: int) -> None:
        """Commit a lane's offsets once more, with marks of this log; those of before have none."""
        if not offsets:
            return

        def marks(before: Metadata) -> str:
            if lane >= self._lanes:
                return ""
            is_now = before.lanes == self._lanes
            log_id = self._cluster.log_id
            return str(before._replace(log_id=log_id, ids=ids if is_now else 0))

        wanted = [
            TopicPartition(self._kafka.topic_requested, partition, offset, marks(metadata))
            for partition, (offset, metadata) in offsets.items()
        ]
        group = group_metadata(self._kafka, lane_group(self._kafka.group_id, lane))
        producer.begin_transaction()
        producer.send_offsets_to_transaction(wanted, group, _TIMEOUT_S)
        producer.commit_transaction(_TIMEOUT_S)
