"""The whole graph, top to bottom. No rules here: each step documents what it does in its own file.

Run it with `python -m bytewax.run dataflow.flow`, print it with
`python -m bytewax.visualize dataflow.flow`. Step ids never change: recovery is keyed by them.
"""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import KeyedStream
from bytewax.outputs import Sink

from dataflow import startup
from dataflow.core.items import SinkItem, SourceItem
from dataflow.runtime import Runtime
from dataflow.steps.decode import Decode
from dataflow.steps.dedupe import Dedupe, Expiry
from dataflow.steps.process import Process
from dataflow.steps.publish import Audit, Failed, Pending, Processed, Progress, outcomes_only
from schemas.headers import content_type


def flow(
    source: Source[SourceItem] | None = None,
    sink: Sink[tuple[str, SinkItem]] | None = None,
    runtime: Runtime | None = None,
) -> Dataflow:
    """Decide each payment request once, and publish what happened.

    Args:
        source: Where the records come from; by default the request topic.
        sink: Where the outcomes go, by lane; by default the output topics, transactionally.
        runtime: The process's settings, gateway and metrics; by default from the environment.
    """
    run = runtime or startup.current()
    settings, status, metrics = run.context.settings, run.context.status, run.context.metrics
    kafka, lanes, limit = settings.kafka, settings.lanes, run.max_request_bytes
    requested = kafka.topic_requested

    df = Dataflow("payments")
    records = op.input("source", df, source or run.source())
    decoded = op.flat_map("decode", records, Decode(lanes, limit, metrics.consumed))
    window_ms, partitions = settings.dedupe_window_ms, run.context.cluster.partitions
    expiry = Expiry(window_ms, partitions, run.board.held, run.board.oldest_s)
    index = Dedupe.builder(status.record_remembered, run.log, run.open_ids, expiry, limit)
    judged = op.stateful_batch("dedupe", decoded, index)
    charge = Process(requested, run.charging, run.pending, run.board, metrics.decided)
    decided = op.flat_map_batch("process", judged, charge)

    outcomes = op.filter_map("outcomes", decided, outcomes_only)
    described_as = content_type(kafka.value_format) if kafka.has_cloud_events else None
    to_processed, to_failed, to_audit = [
        (topic, limit, run.encoders.get(topic), described_as) for topic in kafka.topics_published
    ]
    processed = op.filter_map("processed", outcomes, Processed(*to_processed))
    failed = op.filter_map("failed", outcomes, Failed(*to_failed))
    audit = op.filter_map("audit", outcomes, Audit(*to_audit))
    pending = op.filter_map("pending", outcomes, Pending(kafka.topic_pending))
    progress = op.map("progress", decided, Progress())
    outgoing: KeyedStream[SinkItem] = op.merge(
        "outgoing", processed, failed, audit, pending, progress
    )
    op.output("sink", outgoing, sink or run.sink())
    return df
