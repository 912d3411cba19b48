"""The sending of requests: at a rate, each acknowledged by all replicas, and none twice by itself.

What is not acknowledged may have arrived. Sent again, it is a duplicate to the flow.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from dataflow.config.settings import KafkaSettings
from dataflow.console.progress import Progress
from dataflow.kafka import client_config
from dataflow.redrive.selection import Redrive

_FLUSH_S = 30.0
_POLL_S = 0.05


class Sent(NamedTuple):
    """The result."""

    acknowledged: int
    error: str | None
    """The first error; None if there was none."""


class Sender:
    """The producer of one run.

    Args:
        kafka: Where, and as whom.
        rate: Requests a second.
        progress: Shows how many are sent.
    """

    def __init__(self, kafka: KafkaSettings, rate: int, progress: Progress) -> None:
        self._topic = kafka.topic_requested
        self._rate = rate
        self._progress = progress
        self._producer = Producer(client_config.tool_producer(kafka, "redrive"))
        self._acknowledged = 0
        self._error: str | None = None

    def send(self, redrives: Sequence[Redrive]) -> Sent:
        """Send them in their order; end at the first error."""
        began_s = time.monotonic()
        try:
            for number, each in enumerate(redrives):
                self._wait_until(began_s + number / self._rate)
                if self._error is not None:
                    break
                self._produce(each)
                self._progress("sent", number + 1, len(redrives))
        finally:
            # Also after an interruption: what is sent is sent.
            left = self._producer.flush(_FLUSH_S)
        if left and self._error is None:
            self._error = f"{left} were not acknowledged within {_FLUSH_S:g} s"
        return Sent(self._acknowledged, self._error)

    def _wait_until(self, at_s: float) -> None:
        self._producer.poll(0)
        while (pause_s := at_s - time.monotonic()) > 0 and self._error is None:
            self._producer.poll(min(pause_s, _POLL_S))

    def _produce(self, redrive: Redrive) -> None:
        key = redrive.request.payment_id.encode()
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    redrive.value,
                    key,
                    headers=redrive.headers,
                    on_delivery=self._delivered,
                )
            except BufferError:
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                self._error = self._error or error.args[0].str()
                return
            else:
                return

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._acknowledged += 1
        else:
            self._error = self._error or error.str()
