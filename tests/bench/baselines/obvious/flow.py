"""The job as Bytewax's documents show it: stock connectors, one state key for each payment."""

import os
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from msgspec import DecodeError, json

from tests.bench.baselines import rules

BROKERS = os.environ["BENCH_BROKERS"].split(",")
REQUESTED = os.environ["BENCH_REQUESTED"]
TOPICS = {
    "payment.processed": os.environ["BENCH_PROCESSED"],
    "payment.failed": os.environ["BENCH_FAILED"],
}
AUDIT = os.environ["BENCH_AUDIT"]
CONFIG = {"linger.ms": "5", "compression.type": "lz4"}

decode = json.Decoder().decode
encode = json.Encoder().encode
Parsed = tuple[Any, str | None, rules.Event]
"""The request, what is wrong with it, and where it came from."""


def parse(message: KafkaSourceMessage[bytes | None, bytes | None]) -> tuple[str, Parsed]:
    """Return the request by its key, and what is wrong with it."""
    source = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
    }
    try:
        request = decode(message.value or b"")
    except DecodeError as error:
        return "", (None, str(error), source)
    why = rules.problem(request)
    return str(request["paymentId"]) if why is None else "", (request, why, source)


def decide(seen: int | None, parsed: Parsed) -> tuple[int, list[rules.Event]]:
    """Return the events of a request: its outcome, if it is the first one, and its audit event."""
    request, _, source = parsed
    if seen:
        return 1, [rules.duplicate(request, source)]
    first = rules.outcome(request, source)
    return 1, [first, rules.audit(first)]


def reject(item: tuple[str, Parsed]) -> tuple[str, list[rules.Event]]:
    """Return the events of an invalid request."""
    request, why, source = item[1]
    failed = rules.rejection(request, why or "", source)
    return "", [failed, rules.audit(failed)]


def to_outcome(
    event_type: str, item: tuple[str, list[rules.Event]]
) -> KafkaSinkMessage[bytes, bytes] | None:
    """Return the record for the topic of an outcome, if that is what it is."""
    event = item[1][0]
    return None if event["eventType"] != event_type else to_record(event)


def to_record(event: rules.Event) -> KafkaSinkMessage[bytes, bytes]:
    """Return a record of an event."""
    return KafkaSinkMessage((event["paymentId"] or "").encode(), encode(event))


flow = Dataflow("obvious")
records = kop.input(
    "source",
    flow,
    brokers=BROKERS,
    topics=[REQUESTED],
    add_config={"isolation.level": "read_committed"},
)
parsed = op.map("parse", records.oks, parse)
valid = op.branch("valid", parsed, lambda item: item[1][1] is None)
decided = op.stateful_map("decide", valid.trues, decide)
rejected = op.map("reject", valid.falses, reject)
events = op.merge("events", decided, rejected)
for event_type, topic in TOPICS.items():
    name = event_type.removeprefix("payment.")
    outcomes = op.filter_map(name, events, partial(to_outcome, event_type))
    kop.output(f"{name}_sink", outcomes, brokers=BROKERS, topic=topic, add_config=CONFIG)
audits = op.map("audit", events, lambda item: to_record(item[1][-1]))
kop.output("audit_sink", audits, brokers=BROKERS, topic=AUDIT, add_config=CONFIG)
