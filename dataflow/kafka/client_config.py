"""From settings to librdkafka's dictionaries: every option we set, and why, is in this file.

Properties of KAFKA_CLIENT_PROPERTIES_FILE come last. What is set here is either refused there
(`dataflow.config.client_properties`) or in `TUNABLE`.
"""

import logging
from typing import Any

from dataflow.config.settings import KafkaSettings
from dataflow.config.variables import AWS_MSK_IAM, OAUTHBEARER
from dataflow.kafka import msk_token

Config = dict[str, Any]

TUNABLE = frozenset(
    {
        *("reconnect.backoff.ms", "reconnect.backoff.max.ms", "log.connection.close"),
        *("fetch.wait.max.ms", "fetch.message.max.bytes", "linger.ms", "batch.size"),
    }
)
"""Set here for speed alone: no guarantee depends on them, so a file may set them otherwise."""


def _concerns_this_client(record: logging.LogRecord) -> bool:
    """Return False for a property of the file that is another kind of client's."""
    return "property and will be ignored by this" not in record.getMessage()


_LOGGER = logging.getLogger("kafka")
_LOGGER.addFilter(_concerns_this_client)

_QUEUE_KBYTES = 64 * 1024
_QUEUE_TOTAL_KBYTES = 512 * 1024
"""Fetched but unread records: at most so much for one input partition, and for all of them."""


def client(kafka: KafkaSettings, name: str) -> Config:
    """Return the configuration that every client needs to reach the cluster."""
    config: Config = {
        "bootstrap.servers": kafka.brokers,
        "client.id": name,
        "logger": _LOGGER,
        "security.protocol": kafka.security_protocol,
        # Brokers come back under other addresses; a reconnect must not wait for long.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 2000,
        # If a broker answers that a partition has no leader, librdkafka does not ask again before
        # this: records would wait for the default of 300 s, and time out (seen after a pause of a
        # broker that was longer than its session).
        "topic.metadata.refresh.interval.ms": 5_000,
        "log.connection.close": False,
    }
    if kafka.security_protocol in {"SSL", "SASL_SSL"}:
        config["ssl.endpoint.identification.algorithm"] = "https"
        if kafka.ssl_ca_location:
            config["ssl.ca.location"] = kafka.ssl_ca_location
        if kafka.ssl_certificate_location and kafka.ssl_key_location:
            config["ssl.certificate.location"] = kafka.ssl_certificate_location
            config["ssl.key.location"] = kafka.ssl_key_location
        if kafka.ssl_key_password:
            config["ssl.key.password"] = kafka.ssl_key_password.reveal()
    if kafka.uses_sasl:
        config |= _login(kafka)
    return _with_properties(config, kafka)


def consumer(kafka: KafkaSettings, name: str, partitions: int) -> Config:
    """Return the configuration of a partition's consumer; `partitions` share the fetch memory."""
    kbytes = max(2 * 1024, min(_QUEUE_KBYTES, _QUEUE_TOTAL_KBYTES // max(1, partitions)))
    config = client(kafka, name) | {
        "group.id": kafka.group_id,
        # Positions are committed with the outcomes, or once those are durable; never by a timer.
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An expired offset is an error: to jump anywhere would lose payments, or repeat them.
        "auto.offset.reset": "error",
        # Requests of an aborted transaction were never made.
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": kbytes,
        "queued.min.messages": 100_000,
        # An answer comes as soon as there is a record; this late when there is none.
        "fetch.wait.max.ms": 500,
        "fetch.message.max.bytes": min(kbytes * 1024, 4 * 1024 * 1024),
        "allow.auto.create.topics": False,
    }
    return _with_properties(config, kafka)


def log_consumer(kafka: KafkaSettings, partitions: int) -> Config:
    """Return the configuration of the reader of the lanes' log at a start."""
    return consumer(kafka, "lane-log", partitions) | {
        # It may be trimmed meanwhile: what is older does not count any more.
        "auto.offset.reset": "earliest",
        # What it holds is believed for as long as an id is remembered.
        "check.crcs": True,
    }


def producer(kafka: KafkaSettings, transactional_id: str) -> Config:
    """Return the configuration of the transactional producer of one lane."""
    config = client(kafka, transactional_id) | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": kafka.transaction_timeout_ms,
        # Within one transaction a record is retried until the transaction ends.
        "message.timeout.ms": kafka.transaction_timeout_ms,
        "message.max.bytes": kafka.message_max_bytes,
        # The default of Kafka's own client: a key is where consumers in Java expect it.
        "partitioner": "murmur2_random",
        "compression.type": kafka.compression,
        "linger.ms": 5,
        "batch.size": 512 * 1024,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 256 * 1024,
        # Successes report nothing that the commit does not; each failure is counted and latched.
        "delivery.report.only.error": True,
    }
    return _with_properties(config, kafka)


def tool_producer(kafka: KafkaSettings, name: str) -> Config:
    """Return the configuration of a producer of a tool: no transaction, and nothing twice."""
    config = client(kafka, name) | {
        "enable.idempotence": True,
        "message.max.bytes": kafka.message_max_bytes,
        "partitioner": "murmur2_random",
        "compression.type": kafka.compression,
    }
    return _with_properties(config, kafka)


def _login(kafka: KafkaSettings) -> Config:
    if kafka.sasl_mechanism == OAUTHBEARER:
        return _openid_login(kafka)
    if kafka.sasl_mechanism == AWS_MSK_IAM:
        assert kafka.aws_region is not None
        return {"sasl.mechanism": OAUTHBEARER, "oauth_cb": msk_token.signer(kafka.aws_region)}
    assert kafka.sasl_username is not None
    assert kafka.sasl_password is not None
    return {
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username.reveal(),
        "sasl.password": kafka.sasl_password.reveal(),
    }


def _openid_login(kafka: KafkaSettings) -> Config:
    """Return what librdkafka needs to get tokens, and new ones in time, by itself."""
    assert kafka.oauth_client_secret is not None
    config = {
        "sasl.mechanism": OAUTHBEARER,
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": kafka.oauth_token_url,
        "sasl.oauthbearer.client.id": kafka.oauth_client_id,
        "sasl.oauthbearer.client.secret": kafka.oauth_client_secret.reveal(),
    }
    if kafka.oauth_scope:
        config["sasl.oauthbearer.scope"] = kafka.oauth_scope
    if kafka.oauth_ca_location:
        config["https.ca.location"] = kafka.oauth_ca_location
    return config


def _with_properties(config: Config, kafka: KafkaSettings) -> Config:
    properties = kafka.client_properties
    return config | properties.revealed() if properties else config
