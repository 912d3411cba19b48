"""Requests at a steady rate, and how long each takes until a reader sees its audit event."""

import json
import random
import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, Message, Producer

from tests.support.flow_process import Topics, request
from tests.support.kafka import Cluster

PARTITIONS = 3
Place = tuple[int, int]


class Traffic:
    """A sender and reader, in threads of its own, until `stop`.

    One in ten is a copy of a recent request, on whatever partition; one in a hundred a conflict,
    one invalid, and one a copy from long ago, of which the dedupe window has nothing any more.

    Args:
        kafka: Where.
        topics: Their names.
        rate: Requests a second.
        window_s: The dedupe window.
        seed: Of what is sent.
    """

    def __init__(
        self, kafka: Cluster, topics: Topics, rate: int, window_s: float, seed: int
    ) -> None:
        self._topics = topics
        self._rate = rate
        self._long_ago = int(3 * window_s * rate)
        self._rng = random.Random(seed)
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": f"{topics.prefix}.soak",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([topics.outputs[2]])
        self._lock = threading.Lock()
        self._sent: dict[Place, float] = {}
        self._waits_s: list[float] = []
        self._failure: str | None = None
        self._stopping = threading.Event()
        self._done = threading.Event()
        self.sent = 0
        self.seen = 0
        self._threads = [
            threading.Thread(target=self._send, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def waits_s(self) -> list[float]:
        """Return how long each took that was seen since the last call."""
        with self._lock:
            waits_s, self._waits_s = self._waits_s, []
        return waits_s

    def check(self) -> None:
        """Raise what has gone wrong in sending."""
        if self._failure:
            raise RuntimeError(self._failure)

    def stop(self) -> None:
        """Send nothing more; everything that was sent is with Kafka when it returns."""
        self._stopping.set()
        self._threads[0].join()
        if left := self._producer.flush(60):
            self._failure = f"{left} requests were not delivered"
        self.check()

    def close(self) -> None:
        """Stop reading as well."""
        self._stopping.set()
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        started_s = time.monotonic()
        while not self._stopping.is_set():
            ahead_s = self.sent / self._rate - (time.monotonic() - started_s)
            if ahead_s > 0:
                self._producer.poll(min(ahead_s, 0.005))
                continue
            try:
                self._producer.produce(
                    self._topics.requested,
                    self._next(self.sent),
                    partition=self._rng.randrange(PARTITIONS),
                    on_delivery=self._note(time.time()),
                )
                self.sent += 1
            except BufferError:
                self._producer.poll(0.05)

    def _next(self, number: int) -> bytes:
        draw = self._rng.random()
        if draw < 0.10 and number:
            number = max(0, number - self._rng.randrange(1, 5 * self._rate))
        elif draw < 0.11 and number:
            return request(f"soak-{number - 1:012d}", "77", "USD", userId="somebody else")
        elif draw < 0.12:
            return request(f"bad-{number:012d}", "-1")
        elif draw < 0.13 and number > self._long_ago:
            number -= self._long_ago
        currency = ("USD", "EUR", "JPY")[number % 3]
        return request(f"soak-{number:012d}", str(number % 1000 + 1), currency)

    def _note(self, at_s: float) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = f"a request was not delivered: {error.str()}"
                return
            partition, offset = message.partition(), message.offset()
            if partition is None or offset is None:
                # The broker had it already: there was an outage, and this is not about outages.
                self._failure = "a request was delivered, and Kafka does not say where"
                return
            with self._lock:
                self._sent[partition, offset] = at_s

        return delivered

    def _read(self) -> None:
        early: dict[Place, float] = {}
        while not self._done.is_set():
            messages = self._consumer.consume(10_000, 0.02)
            now_s = time.time()
            places = {**early, **dict.fromkeys(map(_source, filter(_is_record, messages)), now_s)}
            with self._lock:
                # The answer may be here before the broker's receipt for the request.
                early = {place: at_s for place, at_s in places.items() if place not in self._sent}
                waits_s = [
                    at_s - self._sent.pop(place)
                    for place, at_s in places.items()
                    if place not in early
                ]
                self._waits_s += waits_s
            self.seen += len(waits_s)
        self._consumer.close()


def _is_record(message: Message) -> bool:
    return message.error() is None


def _source(message: Message) -> Place:
    source = json.loads(message.value() or b"")["source"]
    return source["partition"], source["offset"]
