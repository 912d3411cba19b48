"""Connections that are held, by mistake or on purpose, keep nobody out."""

import asyncio
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread

import pytest
from starlette.applications import Starlette

from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from dataflow.web import connections, server
from dataflow.web.connections import SERVED, Connection, most_accepted
from dataflow.web.server import Sidecar

LOOPBACK = "127.0.0.1"
WAIT_S = 120.0
HALF = b"GET /live HTTP/1.1\r\nHost: x\r\n"
WHOLE = HALF + b"\r\n"


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    status = Status(About("1.2.3"), LivenessLimits(3600))
    metrics = Metrics(status, input_topic="in", output_topics=["out"], log_topic="lane-log")
    made = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
    yield made
    made.stop()


def connect(sidecar: Sidecar) -> socket.socket:
    return socket.create_connection((LOOPBACK, sidecar.port), timeout=WAIT_S)


def closed(connection: socket.socket) -> bool:
    """Wait until the other side sends something, or goes."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def answer(connection: socket.socket) -> bytes:
    """Return all of one answer: head and body may come one by one."""
    received = b""
    while not received.endswith(b"}"):
        piece = connection.recv(10_000)
        assert piece, received
        received += piece
    return received


def wait_for(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def live(sidecar: Sidecar) -> bool:
    with connect(sidecar) as probe:
        probe.sendall(WHOLE)
        try:
            return probe.recv(100).startswith(b"HTTP/1.1 200")
        except ConnectionResetError:
            return False


@pytest.mark.parametrize("sent", [b"", b"G", HALF])
def test_probes_get_through_a_crowd_of_silent_connections(sent: bytes, sidecar: Sidecar) -> None:
    with ExitStack() as flood:
        held = [flood.enter_context(connect(sidecar)) for _ in range(SERVED + 20)]
        for connection in held:
            connection.sendall(sent)
        wait_for(lambda: live(sidecar))


@pytest.mark.parametrize("sent", [b"", b"G", HALF])
def test_a_connection_that_goes_silent_is_closed(
    sent: bytes, sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.1)
    with connect(sidecar) as connection:
        connection.sendall(sent)
        assert closed(connection)


def test_it_is_closed_in_the_midst_of_a_later_request_too(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(sidecar) as connection:
        connection.sendall(WHOLE)
        answer(connection)
        monkeypatch.setattr(connections, "TIMEOUT_S", 0.1)
        connection.sendall(HALF)
        assert closed(connection)


def test_a_drop_now_and_then_does_not_prolong_it(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TIMEOUT_S", 0.3)
    with connect(sidecar) as connection:

        def send_a_little() -> bool:
            try:
                connection.sendall(b"GET"[:1])
            except OSError:
                return True
            return False

        wait_for(send_a_little)


def test_a_client_that_comes_back_is_served(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one connection, for longer than one request may take: no deadline outlives its request."""
    deadlines: list[asyncio.TimerHandle] = []
    set_deadline = Connection._set_deadline

    def noted(connection: Connection) -> None:
        set_deadline(connection)
        assert connection._deadline is not None
        deadlines.append(connection._deadline)

    monkeypatch.setattr(Connection, "_set_deadline", noted)
    with connect(sidecar) as connection:
        for requests in (1, 2, 3):
            connection.sendall(WHOLE)
            assert answer(connection).startswith(b"HTTP/1.1 200")
            wait_for(lambda: all(each.cancelled() for each in deadlines))
            assert len(deadlines) == requests


def test_a_busy_loop_drops_no_connection_whose_request_has_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its clock they have waited for long; but it has not read from them yet."""
    monkeypatch.setattr(connections, "GRACE_S", 0)
    monkeypatch.setattr(connections, "SERVED", 20)

    with socket.create_server((LOOPBACK, 0)) as listener, ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=WAIT_S))
            for _ in range(100)
        ]
        for connection in crowd:
            connection.sendall(WHOLE)
        served = server._server(Starlette())
        thread = Thread(target=lambda: asyncio.run(served.serve([listener])))
        thread.start()
        answers = Counter(map(first_line, crowd))
        served.should_exit = True
        thread.join()
    assert answers == {b"HTTP/1.1 404": 100}


def first_line(connection: socket.socket) -> bytes:
    try:
        return connection.recv(12)
    except ConnectionResetError:
        return b"dropped"


def test_there_is_an_end_to_what_is_accepted(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when they come too fast to have waited."""
    monkeypatch.setattr(connections, "GRACE_S", 3600)
    monkeypatch.setattr(connections, "_ACCEPTED", SERVED + 10)
    with ExitStack() as flood:
        for _ in range(SERVED + 10):
            flood.enter_context(connect(sidecar))
        with connect(sidecar) as one_more:
            assert closed(one_more)


def test_the_flow_keeps_half_of_the_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert most_accepted() == 256
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert most_accepted() == 2048
