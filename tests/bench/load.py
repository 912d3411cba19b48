"""The requests: what they look like, and how they are sent. Runs in a process of its own.

200 bytes each, 5 % duplicates, 1 % invalid ones, keyed by paymentId, so that all copies of a
payment are on one partition (the product does not need that, its baselines do). A paymentId ends in
the number of the request, by which a reader of the outcomes finds when that request was due.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Producer

DIGITS = 10
_VALUE = (
    b'{"paymentId":"%b","userId":"user-%08d","amount":%b,"currency":"USD",'
    b'"paymentMethod":"%b","metadata":{"orderId":"order-%010d","note":"%b"}}'
)
_NOTE = b"x" * 20
_METHOD = b"credit_card"
_BEHIND_S = 0.002


class Sent(NamedTuple):
    """The records that were sent."""

    records: int
    late_s: float
    """The time that the latest one was later than due."""


def requests(
    prefix: str, count: int, note: bytes = _NOTE, method: bytes = _METHOD
) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values; every 20th has the id and content of the one before it."""
    start = prefix.encode()
    for n in range(count):
        first = n - 1 if n % 20 == 19 else n
        key = b"%b-%0*d" % (start, DIGITS, first)
        amount = b"-1" if n % 100 == 50 else b"%d.99" % (first % 1000 + 1)
        yield key, _VALUE % (key, first, amount, method, first, note)


def payment_id(prefix: str, number: int) -> str:
    """Return the id of a request of `requests` that is no duplicate."""
    return f"{prefix}-{number:0{DIGITS}d}"


def distinct(count: int) -> int:
    """Return the number of outcomes of `count` requests: one for each that is no duplicate."""
    return count - count // 20


def charged(count: int) -> int:
    """Return the number of payments of `count` requests: one for each that is first, and valid."""
    return distinct(count) - (count + 49) // 100


def number(key: bytes) -> int:
    """Return which request a key belongs to."""
    return int(key[-DIGITS:])


def fill(
    bootstrap: str,
    topic: str,
    prefix: str,
    count: int,
    *,
    note: bytes = _NOTE,
    method: bytes = _METHOD,
    hot: bool = False,
) -> Sent:
    """Send requests as fast as possible; with `hot`, all of them to one partition."""
    producer = _producer(bootstrap)
    partition = 0 if hot else -1  # by key
    for key, value in requests(prefix, count, note, method):
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
    _finish(producer)
    return Sent(count, 0.0)


def pace(bootstrap: str, topic: str, prefix: str, rate: int, count: int, start: float) -> Sent:
    """Send at a fixed rate: request n is due at `start` (seconds since 1970) + n / rate.

    It never waits for an answer, and never forgives a delay: who reads the outcomes counts from
    when a request was due.
    """
    producer = _producer(bootstrap)
    late_s = 0.0
    for n, (key, value) in enumerate(requests(prefix, count)):
        due = start + n / rate
        ahead_s = due - time.time()
        while ahead_s > 0:
            producer.poll(0)
            time.sleep(min(ahead_s, _BEHIND_S))
            ahead_s = due - time.time()
        late_s = max(late_s, -ahead_s)
        producer.produce(topic, value, key)
    _finish(producer)
    return Sent(count, late_s)


def _producer(bootstrap: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 2,
            # KafkaJS can read nothing but gzip without more packages.
            "compression.type": "none",
            "batch.size": 256 * 1024,
            "message.max.bytes": 2 * 1024 * 1024,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
            "on_delivery": _failed,
        }
    )


def _failed(error: object, _message: object) -> None:
    if error is not None:
        raise RuntimeError(f"a request could not be sent: {error}")


def _finish(producer: Producer) -> None:
    if left := producer.flush(60):
        raise RuntimeError(f"{left} requests could not be sent")
