"""The names of variables that are taken for slips, and those that belong to other programs."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config import spelling
from dataflow.config.settings import Settings
from dataflow.config.spelling import suspects
from dataflow.config.variables import VARIABLES
from dataflow.errors import SettingsError
from tests.support.required import REQUIRED

NAMES = [variable.name for variable in VARIABLES]
LONG = [name for name in spelling._OURS if len(name) >= 8 and name not in spelling._SHARED]

OF_OTHERS = """
    PATH HOME HOSTNAME PWD OLDPWD SHLVL TERM SHELL USER LOGNAME LANG LANGUAGE LC_ALL LC_CTYPE TZ
    LINES COLUMNS EDITOR PAGER DISPLAY MAIL TMPDIR TEMP LANGS PLANET LINE PLANS PORTAL PORTS
    XPORT SPORT POST HOSTS GHOST HOSTTYPE HOST_IP NODE_NAME POD_NAME POD_IP NODE_VERSION NODE_PATH
    PORT_HTTP HTTP_PORT HTTPS_PORT ADMIN_PORT METRICS_HOST METRICS_PATH METRICS_ENABLED HEALTH_PORT
    DEBUG VERBOSE LEVEL LOG_FORMAT LOG_FILE LOG_DIR RUST_LOG RUST_BACKTRACE UVICORN_LOG_LEVEL
    NPM_CONFIG_LOGLEVEL APP_NAME APP_ID APP_HOME APP_ROOT APP_URL APP_KEY ENV ENVIRONMENT RAILS_ENV
    PYTHONPATH PYTHONUNBUFFERED PYTHON_VERSION PYTHON_SHA256 GPG_KEY VIRTUAL_ENV PIP_NO_CACHE_DIR
    KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT_HTTPS
    PAYMENTS_SERVICE_PORT PAYMENTS_SERVICE_PORT_3000_TCP PAYMENTS_SERVICE_SERVICE_HOST
    PAYMENTS_SERVICE_PORT_9090_TCP_ADDR PAYMENTS_SERVICE_SERVICE_PORT_METRICS
    GATEWAY_PORT GATEWAY_SERVICE_HOST GATEWAY_SERVICE_PORT GATEWAY_PORT_80_TCP GATEWAY_INTERFACE
    METRICS_PORT_9090_TCP METRICS_SERVICE_HOST KAFKA_SERVICE_HOST KAFKA_PORT KAFKA_PORT_9092_TCP
    KAFKA_BROKER_ID KAFKA_TEST_BROKERS KAFKA_HEAP_OPTS KAFKA_OPTS KAFKA_LOG4J_OPTS KAFKA_LISTENERS
    KAFKA_ADVERTISED_LISTENERS KAFKA_NODE_ID KAFKA_PROCESS_ROLES KAFKA_LOG_DIRS KAFKA_HOME
    KAFKA_SSL_KEYSTORE_LOCATION KAFKA_SSL_KEYSTORE_PASSWORD KAFKA_SSL_TRUSTSTORE_LOCATION
    KAFKA_VERSION KAFKA_ZOOKEEPER_CONNECT KAFKA_CLUSTER KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS
    KAFKA_TRANSACTION_STATE_LOG_MIN_ISR KAFKA_JMX_PORT KAFKA_REST_URL SCHEMA_REGISTRY_URL
    AWS_REGION AWS_ACCESS_KEY_ID AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE GOOGLE_CLOUD_PROJECT
    OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_ENDPOINT PROMETHEUS_PORT DATADOG_API_KEY DD_AGENT_HOST
    SENTRY_DSN DATABASE_URL REDIS_URL CI GITHUB_ACTIONS GITLAB_CI RUNNER_OS JENKINS_URL BUILD_ID
    http_proxy https_proxy no_proxy HTTP_PROXY SSL_CERT_FILE SSL_CERT_DIR MALLOC_ARENA_MAX
    LD_PRELOAD LD_LIBRARY_PATH XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS SSH_AUTH_SOCK SSH_TTY
    SIMULATED_ANNEALING SIMULATE DEDUPE DEDUPE_KEY WINDOW WINDOWID LIVENESS LIVENESS_PROBE
    BYTEWAX_PYTHON_FILE_PATH BYTEWAX_WORKDIR BYTEWAX_REPLICAS BYTEWAX_KEEP_CONTAINER_ALIVE
"""
SLIPS = [
    ("DEDUP_WINDOW", "DEDUPE_WINDOW"),
    ("DEDUPE_WIDNOW", "DEDUPE_WINDOW"),
    ("DEDUPE_WINDOW_DAYS", "DEDUPE_WINDOW"),
    ("dedupe_window", "DEDUPE_WINDOW"),
    ("DEDUPE-WINDOW", "DEDUPE_WINDOW"),
    ("LANE", "LANES"),
    ("LNAES", "LANES"),
    ("lanes", "LANES"),
    ("METRIC_PORT", "METRICS_PORT"),
    ("GATEWAYS", "GATEWAY"),
    ("LIVENES_TIMEOUT", "LIVENESS_TIMEOUT"),
    ("LIVENESS_TIMEOUT_SECONDS", "LIVENESS_TIMEOUT"),
    ("KAFKA_BROKER", "KAFKA_BROKERS"),
    ("KAFKA_SASL_MECHANISMS", "KAFKA_SASL_MECHANISM"),
    ("KAFKA_SASL_PASSWORDFILE", "KAFKA_SASL_PASSWORD_FILE"),
    ("KAFKA_TRANSACTION_TIMEOUT_MS", "KAFKA_TRANSACTION_TIMEOUT"),
    ("SIMULATED_DECLINERATE", "SIMULATED_DECLINE_RATE"),
    ("GATEWAY_PARK_AFTERS", "GATEWAY_PARK_AFTER"),
    ("BYTEWAX_RECOVERY_DIRECTRY", "BYTEWAX_RECOVERY_DIRECTORY"),
    ("BYTEWAX_SNAPSHOT_INTERVALL", "BYTEWAX_SNAPSHOT_INTERVAL"),
]
ALIASES = [(alias, meant) for alias, meant in spelling._MEANT_BY.items()]


def found(**environ: str) -> list[tuple[str, bool]]:
    return [(suspect.problem, suspect.refused) for suspect in suspects(environ)]


@pytest.mark.parametrize(("slip", "meant"), SLIPS)
def test_a_slip_is_refused_even_beside_the_right_name(slip: str, meant: str) -> None:
    for environ in ({}, {meant: "x"}):
        [(problem, refused)] = found(**environ, **{slip: "x"})
        assert problem.startswith(
            f"{slip}: unknown variable; did you mean {meant}?; example: {meant}="
        )
        assert refused


@pytest.mark.parametrize("environ", [{}, REQUIRED], ids=["alone", "with the required ones"])
def test_variables_of_other_programs_are_left_alone(environ: dict[str, str]) -> None:
    assert found(**dict.fromkeys(OF_OTHERS.split(), "x"), **environ) == []


def test_a_service_link_of_kubernetes_is_no_slip() -> None:
    """A service that is called `metric`, or `lane`, in a pod that has its links."""
    assert found(METRIC_PORT="tcp://10.0.0.7:80", LANE="udp://10.0.0.8:53") == []


@pytest.mark.parametrize("name", [*NAMES, "NODE_ENV", *spelling._BYTEWAX, *sorted(spelling._FILES)])
def test_a_name_of_ours_is_none(name: str) -> None:
    assert found(**{name: "x"}) == []


def test_a_variable_without_a_value_is_none() -> None:
    assert found(DEDUP_WINDOW="", KAFKA_URL="") == []


@pytest.mark.parametrize(("alias", "meant"), ALIASES)
def test_another_programs_name_is_refused_only_where_ours_is_missing(
    alias: str, meant: str
) -> None:
    [(problem, refused)] = found(**{alias: "x"})
    assert f"{alias}: unknown variable; did you mean {meant}?; example: {meant}=" in problem
    assert refused
    if not spelling._slip(alias):
        given_too = [{meant: "x"}]
        if f"{meant}_FILE" in spelling._FILES:
            given_too.append({f"{meant}_FILE": "/x"})
        for environ in given_too:
            assert found(**{alias: "x"}, **environ) == [
                (f"{alias}: ignored: {meant} is read instead", False)
            ]


@pytest.mark.parametrize(
    ("protocol", "refused"),
    [
        ("", ["KAFKA_CA_CERT", "KAFKA_USERNAME"]),
        ("SASL_SSL", ["KAFKA_CA_CERT", "KAFKA_USERNAME"]),
        ("sasl_plaintext", ["KAFKA_USERNAME"]),
        (" SSL ", ["KAFKA_CA_CERT"]),
        ("PLAINTEXT", []),
    ],
)
def test_unused_settings_of_a_protocol_are_a_warning(protocol: str, refused: list[str]) -> None:
    """It is no default that matters: the variable is there for another program."""
    names = dict.fromkeys(["KAFKA_CA_CERT", "KAFKA_USERNAME"], "x")
    problems = found(KAFKA_SECURITY_PROTOCOL=protocol, **names)
    assert [text.partition(":")[0] for text, _ in problems] == [*names]
    assert [text.partition(":")[0] for text, is_refused in problems if is_refused] == refused


@pytest.mark.parametrize(
    ("name", "meant"),
    [("LOG_LEVELS", "LOG_LEVEL"), ("LOGLEVEL", "LOG_LEVEL"), ("APPENV", "APP_ENV")],
)
def test_a_slip_in_a_name_that_many_programs_use_is_a_warning(name: str, meant: str) -> None:
    [(problem, refused)] = found(**{name: "x"})
    assert f"did you mean {meant}?" in problem
    assert not refused


def test_a_client_id_is_a_warning() -> None:
    [(problem, refused)] = found(KAFKA_CLIENT_ID="payments")
    assert problem.startswith("KAFKA_CLIENT_ID: ignored: ")
    assert not refused


@given(name=st.sampled_from(LONG), data=st.data())
def test_one_wrong_character_in_a_long_name_is_always_found(name: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from(string.ascii_uppercase + "_"))
    head, tail = name[:at], name[at:]
    slips = [letter + tail, letter + tail[1:], tail[1:], tail[1:2] + tail[0] + tail[2:]]
    slip = head + data.draw(st.sampled_from(slips))
    if slip not in spelling._READ:
        assert [refused for _, refused in found(**{slip: "x"})] == [True]


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=40),
    secret=st.text(min_size=8),
)
def test_a_value_is_never_quoted(name: str, secret: str) -> None:
    assert all(secret not in problem or secret in name for problem, _ in found(**{name: secret}))


def test_the_settings_refuse_what_is_certain_and_only_that() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(REQUIRED | {"DEDUP_WINDOW": "30d", "LOG_LEVELS": "x", "LANE": "16"})
    named = [problem.partition(":")[0] for problem in caught.value.problems]
    assert named == ["DEDUP_WINDOW", "LANE"]
    shared = REQUIRED | {"KAFKA_URL": "elsewhere:9092", "LOG_LEVELS": "x", "KAFKA_CLIENT_ID": "x"}
    assert Settings.from_env(shared) == Settings.from_env(REQUIRED)
