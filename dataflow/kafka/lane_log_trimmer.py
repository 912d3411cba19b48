"""The flow trims the lanes' log itself: no limit of Kafka's follows what is still remembered."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from dataflow.config.settings import KafkaSettings
from dataflow.kafka import client_config
from dataflow.kafka.lane_marks import trimmed_s
from dataflow.kafka.lane_names import lane_group
from dataflow.kafka.lane_offsets import Offset, committed_offsets
from dataflow.kafka.partition_offsets import EARLIEST, LATEST, offsets_at
from dataflow.process_context import Cluster

_log = structlog.get_logger()
_TIMEOUT_S = 30.0
_AT_ONCE = 16
_TRIMS = 16
"""The log is trimmed so often in a window..."""
_TRIM_LEAST_S = 60.0
_TRIM_MOST_S = 3600.0
"""... but not more often, and not more seldom, than this."""
_APART_S = 60
"""The clocks of two processes may be a minute apart: so much longer a record stays."""


class Trimmer(threading.Thread):
    """A trimmer of the lanes' log, once in a while; one process of a cluster has one at work."""

    def __init__(
        self,
        kafka: KafkaSettings,
        lanes: int,
        cluster: Cluster,
        window_s: float,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name="lane-log-trimmer", daemon=True)
        self._kafka = kafka
        self._topic = kafka.topic_lane_log
        self._lanes = lanes
        self._cluster = cluster
        self._every_s = min(max(window_s / _TRIMS, _TRIM_LEAST_S), _TRIM_MOST_S)
        self._wait = wait
        self._admin = AdminClient(
            client_config.client(kafka, "lane-log-trimmer") | {"log_level": 0}
        )

    def run(self) -> None:
        """Trim, until the process ends."""
        while True:
            self._wait(self._every_s)
            try:
                self.trim()
            except Exception as error:  # noqa: BLE001  (it takes room, nothing else)
                _log.warning("lane log trim failed", error=str(error))

    def trim(self) -> None:
        """Delete the records that no lane remembers anything of.

        What counts is what the lanes have committed with their offsets, as a start goes by that.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="trim") as pool:
            committed = dict(enumerate(pool.map(self._committed, range(self._lanes))))
        since = trimmed_s(committed, self._lanes) - _APART_S
        if since <= 0:
            return
        # In this order: if no record is so new, that holds for all below an end of before.
        ends = self._offsets(LATEST, IsolationLevel.READ_COMMITTED)
        newer = self._offsets(OffsetSpec.for_timestamp(since * 1000))
        starts = self._offsets(EARLIEST)
        upto = {
            partition: min(end, newer[partition]) if newer[partition] >= 0 else end
            for partition, end in ends.items()
        }
        wanted = [
            TopicPartition(self._topic, partition, offset)
            for partition, offset in upto.items()
            if offset > starts[partition]
        ]
        if wanted:
            for trimmed in self._admin.delete_records(wanted).values():
                trimmed.result(_TIMEOUT_S)
            _log.info(
                "lane log trimmed", partitions={each.partition: each.offset for each in wanted}
            )

    def _committed(self, lane: int) -> dict[int, Offset]:
        group, partitions = lane_group(self._kafka.group_id, lane), self._cluster.partitions
        return committed_offsets(self._kafka, group, partitions, stable=False)

    def _offsets(
        self, spec: OffsetSpec, level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        return offsets_at(
            self._admin, self._topic, range(self._cluster.log_partitions), spec, level
        )
