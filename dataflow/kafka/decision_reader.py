"""The decisions of persons, read from the pending topic while the flow runs.

1. It goes on where the start has read to. What is handed over is what is open at an end of the
   topic: a decision whose tombstone follows is over.
2. Whatever goes wrong here delays decisions, and nothing else: they stay on the topic, and the next
   attempt, or the next start, reads them.
3. A record with the key of a decision that is none is passed over, with a warning.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dataflow.config.settings import KafkaSettings
from dataflow.core.persons_decisions import DecisionInbox
from dataflow.kafka import client_config
from dataflow.kafka.record_headers import headers_of
from dataflow.kafka.retry import PASSING
from schemas.decisions import PersonsDecision

_log = structlog.get_logger()
_AT_ONCE = 1_000
_POLL_S = 1.0
_PAUSE_S = 5.0
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001  (local codes have no public names)

Deliver = Callable[[Mapping[int, Sequence[PersonsDecision]]], None]
"""A callback with decisions, by lane."""


def take(inbox: DecisionInbox, message: Message) -> None:
    """Take in a record of the pending topic."""
    try:
        inbox.take(message.key(), message.value(), headers_of(message))
    except ValueError as error:
        _log.warning(
            "a decision on the pending topic cannot be read: it is passed over",
            partition=message.partition(),
            offset=message.offset(),
            error=str(error),
        )


class DecisionReader(threading.Thread):
    """The reader of one process.

    Args:
        kafka: Where.
        where: The partition of the pending topic, and the offset to go on from.
        inbox: Has what is open up to there.
        deliver: Gets the decisions.
    """

    def __init__(
        self, kafka: KafkaSettings, where: TopicPartition, inbox: DecisionInbox, deliver: Deliver
    ) -> None:
        super().__init__(name="decisions", daemon=True)
        self._kafka = kafka
        self._where = where
        self._inbox = inbox
        self._deliver = deliver

    def run(self) -> None:
        """Read, until the process ends."""
        self._hand_over()
        while True:
            try:
                self._follow()
            except Exception:  # noqa: BLE001  (the next attempt may succeed: see 2)
                _log.warning("decisions on the pending topic could not be read", exc_info=True)
            time.sleep(_PAUSE_S)

    def _follow(self) -> None:
        config = client_config.log_consumer(self._kafka, 1) | {"enable.partition.eof": True}
        consumer = Consumer(config)
        try:
            consumer.assign([self._where])
            while True:
                self.take(consumer.consume(_AT_ONCE, _POLL_S))
        finally:
            consumer.close()

    def take(self, messages: Iterable[Message]) -> None:
        """Take in messages of the client; hand over what is open at the end of the topic."""
        for message in messages:
            error = message.error()
            if error is None:
                take(self._inbox, message)
                self._where.offset = (message.offset() or 0) + 1
            elif error.code() == _END_OF_PARTITION:
                self._hand_over()
            elif error.code() not in PASSING:
                raise KafkaException(error)

    def _hand_over(self) -> None:
        if found := self._inbox.take_out():
            self._deliver(found)
