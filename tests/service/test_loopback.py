"""The filter of a listening socket: with the kernel, a plain socket and the real engine."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflow.service import loopback
from tests.support.flow_process import LIMIT_S, Flow, Topics
from tests.support.kafka import Cluster, ports

ESTABLISHED, SYN_SENT = 1, 2


@pytest.fixture
def outside() -> str:
    """Return an address of this machine that is not a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the kernel only chooses the address to send from.
            probe.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has the loopback interface only")
        return str(probe.getsockname()[0])


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104
        yield listener


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def state(address: str, port: int) -> int:
    """Return the state of a connection, once a later one over the loopback interface stands.

    Both are the kernel's work within this machine, done in order: no clock is needed.
    """
    with socket.socket() as client:
        client.settimeout(0)
        client.connect_ex((address, port))
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def test_a_confined_socket_answers_on_loopback_only(server: socket.socket, outside: str) -> None:
    port = port_of(server)
    assert state(outside, port) == ESTABLISHED
    assert loopback.confine(port)
    assert state(outside, port) == SYN_SENT
    assert state("127.0.0.1", port) == ESTABLISHED
    assert state("127.8.8.8", port) == ESTABLISHED


def test_connections_are_not_touched(server: socket.socket) -> None:
    assert loopback.confine(port_of(server))
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"x" * 50_000)
            assert accepted.recv(50_000, socket.MSG_WAITALL) == b"x" * 50_000


def test_no_descriptor_is_left_open(server: socket.socket) -> None:
    def descriptors() -> set[str]:
        return {entry.name for entry in Path("/proc/self/fd").iterdir()}

    before = len(descriptors())
    assert loopback.confine(port_of(server))
    assert not loopback.confine(1)
    assert len(descriptors()) == before


def test_other_sockets_of_the_process_are_left_alone(server: socket.socket, outside: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104
        assert loopback.confine(port_of(server))
        assert state(outside, port_of(other)) == ESTABLISHED


def test_a_port_on_which_nothing_listens_is_not_confined() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not loopback.confine(port_of(bound))


def test_the_engines_web_server_answers_on_loopback_only(
    kafka: Cluster, tmp_path: Path, outside: str
) -> None:
    [port] = ports.free(1)
    environ = {"BYTEWAX_DATAFLOW_API_PORT": str(port)}
    with Flow(kafka, Topics.fresh(kafka), tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: "on the loopback interface only" in flow.log, LIMIT_S, "confined")
        assert state(outside, port) == SYN_SENT
        # A scrape does not wait for long.
        up = "payments_engine_metrics_up 1.0"
        flow.wait(lambda: up in flow.metrics(), LIMIT_S, "asking the engine")
        assert flow.terminate() == 0
