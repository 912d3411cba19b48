"""The writing of a decision, and the wait until the flow has carried it out.

The decision is over once the flow has ended it with a tombstone; what became of the payment is in
the audit event of the same transaction, or of an earlier one.
"""

import time
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from dataflow.config.settings import KafkaSettings, Settings
from dataflow.console.progress import Progress
from dataflow.console.text import plain
from dataflow.core.lane_log import is_of_a_lane
from dataflow.errors import CommitError, ConsumeError
from dataflow.kafka import client_config
from dataflow.kafka.pending_topic import PARTITION
from dataflow.kafka.record_headers import headers_of
from dataflow.kafka.topic_scan import TopicScan
from schemas import decisions
from schemas.decisions import PersonsDecision

_ACKNOWLEDGED_S = 30.0
_POLL_S = 0.2
_EARLIER_S = 600.0
"""The clocks of those that write records may differ by less."""


class Result(NamedTuple):
    """The end of a decision, if it has one yet."""

    is_waiting: bool = False
    """True if the flow has not ended it yet."""
    event: Any = None
    """The payment's audit event, if there is one."""
    is_carried_out: bool = False
    """True if the outcome is the decision."""
    problem: str = ""
    """The reason why it could not be read."""

    @property
    def state(self) -> str:
        """The result in a word."""
        if self.is_waiting:
            return "waiting"
        if self.problem:
            return "ended"
        return "carried_out" if self.is_carried_out else "no_effect"

    @property
    def outcome(self) -> str | None:
        """The event type of the payment's outcome; None if there is none."""
        return None if self.event is None else str(self.event["eventType"])

    @property
    def text(self) -> str:
        """The result for a person."""
        if self.is_waiting:
            return (
                "The flow has not carried it out yet: it is stopped, cannot reach the provider, or"
                " waits for what may still be on its way. The decision is kept; nothing is to be"
                " repeated (payments pending shows it as decided)."
            )
        if self.is_carried_out:
            return f"Carried out: {self.outcome}."
        if self.problem:
            return f"The flow has ended the decision; its audit event is not known: {self.problem}."
        if self.outcome is not None:
            by = self.event.get("resolution", {}).get("by")
            who = (
                "the provider has answered" if by is None else f"{plain(by)} has decided it before"
            )
            return f"No effect: {who}. The payment's outcome: {self.outcome}."
        return "No effect: the log of the flow has the reason (a person's decision has no effect)."


def carry_out(
    settings: Settings,
    scan: TopicScan,
    decision: PersonsDecision,
    wait_s: float,
    progress: Progress,
) -> Result:
    """Write a decision, and wait until the flow has ended it.

    Raises:
        CommitError: Kafka did not take it.
    """
    kafka = settings.kafka
    began_s = time.time()
    end = scan.bounds_now(kafka.topic_pending)[PARTITION].high
    _write(kafka, decision)
    is_over = _wait(kafka, scan, end, decision, wait_s, progress)
    try:
        event = _audit_event(kafka, scan, decision.event_id, began_s)
    except ConsumeError as error:
        # The decision is written, whatever the tool may read.
        return Result(is_waiting=not is_over, problem=str(error))
    return Result(
        is_waiting=not is_over and event is None,
        event=event,
        is_carried_out=event is not None and _is_as_decided(event, decision),
    )


def _is_as_decided(event: Any, decision: PersonsDecision) -> bool:
    """Return whether a person has decided so: now, or just before, with the same result."""
    if "resolution" not in event:
        return False
    if decision.reference is not None:
        return bool(event.get("gatewayReference") == decision.reference)
    return bool(event.get("error", {}).get("code") == decision.code)


def _write(kafka: KafkaSettings, decision: PersonsDecision) -> None:
    written: list[tuple[KafkaError | None, Message]] = []
    producer = Producer(client_config.tool_producer(kafka, "resolve"))
    try:
        producer.produce(
            kafka.topic_pending,
            decisions.encode(decision),
            decision.key,
            partition=PARTITION,
            on_delivery=lambda error, message: written.append((error, message)),
        )
        producer.flush(_ACKNOWLEDGED_S)
    except KafkaException as error:
        raise _not_taken(kafka, error.args[0].str()) from error
    if not written:
        raise _not_taken(kafka, f"no answer within {_ACKNOWLEDGED_S:g} s")
    [(refused, _)] = written
    if refused is not None:
        raise _not_taken(kafka, refused.str())


def _not_taken(kafka: KafkaSettings, reason: str) -> CommitError:
    return CommitError(f"{kafka.topic_pending}: the decision could not be written: {reason}")


def _wait(
    kafka: KafkaSettings,
    scan: TopicScan,
    end: int,
    decision: PersonsDecision,
    wait_s: float,
    progress: Progress,
) -> bool:
    """Return whether the flow has ended a decision within a time.

    Reads from `end`, where the topic ended before the decision was written: Kafka's receipt for a
    record that was sent twice may lack the offset.
    """
    value, is_read = decisions.encode(decision), False
    began_s = time.monotonic()
    consumer = scan.consumer(1)
    try:
        consumer.assign([TopicPartition(kafka.topic_pending, PARTITION, end)])
        while time.monotonic() - began_s < wait_s:
            progress("waiting for the flow", int(time.monotonic() - began_s), int(wait_s))
            for message in consumer.consume(1000, _POLL_S):
                if message.error() is not None or message.key() != decision.key:
                    continue
                if message.value() == value:
                    is_read = True
                elif is_read and _is_end(message):
                    return True
    finally:
        consumer.close()
    return False


def _is_end(message: Message) -> bool:
    return message.value() is None and is_of_a_lane(headers_of(message))


def _audit_event(kafka: KafkaSettings, scan: TopicScan, event_id: str, since_s: float) -> Any:
    """Return the audit event of a payment that had none before a time; None if it has none."""
    since_ms = int((since_s - _EARLIER_S) * 1000)
    bounds = scan.bounds_now(kafka.topic_audit, since_ms)
    for chunk in scan.read_all(kafka.topic_audit, bounds):
        for value in chunk.values:
            # Cheaper than to parse all of them.
            if value is not None and event_id.encode() in value:
                event = msgspec.json.decode(value)
                if event.get("eventId") == event_id:
                    return event
    return None
