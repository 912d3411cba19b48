"""The two threads of a demo: one sends requests, one reads the audit topic."""

import threading
import time
from collections.abc import Iterator
from functools import partial

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from dataflow.config.settings import KafkaSettings
from dataflow.demo.accounts import AuditedRecord, DemoAccounts
from dataflow.demo.traffic import Outcome, Request, RequestKind
from dataflow.kafka import client_config
from schemas.events import AuditEvent, Error

_TICK_S = 0.02
_TIMEOUT_S = 10.0
_FLUSH_S = 30.0
_HEADROOM_BYTES = 64 * 1024
"""The load may send what the flow refuses as too large."""
_decode = msgspec.json.Decoder(AuditEvent).decode


class Load:
    """A sender of requests at a steady rate, from `start` to `stop`.

    Args:
        kafka: Where to.
        traffic: What to send.
        rate: Requests per second.
        accounts: Gets every request that Kafka took.
    """

    def __init__(
        self, kafka: KafkaSettings, traffic: Iterator[Request], rate: float, accounts: DemoAccounts
    ) -> None:
        self._topic = kafka.topic_requested
        self._traffic = traffic
        self._rate = rate
        self._accounts = accounts
        self._producer = Producer(
            client_config.client(kafka, "demo-load")
            | {
                "log_level": 0,
                "message.max.bytes": kafka.message_max_bytes + _HEADROOM_BYTES,
                "linger.ms": 10,
                # Without keys, and each on a partition of its own choice: copies of one payment
                # are to meet wherever they arrive.
                "sticky.partitioning.linger.ms": 0,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-load", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()

    @property
    def ended(self) -> bool:
        """True if Kafka has taken, or refused, all that was sent."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        began_s, count = time.monotonic(), 0
        while not self._stopping.is_set():
            due = int((time.monotonic() - began_s) * self._rate)
            while count < due and not self._stopping.is_set():
                self._send(next(self._traffic))
                count += 1
            self._producer.poll(_TICK_S)
            self._stopping.wait(_TICK_S)
        self._producer.flush(_FLUSH_S)

    def _send(self, request: Request) -> None:
        delivered = partial(self._delivered, request.kind)
        while True:
            try:
                self._producer.produce(self._topic, request.value, on_delivery=delivered)
            except BufferError:
                self._producer.poll(_TICK_S)
            except KafkaException:
                self._accounts.undelivered()
                return
            else:
                return

    def _delivered(self, kind: RequestKind, error: KafkaError | None, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is not None or partition is None or offset is None:
            self._accounts.undelivered()
        else:
            self._accounts.sent(partition, offset, kind)


class AuditReader:
    """A reader of the audit topic from where it ends now, until `stop`.

    Args:
        kafka: Where from.
        accounts: Gets every event.
    """

    def __init__(self, kafka: KafkaSettings, accounts: DemoAccounts) -> None:
        self._topic = kafka.topic_requested
        self._accounts = accounts
        self._consumer = _consumer(kafka)
        ends = _ends(self._consumer, kafka.topic_audit)
        self._consumer.assign(
            [TopicPartition(kafka.topic_audit, partition, end) for partition, end in ends.items()]
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read what is there already, and no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            # Seen before reading: what was written before `stop` is still read.
            last = self._stopping.is_set()
            messages = self._consumer.consume(1_000, 1.0 if last else 0.1)
            for message in messages:
                self._read(message)
            if last and not messages:
                self._consumer.close()
                return

    def _read(self, message: Message) -> None:
        value = message.value()
        if message.error() is not None or value is None:
            return
        try:
            event = _decode(value)
        except msgspec.DecodeError:
            return  # not written by the flow: others may write to a shared topic
        if event.source.topic != self._topic:
            return
        code = event.error.code if isinstance(event.error, Error) else None
        seen = AuditedRecord(event.payment_id, Outcome(event.event_type, code))
        self._accounts.audited(event.source.partition, event.source.offset, seen)


def request_ends(kafka: KafkaSettings) -> dict[int, int]:
    """Return where each partition of the request topic ends now: the next offset."""
    reader = _consumer(kafka)
    try:
        return _ends(reader, kafka.topic_requested)
    finally:
        reader.close()


def _consumer(kafka: KafkaSettings) -> Consumer:
    return Consumer(
        client_config.client(kafka, "demo-audit")
        | {
            "log_level": 0,
            # Only assigned and never committed: the group has to be named, but does not come to be.
            "group.id": f"{kafka.group_id}.demo",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )


def _ends(consumer: Consumer, topic: str) -> dict[int, int]:
    partitions = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions
    ends = {}
    for partition in partitions:
        where = TopicPartition(topic, partition)
        _, ends[partition] = consumer.get_watermark_offsets(where, timeout=_TIMEOUT_S)
    return ends
