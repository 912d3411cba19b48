"""Every environment variable of ours: the table that reading, masking and documents share.

A secret can also be given as a file, by the name with `_FILE` appended, as container platforms
mount them. An empty variable counts as unset.

Long because it is one table: a variable is added, found and compared in one place.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from dataflow.config import client_properties, gateway_names, header_names, values
from dataflow.config.values import ValueKind

LOGIN_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
"""Those with a user name and a password."""
OAUTHBEARER = "OAUTHBEARER"
AWS_MSK_IAM = "AWS_MSK_IAM"
"""Amazon's name; on the wire it is OAUTHBEARER, with a signed request as the token."""

_SHOWN_CHARACTERS = 60
"""The characters of a wrong value that an error quotes."""
_NODE_LEVELS = {
    "warn": "warning",
    "http": "info",
    "verbose": "debug",
    "silly": "debug",
    "trace": "debug",
    "fatal": "error",
    "critical": "error",
}
"""Levels of other loggers, by the level of ours that logs no less of this service's own events:
it logs no requests of its own below `info`, and everything that ends it at `error` or above."""
BINARY = "binary"
"""The mode of CloudEvents with its attributes as headers."""
ALWAYS = "always"
"""`Variable.required` of one that has no default because only its user can choose it."""


class Variable(Struct, frozen=True):
    """One environment variable."""

    name: str
    field: str
    """Path of its field below `Settings`, which documents the value's unit."""
    kind: ValueKind
    doc: str
    default: str = ""
    """Text that stands in when the variable is unset; without one, the field is None."""
    example: str = ""
    """A right value for documents and errors, where the default does not serve as one."""
    secret: bool = False
    rotates: bool = False
    """Names a file whose content may change while the process runs, such as a certificate."""
    synonym: str = ""
    """Another variable, read when this one is unset."""
    required: str = ""
    """The condition under which the variable must be set, in words for the documents."""

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the value; `ValueError`, with the whole problem as its text, for a wrong one."""
        if self.secret:
            return self._read_secret(environ)
        name = self.name
        if self.synonym and not environ.get(name, "").strip():
            name = self.synonym
        text = environ.get(name, "").strip() or self.default
        if not text and self.required == ALWAYS:
            raise ValueError(self.problem(f"required: {self.kind.expects}"))
        try:
            return self.kind.parse(text) if text else None
        except ValueError as err:
            reason = f" ({err})" if str(err) else ""
            raise ValueError(self.wrong(text, self.kind.expects, reason, name)) from None

    def wrong(self, text: str, expects: str, reason: str = "", name: str = "") -> str:
        """Return the problem of a value that is not as expected."""
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
        return self.problem(f"expected {expects}, got {shown!r}{reason}", name)

    def problem(self, what: str, name: str = "") -> str:
        """Return a problem as one line: the variable, what is the matter, an example."""
        example = self.example or self.default
        return f"{name or self.name}: {what}; example: {self.name}={example}"

    def _read_secret(self, environ: Mapping[str, str]) -> Any:
        """Read the variable or the file; neither's content, nor the path, is ever quoted.

        Not the path either, because the likeliest wrong path is the secret itself.
        """
        text, path = environ.get(self.name, ""), environ.get(f"{self.name}_FILE", "")
        if text and path:
            raise ValueError(self.problem(f"set it or {self.name}_FILE, not both"))
        if path:
            try:
                content = Path(path).read_bytes().decode()
            except OSError as err:
                text, reason = "", f"cannot be read ({err.strerror})"
            except ValueError:
                text, reason = "", "is not UTF-8 text"
            else:
                text, reason = content.removesuffix("\n").removesuffix("\r"), "is empty"
            if not text:
                file = f"{self.name}_FILE"
                raise ValueError(
                    f"{file}: the file it names {reason}; "
                    f"example: {file}=/run/secrets/{self.name.lower()}"
                )
        return self.kind.parse(text) if text else None


KAFKA = (
    Variable(
        "KAFKA_BROKERS",
        "kafka.brokers",
        values.brokers(),
        "Bootstrap brokers, separated by commas.",
        example="localhost:9092",
        required=ALWAYS,
    ),
    Variable(
        "KAFKA_SECURITY_PROTOCOL",
        "kafka.security_protocol",
        values.one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "Protocol of the brokers' listener: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
        default="SASL_SSL",
    ),
    Variable(
        "KAFKA_SASL_MECHANISM",
        "kafka.sasl_mechanism",
        values.one_of(*LOGIN_MECHANISMS, OAUTHBEARER, AWS_MSK_IAM),
        "Login mechanism: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER or AWS_MSK_IAM.",
        default="SCRAM-SHA-512",
    ),
    Variable(
        "KAFKA_SASL_USERNAME",
        "kafka.sasl_username",
        values.secret(),
        "User name to log in with.",
        example="payments",
        secret=True,
        required="for a login by SCRAM or PLAIN",
    ),
    Variable(
        "KAFKA_SASL_PASSWORD",
        "kafka.sasl_password",
        values.secret(),
        "Password to log in with.",
        example="change-me",
        secret=True,
        required="for a login by SCRAM or PLAIN",
    ),
    Variable(
        "KAFKA_OAUTH_TOKEN_URL",
        "kafka.oauth_token_url",
        values.url(),
        "Token endpoint of the OpenID provider.",
        example="https://login.example.com/oauth2/token",
        required="with KAFKA_SASL_MECHANISM=OAUTHBEARER",
    ),
    Variable(
        "KAFKA_OAUTH_CLIENT_ID",
        "kafka.oauth_client_id",
        values.matching(r"\S{1,255}", "1 to 255 characters without blanks"),
        "Client id to get tokens with.",
        example="payments-service",
        required="with KAFKA_SASL_MECHANISM=OAUTHBEARER",
    ),
    Variable(
        "KAFKA_OAUTH_CLIENT_SECRET",
        "kafka.oauth_client_secret",
        values.secret(),
        "Client secret to get tokens with.",
        example="change-me",
        secret=True,
        required="with KAFKA_SASL_MECHANISM=OAUTHBEARER",
    ),
    Variable(
        "KAFKA_OAUTH_SCOPE",
        "kafka.oauth_scope",
        values.matching(r"\S+(?: \S+)*", "scopes, separated by blanks"),
        "Scope of the tokens, if the provider wants one.",
        example="kafka",
    ),
    Variable(
        "KAFKA_OAUTH_CA_LOCATION",
        "kafka.oauth_ca_location",
        values.readable_file(),
        "PEM file of the authorities to trust there; if unset, those of the system.",
        example="/etc/kafka/oauth-ca.pem",
        rotates=True,
    ),
    Variable(
        "KAFKA_AWS_REGION",
        "kafka.aws_region",
        values.matching("[A-Za-z0-9-]{1,64}", "the name of an AWS region"),
        "Region of the MSK cluster; AWS_REGION is read if it is unset.",
        example="eu-central-1",
        synonym="AWS_REGION",
        required="with KAFKA_SASL_MECHANISM=AWS_MSK_IAM",
    ),
    Variable(
        "KAFKA_CLIENT_PROPERTIES_FILE",
        "kafka.client_properties",
        values.ValueKind(
            "the path of a file with a property of librdkafka, name=value, on each line",
            client_properties.parse,
            lambda properties: properties.path,
        ),
        "File with more properties of librdkafka, `name=value` on each line. Those that carry a "
        "guarantee are refused.",
        example="/etc/kafka/client.properties",
        rotates=True,
    ),
    Variable(
        "KAFKA_SSL_CA_LOCATION",
        "kafka.ssl_ca_location",
        values.readable_file(),
        "PEM file of the authorities to trust; if unset, those of the system.",
        example="/etc/kafka/ca.pem",
        rotates=True,
    ),
    Variable(
        "KAFKA_SSL_CERTIFICATE_LOCATION",
        "kafka.ssl_certificate_location",
        values.readable_file(),
        "PEM file of the client certificate, for mutual TLS; only together with its key.",
        example="/etc/kafka/client.pem",
        rotates=True,
    ),
    Variable(
        "KAFKA_SSL_KEY_LOCATION",
        "kafka.ssl_key_location",
        values.readable_file(),
        "PEM file of the client certificate's key.",
        example="/etc/kafka/client.key",
        rotates=True,
    ),
    Variable(
        "KAFKA_SSL_KEY_PASSWORD",
        "kafka.ssl_key_password",
        values.secret(),
        "Password of the key, if it has one.",
        example="change-me",
        secret=True,
    ),
    Variable(
        "KAFKA_GROUP_ID",
        "kafka.group_id",
        values.matching("[a-zA-Z0-9._-]{1,200}", "1 to 200 letters, digits, '.', '_' or '-'"),
        "Consumer group, and prefix of the transactional ids.",
        default="payments-service-group",
    ),
    Variable(
        "KAFKA_TOPIC_REQUESTED",
        "kafka.topic_requested",
        values.topic(),
        "Topic of the payment requests (input).",
        default="payments.payment-requested",
    ),
    Variable(
        "KAFKA_TOPIC_PROCESSED",
        "kafka.topic_processed",
        values.topic(),
        "Topic of the approved payments (output).",
        default="payments.payment-processed",
    ),
    Variable(
        "KAFKA_TOPIC_FAILED",
        "kafka.topic_failed",
        values.topic(),
        "Topic of the declined payments and invalid records (output).",
        default="payments.payment-failed",
    ),
    Variable(
        "KAFKA_TOPIC_AUDIT",
        "kafka.topic_audit",
        values.topic(),
        "Topic with one event for each input record (output).",
        default="audit.payment-events",
    ),
    Variable(
        "KAFKA_TOPIC_LANE_LOG",
        "kafka.topic_lane_log",
        values.topic(),
        "Topic of the lane log: the remembered paymentIds (for the flow only).",
        default="payments.lane-log",
    ),
    Variable(
        "KAFKA_TOPIC_PENDING",
        "kafka.topic_pending",
        values.topic(),
        "Topic of the payments that wait for the gateway, compacted (output).",
        default="payments.payment-pending",
    ),
    Variable(
        "KAFKA_START",
        "start",
        values.start(),
        "Where to begin if the start is refused for lack of a valid position: earliest, latest, or "
        "partition=offset,...",
        example="earliest",
    ),
    Variable(
        "KAFKA_TRANSACTION_TIMEOUT",
        "kafka.transaction_timeout_ms",
        values.duration_ms("10s", "15m"),
        "How long a transaction may stay open before the broker aborts it: 10s to 15m.",
        default="60s",
    ),
    Variable(
        "KAFKA_MESSAGE_MAX_BYTES",
        "kafka.message_max_bytes",
        values.whole_number(65_536, 104_857_600),
        "Largest record of the output topics, in bytes; not above their `max.message.bytes`.",
        default="1000000",
    ),
    Variable(
        "KAFKA_COMPRESSION",
        "kafka.compression",
        values.one_of("none", "gzip", "snappy", "lz4", "zstd"),
        "Codec of the output topics' records: none, gzip, snappy, lz4 or zstd.",
        default="none",
    ),
    Variable(
        "KAFKA_FORWARD_HEADERS",
        "kafka.forward_headers",
        values.ValueKind(
            "names of headers, separated by commas, or none", header_names.parse, header_names.show
        ),
        "Headers of a request that its events have as well, by their exact names; or `none`.",
        default=header_names.show(header_names.DEFAULT),
    ),
    Variable(
        "KAFKA_CLOUDEVENTS",
        "kafka.cloud_events",
        values.one_of("none", BINARY),
        "CloudEvents attributes of the events: none, or binary, which is as headers.",
        default="none",
    ),
    Variable(
        "KAFKA_VALUE_FORMAT",
        "kafka.value_format",
        values.one_of("json", "avro", "json-registry"),
        "Format of the events: json, avro or json-registry. The latter two name a schema of the "
        "registry in each record.",
        default="json",
    ),
)

SCHEMA_REGISTRY = (
    Variable(
        "SCHEMA_REGISTRY_URL",
        "schema_registry.url",
        values.base_urls(),
        "Addresses of a schema registry with Confluent's API, separated by commas. If it is set, "
        "requests may name a schema of it.",
        example="https://registry.example.com",
        required="with KAFKA_VALUE_FORMAT=avro and json-registry, and with the two below",
    ),
    Variable(
        "SCHEMA_REGISTRY_CREDENTIALS",
        "schema_registry.credentials",
        values.secret(),
        "`user:password`, or a bearer token, to log in there with.",
        example="change-me",
        secret=True,
    ),
    Variable(
        "SCHEMA_REGISTRY_CA",
        "schema_registry.ca",
        values.readable_file(),
        "PEM file of the authorities to trust there; if unset, those of Mozilla (`certifi`).",
        example="/etc/payments/registry-ca.pem",
        rotates=True,
    ),
)

FLOW = (
    Variable(
        "LANES",
        "lanes",
        values.whole_number(1, 256),
        "Transactional producers that share the payments, 1 to 256. Change it after a clean stop.",
        default="4",
    ),
    Variable(
        "COMMIT_INTERVAL",
        "commit_interval_s",
        # Below, an epoch is not closed before the next is due; above, nothing more is saved, and in
        # a cluster a process without a backlog would hold up one that has one for so long.
        values.duration_s("10ms", "1s"),
        "How often outcomes become visible: 10ms to 1s. Longer costs fewer transactions.",
        default="100ms",
    ),
    Variable(
        "DEDUPE_WINDOW",
        "dedupe_window_ms",
        values.duration_ms("1s", "366d"),
        "How long a paymentId is remembered after it was last read: 1s to 366d.",
        default="7d",
    ),
    Variable(
        "DEDUPE_MEMORY",
        "dedupe_memory_bytes",
        values.memory_bytes("16MB", "1024GB"),
        "Memory for remembered paymentIds, in each process; the others are in files, if there is a "
        "recovery directory: 16MB to 1024GB.",
        default="256MB",
    ),
)

GATEWAY = (
    Variable(
        "GATEWAY",
        "gateway.name",
        values.gateway(gateway_names.NAMES, gateway_names.is_class_path),
        "Payment provider: " + ", ".join(gateway_names.NAMES) + ", or the class of your own as "
        "`package.module:Class`. `simulated` charges nobody.",
        example="simulated",
        required=ALWAYS,
    ),
    Variable(
        "GATEWAY_CONCURRENCY",
        "gateway.concurrency",
        values.whole_number(1, 10_000),
        "Charges in flight at once, in each process: 1 to 10000.",
        default="256",
    ),
    Variable(
        "GATEWAY_RATE",
        "gateway.rate",
        values.whole_number(1, 100_000),
        "Most charges in a second, in each process: 1 to 100000; if unset, no limit. Where the "
        "provider answers that it is too much, they are fewer for a while.",
        example="100",
    ),
    Variable(
        "GATEWAY_PARK_AFTER",
        "gateway.park_after_s",
        values.duration_s("1s", "60s"),
        "The longest that a payment without an answer holds up others, before it is parked on the "
        "pending topic: 1s to 60s. Usually it is a few times what the provider takes.",
        default="5s",
    ),
    Variable(
        "GATEWAY_PARKED_MAX",
        "gateway.parked_max",
        values.whole_number(100, 1_000_000),
        "Parked payments, in each process, from which on nothing more is read: 100 to 1000000. "
        "Those that wait for a person (`unresolved`) do not count.",
        default="20000",
    ),
    Variable(
        "GATEWAY_TIMEOUT",
        "gateway.timeout_s",
        values.duration_s("100ms", "80s"),
        "How long `http` and `stripe` wait for the answer to one call: 100ms to 80s.",
        default="10s",
    ),
    Variable(
        "SIMULATED_DECLINE_RATE",
        "gateway.simulated_decline_rate",
        values.fraction(),
        "Share of payments that the simulated gateway declines: 0 to 1.",
        default="0.02",
    ),
    Variable(
        "SIMULATED_LATENCY",
        "gateway.simulated_latency_s",
        values.duration_s("0ms", "60s"),
        "How long the simulated gateway takes for a charge: 0ms to 60s.",
        default="0ms",
    ),
    Variable(
        "HTTP_GATEWAY_URL",
        "gateway.http_url",
        values.base_url(),
        "Base address of the provider behind `http`.",
        example="https://provider.example.com",
        required="with GATEWAY=http",
    ),
    Variable(
        "HTTP_GATEWAY_MAPPING",
        "gateway.http_mapping",
        values.readable_file(),
        "TOML file with the shape of its API; if unset, that of docs/gateway-api.yaml. Change it "
        "after a clean stop.",
        example="/etc/payments/provider.toml",
    ),
    Variable(
        "HTTP_GATEWAY_CREDENTIALS",
        "gateway.http_credentials",
        values.secret(),
        "Token, or `user:password`, to log in there with.",
        example="change-me",
        secret=True,
    ),
    Variable(
        "HTTP_GATEWAY_CA",
        "gateway.http_ca",
        values.readable_file(),
        "PEM file of the authorities to trust there; if unset, those of the system.",
        example="/etc/payments/provider-ca.pem",
        rotates=True,
    ),
    Variable(
        "HTTP_GATEWAY_CERTIFICATE",
        "gateway.http_certificate",
        values.readable_file(),
        "PEM file of the client certificate, for mutual TLS; only together with its key.",
        example="/etc/payments/client.pem",
        rotates=True,
    ),
    Variable(
        "HTTP_GATEWAY_KEY",
        "gateway.http_key",
        values.readable_file(),
        "PEM file of the client certificate's key.",
        example="/etc/payments/client.key",
        rotates=True,
    ),
    Variable(
        "STRIPE_API_KEY",
        "gateway.stripe_api_key",
        values.secret(),
        "Secret or restricted key; it needs to write PaymentIntents, and nothing else.",
        example="rk_test_change_me",
        secret=True,
        required="with GATEWAY=stripe",
    ),
    Variable(
        "STRIPE_URL",
        "gateway.stripe_url",
        values.base_url(),
        "Base address of Stripe; another one is for tests.",
        default="https://api.stripe.com",
    ),
)

PROCESS = (
    Variable(
        "HOST",
        "host",
        values.address(),
        "Address that both ports listen on; if unset, every address, IPv6 and IPv4.",
        example="127.0.0.1",
    ),
    Variable(
        "PORT",
        "port",
        values.whole_number(1, 65_535),
        "Port of the health endpoints.",
        default="3000",
    ),
    Variable(
        "METRICS_PORT",
        "metrics_port",
        values.whole_number(1, 65_535),
        "Port of the Prometheus metrics.",
        default="9090",
    ),
    Variable(
        "LIVENESS_TIMEOUT",
        "liveness_timeout_s",
        values.duration_s("1s", "1h"),
        "How long the flow may make no progress before `/live` answers 503.",
        default="30s",
    ),
    Variable(
        "STOP_GRACE_PERIOD",
        "stop_grace_s",
        values.duration_s("1s", "1h"),
        "How long a stop may take before the process is killed, as where it is run "
        "(`terminationGracePeriodSeconds`, `stop_grace_period`); if it is set, a start checks that "
        "a stop takes no longer.",
        example="120s",
    ),
    Variable(
        "LOG_LEVEL",
        "log_level",
        values.one_of("debug", "info", "warning", "error", **_NODE_LEVELS),
        "Least important messages to log: debug, info, warning or error. Names of Node loggers are "
        "understood (warn, http, verbose, silly, trace, fatal).",
        default="info",
    ),
    Variable(
        "APP_ENV",
        "app_env",
        values.matching("[a-zA-Z0-9._-]{1,64}", "1 to 64 letters, digits, '.', '_' or '-'"),
        "Name of the environment, in every log line, /health and `payments_build_info`; NODE_ENV "
        "is read if it is unset.",
        default="production",
        synonym="NODE_ENV",
    ),
)

GROUPS = {
    "Kafka": KAFKA,
    "Schema registry": SCHEMA_REGISTRY,
    "Flow": FLOW,
    "Payment gateway": GATEWAY,
    "Process": PROCESS,
}
"""The variables under the headings of the documents."""
VARIABLES = tuple(variable for group in GROUPS.values() for variable in group)
