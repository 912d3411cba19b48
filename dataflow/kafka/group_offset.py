"""The group offset of one partition: the input position that lag tools see.

1. It is committed once an epoch is durable: the engine has stored its snapshot. So it is never
   ahead of what the lanes have committed, and a start without a snapshot may resume from it.
2. It is a position, which is past the markers of transactions behind the last record. Where that
   record ended is committed with it: a start without a snapshot finds out whether the lanes'
   offsets, which are no lower, have been lost.
3. A commit that fails is no fault: the next epoch tries again. Only lag tools suffer.
4. The last one is waited for: the client is about to be closed.
"""

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from dataflow.kafka.lane_names import Metadata
from dataflow.process_context import ProcessContext

_log = structlog.get_logger()


class GroupOffset:
    """The group offset of one partition, committed by its consumer."""

    def __init__(
        self, context: ProcessContext, partition: int, consumer: Consumer, began_at: int
    ) -> None:
        settings = context.settings
        self._topic = settings.kafka.topic_requested
        self._partition = partition
        self._metadata = Metadata(settings.lanes, context.cluster.topic_id, began=began_at)
        self._consumer = consumer
        self._status = context.status
        # Position and end of the records of an epoch that is about to be durable.
        self._durable: tuple[int, int] | None = None
        self._committed: int | None = None  # the last one

    def epoch_closed(self, position: int, records_end: int) -> None:
        """Note that everything below the position is durable at the partition's next call.

        From `records_end` on there were only markers.
        """
        self._durable = position, records_end

    def renew(self) -> None:
        """Have the offset committed again even if it stays the same, so that Kafka keeps it."""
        self._committed = None

    def commit(self) -> None:
        """Commit the offset if an epoch has become durable."""
        self._commit(wait=False)

    def commit_last(self) -> None:
        """Commit the offset likewise, and wait for it."""
        self._commit(wait=True)

    def _commit(self, *, wait: bool) -> None:
        durable, self._durable = self._durable, None
        if durable is None:
            return
        offset, records_end = durable
        self._status.partitions.committed_at(self._partition, offset)
        if offset == self._committed:
            return
        metadata = str(self._metadata._replace(records=records_end))
        position = TopicPartition(self._topic, self._partition, offset, metadata)
        try:
            if wait:
                self._consumer.commit(offsets=[position], asynchronous=False)
            else:
                self._consumer.commit(offsets=[position])
        except KafkaException as error:
            _log.warning(
                "group offset commit failed", partition=self._partition, error=error.args[0].str()
            )
            return
        self._committed = offset
