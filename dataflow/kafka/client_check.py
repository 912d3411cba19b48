"""Properties that librdkafka itself refuses: unknown ones, wrong values, and what does not fit."""

import logging
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Producer

from dataflow.config.settings import KafkaSettings
from dataflow.errors import SettingsError
from dataflow.kafka import client_config
from dataflow.kafka.client_config import Config

_KINDS: tuple[tuple[type[Consumer | Producer], Callable[[KafkaSettings], Config]], ...] = (
    (Consumer, lambda kafka: client_config.consumer(kafka, "client-check", 1)),
    (Producer, lambda kafka: client_config.producer(kafka, "client-check")),
)
_CONNECTION = ("bootstrap.servers", "sasl.mechanism", "oauth_cb")
_SILENT = logging.getLogger("client-check")
_SILENT.addFilter(lambda _record: False)


def check_properties(kafka: KafkaSettings) -> None:
    """Make a client of each kind, which connects to nothing, and refuse what they refuse.

    Raises:
        SettingsError: With librdkafka's own message.
    """
    properties = kafka.client_properties
    if properties is None:
        return
    for kind, configuration in _KINDS:
        config = configuration(kafka)
        # It stays as it is but for the login, for which a client would connect to get a token.
        config["security.protocol"] = kafka.security_protocol.removeprefix("SASL_")
        config["logger"] = _SILENT
        for name in _CONNECTION:
            config.pop(name, None)
        try:
            client = kind(config)
        except (KafkaException, TypeError, ValueError) as error:
            message = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            message = properties.without_values(" ".join(message.split()))
            problem = (
                f"KAFKA_CLIENT_PROPERTIES_FILE: {properties.path}: the Kafka client refuses it:"
                f" {message}; correct the line, or remove it"
            )
            raise SettingsError([problem]) from None
        if isinstance(client, Consumer):
            client.close()
