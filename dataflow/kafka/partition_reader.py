"""The reading of one partition of the request topic: records, errors, and the position.

1. Offsets are always those of the *next* record.
2. An error that passes by itself is logged; the client goes on after it.
3. Any other error is raised, after the records that came before it: the client reports it once, and
   reads no further.
4. A client that delivers nothing for long, though Kafka has records for it, is a fault.
5. Where a partition ends is past its last record, if markers of transactions are behind it: the
   client's position counts, once everything is read.
6. Records whose schema is not there yet wait here, and all behind them: of them the partition has
   read nothing, wherever its client stands.
"""

import time
from typing import NamedTuple

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from dataflow.errors import ConsumeError, FetchStalledError
from dataflow.kafka.record_headers import forwarded_of
from dataflow.kafka.resume_point import ResumePoint
from dataflow.kafka.retry import PASSING
from dataflow.process_context import ProcessContext
from schemas.headers import Headers
from schemas.requests import Rejected

_log = structlog.get_logger()


class Records(NamedTuple):
    """Consecutive records, in aligned arrays."""

    offsets: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    """In milliseconds since 1970."""
    values: list[bytes | None]
    headers: dict[int, Headers]
    """By offset, what is passed on of those records that have it."""
    refused: dict[int, Rejected]
    """Those that cannot be read for lack of their schema, or by it; by their number."""


class PartitionReader:
    """The reader of one partition, by its consumer.

    Attributes:
        next_offset: Everything below it was read.
        records_end: The offset after the last record. From there up to `next_offset` there were
            only markers, of which no lane commits anything.
    """

    def __init__(
        self, context: ProcessContext, partition: int, consumer: Consumer, start: ResumePoint
    ) -> None:
        self._topic = context.settings.kafka.topic_requested
        self._forwarded = context.settings.kafka.forward_headers
        self._metrics = context.metrics
        self._partition = partition
        self._consumer = consumer
        self._status = context.status
        self._unwrap = context.unwrap
        self._waiting: list[Message] = []  # for a schema
        self._failed: KafkaError | None = None  # met after good records, to be raised next
        self.next_offset = start.offset
        self.records_end = start.offset if start.durable is None else start.durable

    def read(self, at_most: int) -> Records | None:
        """Return the records that are there, and move past them; None if there are none."""
        messages = self._waiting[:at_most] or self._consume(at_most)
        if not messages:
            self._expect_fetching()
            return None
        values = [message.value() for message in messages]
        refused: dict[int, Rejected] = {}
        if self._unwrap is not None:
            values, refused = self._unwrap(values)
            self._waiting = messages[len(values) :] + self._waiting[at_most:]
            messages = messages[: len(values)]
            if not messages:
                return None
        offsets = np.array([message.offset() for message in messages], np.int64)
        self.next_offset = self.records_end = int(offsets[-1]) + 1
        headers, left_out = forwarded_of(messages, self._forwarded)
        if left_out:
            self._metrics.headers_left_out(left_out)
        return Records(offsets, _times_ms(messages), values, headers, refused)

    def _consume(self, at_most: int) -> list[Message]:
        if self._failed is not None:
            raise ConsumeError(self._explain(self._failed))
        messages = self._consumer.consume(at_most, 0.0)
        errors = [error for message in messages if (error := message.error()) is not None]
        if not errors:
            return messages
        good = [message for message in messages if message.error() is None]
        for error in errors:
            if error.code() in PASSING:
                _log.warning("consumer error", partition=self._partition, error=error.str())
            else:
                self._failed = self._failed or error
        return good if good or self._failed is None else self._consume(at_most)

    def _expect_fetching(self) -> None:
        if stall := self._status.partitions.nothing_came(self._partition, self.position()):
            raise FetchStalledError(
                f"{self._topic}[{self._partition}]: for {stall.seconds:.0f} s the Kafka client has"
                f" delivered nothing from {stall.position} on, though records up to the last stable"
                f" offset, {stall.stable_offset}, can be read. The client has stopped fetching; a"
                " restart reads on with a new one"
            )

    def _explain(self, error: KafkaError) -> str:
        where = f"{self._topic}[{self._partition}] at {self.next_offset}"
        expired = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001
        if error.code() in expired:
            return f"{where}: the offset has expired or never existed: {error.str()}"
        return f"{where}: {error.str()}"

    def position(self) -> int:
        """Return how far the client has come, past records and markers, if no record waits."""
        if self._waiting:
            return self.next_offset
        wanted = [TopicPartition(self._topic, self._partition)]
        return max(self._consumer.position(wanted)[0].offset, self.next_offset)

    def report_position(self) -> int:
        """Report to the probes where the partition stands; return its end, as far as is known."""
        where = TopicPartition(self._topic, self._partition)
        high: int = self._consumer.get_watermark_offsets(where, cached=True)[1]
        self._status.partitions.at(self._partition, self.next_offset, high)
        return high

    def committable_offset(self, *, with_markers: bool) -> int:
        """Report where the partition stands, and return the offset that an epoch may commit.

        Args:
            with_markers: Whether the markers behind the last record count, if all is read.
        """
        try:
            high = self.report_position()
            if with_markers and 0 <= high <= (position := self.position()):
                return position
        except KafkaException as error:
            _log.debug(
                "end offset lookup failed", partition=self._partition, error=error.args[0].str()
            )
        return self.next_offset

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def _times_ms(messages: list[Message]) -> NDArray[np.int64]:
    """Return the records' timestamps in milliseconds since 1970; now, where there is none."""
    found = np.array([message.timestamp()[1] for message in messages], np.int64)
    return np.where(found >= 0, found, int(time.time() * 1000))
