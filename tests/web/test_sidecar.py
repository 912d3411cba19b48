"""The probes and the metrics over real sockets, as Kubernetes and Prometheus ask for them."""

import errno
import gzip
import http.client
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dataflow.core.commit_counts import CommitCounts
from dataflow.errors import StartRefusedError
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from dataflow.web.server import Sidecar
from tests.support.kafka import ports

LOOPBACK = "127.0.0.1"


class Collecting:
    """A collector like any other, whose families are those `collect` returns at a scrape."""

    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self.collect = collect

    def describe(self) -> list[Metric]:
        return []


class Clock:
    """Seconds that pass on command."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    host: str = LOOPBACK,
) -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(About("1.2.3"), LivenessLimits(60), monotonic=clock)


@pytest.fixture
def metrics(status: Status) -> Metrics:
    return Metrics(
        status,
        input_topic="requested",
        output_topics=["processed", "failed", "audit"],
        log_topic="lane-log",
    )


@pytest.fixture
def sidecar(status: Status, metrics: Metrics) -> Iterator[Sidecar]:
    running = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
    yield running
    running.stop()
    assert not running._thread.is_alive()


class TestProbes:
    def test_the_life_of_a_process(self, sidecar: Sidecar, status: Status, clock: Clock) -> None:
        def codes() -> dict[str, int]:
            return {path: ask(sidecar.port, path).status for path in ("/live", "/ready", "/health")}

        assert codes() == {"/live": 200, "/ready": 503, "/health": 503}, "starting"
        status.assign([0], lanes=1)
        status.lane_open(0)
        status.partitions.live(0)
        assert codes() == {"/live": 200, "/ready": 200, "/health": 200}, "running"
        status.broker_down("all brokers are down")
        clock.now += 3600
        assert codes() == {"/live": 200, "/ready": 503, "/health": 503}, "Kafka is away"
        status.broker_up()
        assert codes() == {"/live": 200, "/ready": 200, "/health": 200}, "and back"
        status.epoch_closed()
        clock.now += 61
        assert codes() == {"/live": 503, "/ready": 200, "/health": 503}, "stuck"
        status.epoch_closed()
        status.start_draining()
        assert codes() == {"/live": 200, "/ready": 503, "/health": 503}, "stopping"

    def test_they_give_the_reason(self, sidecar: Sidecar, status: Status) -> None:
        status.assign([0, 1], lanes=0)
        assert ask(sidecar.port, "/ready").json() == {
            "ready": False,
            "reason": "partitions not live yet: 0, 1",
        }
        assert ask(sidecar.port, "/live").json() == {"live": True, "reason": "making progress"}

    def test_health_before_anything_is_set(self, sidecar: Sidecar) -> None:
        reply = ask(sidecar.port, "/health")
        assert reply.status == 503
        assert reply.json()["status"] == "starting"
        assert reply.json()["version"] == "1.2.3"

    @pytest.mark.parametrize("path", ["/health", "/ready", "/live"])
    def test_head_is_get_without_the_body(self, sidecar: Sidecar, path: str) -> None:
        get, head = ask(sidecar.port, path), ask(sidecar.port, path, method="HEAD")
        assert head.status == get.status
        assert head.headers["Content-Length"] == get.headers["Content-Length"]
        assert head.body == b""

    def test_they_answer_while_metrics_are_being_rendered(
        self, sidecar: Sidecar, metrics: Metrics
    ) -> None:
        """A slow collector (such as the engine) must not get the process killed."""
        rendering, go_on = threading.Event(), threading.Event()

        def slow() -> list[Metric]:
            rendering.set()
            go_on.wait(200)
            return []

        metrics.registry.register(Collecting(slow))
        with ThreadPoolExecutor() as pool:
            scrape = pool.submit(ask, sidecar.metrics_port, "/metrics")
            assert rendering.wait(60)
            assert ask(sidecar.port, "/live").status == 200
            assert not scrape.done()
            go_on.set()
            assert scrape.result().status == 200


class TestWhatIsNotThere:
    @pytest.mark.parametrize(
        "path", ["/status", "/metrics", "/healthz", "/health/", "/docs", "//health"]
    )
    def test_an_unknown_path_is_404_in_json(self, sidecar: Sidecar, path: str) -> None:
        reply = ask(sidecar.port, path)
        assert (reply.status, reply.json()) == (404, {"error": "Not Found"})

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
    def test_another_method_is_405_and_names_the_allowed_ones(
        self, sidecar: Sidecar, method: str
    ) -> None:
        for reply in (
            ask(sidecar.port, "/health", method=method),
            ask(sidecar.metrics_port, "/metrics", method=method),
        ):
            assert (reply.status, reply.json()) == (405, {"error": "Method Not Allowed"})
            assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD"}

    def test_the_metrics_port_has_metrics_only(self, sidecar: Sidecar) -> None:
        assert ask(sidecar.metrics_port, "/health").status == 404

    def test_every_answer_carries_the_security_headers(self, sidecar: Sidecar) -> None:
        for reply in (
            ask(sidecar.port, "/health"),
            ask(sidecar.port, "/nothing"),
            ask(sidecar.port, "/live", method="POST"),
            ask(sidecar.metrics_port, "/metrics"),
        ):
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert "Server" not in reply.headers

    def test_an_endless_request_head_is_cut_off(self, sidecar: Sidecar) -> None:
        with socket.create_connection((LOOPBACK, sidecar.port), timeout=60) as client:
            client.sendall(b"GET /live HTTP/1.1\r\nX-Long: " + b"a" * 64 * 1024)
            assert client.recv(64).startswith(b"HTTP/1.1 400 ")


class TestMetrics:
    OPENMETRICS = "application/openmetrics-text"

    def test_plain_text_is_the_default(self, sidecar: Sidecar, metrics: Metrics) -> None:
        metrics.committed(CommitCounts(processed=3), 0.01)
        reply = ask(sidecar.metrics_port, "/metrics")
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "payments_processed_total 3.0\n" in reply.body.decode()
        assert list(parse_text(reply.body.decode()))

    def test_openmetrics_are_served_if_requested(self, sidecar: Sidecar) -> None:
        accept = f"{self.OPENMETRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        reply = ask(sidecar.metrics_port, "/metrics", headers={"Accept": accept})
        assert reply.headers["Content-Type"].startswith(self.OPENMETRICS)
        assert reply.body.endswith(b"# EOF\n")
        assert list(parse_openmetrics(reply.body.decode()))  # type: ignore[no-untyped-call]

    @pytest.mark.parametrize("accept", [f"{OPENMETRICS};version=abc", ";;=,", "text/html", "é"])
    def test_an_accept_header_that_makes_no_sense_gets_plain_text(
        self, sidecar: Sidecar, accept: str
    ) -> None:
        reply = ask(sidecar.metrics_port, "/metrics", headers={"Accept": accept})
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain")

    def test_gzip_for_those_who_can(self, sidecar: Sidecar) -> None:
        headers = {"Accept-Encoding": "br, gzip;q=0.8"}
        reply = ask(sidecar.metrics_port, "/metrics", headers=headers)
        assert reply.headers["Content-Encoding"] == "gzip"
        assert b"payments_processed_total 0.0\n" in gzip.decompress(reply.body)
        assert "Content-Encoding" not in ask(sidecar.metrics_port, "/metrics").headers

    def test_head(self, sidecar: Sidecar) -> None:
        reply = ask(sidecar.metrics_port, "/metrics", method="HEAD")
        assert (reply.status, reply.body) == (200, b"")

    def test_a_scrape_shows_what_happened_before_it(
        self, sidecar: Sidecar, metrics: Metrics
    ) -> None:
        for n in range(1, 30):
            metrics.committed(CommitCounts(processed=1), 0.01)
            body = ask(sidecar.metrics_port, "/metrics").body.decode()
            assert f"payments_processed_total {n}.0\n" in body

    def test_200_scrapes_at_once_are_all_answered_and_rendered_few_times(
        self, sidecar: Sidecar, metrics: Metrics
    ) -> None:
        renderings = 0
        all_have_asked = threading.Event()

        def count() -> list[Metric]:
            nonlocal renderings
            renderings += 1
            all_have_asked.wait(60)
            return []

        metrics.registry.register(Collecting(count))
        asked = threading.Semaphore(0)

        def scrape(_: int) -> Reply:
            connection = http.client.HTTPConnection(LOOPBACK, sidecar.metrics_port, timeout=90)
            with closing(connection):
                connection.request("GET", "/metrics")
                asked.release()
                response = connection.getresponse()
                return Reply(response.status, response.headers, response.read())

        with ThreadPoolExecutor(200) as pool:
            scrapes = pool.map(scrape, range(200))
            for _ in range(200):
                asked.acquire()
            all_have_asked.set()
            replies = list(scrapes)
        assert {reply.status for reply in replies} == {200}
        assert all(b"payments_processed_total" in reply.body for reply in replies)
        assert renderings < 20

    def test_a_failing_collector_is_a_500_without_details_and_the_next_scrape_works(
        self, sidecar: Sidecar, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail() -> list[Metric]:
            raise RuntimeError("secret detail")

        broken = Collecting(fail)
        metrics.registry.register(broken)
        reply = ask(sidecar.metrics_port, "/metrics")
        assert (reply.status, reply.json()) == (500, {"error": "Internal Server Error"})
        metrics.registry.unregister(broken)
        assert ask(sidecar.metrics_port, "/metrics").status == 200
        sidecar.stop()
        assert "secret detail" in caplog.text, "the log has them"


class TestStart:
    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with socket.create_server((LOOPBACK, 0)) as owner:
            yield owner.getsockname()[1]

    def test_a_taken_port_is_refused_in_one_line(
        self, status: Status, metrics: Metrics, taken: int
    ) -> None:
        with pytest.raises(StartRefusedError) as refused:
            Sidecar.start(status, metrics, taken, 0)
        assert str(refused.value) == (
            f"PORT: port {taken} is already in use (by another process, or by our other port); "
            "stop its owner, or set PORT to a free port"
        )

    def test_a_taken_metrics_port_leaves_the_other_closed(
        self, status: Status, metrics: Metrics, taken: int
    ) -> None:
        [free] = ports.free(1)
        with pytest.raises(StartRefusedError, match=f"METRICS_PORT: port {taken} is already"):
            Sidecar.start(status, metrics, free, taken)
        with pytest.raises(ConnectionRefusedError):
            ask(free, "/live")

    def test_one_number_for_both_is_refused(self, status: Status, metrics: Metrics) -> None:
        [free] = ports.free(1)
        with pytest.raises(StartRefusedError, match="METRICS_PORT"):
            Sidecar.start(status, metrics, free, free)

    def test_an_impossible_host_or_port_is_refused(self, status: Status, metrics: Metrics) -> None:
        with pytest.raises(StartRefusedError, match=r"PORT: cannot listen on 192\.0\.2\.1"):
            Sidecar.start(status, metrics, 0, 0, host="192.0.2.1")
        with pytest.raises(StartRefusedError, match="METRICS_PORT: cannot listen"):
            Sidecar.start(status, metrics, 0, 70_000, host=LOOPBACK)

    def answers(self, sidecar: Sidecar) -> list[str]:
        """Return the loopback addresses on which both ports answer; the sidecar is then stopped."""
        found = []
        for host in (LOOPBACK, "::1"):
            try:
                assert ask(sidecar.port, "/live", host=host).status == 200
                assert ask(sidecar.metrics_port, "/metrics", host=host).status == 200
                found.append(host)
            except ConnectionRefusedError:
                pass
        sidecar.stop()
        return found

    @pytest.mark.parametrize(
        ("host", "on"),
        [
            (None, [LOOPBACK, "::1"]),
            ("::", [LOOPBACK, "::1"]),
            ("0.0.0.0", [LOOPBACK]),  # noqa: S104
            (LOOPBACK, [LOOPBACK]),
            ("::1", ["::1"]),
        ],
    )
    def test_it_listens_where_it_is_configured_and_by_default_everywhere(
        self, status: Status, metrics: Metrics, host: str | None, on: list[str]
    ) -> None:
        assert self.answers(Sidecar.start(status, metrics, 0, 0, host)) == on

    @pytest.mark.parametrize("step", ["socket", "bind"])
    def test_it_listens_on_ipv4_without_ipv6(
        self, status: Status, metrics: Metrics, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not compiled in, or switched off by `net.ipv6.conf.all.disable_ipv6`."""

        class WithoutIPv6(socket.socket):
            def __init__(self, family: int, *args: Any, **kwargs: Any) -> None:
                if step == "socket" and family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, *args, **kwargs)

            def bind(self, address: Any) -> None:
                if self.family == socket.AF_INET6:
                    raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
                super().bind(address)

        with monkeypatch.context() as without:
            without.setattr(socket, "socket", WithoutIPv6)
            sidecar = Sidecar.start(status, metrics, 0, 0)
            with pytest.raises(StartRefusedError, match="PORT: cannot listen on ::1 port 0"):
                Sidecar.start(status, metrics, 0, 0, "::1")
        assert self.answers(sidecar) == [LOOPBACK]

    def test_it_listens_before_it_returns(self, status: Status, metrics: Metrics) -> None:
        for _ in range(5):
            sidecar = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
            assert ask(sidecar.port, "/live").status == 200
            sidecar.stop()

    def test_ports_are_free_again_after_a_stop(self, status: Status, metrics: Metrics) -> None:
        port, metrics_port = ports.free(2)
        first = Sidecar.start(status, metrics, port, metrics_port, host=LOOPBACK)
        ask(first.port, "/live")
        first.stop()
        first.stop()
        again = Sidecar.start(status, metrics, port, metrics_port, host=LOOPBACK)
        assert ask(again.port, "/live").status == 200
        again.stop()

    def test_signals_stay_the_flows(self, status: Status, metrics: Metrics) -> None:
        """The handlers of uvicorn would swallow the SIGTERM that lets the flow drain."""
        numbers = [signal.SIGTERM, signal.SIGINT]
        before = [signal.getsignal(number) for number in numbers]
        sidecar = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
        ask(sidecar.port, "/live")
        assert [signal.getsignal(number) for number in numbers] == before
        sidecar.stop()

    def test_one_daemon_thread_serves_both(self, status: Status, metrics: Metrics) -> None:
        before = set(threading.enumerate())
        sidecar = Sidecar.start(status, metrics, 0, 0, host=LOOPBACK)
        ask(sidecar.port, "/live")
        [thread] = set(threading.enumerate()) - before
        assert thread.daemon
        sidecar.stop()
