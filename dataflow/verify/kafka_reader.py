"""A reader of a real cluster. Nothing is written, and no offset is committed."""

import time
from collections.abc import Callable, Iterator

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import ConfigResource

from dataflow.config.settings import Settings
from dataflow.errors import ConsumeError
from dataflow.kafka.lane_offsets import Offset, committed_offsets, of_all_lanes
from dataflow.kafka.retry import retry_briefly
from dataflow.kafka.topic_scan import AsJson, Chunk, TopicScan
from dataflow.verify.reader import LanePosition, Positions, Snapshot

_log = structlog.get_logger()

_TIMEOUT_S = 30.0
_SLICE_S = 0.2
_AT_ONCE = 20_000
_LOOK_EVERY_S = 5.0


class KafkaReader(TopicScan):
    """The six topics of a flow, by its own settings; see `dataflow.verify.reader.Reader`.

    Args:
        settings: Of the flow.
        timeout_s: How long to wait for an open transaction to end.
        as_json: Turns records that name a schema into JSON.
    """

    def __init__(self, settings: Settings, timeout_s: float, as_json: AsJson | None = None) -> None:
        super().__init__(settings.kafka, timeout_s, "verify", as_json)
        kafka = settings.kafka
        self._settings = settings
        # In this order: see `Snapshot`.
        self._topics = [
            kafka.topic_pending,
            kafka.topic_processed,
            kafka.topic_failed,
            kafka.topic_audit,
            kafka.topic_lane_log,
            kafka.topic_requested,
        ]

    def look(self) -> Snapshot:
        """Return the state of the cluster now."""
        try:
            found = retry_briefly(lambda: self.admin.list_topics(timeout=_TIMEOUT_S)).topics
            partitions = {topic: sorted(found[topic].partitions) for topic in self._topics}
            positions = self._positions(partitions[self._kafka.topic_requested])
            bounds = {topic: self.bounds(topic, partitions[topic]) for topic in self._topics}
        except KafkaException as error:
            raise ConsumeError(f"Kafka does not answer: {error.args[0].str()}") from error
        return Snapshot(positions, bounds, list(self._compacted()))

    def _positions(self, partitions: list[int]) -> Positions:
        group = self._kafka.group_id
        plain = {at: each.offset for at, each in self._committed(group, partitions).items()}
        committed = of_all_lanes(
            group, self._settings.lanes, lambda lane: self._committed(lane, partitions)
        )
        lanes = {
            lane: {
                at: LanePosition(each.offset, each.metadata.lanes) for at, each in offsets.items()
            }
            for lane, offsets in committed.items()
        }
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
        answers = self.admin.describe_configs(wanted, request_timeout=_TIMEOUT_S)
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

    # ---- reading along ----

    def follow(self, on: Callable[[], bool]) -> Iterator[tuple[str, list[Chunk]]]:
        """Yield all six topics from their beginnings, as they grow, as long as `on`.

        Whatever happens to the cluster meanwhile is waited out. Yields an empty list when nothing
        has come for a moment.
        """
        consumer = self.consumer(1)
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
                    yield topic, [*self.chunks_of(topic, messages, {})]
                if not by_topic:
                    yield "", []
        finally:
            consumer.close()

    def _assign_new(self, consumer: Consumer, assigned: set[tuple[str, int]]) -> None:
        try:
            found = self.admin.list_topics(timeout=_LOOK_EVERY_S).topics
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
