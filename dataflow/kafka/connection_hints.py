"""The settings that are probably wrong when a broker, or a token endpoint, refuses a client."""

from confluent_kafka import KafkaError

from dataflow.config.settings import KafkaSettings
from dataflow.config.variables import AWS_MSK_IAM, LOGIN_MECHANISMS, OAUTHBEARER

_LOGIN_REFUSED = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001  (no public name)
_MAY_PASS = (
    # The connection broke while it was being made: see `preflight._Met.hangs_up_for_s`.
    *("Disconnected", "Local: "),
    # The token endpoint is away, in libcurl's words. After a 5xx, librdkafka just tries again.
    *(
        "Failed to connect to",
        "Could not resolve host",
        "timed out",
        "Recv failure",
        "Send failure",
    ),
)
_LOGIN_SETTINGS = {
    **dict.fromkeys(LOGIN_MECHANISMS, "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"),
    OAUTHBEARER: (
        "KAFKA_OAUTH_TOKEN_URL, KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET,"
        " KAFKA_OAUTH_CA_LOCATION"
    ),
    AWS_MSK_IAM: "the AWS credentials, KAFKA_AWS_REGION",
}


def hint_for(error: KafkaError, kafka: KafkaSettings) -> str | None:
    """Return what to check for an error that stays; None for one that may pass."""
    text = error.str()
    if any(part in text for part in _MAY_PASS):
        return None
    if error.code() in _LOGIN_REFUSED:
        return (
            f"{_LOGIN_SETTINGS[kafka.sasl_mechanism]} or KAFKA_SASL_MECHANISM"
            f" ({kafka.sasl_mechanism}): Kafka refused the login: {text}"
        )
    if error.code() == KafkaError._SSL or "SSL" in text:  # noqa: SLF001  (no public name)
        return (
            f"KAFKA_SSL_CA_LOCATION, KAFKA_BROKERS or KAFKA_SECURITY_PROTOCOL"
            f" ({kafka.security_protocol}): no trusted TLS connection: {text}"
        )
    return None
