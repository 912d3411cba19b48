"""Logins and certificates, at a server that demands both, and answers as a registry does."""

import base64
import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dataflow import rotation
from dataflow.config.mounted_files import mounted_files
from dataflow.config.settings import Settings
from dataflow.errors import StartRefusedError
from dataflow.gateways import registry as gateways
from dataflow.kafka import preflight
from dataflow.schema_registry.client import Registry, RegistryAwayError, RegistryRefusedError
from tests.support.kafka import certificates
from tests.support.kafka.certificates import Certificates
from tests.support.required import REQUIRED

PASSWORD = "pass:word"
BASIC = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
NOT_FOUND = {"error_code": 40403, "message": "Schema not found"}


class Server(ThreadingHTTPServer):
    """A server with TLS that demands a login.

    Attributes:
        expects: The `Authorization` that it lets in.
        status: Of its answer to who is let in.
    """

    daemon_threads = True

    def __init__(self, pem: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.expects = BASIC
        self.status = HTTPStatus.NOT_FOUND

    def handle_error(self, *_: object) -> None:
        """Pass over handshakes that a client has broken off."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        is_known = self.headers["Authorization"] == self.server.expects
        self.send_response(self.server.status if is_known else HTTPStatus.UNAUTHORIZED)
        self.end_headers()
        self.wfile.write(json.dumps(NOT_FOUND if is_known else {"error_code": 401}).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.write(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(files: Certificates) -> Iterator[Server]:
    with Server(files.server) as server:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def probe(server: Server, ca: Path, host: str = "localhost", **more: str) -> None:
    environ = {
        "SCHEMA_REGISTRY_URL": f"https://{host}:{server.server_port}",
        "SCHEMA_REGISTRY_CA": str(ca),
        **more,
    }
    settings = Settings.from_env(REQUIRED | environ).schema_registry
    with closing(Registry(settings)) as registry:
        registry.probe()


def test_a_password_from_a_file_lets_in(
    server: Server, files: Certificates, tmp_path: Path
) -> None:
    secret = tmp_path / "credentials"
    secret.write_text(f"user:{PASSWORD}\n")
    probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS_FILE=str(secret))


def test_a_request_is_no_line_in_the_log(
    server: Server, files: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS=f"user:{PASSWORD}")
    assert caplog.messages == []


def test_a_login_that_changes_is_tried_at_the_registry_and_nowhere_else(
    server: Server, files: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any mounted secret: what does not hold is not taken over."""
    mounted = tmp_path / "credentials"
    changed = ["SCHEMA_REGISTRY_CREDENTIALS_FILE"]
    environ = REQUIRED | {
        "SCHEMA_REGISTRY_URL": f"https://localhost:{server.server_port}",
        "SCHEMA_REGISTRY_CA": str(files.ca),
        "SCHEMA_REGISTRY_CREDENTIALS_FILE": str(mounted),
    }
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(gateways, "create", lambda _settings: pytest.fail("asked"))
    mounted.write_text(f"user:{PASSWORD}")
    rotation.check(environ, changed)
    mounted.write_text("user:wrong")
    with pytest.raises(StartRefusedError, match="SCHEMA_REGISTRY_CREDENTIALS: "):
        rotation.check(environ, changed)
    server.status = HTTPStatus.BAD_GATEWAY
    mounted.write_text(f"user:{PASSWORD}")
    with pytest.raises(StartRefusedError, match="the schema registry is away: it answers HTTP 502"):
        rotation.check(environ, changed)
    assert "SCHEMA_REGISTRY_CA" in mounted_files(environ, None)


def test_a_token_is_sent_as_one(server: Server, files: Certificates) -> None:
    server.expects = "Bearer header.payload.signature"
    probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS="header.payload.signature")


@pytest.mark.parametrize("login", ["user:wrong", "a-token", ""])
def test_a_wrong_login_is_refused_by_the_name_of_its_variable(
    server: Server, files: Certificates, login: str
) -> None:
    with pytest.raises(RegistryRefusedError) as caught:
        probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS=login)
    assert str(caught.value).startswith("SCHEMA_REGISTRY_CREDENTIALS: ")
    assert "wrong" not in str(caught.value)


def test_a_user_who_may_not_read_one_schema_is_let_in(server: Server, files: Certificates) -> None:
    server.status = HTTPStatus.FORBIDDEN
    probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS=f"user:{PASSWORD}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_that_is_not_trusted_is_refused_by_the_name_of_the_variable(
    server: Server, files: Certificates, host: str
) -> None:
    """Of another authority; or of the right one, under a name that is not in its certificate."""
    ca = files.other_ca if host == "localhost" else files.ca
    with pytest.raises(RegistryRefusedError, match="SCHEMA_REGISTRY_CA"):
        probe(server, ca, host, SCHEMA_REGISTRY_CREDENTIALS=f"user:{PASSWORD}")


@pytest.mark.parametrize(
    "status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY]
)
def test_a_server_with_trouble_is_away(
    server: Server, files: Certificates, status: HTTPStatus
) -> None:
    server.status = status
    with pytest.raises(RegistryAwayError, match=f"HTTP {status}"):
        probe(server, files.ca, SCHEMA_REGISTRY_CREDENTIALS=f"user:{PASSWORD}")
