"""A client that stops fetching without an error, and what looks like it but is none."""

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support.flow_process import (
    LIMIT_S,
    Flow,
    Topics,
    mixed_requests,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks import tuning
from tests.support.invariants import check
from tests.support.kafka import Broker, Cluster

COUNT = 600
STALLED_S = 10.0
"""Longer than a client that is well is without an answer where the machine has too much to do."""
OPEN_MS = 600_000
"""The time for which Kafka leaves a transaction open: longer than a test takes."""
PARTITIONS = 3


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def environ(directory: Path, stalled_s: float = STALLED_S, fresh_s: float = 30) -> dict[str, str]:
    """Make minutes seconds; clients stop fetching once `stop_fetching` wants it."""
    constants = {
        tuning.WATCH_EVERY_S: 1,
        tuning.STALLED_S: stalled_s,
        tuning.SUSPECT_S: 1,
        tuning.FRESH_S: fresh_s,
    }
    return {
        **tuning.tuned(constants),
        "STOP_FETCHING": str(directory / "stop"),
    }


def stop_fetching(flow: Flow, directory: Path) -> None:
    (directory / "stop").touch()
    flow.wait(lambda: len([*directory.glob("stop.*")]) == PARTITIONS, LIMIT_S, "fetching nothing")
    # The restart is to read again.
    (directory / "stop").unlink()


def lag(flow: Flow) -> int:
    return sum(each["lag"] or 0 for each in flow.health().get("partitions", {}).values())


def moments(seconds: float) -> Iterator[float]:
    """Pause between them, until so much time has passed."""
    until_s = time.monotonic() + seconds
    while (now_s := time.monotonic()) < until_s:
        yield now_s
        time.sleep(0.05)


def sender(kafka: Cluster) -> Producer:
    """Return a sender of transactions."""
    name = f"sender-{uuid.uuid4().hex}"
    config = {"transactional.id": name, "transaction.timeout.ms": OPEN_MS}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **config})
    producer.init_transactions(LIMIT_S)
    return producer


def fault_of(flow: Flow) -> dict[str, str]:
    [fault] = [entry for entry in flow.entries if entry["event"] == "fault"]
    return fault


def test_a_client_that_stops_fetching_is_seen_and_ends_the_process(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Its own idea of where the partitions end is as old as its last answer."""
    # Until then, what is shown of the silence can be looked at.
    seconds = environ(tmp_path, 3 * STALLED_S)
    with Flow(kafka, topics, tmp_path, environ=seconds, commit_interval="") as flow:
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait_until_decided(COUNT)
        flow.wait_until_ready()
        stop_fetching(flow, tmp_path)
        send(kafka, topics, mixed_requests(COUNT, seed=2))
        flow.wait(lambda: lag(flow) == COUNT, LIMIT_S, "behind")
        assert {lag(flow) for _ in moments(2.5)} == {COUNT}, "in all epochs"
        # Not at once: the watcher may miss an answer, and then Kafka counts as unreachable.
        flow.wait(
            lambda: "partitions whose client delivers nothing" in flow.get("/ready")[1],
            LIMIT_S,
            "unready",
        )
        assert flow.get("/ready")[0] == 503
        flow.wait(lambda: flow.health().get("status") == "not_reading", LIMIT_S, "in a word")
        assert lag(flow) == COUNT
        assert flow.get("/live")[0] == 200
        assert flow.wait_for_exit() == 1
    fault = fault_of(flow)
    assert fault["kind"] == "FetchStalledError"
    assert f"{topics.requested}[" in fault["reason"]
    assert f"delivered nothing from {COUNT // PARTITIONS} on" in fault["reason"]
    assert f"the last stable offset, {2 * COUNT // PARTITIONS}," in fault["reason"]
    assert re.search(r": for \d+ s the Kafka client", fault["reason"])

    run_until_decided(kafka, topics, tmp_path, 2 * COUNT)
    assert check(kafka, topics).problems == []


def test_an_open_transaction_of_a_sender_is_no_fault(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Nobody may read past it while it is open; and in one that is aborted there is nothing."""
    producer = sender(kafka)
    with Flow(kafka, topics, tmp_path, environ=environ(tmp_path), commit_interval="") as flow:
        flow.wait_until_ready()
        for end in (producer.commit_transaction, producer.abort_transaction):
            producer.begin_transaction()
            for n in range(10):
                producer.produce(topics.requested, request(f"{end.__name__}-{n}"), partition=1)
            assert producer.flush(LIMIT_S) == 0
            # Records behind it that are complete wait for its end as well.
            send(kafka, topics, (request(f"behind-{end.__name__}-{n}") for n in range(30)))
            flow.wait(lambda: lag(flow) > 0, LIMIT_S, "behind")
            time.sleep(1.5 * STALLED_S)
            assert lag(flow) > 0
            flow.wait_until_ready()
            end(LIMIT_S)
            flow.wait(lambda: lag(flow) == 0, LIMIT_S, "done")
        time.sleep(1.5 * STALLED_S)
        flow.wait_until_ready()  # behind the last transaction there is only its end
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


def test_an_aborted_transaction_below_an_open_one_is_no_fault(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Kafka has records there that readers may have, and none for them: its end is not below."""
    aborting, open_one = (sender(kafka) for _ in range(2))
    with Flow(kafka, topics, tmp_path, environ=environ(tmp_path), commit_interval="") as flow:
        flow.wait_until_ready()
        for name, producer in (("aborted", aborting), ("open", open_one)):
            producer.begin_transaction()
            for n in range(10):
                producer.produce(topics.requested, request(f"{name}-{n}"), partition=1)
            assert producer.flush(LIMIT_S) == 0
        aborting.abort_transaction(LIMIT_S)
        flow.wait(lambda: lag(flow) > 0, LIMIT_S, "behind")
        time.sleep(1.5 * STALLED_S)
        assert flow.process.poll() is None
        assert lag(flow) > 0
        flow.wait_until_ready()
        open_one.commit_transaction(LIMIT_S)
        flow.wait(lambda: lag(flow) == 0, LIMIT_S, "done")
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


def test_a_broker_outage_is_no_fault_of_the_client(
    kafka_control: Broker, topics: Topics, tmp_path: Path
) -> None:
    """Although records wait: only while Kafka answers the client could have had them."""
    # The time until the broker is paused, and that in which its last answer is good, is far less.
    stalled_s = 25.0
    seconds = environ(tmp_path, stalled_s, fresh_s=stalled_s / 5)
    with Flow(kafka_control, topics, tmp_path, environ=seconds, commit_interval="") as flow:
        flow.wait_until_ready()
        stop_fetching(flow, tmp_path)
        send(kafka_control, topics, mixed_requests(COUNT, seed=1))
        flow.wait(lambda: lag(flow) > 0, LIMIT_S, "behind")
        kafka_control.pause()
        time.sleep(1.1 * stalled_s)
        assert flow.process.poll() is None
        assert flow.get("/live")[0] == 200
        kafka_control.resume()
        assert flow.wait_for_exit() == 1
        assert fault_of(flow)["kind"] == "FetchStalledError"
    run_until_decided(kafka_control, topics, tmp_path, COUNT)
    assert check(kafka_control, topics).problems == []
