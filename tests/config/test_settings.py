"""The environment's rules, one test each; what a value must look like is in `test_kinds`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config import gateway_names
from dataflow.config.settings import Settings, environment
from dataflow.config.variables import VARIABLES
from dataflow.errors import SettingsError
from tests.support.required import REQUIRED

LOGIN = {"KAFKA_SASL_USERNAME": "payments", "KAFKA_SASL_PASSWORD": "hunter2-hunter2"}
NEEDED = {"KAFKA_BROKERS": "localhost:9092", "GATEWAY": "simulated", **LOGIN}
"""The least that the (secure) defaults ask for."""


def settings(**environ: str) -> Settings:
    return Settings.from_env(NEEDED | environ)


def problems(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(**environ)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


# --- What is there when nothing is set ---


def test_the_defaults() -> None:
    defaults = settings()

    assert defaults.kafka.security_protocol == "SASL_SSL"
    assert defaults.kafka.sasl_mechanism == "SCRAM-SHA-512"
    assert defaults.kafka.ssl_ca_location is None
    assert defaults.kafka.ssl_key_password is None
    assert defaults.kafka.group_id == "payments-service-group"
    assert defaults.kafka.topic_requested == "payments.payment-requested"
    assert defaults.kafka.topic_processed == "payments.payment-processed"
    assert defaults.kafka.topic_failed == "payments.payment-failed"
    assert defaults.kafka.topic_audit == "audit.payment-events"
    assert defaults.kafka.transaction_timeout_ms == 60_000
    assert defaults.kafka.message_max_bytes == 1_000_000
    assert defaults.lanes == 4
    assert defaults.commit_interval_s == 0.1
    assert defaults.dedupe_window_ms == 7 * 24 * 60 * 60 * 1000
    assert defaults.host is None
    assert (defaults.port, defaults.metrics_port) == (3000, 9090)
    assert defaults.liveness_timeout_s == 30
    assert defaults.log_level == "info"
    assert defaults.app_env == "production"
    assert defaults.gateway.concurrency == 256
    assert defaults.gateway.park_after_s == 5
    assert defaults.gateway.rate is None
    assert defaults.gateway.parked_max == 20_000
    assert defaults.gateway.simulated_decline_rate == 0.02
    assert defaults.gateway.simulated_latency_s == 0


def test_an_empty_variable_counts_as_unset() -> None:
    assert settings(LANES="", PORT="  ", KAFKA_SSL_CA_LOCATION="", KAFKA_BROKER="") == settings()


def test_blanks_around_a_value_do_not_matter() -> None:
    assert settings(LANES=" 16\n").lanes == 16


def test_variables_of_others_are_left_alone() -> None:
    assert settings(PATH="/bin", KAFKA_SERVICE_HOST="10.0.0.7", GATEWAY_PORT="80") == settings()


def test_shown_values_could_be_written_there_again() -> None:
    chosen = settings(DEDUPE_WINDOW="36h", SIMULATED_DECLINE_RATE="0.125", LOG_LEVEL="WARN")
    assert Settings.from_env(chosen.masked() | NEEDED) == chosen


# --- What is required ---


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("KAFKA_BROKERS", "host:port[,host:port...] with IPv6 addresses in brackets"),
        ("GATEWAY", f"one of {', '.join(gateway_names.NAMES)}, or package.module:Class"),
    ],
)
@pytest.mark.parametrize("blank", ["", " "])
def test_a_choice_that_only_the_user_can_make_has_no_default(
    missing: str, expected: str, blank: str
) -> None:
    """Made-up payments approved in production, or another cluster's: nobody would notice."""
    example = NEEDED[missing]
    assert problems(**{missing: blank}) == [
        f"{missing}: required: {expected}; example: {missing}={example}"
    ]


def test_only_the_brokers_and_the_gateway_are_always_required() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"})
    named = [problem.partition(":")[0] for problem in caught.value.problems]
    assert named == ["KAFKA_BROKERS", "GATEWAY"]


# --- What a problem contains ---


def test_a_problem_names_the_variable_the_value_and_an_example() -> None:
    assert problems(LANES="eight") == [
        "LANES: expected a whole number from 1 to 256, got 'eight'; example: LANES=4"
    ]


def test_all_problems_come_at_once() -> None:
    found = problems(
        LANES="0",
        DEDUPE_WINDOW="forever",
        KAFKA_TOPIC_AUDIT="payments.payment-failed",
        KAFKA_SASL_PASSWORD="",
        KAFKA_BROKER="kafka:9092",
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "LANES",
        "DEDUPE_WINDOW",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_TOPIC_AUDIT",
        "KAFKA_BROKER",
    ]


def test_a_long_value_is_quoted_in_part_and_on_one_line() -> None:
    (problem,) = problems(LANES="8\n" * 5000)
    assert len(problem) < 250


@pytest.mark.parametrize(
    ("gateway", "variable"), [("http", "HTTP_GATEWAY_URL"), ("stripe", "STRIPE_API_KEY")]
)
def test_a_gateway_needs_its_own_settings(gateway: str, variable: str) -> None:
    [problem] = problems(GATEWAY=gateway)
    assert problem.startswith(f"{variable}: required when GATEWAY is {gateway}; example: ")


@pytest.mark.parametrize(
    "url",
    [
        "provider.example.com",
        "ftp://a",
        "https://",
        "https://a:0",
        "https://a/?x=1",
        "http://u:p@a",
    ],
)
def test_a_base_address_is_a_scheme_and_a_host(url: str) -> None:
    [problem] = problems(GATEWAY="http", HTTP_GATEWAY_URL=url)
    assert problem.startswith("HTTP_GATEWAY_URL: expected http:// or https://, a host")


def test_the_credentials_of_a_gateway_are_secrets(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk_live_hunter2\n")
    chosen = settings(STRIPE_API_KEY_FILE=str(file), HTTP_GATEWAY_CREDENTIALS="hunter3")
    assert "hunter" not in repr(chosen) + str(chosen.masked())
    assert {"sk_live_hunter2", "hunter3"} <= {each.reveal() for each in chosen.secrets()}


def test_an_unknown_gateway_is_answered_with_the_known_ones() -> None:
    names = ", ".join(gateway_names.NAMES)
    expected = f"one of {names}, or package.module:Class"
    assert problems(GATEWAY="strype") == [
        f"GATEWAY: expected {expected}, got 'strype'; example: GATEWAY=simulated"
    ]


# --- What is too much, and what too little ---

LIMITS = {
    "KAFKA_TRANSACTION_TIMEOUT": (["9999ms", "901s"], ["10s", "15m"]),
    "KAFKA_MESSAGE_MAX_BYTES": (["65535", "104857601"], ["65536", "104857600"]),
    "KAFKA_GROUP_ID": (["g" * 201], ["g", "g" * 200]),
    "LANES": (["0", "257"], ["1", "256"]),
    "COMMIT_INTERVAL": (["9ms", "1001ms"], ["10ms", "1s"]),
    "DEDUPE_WINDOW": (["999ms", "8785h"], ["1s", "366d"]),
    "GATEWAY_CONCURRENCY": (["0", "10001"], ["1", "10000"]),
    "GATEWAY_PARK_AFTER": (["999ms", "61s"], ["1s", "60s"]),
    "GATEWAY_RATE": (["0", "100001", "5/s"], ["1", "100000"]),
    "GATEWAY_PARKED_MAX": (["99", "1000001"], ["100", "1000000"]),
    "SIMULATED_DECLINE_RATE": (["1.01"], ["0", "1"]),
    "SIMULATED_LATENCY": (["60001ms"], ["0ms", "60s"]),
    "PORT": (["0", "65536"], ["1", "65535"]),
    "METRICS_PORT": (["0", "65536"], ["1", "65535"]),
    "LIVENESS_TIMEOUT": (["999ms", "3601s"], ["1s", "1h"]),
    "STOP_GRACE_PERIOD": (["999ms", "3601s"], ["1s", "1h"]),
    "APP_ENV": (["a" * 65], ["a", "a" * 64]),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_limits_of_each_variable(name: str) -> None:
    beyond, within = LIMITS[name]
    for text in beyond:
        (problem,) = problems(**{name: text})
        assert problem.startswith(f"{name}: expected ")
    for text in within:
        assert settings(**{name: text}).masked()[name]


# --- Rules between variables ---


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("missing", list(LOGIN))
def test_sasl_needs_a_user_name_and_a_password(protocol: str, missing: str) -> None:
    (problem,) = problems(KAFKA_SECURITY_PROTOCOL=protocol, **{missing: ""})
    assert problem.startswith(
        f"{missing}: required, or {missing}_FILE, when KAFKA_SECURITY_PROTOCOL is {protocol};"
    )


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
def test_no_login_is_needed_without_sasl(protocol: str) -> None:
    read = Settings.from_env(REQUIRED | {"KAFKA_SECURITY_PROTOCOL": protocol})
    assert not read.kafka.uses_sasl
    assert read.kafka.sasl_username is None


def test_a_wrong_protocol_does_not_also_complain_about_the_login() -> None:
    (problem,) = problems(
        KAFKA_SECURITY_PROTOCOL="TLS", KAFKA_SASL_USERNAME="", KAFKA_SASL_PASSWORD=""
    )
    assert problem.startswith("KAFKA_SECURITY_PROTOCOL: expected one of PLAINTEXT, SSL,")


def test_a_certificate_and_its_key_come_together(tmp_path: Path) -> None:
    pem = tmp_path / "client.pem"
    pem.write_text("-")
    certificate, key = "KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION"

    assert settings(**{certificate: str(pem), key: str(pem)}).kafka.ssl_key_location == str(pem)
    assert problems(**{certificate: str(pem)})[0].startswith(
        f"{key}: required when {certificate} is set; example: {key}=/"
    )
    assert problems(**{key: str(pem)})[0].startswith(f"{certificate}: required when {key} is set")


def test_a_tls_file_has_to_exist(tmp_path: Path) -> None:
    missing, directory = tmp_path / "ca.pem", tmp_path
    assert problems(KAFKA_SSL_CA_LOCATION=str(missing))[0].startswith(
        "KAFKA_SSL_CA_LOCATION: expected the path of a readable file, got "
    )
    assert "(No such file or directory)" in problems(KAFKA_SSL_CA_LOCATION=str(missing))[0]
    assert "(Is a directory)" in problems(KAFKA_SSL_CA_LOCATION=str(directory))[0]


def test_no_two_topics_are_the_same() -> None:
    (problem,) = problems(KAFKA_TOPIC_FAILED="same", KAFKA_TOPIC_AUDIT="same")
    assert problem == (
        "KAFKA_TOPIC_AUDIT: expected a topic that no other setting uses, got 'same', "
        "the same as KAFKA_TOPIC_FAILED; example: KAFKA_TOPIC_AUDIT=audit.payment-events"
    )


def test_the_two_ports_are_not_the_same() -> None:
    (problem,) = problems(METRICS_PORT="3000")
    assert problem.startswith(
        "METRICS_PORT: expected a port that no other setting uses, got '3000', the same as PORT;"
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("error", "error"),
        ("warn", "warning"),
        ("info", "info"),
        ("http", "info"),
        ("verbose", "debug"),
        ("debug", "debug"),
        ("silly", "debug"),
        ("trace", "debug"),
        ("fatal", "error"),
        ("FATAL", "error"),
    ],
)
def test_the_levels_of_node_loggers_are_understood(given: str, read: str) -> None:
    assert settings(LOG_LEVEL=given).log_level == read


def test_a_level_that_no_logger_has_is_refused() -> None:
    (problem,) = problems(LOG_LEVEL="loud")
    assert problem == (
        "LOG_LEVEL: expected one of debug, info, warning, error, got 'loud'; "
        "example: LOG_LEVEL=info"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "fd00::7"])  # noqa: S104
def test_the_address_to_listen_on_is_an_ip_address(host: str) -> None:
    assert settings(HOST=host).host == host
    (problem,) = problems(HOST="localhost")
    assert problem.startswith("HOST: expected an IP address, ")
    assert problem.endswith(
        "got 'localhost' ('localhost' does not appear to be an IPv4 or IPv6 "
        "address); example: HOST=127.0.0.1"
    )


def test_node_env_stands_in_for_app_env() -> None:
    assert settings(NODE_ENV="staging").app_env == "staging"
    assert settings(NODE_ENV="staging", APP_ENV="test").app_env == "test"
    assert problems(NODE_ENV="a b")[0].startswith("NODE_ENV: expected 1 to 64 letters")


def test_the_environment_can_be_read_beside_wrong_settings() -> None:
    assert environment({"APP_ENV": "staging", "LANES": "x"}) == "staging"
    assert environment({"NODE_ENV": "test"}) == "test"
    assert environment({}) == "production"
    assert environment({"APP_ENV": "a b"}) == ""


# --- Schema registry ---


@pytest.mark.parametrize("value_format", ["avro", "json-registry"])
def test_a_format_that_names_a_schema_needs_a_registry(value_format: str) -> None:
    (problem,) = problems(KAFKA_VALUE_FORMAT=value_format)
    assert problem.startswith(
        f"SCHEMA_REGISTRY_URL: required when KAFKA_VALUE_FORMAT is {value_format}; example: "
    )
    there = settings(KAFKA_VALUE_FORMAT=value_format, SCHEMA_REGISTRY_URL="http://registry:8081")
    assert there.kafka.value_format == value_format


def test_a_login_without_an_address_is_refused(tmp_path: Path) -> None:
    """Every request that names a schema would fail, by the one setting that was forgotten."""
    (tmp_path / "ca.pem").touch()
    for name, value in (
        ("SCHEMA_REGISTRY_CREDENTIALS", "user:hunter2"),
        ("SCHEMA_REGISTRY_CA", str(tmp_path / "ca.pem")),
    ):
        (problem,) = problems(**{name: value})
        assert problem.startswith(f"SCHEMA_REGISTRY_URL: required when {name} is set; example: ")


def test_a_registry_may_have_several_addresses() -> None:
    given = settings(SCHEMA_REGISTRY_URL="http://a:8081/, https://b/apis/ccompat/v7")
    assert given.schema_registry.url == "http://a:8081,https://b/apis/ccompat/v7"


@pytest.mark.parametrize("url", ["registry:8081", "http://user:hunter2@registry", "http://a,"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    (problem,) = problems(SCHEMA_REGISTRY_URL=url)
    assert problem.startswith("SCHEMA_REGISTRY_URL: expected http:// or https://")


# --- Secrets ---

SECRETS = [variable.name for variable in VARIABLES if variable.secret]


def test_these_are_the_secrets() -> None:
    assert SECRETS == [
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_OAUTH_CLIENT_SECRET",
        "KAFKA_SSL_KEY_PASSWORD",
        "SCHEMA_REGISTRY_CREDENTIALS",
        "HTTP_GATEWAY_CREDENTIALS",
        "STRIPE_API_KEY",
    ]


@pytest.mark.parametrize(
    ("content", "read"),
    [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), (" s\n\n", " s\n")],
)
def test_a_secret_can_be_the_content_of_a_file(tmp_path: Path, content: str, read: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    got = settings(KAFKA_SASL_PASSWORD="", KAFKA_SASL_PASSWORD_FILE=str(file))
    assert got.kafka.sasl_password is not None
    assert got.kafka.sasl_password.reveal() == read


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_given_either_as_text_or_as_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    (problem,) = problems(**{name: "hunter2-hunter2", f"{name}_FILE": str(file)})
    assert problem.startswith(f"{name}: set it or {name}_FILE, not both; example: ")


def test_faults_of_a_secret_file_are_refused(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_bytes(b"\n")
    binary.write_bytes(b"\xff")

    def complaint(path: Path) -> str:
        (problem,) = problems(KAFKA_SSL_KEY_PASSWORD_FILE=str(path))
        name, _, rest = problem.partition(": the file it names ")
        assert name == "KAFKA_SSL_KEY_PASSWORD_FILE"
        return rest.partition(";")[0]

    assert complaint(tmp_path / "none") == "cannot be read (No such file or directory)"
    assert complaint(tmp_path) == "cannot be read (Is a directory)"
    assert complaint(empty) == "is empty"
    assert complaint(binary) == "is not UTF-8 text"


def test_a_secret_is_taken_as_it_is() -> None:
    password = settings(KAFKA_SASL_PASSWORD=" p \n").kafka.sasl_password
    assert password is not None
    assert password.reveal() == " p \n"


def test_the_passwords_are_handed_to_the_log_but_not_the_user_name() -> None:
    given_both = settings(KAFKA_SSL_KEY_PASSWORD="key-password")
    assert [secret.reveal() for secret in given_both.secrets()] == [
        "hunter2-hunter2",
        "key-password",
    ]


def test_masked_shows_what_is_set_and_stars_for_secrets() -> None:
    shown = settings(LANES="32", GATEWAY_PARK_AFTER="1500ms").masked()
    assert shown["LANES"] == "32"
    assert shown["GATEWAY_PARK_AFTER"] == "1500ms"
    assert shown["DEDUPE_WINDOW"] == "7d"
    assert shown["KAFKA_SASL_USERNAME"] == shown["KAFKA_SASL_PASSWORD"] == "***"
    assert "KAFKA_SSL_KEY_PASSWORD" not in shown


def shown_by(environ: dict[str, str]) -> str:
    try:
        read = Settings.from_env(environ)
    except SettingsError as err:
        return f"{err} {err!r} {err.problems}"
    return f"{read} {read!r} {read.kafka} {read.masked()} {read.secrets()}"


@given(
    name=st.sampled_from(SECRETS),
    secret=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    mistake=st.sampled_from(["none", "elsewhere", "secret given as path", "given twice"]),
)
def test_no_secret_is_ever_shown(name: str, secret: str, mistake: str) -> None:
    """The text shown is the same whatever the secret is, so it cannot reveal anything about it."""

    def environ(secret: str) -> dict[str, str]:
        given_secret = NEEDED | {"KAFKA_SSL_KEY_PASSWORD": "another", name: secret}
        if mistake == "elsewhere":
            given_secret["LANES"] = "eight"
        if mistake == "secret given as path":
            del given_secret[name]
        if mistake in ("secret given as path", "given twice"):
            given_secret[f"{name}_FILE"] = f"/none/{secret}"
        return given_secret

    assert shown_by(environ(secret)) == shown_by(environ("hunter2"))
