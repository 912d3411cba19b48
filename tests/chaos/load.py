"""Requests that keep coming, whatever happens: what the flow must not lose, double or tear."""

import json
import threading
import time
from collections.abc import Callable
from random import Random

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.chaos.provider import payer_of
from tests.chaos.receipts import Receipts
from tests.support.flow_process import Topics, mixed_requests, read_all, request
from tests.support.invariants import Place, place_of
from tests.support.kafka import Cluster

_EVERY_S = 0.1
_ENDLESS = 10**9


class Load(threading.Thread):
    """A sender to one topic, in bursts; copies of a payment go to any partition, not by key.

    An *era* is what one run of the flow can be asked to remember: no copy of a payment comes in a
    later era than its first one.

    Attributes:
        partitions: How many partitions to send to.
        late: The paymentIds of the next payments; the others are drawn.
    """

    def __init__(
        self,
        kafka: Cluster,
        topics: Topics,
        partitions: int,
        rng: Random,
        rate: float,
        gateway: str,
    ) -> None:
        topic = topics.requested
        super().__init__(name=f"load-{topic}", daemon=True)
        self._gateway = gateway
        self._kafka = kafka
        # Kafka may be away for a while; nothing may be lost or doubled on the way in.
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 600_000,
                "linger.ms": 5,
                "topic.metadata.refresh.interval.ms": 1000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._topic = topic
        self._rng = rng
        self._burst = max(1, round(rate * _EVERY_S))
        self._sending = threading.Lock()
        self._goes = threading.Event()  # not while paused
        self._goes.set()
        self._done = threading.Event()
        self._receipts = Receipts()
        self._failed: list[str] = []
        self._given = 0
        self.partitions = partitions
        self.late: list[str] = []
        self.new_era()

    def run(self) -> None:
        """Send, until `end`."""
        try:
            self._run()
        except KafkaException as error:
            self._failed.append(error.args[0].str())

    def _run(self) -> None:
        while not self._done.wait(_EVERY_S):
            with self._sending:
                if self._goes.is_set():
                    self._send(self._burst)

    def new_era(self) -> None:
        """Send no copies of earlier payments from now on."""
        self._requests = mixed_requests(_ENDLESS, seed=self._rng.getrandbits(48))

    def pause(self) -> None:
        """Send nothing until `resume`; what was sent is in Kafka when this returns."""
        self._goes.clear()
        with self._sending:
            self._flush()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._goes.set()

    def burst(self, count: int) -> None:
        """Send so many at once, while paused."""
        self._send(count)
        self._flush()

    def end(self) -> None:
        """Send no more; what was sent is in Kafka when this returns."""
        self._done.set()
        self.join()
        self._flush()

    @property
    def sent(self) -> dict[Place, bytes | None]:
        """Every record that Kafka has taken, by its place."""
        assert not self._failed, f"the load was not taken: {self._failed[:3]}"
        return dict(self._receipts.places)

    @property
    def ends(self) -> dict[int, int]:
        """The end of each partition, as far as Kafka has taken records."""
        return dict(self._receipts.ends)

    @property
    def count(self) -> int:
        """The number of records that Kafka has taken."""
        return sum(self._receipts.ends.values())

    def lose(self, partition: int, first: int, low: int) -> None:
        """Note that records of a partition from `first` to `low` were deleted before being read."""
        self._receipts.lose(partition, first, low)

    def _send(self, count: int) -> None:
        for _ in range(count):
            self._given += 1
            value, partition = next(self._requests), self._given * 7919 % self.partitions
            if self.late:
                value = request(self.late.pop())
            value = self._paid(value)
            while True:
                try:
                    self._producer.produce(
                        self._topic, value, partition=partition, on_delivery=self._note(value)
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                        raise
                    self._producer.poll(0.1)  # it is a new one
        self._producer.poll(0)

    def _paid(self, value: bytes) -> bytes:
        """Return a record with the payer of its payment; what is no request stays as it is."""
        try:
            fields = json.loads(value)
        except ValueError:
            return value
        if not isinstance(fields, dict):
            return value
        return json.dumps(fields | payer_of(fields["paymentId"], self._gateway)).encode()

    def _note(self, value: bytes) -> Callable[[KafkaError | None, Message], None]:
        def taken(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed.append(error.str())
                return
            self._receipts.note(message.partition() or 0, message.offset(), value)

        return taken

    def _flush(self) -> None:
        deadline = time.monotonic() + 120
        while self._producer.flush(1):
            assert time.monotonic() < deadline, "Kafka takes no records"
        if not self._receipts.is_complete:
            there = read_all(self._kafka, self._topic)
            self._receipts.complete((place_of(each), each.value()) for each in there)
