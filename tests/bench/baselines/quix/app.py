"""The job in Quix Streams, exactly-once: state and changelog by paymentId, the records' key."""

import os
from pathlib import Path
from typing import Any

from quixstreams import Application, State, message_context

from tests.bench.baselines import rules

app = Application(
    broker_address=os.environ["BENCH_BROKERS"],
    consumer_group=os.environ["BENCH_GROUP"],
    processing_guarantee="exactly-once",
    commit_interval=1.0,
    auto_offset_reset="earliest",
    auto_create_topics=True,
    state_dir=Path(os.environ["BENCH_STATE"]),
    consumer_extra_config={"isolation.level": "read_committed"},
    producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
    loglevel="WARNING",
)
requested = app.topic(os.environ["BENCH_REQUESTED"], value_deserializer="json")
processed = app.topic(os.environ["BENCH_PROCESSED"], value_serializer="json")
failed = app.topic(os.environ["BENCH_FAILED"], value_serializer="json")
audit = app.topic(os.environ["BENCH_AUDIT"], value_serializer="json")


def decide(request: Any, state: State) -> list[rules.Event]:
    """Return the events of a request: its audit event, and an outcome if it is first or invalid."""
    context = message_context()
    source = {"topic": context.topic, "partition": context.partition, "offset": context.offset}
    why = rules.problem(request)
    if why is not None:
        rejected = rules.rejection(request, why, source)
        return [rejected, rules.audit(rejected)]
    if state.get("seen"):
        return [rules.duplicate(request, source)]
    state.set("seen", True)  # noqa: FBT003  (their signature)
    first = rules.outcome(request, source)
    return [first, rules.audit(first)]


decided = app.dataframe(requested).apply(decide, stateful=True)
outcomes = decided.apply(lambda events: events[0])
outcomes.filter(lambda event: event["eventType"] == "payment.processed").to_topic(processed)
outcomes.filter(lambda event: event["eventType"] == "payment.failed").to_topic(failed)
decided.apply(lambda events: events[-1]).to_topic(audit)

if __name__ == "__main__":
    app.run()
