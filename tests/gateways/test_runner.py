"""The bridge from blocking worker threads to the gateway's event loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from dataflow.errors import GatewayFaultError
from dataflow.gateways import runner as runner_module
from dataflow.gateways.port import Gateway, Reply
from dataflow.gateways.runner import GatewayRunner
from dataflow.gateways.simulated import ImmediateGateway, SimulatedGateway
from schemas.requests import PaymentRequest
from tests.gateways.sample_requests import make_requests


class Recording(SimulatedGateway):
    """A simulated gateway that notes in which thread what happens to it."""

    def __init__(self, latency_s: float = 0.0) -> None:
        super().__init__(latency_s=latency_s)
        self.threads = [threading.current_thread()]
        self.closed = 0
        self.in_flight = self.most_in_flight = 0

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        self.threads.append(threading.current_thread())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        reply = await super().charge(request, key)
        self.in_flight -= 1
        return reply

    async def close(self) -> None:
        self.threads.append(threading.current_thread())
        self.closed += 1


Start = Callable[..., GatewayRunner]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that makes runners, which are closed after the test."""
    runners: list[GatewayRunner] = []

    def start(
        build: Callable[[], Gateway], deadline_s: float = 5.0, concurrency: int = 256
    ) -> GatewayRunner:
        runners.append(GatewayRunner(build, deadline_s, concurrency=concurrency))
        return runners[-1]

    yield start
    for each in runners:
        each.close()
        assert not threads()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gateway"]


def test_it_settles_a_batch_for_the_calling_thread(start: Start) -> None:
    requests = make_requests(100)
    expected = asyncio.run(ImmediateGateway().charge_batch(requests))
    assert start(SimulatedGateway).charge(requests) == expected


def test_unavailable_requests_are_retried(start: Start) -> None:
    requests = make_requests(3, "unavailable:2:pay_")
    assert len(start(SimulatedGateway).charge(requests)) == 3


def test_nothing_is_built_before_the_first_batch(start: Start) -> None:
    built: list[Recording] = []

    def build() -> Recording:
        built.append(Recording())
        return built[-1]

    runner = start(build)
    assert (built, threads()) == ([], [])
    runner.charge(make_requests(1))
    runner.charge(make_requests(1))
    assert len(built) == len(threads()) == 1


def test_many_workers_share_one_gateway_on_one_thread(start: Start) -> None:
    gateway = Recording(latency_s=0.1)
    runner = start(lambda: gateway)
    batches = [make_requests(20, f"worker_{n}_") for n in range(8)]
    with ThreadPoolExecutor(8) as workers:
        replies = list(workers.map(runner.charge, batches))

    assert gateway.most_in_flight > 20, "one batch after the other"
    expected = ImmediateGateway()
    assert replies == [asyncio.run(expected.charge_batch(batch)) for batch in batches]
    assert len(set(gateway.threads[1:])) == 1


def test_all_workers_together_have_no_more_in_flight_than_allowed(start: Start) -> None:
    gateway = Recording(latency_s=0.001)
    runner = start(lambda: gateway, concurrency=4)
    with ThreadPoolExecutor(3) as workers:
        list(workers.map(runner.charge, [make_requests(20, f"{n}_") for n in range(3)]))
    assert gateway.most_in_flight == 4


def test_a_fault_reaches_the_calling_worker_and_no_other(start: Start) -> None:
    runner = start(SimulatedGateway, deadline_s=0.2)
    with pytest.raises(GatewayFaultError, match="no answer from the gateway for 1 of 1 requests"):
        runner.charge(make_requests(1, "unavailable:999:pay_"))
    assert len(runner.charge(make_requests(1))) == 1


def test_a_gateway_that_cannot_be_built_fails_every_batch(start: Start) -> None:
    def build() -> Gateway:
        raise LookupError("no such account")

    runner = start(build)
    for _ in range(2):
        with pytest.raises(LookupError, match="no such account"):
            runner.charge(make_requests(1))


def test_a_gateway_that_takes_too_long_to_build_is_given_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def build() -> Gateway:
        released.wait()
        return SimulatedGateway()

    monkeypatch.setattr(runner_module, "_GRACE_S", 0.05)
    with pytest.raises(GatewayFaultError, match="takes too long to build"):
        start(build, deadline_s=0.05).charge(make_requests(1))
    released.set()


def test_a_gateway_that_blocks_its_loop_is_given_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Blocking(SimulatedGateway):
        async def charge(self, request: PaymentRequest, key: str) -> Reply:
            released.wait()
            return await super().charge(request, key)

    monkeypatch.setattr(runner_module, "_GRACE_S", 0.05)
    runner = start(Blocking, deadline_s=0.05)
    started = time.monotonic()
    with pytest.raises(GatewayFaultError, match="blocks its event loop"):
        runner.charge(make_requests(1))
    assert time.monotonic() - started < 5
    released.set()


# --- Closing ---


def test_the_gateway_is_closed_once_on_its_own_thread(start: Start) -> None:
    gateway = Recording()
    runner = start(lambda: gateway)
    runner.charge(make_requests(1))
    runner.close()
    runner.close()
    assert gateway.closed == 1
    assert gateway.threads[-1] is gateway.threads[-2]
    assert not threads()


def test_only_the_first_call_waits_for_the_gateway_to_close(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every lane calls it: if each of them waited, a process with many would never end."""
    released = threading.Event()

    class Blocking(SimulatedGateway):
        async def close(self) -> None:
            released.wait()

    monkeypatch.setattr(runner_module, "_CLOSE_S", -0.95)
    runner = start(Blocking)
    runner.charge(make_requests(1))
    runner.close()
    [thread] = threads()
    joined: list[float | None] = []
    monkeypatch.setattr(thread, "join", joined.append)
    runner.close()
    monkeypatch.undo()
    assert joined == []
    released.set()
    thread.join()


def test_closing_what_never_started_starts_nothing(start: Start) -> None:
    start(Recording).close()
    assert not threads()


def test_a_closed_runner_takes_no_more_batches(start: Start) -> None:
    runner = start(SimulatedGateway)
    runner.close()
    with pytest.raises(GatewayFaultError, match="already closed"):
        runner.charge(make_requests(1))


def test_a_batch_under_way_when_it_closes_ends_with_a_fault(start: Start) -> None:
    gateway = Recording(latency_s=60)
    runner = start(lambda: gateway, deadline_s=60)
    with ThreadPoolExecutor(1) as worker:
        batch = worker.submit(runner.charge, make_requests(3))
        while len(gateway.threads) < 2:  # until it is being charged
            time.sleep(0.001)
        runner.close()
        with pytest.raises(GatewayFaultError, match="3 requests: the gateway was closed"):
            batch.result()


def test_a_gateway_that_fails_to_close_is_only_logged(start: Start) -> None:
    class Sticky(SimulatedGateway):
        async def close(self) -> None:
            raise OSError("still connected")

    runner = start(Sticky)
    runner.charge(make_requests(1))
    with capture_logs() as logged:
        runner.close()
    assert [entry["event"] for entry in logged] == ["gateway not closed cleanly"]


def test_a_gateway_that_never_closes_does_not_hold_up_the_process(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(SimulatedGateway):
        async def close(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(runner_module, "_CLOSE_S", 0.05)
    runner = start(Endless)
    runner.charge(make_requests(1))
    with capture_logs():
        runner.close()
    assert not threads()
