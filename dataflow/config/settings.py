"""The settings, as the environment configures them; its only reader.

`Settings.from_env(os.environ)` finds every problem at once and raises them as one
`SettingsError`. The variables themselves are in `dataflow.config.variables`.
"""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Self

from msgspec import Struct, convert

from dataflow.config import gateway_names
from dataflow.config.client_properties import ClientProperties
from dataflow.config.secret import Secret
from dataflow.config.spelling import suspects
from dataflow.config.variables import (
    AWS_MSK_IAM,
    BINARY,
    LOGIN_MECHANISMS,
    OAUTHBEARER,
    VARIABLES,
    Variable,
)
from dataflow.errors import SettingsError


class KafkaSettings(Struct, frozen=True, kw_only=True):
    """The way to reach Kafka, and the topics to read and write there."""

    brokers: str
    security_protocol: str
    sasl_mechanism: str
    sasl_username: Secret | None
    sasl_password: Secret | None
    oauth_token_url: str | None
    oauth_client_id: str | None
    oauth_client_secret: Secret | None
    oauth_scope: str | None
    oauth_ca_location: str | None
    aws_region: str | None
    client_properties: ClientProperties | None
    ssl_ca_location: str | None
    ssl_certificate_location: str | None
    ssl_key_location: str | None
    ssl_key_password: Secret | None
    group_id: str
    topic_requested: str
    topic_processed: str
    topic_failed: str
    topic_audit: str
    topic_lane_log: str
    topic_pending: str
    transaction_timeout_ms: int
    message_max_bytes: int
    compression: str
    forward_headers: tuple[str, ...]
    """The names of the requests' headers that are passed on."""
    cloud_events: str
    """none or binary."""
    value_format: str
    """Of the events: json, avro or json-registry."""

    @property
    def topics_published(self) -> tuple[str, str, str]:
        """The topics that others read; the audit topic comes last."""
        return self.topic_processed, self.topic_failed, self.topic_audit

    @property
    def topics_written(self) -> tuple[str, ...]:
        """Every topic that a lane's transaction writes to."""
        return *self.topics_published, self.topic_lane_log, self.topic_pending

    @property
    def has_cloud_events(self) -> bool:
        """True if the events have the CloudEvents attributes as headers."""
        return self.cloud_events == BINARY

    @property
    def uses_sasl(self) -> bool:
        """True if the security protocol needs a login."""
        return self.security_protocol.startswith("SASL_")


class SchemaRegistrySettings(Struct, frozen=True, kw_only=True):
    """The way to reach the schema registry, if there is one."""

    url: str | None
    """One or more addresses, separated by commas."""
    credentials: Secret | None
    ca: str | None


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The payment gateway, and the limits of its use."""

    name: str
    concurrency: int
    """Charges in flight at once, in each process."""
    rate: int | None
    """Charges in a second, in each process; None for no limit."""
    park_after_s: float
    """The longest that a payment holds up those behind it in its lane."""
    parked_max: int
    """Payments of a process that may wait on the pending topic before it reads no more."""
    timeout_s: float
    """For one call of a provider."""
    simulated_decline_rate: float
    """From 0 to 1."""
    simulated_latency_s: float
    """For one charge."""
    http_url: str | None
    http_mapping: str | None
    """The path of a file."""
    http_credentials: Secret | None
    http_ca: str | None
    http_certificate: str | None
    http_key: str | None
    stripe_api_key: Secret | None
    stripe_url: str


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration, checked."""

    kafka: KafkaSettings
    schema_registry: SchemaRegistrySettings
    gateway: GatewaySettings
    lanes: int
    commit_interval_s: float
    """Between two commits of what has been read meanwhile."""
    dedupe_window_ms: int
    dedupe_memory_bytes: int
    """For remembered ids, in each process."""
    host: str | None
    """None for all addresses."""
    start: str | dict[int, int] | None
    """The place to begin when there is no position that can be believed: earliest, latest, or the
    offset of each partition."""
    port: int
    metrics_port: int
    liveness_timeout_s: float
    stop_grace_s: float | None
    """None if it is not known."""
    log_level: str
    """debug, info, warning or error."""
    app_env: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables, `SettingsError` with all problems when there are any."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for variable in VARIABLES:
            try:
                values[variable.field] = variable.read(environ)
            except ValueError as err:
                problems.append(str(err))
        problems += _conflicts(values)
        problems += [suspect.problem for suspect in suspects(environ) if suspect.refused]
        if problems:
            raise SettingsError(problems)
        return convert(_nested(values), cls)

    def masked(self) -> dict[str, str]:
        """Return what is set, by variable and as it could be written there; secrets as `***`."""
        return {
            variable.name: variable.kind.show(value)
            for variable in VARIABLES
            if (value := attrgetter(variable.field)(self)) is not None
        }

    def secrets(self) -> tuple[Secret, ...]:
        """Return the passwords, which the log masks wherever they turn up.

        Without the user name: it is often an ordinary word, such as the name of the service.
        """
        given = (
            self.kafka.sasl_password,
            self.kafka.oauth_client_secret,
            self.kafka.ssl_key_password,
            self.schema_registry.credentials,
            self.gateway.http_credentials,
            self.gateway.stripe_api_key,
        )
        properties = self.kafka.client_properties
        in_file = properties.secrets() if properties else []
        return *(secret for secret in given if secret is not None), *in_file


def environment(environ: Mapping[str, str]) -> str:
    """Return `APP_ENV` alone, for the log of what is wrong with the rest; empty if wrong."""
    [variable] = [variable for variable in VARIABLES if variable.field == "app_env"]
    try:
        return str(variable.read(environ))
    except ValueError:
        return ""


def _conflicts(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems between variables; `values` lacks those that are wrong in themselves."""
    named = {variable.field: variable for variable in VARIABLES}

    yield from _login_conflicts(values, named)

    for pair in (
        ("kafka.ssl_certificate_location", "kafka.ssl_key_location"),
        ("gateway.http_certificate", "gateway.http_key"),
    ):
        for missing, given in (pair, pair[::-1]):
            if values.get(missing, ...) is None and values.get(given) is not None:
                yield named[missing].problem(f"required when {named[given].name} is set")

    yield from _gateway_conflicts(values, named)
    yield from _registry_conflicts(values, named)

    topics = [field for field in named if field.startswith("kafka.topic_")]
    for group, noun in ((topics, "topic"), (["port", "metrics_port"], "port")):
        first: dict[Any, str] = {}
        for field in (field for field in group if field in values):
            taken = first.setdefault(values[field], named[field].name)
            if taken != named[field].name:
                expects = f"a {noun} that no other setting uses"
                yield named[field].wrong(str(values[field]), expects, f", the same as {taken}")


def _login_conflicts(values: Mapping[str, Any], named: Mapping[str, Variable]) -> Iterator[str]:
    properties: ClientProperties | None = values.get("kafka.client_properties")
    if properties is not None:
        for refusal in properties.refusals():
            yield named["kafka.client_properties"].problem(refusal)

    protocol = values.get("kafka.security_protocol", "")
    mechanism = values.get("kafka.sasl_mechanism", "")
    if not protocol.startswith("SASL_"):
        return
    condition = f"KAFKA_SECURITY_PROTOCOL is {protocol}"
    if mechanism not in LOGIN_MECHANISMS:
        condition += f" and KAFKA_SASL_MECHANISM is {mechanism}"
    for field in _NEEDED_TO_LOG_IN.get(mechanism, ()):
        if values.get(field, ...) is None:
            variable = named[field]
            or_file = f", or {variable.name}_FILE," if variable.secret else ""
            yield variable.problem(f"required{or_file} when {condition}")
    token_url = values.get("kafka.oauth_token_url") or ""
    if (protocol, mechanism) == ("SASL_SSL", OAUTHBEARER) and token_url.startswith("http:"):
        yield named["kafka.oauth_token_url"].wrong(
            token_url, "https://, because the client secret is sent there"
        )


_NEEDED_TO_LOG_IN = {
    **dict.fromkeys(LOGIN_MECHANISMS, ("kafka.sasl_username", "kafka.sasl_password")),
    OAUTHBEARER: (
        "kafka.oauth_token_url",
        "kafka.oauth_client_id",
        "kafka.oauth_client_secret",
    ),
    AWS_MSK_IAM: ("kafka.aws_region",),
}
"""The fields that a mechanism cannot do without."""


def _gateway_conflicts(values: Mapping[str, Any], named: Mapping[str, Variable]) -> Iterator[str]:
    for gateway, field in (
        (gateway_names.HTTP, "gateway.http_url"),
        (gateway_names.STRIPE, "gateway.stripe_api_key"),
    ):
        if values.get("gateway.name") == gateway and values.get(field, ...) is None:
            yield named[field].problem(f"required when GATEWAY is {gateway}")


def _registry_conflicts(values: Mapping[str, Any], named: Mapping[str, Variable]) -> Iterator[str]:
    if values.get("schema_registry.url", ...) is not None:
        return
    value_format = values.get("kafka.value_format", "json")
    conditions = [f"KAFKA_VALUE_FORMAT is {value_format}"] if value_format != "json" else []
    # Without it, every request that names a schema would fail.
    conditions += [
        f"{named[field].name} is set"
        for field in ("schema_registry.credentials", "schema_registry.ca")
        if values.get(field) is not None
    ]
    for condition in conditions:
        yield named["schema_registry.url"].problem(f"required when {condition}")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"kafka.brokers": …}` into `{"kafka": {"brokers": …}}`."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree
