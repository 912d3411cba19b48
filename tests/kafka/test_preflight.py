"""The way a command looks for Kafka, and the flow does, where there is none; on real sockets."""

import socket
import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from dataflow.config.settings import KafkaSettings, Settings
from dataflow.errors import StartRefusedError
from dataflow.kafka import preflight
from dataflow.kafka.connection_hints import hint_for
from dataflow.kafka.partition_offsets import Ends
from dataflow.kafka.preflight import inspect
from dataflow.kafka.watcher import Watcher
from dataflow.runtime import Runtime
from tests.support.required import REQUIRED


def at(brokers: str) -> KafkaSettings:
    return Settings.from_env(REQUIRED | {"KAFKA_BROKERS": brokers}).kafka


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_START_TIMEOUT_S", 1.0)


@pytest.fixture
def hanging_up() -> Iterator[str]:
    """Yield the address of a listener that closes every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


class EnoughError(Exception):
    """The flow would wait on."""


class SitOut:
    """A recorder of why the flow waits; it waits until so many reasons have a text."""

    def __init__(self, times: int, counted: str = "") -> None:
        self.reasons: list[str] = []
        self._times = times
        self._counted = counted

    def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        if sum(self._counted in each for each in self.reasons) == self._times:
            raise EnoughError


def test_a_command_gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # So much time has the client to find out why.
    monkeypatch.setattr(preflight, "_START_TIMEOUT_S", 4.0)
    with pytest.raises(StartRefusedError) as caught:
        inspect(at("127.0.0.1:1"))
    message = str(caught.value)
    assert message.startswith("KAFKA_BROKERS: no broker of 127.0.0.1:1 answered within 4 s")
    assert "Connection refused" in message


def test_the_flow_does_not_and_has_the_reason_each_time() -> None:
    sit_out = SitOut(4, "Connection refused")
    with pytest.raises(EnoughError):
        inspect(at("127.0.0.1:1"), sit_out)
    assert all("127.0.0.1:1 (KAFKA_BROKERS) answers: " in reason for reason in sit_out.reasons)
    # A client that is slow has none yet.
    known = ["Connection refused" in reason for reason in sit_out.reasons]
    assert known == sorted(known), "it is not forgotten"


@pytest.mark.parametrize("sit_out", [None, SitOut(60)])
def test_a_listener_that_only_hangs_up_is_refused(sit_out: SitOut | None, hanging_up: str) -> None:
    """It wants something else of us; a broker that is starting hangs up for a moment only."""
    with pytest.raises(StartRefusedError, match="its listener probably requires TLS or SASL"):
        inspect(at(hanging_up), sit_out)


@pytest.mark.parametrize(
    "text",
    [
        "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
        "SASL SCRAM-SHA-512 mechanism handshake failed: Local: Broker transport failure",
        "SaslAuthenticateRequest failed: Local: Timed out",
        "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 10.0.0.1:443 after 0 ms",
        "Failed to acquire SASL OAUTHBEARER token: Could not resolve host: login.example.com",
    ],
)
@pytest.mark.parametrize(
    "code", [KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._TRANSPORT]
)
def test_a_connection_that_breaks_during_the_login_is_no_refusal(text: str, code: int) -> None:
    """As when a broker ends just then, or the provider of tokens."""
    assert hint_for(KafkaError(code, text), at("127.0.0.1:1")) is None


def test_a_watcher_that_meets_an_unexpected_error_goes_on_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it the probes would report for ever what it has seen last."""
    looks = []

    def look(self: Watcher) -> None:
        looks.append(self)
        raise ZeroDivisionError

    def wait(_: float) -> None:
        if len(looks) == 3:
            raise EnoughError

    monkeypatch.setattr(Watcher, "look", look)
    context = Runtime(Settings.from_env(REQUIRED | {"KAFKA_BROKERS": "127.0.0.1:1"})).context
    watcher = Watcher(context, Ends("lane-log"), wait)
    with pytest.raises(EnoughError):
        watcher.run()
