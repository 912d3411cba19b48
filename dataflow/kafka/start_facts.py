"""The facts that Kafka has of the flow at a start, for the decision where to start.

Each fact is looked up when it is needed first, and once: the previous run may still be alive, and
an answer that changed between two rules would make them contradict each other.
"""

import time
from functools import cached_property

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflow.config.settings import Settings
from dataflow.kafka import client_config
from dataflow.kafka.lane_names import lane_group
from dataflow.kafka.lane_offsets import Offset, committed_offsets
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, offsets_at, partitions_of
from dataflow.kafka.retry import Retry
from dataflow.process_context import Cluster

_TIMEOUT_S = 10.0
_NO_MEMBERS = {
    KafkaError.GROUP_ID_NOT_FOUND,
    # Of a Kafka too old or too small to answer: then it is left to the operator.
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001  (local codes have no public names)
}
"""The errors that may answer a question for a group's members, if it has none that we could see."""


class StartFacts:
    """The facts for all partitions of a process. One thread at a time may ask."""

    def __init__(self, settings: Settings, cluster: Cluster, retry: Retry) -> None:
        self._kafka = settings.kafka
        self._topic = settings.kafka.topic_requested
        self._lanes = settings.lanes
        self._cluster = cluster
        self._retry = retry
        self._admin = AdminClient(client_config.client(self._kafka, "positions"))

    @cached_property
    def low(self) -> dict[int, int]:
        """The first offset of each input partition."""
        return self._requested(EARLIEST)

    @cached_property
    def ends(self) -> tuple[int, dict[int, int]]:
        """The time of the look-up, in milliseconds since 1970, and the ends of the partitions."""
        return int(time.time() * 1000), self._requested(LATEST)

    def _requested(self, spec: OffsetSpec) -> dict[int, int]:
        partitions = self._cluster.partitions
        return self._retry(lambda: offsets_at(self._admin, self._topic, partitions, spec))

    @cached_property
    def members(self) -> list[str]:
        """The members of the group. We never are one: our partitions are assigned."""
        return self._retry(lambda: _members(self._admin, self._kafka.group_id))

    @cached_property
    def group_offsets(self) -> dict[int, Offset]:
        """The group's offsets; partitions without one are left out."""
        return self._group(self._kafka.group_id)

    @cached_property
    def has_run_before(self) -> bool:
        """True if this flow has ever had a position in this topic, even if it is of a lane only."""
        return any(map(self._is_ours, self.group_offsets.values())) or any(self.by_lane.values())

    @cached_property
    def by_lane(self) -> dict[int, dict[int, Offset]]:
        """The lanes' offsets in this topic, also of lanes there were before."""
        found: dict[int, dict[int, Offset]] = {}
        lanes = self._lanes
        while len(found) < lanes:
            offsets = self._group(lane_group(self._kafka.group_id, len(found)))
            ours = {partition: each for partition, each in offsets.items() if self._is_ours(each)}
            found[len(found)] = ours
            lanes = max(lanes, *(each.metadata.lanes or 0 for each in ours.values()), 0)
        return found

    def _is_ours(self, found: Offset) -> bool:
        return found.metadata.is_of(self._cluster.topic_id)

    def _group(self, group: str) -> dict[int, Offset]:
        partitions = self._cluster.partitions
        return self._retry(lambda: committed_offsets(self._kafka, group, partitions, stable=False))

    @cached_property
    def has_published(self) -> bool:
        """True if there is anything in a topic that the lanes write to."""
        return any(map(self._has_records, self._kafka.topics_written))

    def _has_records(self, topic: str) -> bool:
        partitions = self._retry(lambda: partitions_of(self._admin, topic))
        ends = self._retry(lambda: offsets_at(self._admin, topic, partitions, LATEST))
        return any(ends.values())


def _members(admin: AdminClient, group_id: str) -> list[str]:
    asked = admin.describe_consumer_groups([group_id], request_timeout=_TIMEOUT_S)
    try:
        group = asked[group_id].result()
    except KafkaException as error:
        if error.args[0].code() in _NO_MEMBERS:
            return []
        raise
    return [f"{member.client_id} at {member.host}" for member in group.members]
