"""The broker of a demo: embedded, or the one that KAFKA_BROKERS names; with the four topics.

The embedded one is librdkafka's mock cluster, which lives inside this process. What it is not is
in `EMBEDDED_NOTICE`, and every demo that uses it says so.
"""

import os
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Struct

from dataflow.connectors import cluster, config
from dataflow.errors import StartRefusedError
from dataflow.settings import KafkaSettings, Settings

EMBEDDED_NOTICE = """\
No KAFKA_BROKERS given: using an embedded broker, librdkafka's mock cluster.
It is good for a look, and worthless as proof. It has no transactions to speak of: what is written
inside one is visible at once, also to read_committed readers; abort removes nothing; a fenced
producer can still commit; offsets committed in a transaction are forgotten. It keeps everything
in memory, only the last 5 MiB or 100,000 batches of each partition, and is gone with this demo.
For the real thing: make demo KAFKA_BROKERS=host:port
"""
_NEW_TOPIC_PARTITIONS = 3
_ADMIN_TIMEOUT_S = 10.0
_LOGIN_PREFIXES = ("KAFKA_SASL_", "KAFKA_SSL_", "KAFKA_SECURITY_")
_PREFERENCES = {
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    # So that a request that is too large need not be a megabyte.
    "KAFKA_MESSAGE_MAX_BYTES": "65536",
}
_REQUIRED = {
    # Requests ask for what is to become of them, so that the outcomes can be checked.
    "GATEWAY": "simulated",
    "SIMULATED_DECLINE_RATE": "0",
}


class Broker(Struct, frozen=True):
    """A broker that is there, with its topics."""

    description: str
    notice: str
    """What somebody who watches the demo has to know of it."""
    environ: dict[str, str]
    """The environment, completed: what the flow is started with."""
    settings: Settings
    partitions: list[int]
    """Of the request topic."""
    held: Producer | None = None
    """The embedded broker ends when this goes."""


def open_broker(environ: Mapping[str, str] = os.environ) -> Broker:
    """Start the embedded broker, or reach the given one; see that the topics are there.

    Raises:
        StartRefusedError: it cannot be used; the message says why.
    """
    environ = {**_PREFERENCES, **{k: v for k, v in environ.items() if v}, **_REQUIRED}
    if "KAFKA_BROKERS" not in environ:
        return _embedded(environ)
    settings = Settings.from_env(environ)
    kafka = settings.kafka
    notice = (
        f"Using the broker {kafka.brokers}: made-up payments are written to {kafka.topic_requested}"
        f"\nand processed as group {kafka.group_id}. A flow that runs there as the same group is"
        " fenced off and ends.\n"
    )
    return Broker(kafka.brokers, notice, environ, settings, _partitions(kafka))


def _embedded(environ: Mapping[str, str]) -> Broker:
    held = Producer(
        {
            "bootstrap.servers": "embedded",  # required, and replaced by the mock's own
            "test.mock.num.brokers": 1,
            "log_level": 0,
        }
    )
    (broker,) = held.list_topics(timeout=_ADMIN_TIMEOUT_S).brokers.values()
    address = f"{broker.host}:{broker.port}"
    # Nobody logs in to it.
    environ = {k: v for k, v in environ.items() if not k.startswith(_LOGIN_PREFIXES)} | {
        "KAFKA_BROKERS": address,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    }
    settings = Settings.from_env(environ)
    kafka = settings.kafka
    for topic in _topics(kafka):
        # The mock knows no CreateTopics: to ask for a topic creates it, with four partitions.
        held.list_topics(topic, timeout=_ADMIN_TIMEOUT_S)
    partitions = cluster.inspect(kafka).partitions
    return Broker(f"embedded ({address})", EMBEDDED_NOTICE, environ, settings, partitions, held)


def _partitions(kafka: KafkaSettings) -> list[int]:
    try:
        return cluster.inspect(kafka).partitions
    except StartRefusedError:
        admin = AdminClient(config.client(kafka, "demo-topics") | {"log_level": 0})
        try:
            there = admin.list_topics(timeout=1.0).topics
        except KafkaException:
            there = None  # the topics are not what it was refused for
        if there is None:
            raise
    _create(admin, [topic for topic in _topics(kafka) if topic not in there])
    return cluster.inspect(kafka).partitions


def _create(admin: AdminClient, topics: list[str]) -> None:
    wanted = [NewTopic(topic, _NEW_TOPIC_PARTITIONS) for topic in topics]
    for topic, created in admin.create_topics(wanted, operation_timeout=_ADMIN_TIMEOUT_S).items():
        try:
            created.result(_ADMIN_TIMEOUT_S)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StartRefusedError(
                    f"topic {topic}: does not exist, and cannot be created: {reason.str()}"
                ) from error


def _topics(kafka: KafkaSettings) -> list[str]:
    return [kafka.topic_requested, kafka.topic_processed, kafka.topic_failed, kafka.topic_audit]
