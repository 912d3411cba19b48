"""Whatever is sent to the sidecar's ports: an answer or a closed connection, never a 5xx of ours.

And whatever was sent before, the next probe is answered.
"""

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from dataflow.web.server import Sidecar
from tests.explore import examples

LOOPBACK = "127.0.0.1"
PATHS = ("/health", "/ready", "/live", "/metrics")
SECURITY = ("cache-control", "x-content-type-options", "content-security-policy")

tokens = st.text("!#$%&'*+-.^_`|~09AZaz", min_size=1, max_size=12)
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
methods = st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "TRACE", "CONNECT"]) | tokens
targets = st.one_of(
    st.sampled_from(PATHS).flatmap(lambda path: visible.map(lambda rest: f"{path}?{rest}")),
    st.sampled_from(
        [*PATHS, "/", "//", "/../live", "/live/", "/%6Cive", "/%ff%00", "*", "http://x/"]
    ),
    visible.map(lambda rest: f"/{rest}"),
)
header_names = tokens | st.sampled_from(
    ["Accept", "Accept-Encoding", "Content-Length", "Transfer-Encoding", "Expect", "Connection"]
)
header_values = st.one_of(
    visible,
    st.sampled_from(
        [
            *("gzip", "gzip;q=0", "identity", "chunked", "close", "upgrade", "100-continue", "-1"),
            *(
                "application/openmetrics-text;version=x",
                "*/*;q=nan",
                "text/plain;version=1.0.0",
                "0",
            ),
            "x" * 20_000,
        ]
    ),
)
heads = st.builds(
    lambda method, target, headers, body: "\r\n".join(
        [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", body]
    ).encode(),
    methods,
    targets,
    st.lists(st.tuples(header_names, header_values), max_size=5),
    visible,
)
raw = st.one_of(
    heads,
    heads.flatmap(lambda head: st.integers(0, len(head)).map(lambda end: head[:end])),
    st.lists(heads, max_size=4).map(b"".join),
    st.binary(max_size=200),
)


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    status = Status(About("1.2.3"), LivenessLimits(3600))
    metrics = Metrics(status, input_topic="in", output_topics=["out"], log_topic="lane-log")
    made = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
    yield made
    made.stop()


def answer(port: int, sent: bytes) -> bytes:
    """Return all that comes back once we have sent everything and closed our side."""
    received = b""
    with socket.create_connection((LOOPBACK, port), timeout=30) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # a connection may be closed before all of it was sent
    return received


def status_of(received: bytes) -> int | None:
    return int(received.split(b" ", 2)[1]) if received else None


@examples(40)
@given(sent=raw, on_metrics=st.booleans())
def test_any_bytes(sent: bytes, on_metrics: bool, sidecar: Sidecar) -> None:  # noqa: FBT001
    received = answer(sidecar.metrics_port if on_metrics else sidecar.port, sent)
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in received
    # 503 is what /ready and /health answer here: nothing flows yet.
    assert status_of(received) in {None, 100, 200, 400, 404, 405, 503}
    with closing(http.client.HTTPConnection(LOOPBACK, sidecar.port, timeout=30)) as probe:
        probe.request("GET", "/live")
        assert probe.getresponse().status == 200


@examples(40)
@given(
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["GET", "HEAD"]),
    query=visible.map(lambda text: text.replace("#", "")),
    headers=st.dictionaries(
        st.sampled_from(["Accept", "Accept-Encoding", "User-Agent", "X-Forwarded-For", "Host"]),
        visible,
        max_size=4,
    ),
)
def test_existing_paths_answer(
    path: str, method: str, query: str, headers: dict[str, str], sidecar: Sidecar
) -> None:
    port = sidecar.metrics_port if path == "/metrics" else sidecar.port
    with closing(http.client.HTTPConnection(LOOPBACK, port, timeout=30)) as connection:
        connection.request(method, f"{path}?{query}", headers=headers)
        reply = connection.getresponse()
        body = reply.read()
    expected = 200 if path in {"/live", "/metrics"} else 503
    assert reply.status == expected
    assert bool(body) == (method == "GET")
    assert all(reply.headers[name] for name in SECURITY)
