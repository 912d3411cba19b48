"""`KAFKA_CLIENT_PROPERTIES_FILE`: what it may set and what not, and that no secret is shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from dataflow.config.client_properties import REFUSED, ClientProperties, parse
from dataflow.config.settings import KafkaSettings, Settings
from dataflow.config.variables import VARIABLES
from dataflow.errors import SettingsError
from dataflow.kafka import client_config
from dataflow.kafka.client_check import check_properties
from dataflow.observability.redaction import redact_text, register_secrets
from tests.support.required import REQUIRED

SHOW = """
import ctypes, pathlib, confluent_kafka
[path] = pathlib.Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*")
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
ctypes.CDLL(str(path)).rd_kafka_conf_properties_show(out)
libc.fflush(out)
"""
ALIAS = re.compile(r"^(\S+)\s.*Alias for `([\w.]+)`", re.MULTILINE)
LOGIN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "payments",
    "KAFKA_SASL_PASSWORD": "hunter2-hunter2",
}
OAUTH = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_OAUTH_TOKEN_URL": "https://login.example.com/token",
    "KAFKA_OAUTH_CLIENT_ID": "payments",
    "KAFKA_OAUTH_CLIENT_SECRET": "hunter3-hunter3",
    "KAFKA_OAUTH_SCOPE": "kafka",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "client.properties"


def kafka(file: Path | None, **environ: str) -> KafkaSettings:
    named = {"KAFKA_CLIENT_PROPERTIES_FILE": str(file)} if file else {}
    return Settings.from_env(REQUIRED | named | environ).kafka


def problems(file: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        kafka(file)
    return caught.value.problems


def refusal(file: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        check_properties(kafka(file))
    [problem] = caught.value.problems
    return problem


def everything_set(tls: Path) -> set[str]:
    """Return each property that the product sets for a client, whatever its login."""
    pem = {
        f"KAFKA_{name}_LOCATION": str(tls)
        for name in ("SSL_CA", "SSL_CERTIFICATE", "SSL_KEY", "OAUTH_CA")
    }
    names: set[str] = set()
    for login in (LOGIN, OAUTH):
        settings = kafka(None, **login, **pem, KAFKA_SSL_KEY_PASSWORD="x")
        for config in (
            client_config.client(settings, "any"),
            client_config.consumer(settings, "any", 3),
            client_config.log_consumer(settings, 3),
            client_config.producer(settings, "any"),
            client_config.tool_producer(settings, "any"),
        ):
            names |= config.keys()
    return names


# ---- the file ----


def test_lines_are_properties_comments_or_blank(file: Path) -> None:
    file.write_text(
        "# a comment\n! another\n\n client.rack = eu-1a \nssl.keystore.password=a=b\\n#c\n"
    )
    assert parse(str(file)).revealed() == {
        "client.rack": "eu-1a",
        "ssl.keystore.password": "a=b\\n#c",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"client.rack=a\nhunter2\n", "line 2 is not name=value"),
        (b"=hunter2", "line 1 is not name=value"),
        (b"client rack=hunter2", "line 1 is not name=value"),
        (b"client.rack=a\n\nclient.rack=hunter2", "line 3: client.rack is there twice"),
        (b"client.rack=\xff", "is not UTF-8 text"),
    ],
)
def test_a_wrong_line_is_named_and_not_quoted(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    [problem] = problems(file)
    assert problem.startswith("KAFKA_CLIENT_PROPERTIES_FILE: expected the path of a file with a")
    assert f"({reason}); example: " in problem
    assert "hunter2" not in problem


def test_a_file_that_is_missing_is_refused(file: Path) -> None:
    [problem] = problems(file)
    assert "(No such file or directory)" in problem


# ---- what is refused ----


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_property_with_a_guarantee_is_refused_by_name_and_reason(name: str, file: Path) -> None:
    file.write_text(f"client.rack=a\n{name}=hunter2\n")
    [problem] = problems(file)
    assert problem.startswith(f"KAFKA_CLIENT_PROPERTIES_FILE: {name} is not for this file: ")
    assert len(REFUSED[name]) > 10
    assert REFUSED[name] in problem
    assert "hunter2" not in problem


def test_every_refused_property_is_in_the_list_of_problems(file: Path) -> None:
    file.write_text("acks=1\nclient.rack=a\nisolation.level=read_uncommitted\nerror_cb=x\n")
    assert [problem.split()[1] for problem in problems(file)] == [
        "acks",
        "isolation.level",
        "error_cb",
    ]


def test_every_property_of_the_product_is_refused_or_only_for_speed(tmp_path: Path) -> None:
    """A property that is new in `client_config` has to be put into one of the two lists."""
    pem = tmp_path / "pem"
    pem.touch()
    ours = everything_set(pem)
    assert len(ours) > 35
    assert ours - REFUSED.keys() - {"logger"} == client_config.TUNABLE
    assert not REFUSED.keys() & client_config.TUNABLE


def test_a_refusal_that_names_a_variable_names_one_of_ours() -> None:
    named = {
        match[1]
        for each in REFUSED.values()
        if (match := re.match(r"set (\w+)(=\w+)? instead", each))
    }
    assert len(named) > 15
    assert named <= {variable.name for variable in VARIABLES}


def test_every_name_of_a_refused_property_is_refused() -> None:
    """By the table of the library itself, which has all of its names."""
    table = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True
    ).stdout
    aliases = ALIAS.findall(table)
    assert ("acks", "request.required.acks") in aliases
    for one, other in aliases:
        assert (one in REFUSED) == (other in REFUSED), (one, other)
    known = set(re.findall(r"^(\S+)\s+\|", table, re.MULTILINE))
    assert {name for name in REFUSED if name not in known} == {"test.mock.num.brokers"}


# ---- what is passed on ----


def test_other_properties_reach_every_client_and_come_last(file: Path) -> None:
    file.write_text("client.rack=eu-1a\nlinger.ms=50\nfetch.wait.max.ms=900\n")
    settings = kafka(file)
    for config in (
        client_config.client(settings, "any"),
        client_config.consumer(settings, "any", 3),
        client_config.log_consumer(settings, 3),
        client_config.producer(settings, "any"),
    ):
        assert config["client.rack"] == "eu-1a"
        assert config["linger.ms"] == "50"
        assert config["fetch.wait.max.ms"] == "900"
    Producer(client_config.client(settings, "any"))
    check_properties(settings)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("client.rac=a", 'No such configuration property: "client.rac"'),
        ("linger.ms=soon", "Invalid value for configuration property"),
        ("linger.ms=99999999", "outside allowed range 0..900000"),
        ("client.dns.lookup=hunter2", 'Invalid value "***" for configuration property'),
        ("fetch.max.bytes=100", "`fetch.max.bytes` must be >= `message.max.bytes`"),
        ("socket.timeout.ms=300000", "`socket.timeout.ms`"),
        ("ssl.keystore.location=/none\nsecurity.x=1", "security.x"),
    ],
)
def test_a_line_that_the_library_refuses_stops_the_start_with_its_message(
    line: str, message: str, file: Path
) -> None:
    file.write_text(line + "\n")
    problem = refusal(file)
    assert problem.startswith(f"KAFKA_CLIENT_PROPERTIES_FILE: {file}: the Kafka client refuses it:")
    assert message in problem
    assert "hunter2" not in problem


def test_a_property_of_another_kind_of_client_is_no_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("linger.ms=50\nfetch.min.bytes=10\n")
    config = client_config.consumer(kafka(file), "any", 1)
    consumer = Consumer(config)
    consumer.poll(0.1)
    consumer.close()
    assert "ignored by this" not in caplog.text
    lines: list[str] = []
    other = Consumer({"group.id": "x", "linger.ms": 5, "logger": _Captured(lines)})
    other.poll(0.1)
    other.close()
    assert any("ignored by this" in line for line in lines), "the filter would be of no use"


class _Captured:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def log(self, _level: int, line: str, *args: object) -> None:
        self._lines.append(line % args)


# ---- secrets ----


def test_secrets_of_the_file_are_never_shown(file: Path) -> None:
    file.write_text(
        "ssl.keystore.password=hunter2-hunter2\nssl.key.pem=hunter3-hunter3\nclient.rack=eu-1a\n"
    )
    settings = Settings.from_env(REQUIRED | {"KAFKA_CLIENT_PROPERTIES_FILE": str(file)})
    shown = f"{settings!r} {settings.masked()} {settings.kafka.client_properties}"
    assert "hunter" not in shown
    assert settings.masked()["KAFKA_CLIENT_PROPERTIES_FILE"] == str(file)
    assert {each.reveal() for each in settings.secrets()} == {"hunter2-hunter2", "hunter3-hunter3"}
    register_secrets(each.reveal() for each in settings.secrets())
    assert redact_text("rdkafka: hunter2-hunter2") == "rdkafka: ***"


def test_files_that_properties_name_are_found(file: Path) -> None:
    """Except the token that the client reads each time it needs a new one."""
    file.write_text(
        "ssl.keystore.location=/run/a.p12\nclient.rack=/run/b\n"
        "sasl.oauthbearer.assertion.file=/run/token\n"
        "sasl.oauthbearer.assertion.private.key.file=/run/key\n"
    )
    assert list(parse(str(file)).files()) == [
        ("ssl.keystore.location", Path("/run/a.p12")),
        ("sasl.oauthbearer.assertion.private.key.file", Path("/run/key")),
    ]


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.touch()
    assert kafka(file).client_properties == ClientProperties(str(file), {})
    without, with_it = (client_config.producer(kafka(each), "any") for each in (None, file))
    assert without == with_it


def test_an_unknown_property_is_unknown_to_the_library_alone() -> None:
    """The check is worth something only if a client is what refuses."""
    with pytest.raises(KafkaException, match="No such configuration property"):
        Producer({"client.rac": "a"})
