"""A topic that the lanes write to, read at a start to where it ends.

1. It is read only once all lanes are fenced, and before any of them writes: then what a
   `read_committed` reader sees up to the end is all there is, and stays so.
2. An outage is waited out; a Kafka that answers and gives no records is not.
3. Errors that pass are passed over. Any other may hide records, whose loss would be that of
   payments: it ends the process.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from dataflow.errors import ConsumeError
from dataflow.kafka import client_config
from dataflow.kafka.partition_offsets import unread
from dataflow.kafka.retry import PASSING, Deadline
from dataflow.process_context import ProcessContext

_log = structlog.get_logger()
_RECORDS_AT_ONCE = 1_000
_POLL_S = 0.1


class TopicReader:
    """A reader of one topic.

    Args:
        context: Where, and of which process.
        topic: Its name.
        sit_out: Called with the reason while Kafka is away.
    """

    def __init__(self, context: ProcessContext, topic: str, sit_out: Callable[[str], None]) -> None:
        self._kafka = context.settings.kafka
        self._status = context.status
        self._topic = topic
        self._sit_out = sit_out

    def read(
        self, begins: Mapping[int, int], ends: Mapping[int, int]
    ) -> Iterator[tuple[list[Message], dict[int, int]]]:
        """Yield all records below these ends, and how far each partition is read with them."""
        left = {each: begin for each, begin in begins.items() if begin < ends[each]}
        consumer = Consumer(client_config.log_consumer(self._kafka, len(left)))
        try:
            consumer.assign([TopicPartition(self._topic, *each) for each in left.items()])
            yield from self._read_to(ends, left, consumer)
        except KafkaException as error:
            raise ConsumeError(f"{self._topic}: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _read_to(
        self, ends: Mapping[int, int], left: Mapping[int, int], consumer: Consumer
    ) -> Iterator[tuple[list[Message], dict[int, int]]]:
        deadline = Deadline(self._kafka.transaction_timeout_ms / 1000)
        while left:
            messages = list(self._good(consumer.consume(_RECORDS_AT_ONCE, _POLL_S)))
            before, left = left, unread(consumer, self._topic, left, ends)
            yield messages, {**ends, **left}
            offsets = sum(ends[partition] - offset for partition, offset in left.items())
            is_away = self._status.kafka_reachable is False
            if is_away:
                self._sit_out(f"{self._topic}: {offsets} offsets are still to be read")
            if left != before or is_away:
                deadline.renew()
            elif deadline.is_over():
                raise ConsumeError(
                    f"{self._topic}: Kafka answers, but no record came for {deadline.seconds:g} s,"
                    f" {offsets} offsets before the end"
                )

    def _good(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() in PASSING:
                _log.warning("topic consumer error", topic=self._topic, error=error.str())
            else:
                # The client may go on after it, as it does behind records that are damaged: what
                # they hold would be forgotten.
                where = f"{self._topic}[{message.partition()}] near {message.offset()}"
                raise ConsumeError(f"{where}: {error.str()}")
