"""The broker of a demo: embedded, or the one that KAFKA_BROKERS names; with the topics.

The embedded one is librdkafka's mock cluster, which lives inside this process. What it is not is
in `EMBEDDED_NOTICE`, and every demo that uses it shows it.
"""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Struct

from dataflow.config.settings import KafkaSettings, Settings
from dataflow.errors import StartRefusedError
from dataflow.kafka import client_config, preflight

EMBEDDED_NOTICE = """\
No KAFKA_BROKERS given: this uses an embedded broker, librdkafka's mock cluster.
It is good for a look, and worthless as proof:
- no transactions to speak of: what is written inside one is visible at once, to
  read_committed readers as well, and an abort removes nothing;
- no fencing: a producer that was replaced can still commit;
- offsets that are committed with a transaction are forgotten;
- all in memory: the last 5 MiB or 100,000 batches of each partition, until the
  demo ends.
For the real thing: make demo KAFKA_BROKERS=host:port
"""
_NEW_TOPIC_PARTITIONS = 3
_TIMEOUT_S = 10.0
_LOGIN_PREFIXES = ("KAFKA_SASL_", "KAFKA_SSL_", "KAFKA_SECURITY_")
SIMULATED = {
    # Requests ask for what is to become of them, so that the outcomes can be checked.
    "GATEWAY": "simulated",
    "SIMULATED_DECLINE_RATE": "0",
}
"""The gateway of a demo without a provider."""


APART = {
    "KAFKA_TOPIC_REQUESTED": "demo.payments.payment-requested",
    "KAFKA_TOPIC_PROCESSED": "demo.payments.payment-processed",
    "KAFKA_TOPIC_FAILED": "demo.payments.payment-failed",
    "KAFKA_TOPIC_AUDIT": "demo.audit.payment-events",
    "KAFKA_TOPIC_LANE_LOG": "demo.payments.lane-log",
    "KAFKA_TOPIC_PENDING": "demo.payments.payment-pending",
    "KAFKA_GROUP_ID": "demo-payments-service-group",
}
"""Defaults for a real broker: made-up payments must not meet real ones, unless topics are named."""


class Broker(Struct, frozen=True):
    """A broker that is there, with its topics."""

    description: str
    notice: str
    """A note for people who watch the demo."""
    environ: dict[str, str]
    """The environment, completed: what the flow is started with."""
    settings: Settings
    held: Producer | None = None
    """The embedded broker ends when this goes."""


def open_broker(environ: Mapping[str, str], gateway: Mapping[str, str] = SIMULATED) -> Broker:
    """Start the embedded broker, or reach the given one; see that the topics are there.

    `gateway` has the settings of the flow's gateway; they overrule the environment.

    Raises:
        StartRefusedError: it cannot be used; the message has the reason.
    """
    given = {name: text for name, text in environ.items() if text}
    # Not "production", where an alert objects to the simulated gateway.
    environ = {"APP_ENV": "demo"} | given | dict(gateway)
    if "KAFKA_BROKERS" not in environ:
        return _embedded(environ)
    environ = {"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"} | APART | environ
    settings = Settings.from_env(environ)
    kafka = settings.kafka
    _ensure_topics(kafka)
    notice = (
        f"Using the broker {kafka.brokers}. Made-up payments are written to\n"
        f"{kafka.topic_requested}, and processed as the group {kafka.group_id}.\n"
        "A flow that runs there already, as the same group, is fenced off and ends.\n"
    )
    return Broker(kafka.brokers, notice, environ, settings)


def _embedded(environ: Mapping[str, str]) -> Broker:
    held = Producer(
        {
            "bootstrap.servers": "embedded",  # required, and replaced by the mock's own
            "test.mock.num.brokers": 1,
            "log_level": 0,
        }
    )
    (broker,) = held.list_topics(timeout=_TIMEOUT_S).brokers.values()
    address = f"{broker.host}:{broker.port}"
    # Nobody logs in to it.
    environ = {k: v for k, v in environ.items() if not k.startswith(_LOGIN_PREFIXES)} | {
        "KAFKA_BROKERS": address,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        # So that a request that is too large does not take a fifth of a partition.
        "KAFKA_MESSAGE_MAX_BYTES": "65536",
    }
    settings = Settings.from_env(environ)
    kafka = settings.kafka
    for topic in _topics(kafka):
        # The mock has no CreateTopics: to ask for a topic creates it, with four partitions.
        held.list_topics(topic, timeout=_TIMEOUT_S)
    description = f"embedded mock ({address}): worthless as proof"
    return Broker(description, EMBEDDED_NOTICE, environ, settings, held)


def _ensure_topics(kafka: KafkaSettings) -> None:
    try:
        preflight.inspect(kafka)
    except StartRefusedError:
        admin = AdminClient(client_config.client(kafka, "demo-topics") | {"log_level": 0})
        try:
            there = admin.list_topics(timeout=1.0).topics
        except KafkaException:
            there = None  # it was refused for something else
        if there is None:
            raise
        configs = {
            kafka.topic_lane_log: preflight.LANE_LOG_CONFIG,
            kafka.topic_pending: preflight.PENDING_CONFIG,
        }
        for topic in _topics(kafka):
            if topic not in there:
                _create(admin, topic, configs.get(topic, {}))
        # Once more, for all that may be wrong besides.
        preflight.inspect(kafka)


def _create(admin: AdminClient, topic: str, config: dict[str, str]) -> None:
    wanted = [NewTopic(topic, _NEW_TOPIC_PARTITIONS, config=config)]
    try:
        admin.create_topics(wanted, operation_timeout=_TIMEOUT_S)[topic].result(_TIMEOUT_S)
    except KafkaException as error:
        reason: KafkaError = error.args[0]
        if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise StartRefusedError(
                f"topic {topic}: does not exist, and cannot be created: {reason.str()}"
            ) from error


def _topics(kafka: KafkaSettings) -> list[str]:
    return [kafka.topic_requested, *kafka.topics_written]
