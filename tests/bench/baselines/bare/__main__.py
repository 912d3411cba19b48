"""confluent-kafka and msgspec in one loop, without memory: the limit of Python on librdkafka."""

import os
import zlib
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from confluent_kafka import Consumer, Message, Producer
from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType, json

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Currency = Literal["USD", "EUR", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN", "CAD"]
BROKERS, GROUP = os.environ["BENCH_BROKERS"], os.environ["BENCH_GROUP"]
REQUESTED, PROCESSED = os.environ["BENCH_REQUESTED"], os.environ["BENCH_PROCESSED"]
FAILED, AUDIT = os.environ["BENCH_FAILED"], os.environ["BENCH_AUDIT"]


class Request(Struct, rename="camel", gc=False):
    payment_id: Text
    user_id: Text
    amount: Annotated[float, Meta(gt=0, lt=10**12)]
    currency: Currency
    payment_method: Text
    metadata: Raw | UnsetType = UNSET


class Source(Struct, gc=False):
    topic: str
    partition: int
    offset: int


class Error(Struct, gc=False):
    code: str
    message: str
    retryable: bool = False


class Outcome(Struct, rename="camel", gc=False, omit_defaults=True):
    event_id: str
    event_type: str
    payment_id: str | None
    source: Source
    at: str
    user_id: str | UnsetType = UNSET
    amount: float | UnsetType = UNSET
    currency: str | UnsetType = UNSET
    payment_method: str | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET
    gateway_reference: str | UnsetType = UNSET
    error: Error | UnsetType = UNSET


decode = json.Decoder(Request).decode
encode = json.Encoder().encode


def main() -> None:
    """Consume a batch, decide it, and commit it in one transaction; for ever."""
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": BROKERS,
            "transactional.id": GROUP,
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([REQUESTED])
    while True:
        messages = consumer.consume(10_000, 0.05)
        if not messages:
            continue
        producer.begin_transaction()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for message in messages:
            if message.error() is None:
                publish(producer, message, at)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()


def publish(producer: Producer, message: Message, at: str) -> None:
    """Produce the two events of one record."""
    offset, partition = message.offset(), message.partition()
    source = Source(REQUESTED, partition or 0, offset or 0)
    event_id = f"{partition}/{offset}"
    key: Any = message.key()
    try:
        request = decode(message.value() or b"")
    except DecodeError as problem:
        error = Error("invalid", str(problem))
        failed = Outcome(event_id, "payment.failed", None, source, at, error=error)
        producer.produce(FAILED, encode(failed), key)
        producer.produce(AUDIT, encode(failed), key)
        return
    payment_id = request.payment_id
    checksum = zlib.crc32(payment_id.encode())
    processed = checksum % 100 >= 2
    event_type = "payment.processed" if processed else "payment.failed"
    reference = f"sim_{checksum:08x}" if processed else UNSET
    reason = UNSET if processed else Error("declined", "The payment was declined.")
    outcome = Outcome(
        event_id,
        event_type,
        payment_id,
        source,
        at,
        request.user_id,
        request.amount,
        request.currency,
        request.payment_method,
        request.metadata,
        reference,
        reason,
    )
    audit = Outcome(
        event_id,
        event_type,
        payment_id,
        source,
        at,
        gateway_reference=reference,
        error=reason,
    )
    producer.produce(PROCESSED if processed else FAILED, encode(outcome), key)
    producer.produce(AUDIT, encode(audit), key)


if __name__ == "__main__":
    main()
