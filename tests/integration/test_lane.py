"""One lane of the sink by itself, against a real Kafka."""

import pytest
from confluent_kafka import KafkaException
from kafkatest import Cluster
from product import Topics

from dataflow.batches import Outgoing
from dataflow.connectors.sink import Commits, Lane
from dataflow.core.times import StreamTimes
from dataflow.errors import FencedError
from dataflow.lifecycle import Lifecycle
from dataflow.metrics import Metrics
from dataflow.settings import Settings
from dataflow.status import Status


def make_lane(kafka: Cluster, topics: Topics) -> Lane:
    settings = Settings.from_env(
        {
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "KAFKA_TRANSACTION_TIMEOUT": "10s",
            **topics.environ(),
        }
    )
    status = Status(version="0", liveness_timeout_s=30, recovery_dir=None)
    metrics = Metrics(status, input_topic=topics.requested, output_topics=list(topics.outputs))
    lane = Lane(
        settings.kafka,
        lane=0,
        lanes=1,
        status=status,
        metrics=metrics,
        commits=Commits(),
        times=StreamTimes(),
        lifecycle=Lifecycle(status),
        on_close=lambda: None,
    )
    lane._finish_opening()
    return lane


def test_a_fenced_lane_says_so_whichever_call_notices(kafka: Cluster) -> None:
    """The client tells the first call why, and any later one only that there was a fatal error."""
    topics = Topics.fresh(kafka)
    audit = topics.outputs[2]
    older = make_lane(kafka, topics)
    older.write_batch([Outgoing(audit, keys=[b"a"], values=[b"1"], positions={0: 1})])
    older._producer.flush(10)
    make_lane(kafka, topics)
    with pytest.raises(KafkaException):
        older._producer.commit_transaction(10)
    with pytest.raises(FencedError, match="Another execution of this flow has taken over"):
        older._produce(audit, b"a", b"2")
