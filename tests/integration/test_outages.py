"""Kafka goes away for a while, or the flow does: what is committed stays true, and it goes on."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dataflow.core.lanes import lane_of_key
from schemas.requests import key_of
from tests.support.book_gateway import movements
from tests.support.flow_process import (
    LIMIT_S,
    Flow,
    Topics,
    has_open_transaction,
    mixed_requests,
    put,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import GENERATION_SHARE, SMALL_MEMORY, WATCH_EVERY_S, tuned
from tests.support.invariants import check
from tests.support.kafka import Broker, Cluster
from tests.support.kafka.broker import SESSION_S

COUNT = 600
WATCHFUL = tuned({WATCH_EVERY_S: 0.5})
BLIND = SMALL_MEMORY | tuned({GENERATION_SHARE: 1e9, WATCH_EVERY_S: 3600})
"""It does not find that partitions are added."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def is_suspended(flow: Flow) -> bool:
    return " T " in Path(f"/proc/{flow.process.pid}/stat").read_text()


def suspended(
    kafka: Cluster, topics: Topics, directory: Path, at: str, environ: dict[str, str]
) -> Flow:
    """Return a flow that is suspended at a point."""
    environ = {"CRASH_AT": at, "CRASH_BY": "SIGSTOP", **environ}
    flow = Flow(kafka, topics, directory, environ=environ)
    flow.wait(lambda: is_suspended(flow), LIMIT_S, "suspended")
    return flow


# ---- Kafka goes away ----


def restart(broker: Broker) -> None:
    broker.restart()


def resume(broker: Broker) -> None:
    # Its partitions have lost their leader for a moment.
    time.sleep(SESSION_S + 0.5)
    broker.resume()


@pytest.mark.parametrize(
    ("take_away", "bring_back"), [(Broker.stop, restart), (Broker.pause, resume)]
)
def test_kafka_comes_back(
    take_away: Callable[[Broker], None],
    bring_back: Callable[[Broker], None],
    kafka_control: Broker,
    topics: Topics,
    tmp_path: Path,
) -> None:
    """Not ready meanwhile, but alive. Then it goes on; or it ends, and a restart goes on.

    A commit that was under way can be lost on the client for good.
    """
    # Far longer than the watcher may take to find that the broker is silent.
    environ = {**WATCHFUL, "KAFKA_TRANSACTION_TIMEOUT": "60s"}
    with Flow(kafka_control, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        send(kafka_control, topics, mixed_requests(5_000, seed=1))
        flow.wait(lambda: flow.decided() > 0, LIMIT_S, "at work")
        take_away(kafka_control)
        flow.wait(lambda: "Kafka is unreachable" in flow.get("/ready")[1], LIMIT_S, "unready")
        assert flow.get("/ready")[0] == 503
        assert flow.get("/live")[0] == 200
        bring_back(kafka_control)
        count = 5_000 + send(kafka_control, topics, mixed_requests(COUNT, seed=2))
        if flow.wait_or_end(lambda: flow.decided() == count, LIMIT_S, "done"):
            flow.wait_until_ready()
            assert flow.terminate() == 0
        else:
            assert flow.process.poll() == 1
    run_until_decided(kafka_control, topics, tmp_path, 5_000 + COUNT)
    assert check(kafka_control, topics).problems == []


# ---- the flow goes away, and comes back as a zombie ----


def wake(zombie: Flow) -> dict[str, str]:
    """Let a suspended flow go on; the fault that it ends by."""
    zombie.process.send_signal(signal.SIGCONT)
    # The client may be so long in coming back from a call: see `Lane._wait_for_commit`.
    assert zombie.wait_for_exit() == 1
    [fault] = [entry for entry in zombie.entries if entry["event"] == "fault"]
    return fault


def test_a_zombie_cannot_commit(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """It had everything written, and was suspended before the commit; meanwhile, another run."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with suspended(kafka, topics, tmp_path, "before-commit:1", {}) as zombie:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        run_until_decided(kafka, topics, elsewhere, COUNT)
        fault = wake(zombie)
    assert fault["kind"] == "FencedError"
    assert "Another execution of this flow has taken over" in fault["reason"]
    assert check(kafka, topics).problems == []


def test_a_zombie_with_more_lanes_cannot_commit(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Also in those lanes that the run which took over does not have; here, only in those."""
    names = [f"pay-{n}" for n in range(COUNT)]
    ids = [name for name in names if lane_of_key(key_of(name), 8) > 0]
    send(kafka, topics, map(request, ids))
    with suspended(kafka, topics, tmp_path, "before-commit:1", {"LANES": "8"}) as zombie:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        run_until_decided(kafka, topics, elsewhere, len(ids), {"LANES": "1"})
        assert wake(zombie)["kind"] == "FencedError"
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize("next_has", ["no files", "the files of the zombie"])
def test_an_id_that_only_a_zombie_has_claimed_is_a_copy(
    next_has: str, kafka: Cluster, tmp_path: Path
) -> None:
    """It is suspended while idle, and reads copies once its successor has decided the payments.

    Its claims are dated later than all others of these ids, and each names the copy that it is for.
    In the log, or in the files of the zombie, they would make every copy the first one: decided
    again. The first requests are on a partition that it does not have, so it finds the ids new.
    """
    topics = Topics.fresh(kafka, partitions=1)
    zombies, successors = tmp_path / "zombie", tmp_path / "successor"
    zombies.mkdir()
    successors.mkdir()
    requests = [request(f"pay-{n}") for n in range(40)]
    put(kafka, topics, 0, request("before"))
    with Flow(kafka, topics, zombies, environ=BLIND) as zombie:
        # By then it is past the epochs in which lanes commit without a record.
        zombie.wait_until_decided(1)
        zombie.process.send_signal(signal.SIGSTOP)
        topics.grow(kafka, 2)
        put(kafka, topics, 1, *requests)
        run_until_decided(kafka, topics, successors, 1 + 40, SMALL_MEMORY)
        put(kafka, topics, 0, *requests)
        time.sleep(1)  # ids are dated in whole seconds
        assert wake(zombie)["kind"] == "FencedError"
    if next_has == "no files":
        shutil.rmtree(zombies)
        zombies.mkdir()
    run_until_decided(kafka, topics, zombies, 1 + 2 * 40, SMALL_MEMORY)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["payment.duplicate"] == 40


def test_a_zombie_charges_nothing_under_an_old_key(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """It had claimed the payments, and was suspended for more than a day before it charged them.

    Its successor has charged them meanwhile, and the provider has forgotten the keys.
    """
    ahead, elsewhere = tmp_path / "ahead", tmp_path / "elsewhere"
    ahead.write_text("0")
    elsewhere.mkdir()
    gateway = "tests.support.book_gateway:ForgetfulGateway"
    provider = {"GATEWAY": gateway, "BOOK": str(tmp_path / "book")}
    put(kafka, topics, 0, *(request(f"pay-{n}") for n in range(40)))
    clock = {"CLOCK_AHEAD": str(ahead)}
    with suspended(kafka, topics, tmp_path, "claimed-not-charged:1", provider | clock) as zombie:
        run_until_decided(kafka, topics, elsewhere, 40, provider)
        ahead.write_text("90000")
        assert wake(zombie)["kind"] == "FencedError"
    assert len(movements(tmp_path / "book")) == 40
    assert check(kafka, topics).problems == []


def test_a_transaction_that_was_open_for_too_long_is_void(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Kafka ends it by itself, so that nobody waits for a suspended flow for ever."""
    audit = topics.outputs[2]
    timeout = {"KAFKA_TRANSACTION_TIMEOUT": "10s"}
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with suspended(kafka, topics, tmp_path, "flushed:1", timeout) as sleeper:
        # It has written in the transaction, which may be over already.
        assert read_all(kafka, audit, isolation="read_uncommitted")
        sleeper.wait(lambda: not has_open_transaction(kafka, audit), LIMIT_S, "timed out")
        assert wake(sleeper)["kind"] in {"FencedError", "CommitError"}
    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert check(kafka, topics).problems == []
