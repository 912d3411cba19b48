"""A provider without an answer stops nobody; what is charged is what is published, at any crash."""

import shutil
import signal
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from dataflow.core.refusals import ROW
from dataflow.fake_provider.process import FakeProvider
from tests.support.book_gateway import movements
from tests.support.flow_process import LIMIT_S, Flow, Topics, put, read_all, request, send
from tests.support.hooks.tuning import PARKED_UNIT_S, PROBE_MOST_S, tuned
from tests.support.invariants import check, event_of, open_entries
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

POISON = "x:unavailable:999999999"
PARKS_LATE = {
    "GATEWAY_PARK_AFTER": "1s",
    "COMMIT_INTERVAL": "20ms",
    **tuned({PARKED_UNIT_S: 0.2, PROBE_MOST_S: 1.0}),
}
"""Parked payments are asked for again 300 times as often, and probes are never rare."""
GRACE_S = 31
STOPS_SOON = {"KAFKA_TRANSACTION_TIMEOUT": "10s", "STOP_GRACE_PERIOD": f"{GRACE_S}s"}
"""The shortest grace period that a start accepts with these: a stop has to keep to it."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def book_of(directory: Path) -> dict[str, str]:
    """Return the environment of a flow whose provider keeps a book."""
    gateway = "tests.support.book_gateway:BookGateway"
    return {**PARKS_LATE, "BOOK": str(directory / "book"), "GATEWAY": gateway}


def pending(flow: Flow) -> int:
    """Return how many payments its lanes have parked; none before they have read what there is."""
    return int(flow.health().get("charging", {}).get("pending", -1))


def window(flow: Flow) -> int:
    """Return how many calls may be in flight."""
    return int(flow.health().get("charging", {}).get("window", 0))


def lag(flow: Flow) -> int:
    """Return how many records wait; none while it is not known of each partition."""
    lags = [each["lag"] for each in flow.health().get("partitions", {}).values()]
    return 0 if None in lags else sum(lags)


def charged(provider: FakeProvider, ids: list[str]) -> Counter[str]:
    """Return how often each of them is in the provider's book."""
    return Counter(each.payment_id for each in provider.book() if each.payment_id in ids)


def held(flow: Flow, cause: str) -> bool:
    """Return whether it holds, for this cause."""
    metric = f'payments_gateway_held{{cause="{cause}"}} 1.0'
    return flow.health().get("status") == "held" and metric in flow.metrics()


def run_until(kafka: Cluster, topics: Topics, directory: Path, count: int, **environ: str) -> None:
    """Run until so many records are decided and nothing is pending, and stop in order."""
    with Flow(kafka, topics, directory, environ={**PARKS_LATE, **environ}) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: is_done(kafka, topics, flow, count), LIMIT_S, "decided")
        assert flow.terminate() == 0


def is_done(kafka: Cluster, topics: Topics, flow: Flow, count: int) -> bool:
    """Return whether so many records are decided, and nothing is pending: in Kafka, too.

    All of them may be decided before a start, which has not read yet what is pending.
    """
    return flow.decided() == count and not pending(flow) and not open_entries(kafka, topics)


def published(kafka: Cluster, topics: Topics) -> dict[str, dict[str, Any]]:
    events = [event_of(message) for message in read_all(kafka, topics.outputs[0])]
    assert len({event["paymentId"] for event in events}) == len(events)
    return {event["paymentId"]: event for event in events}


def declined(kafka: Cluster, topics: Topics) -> set[str]:
    return {event_of(message)["paymentId"] for message in read_all(kafka, topics.outputs[1])}


def test_a_payment_that_is_never_answered_stops_nobody(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Neither now nor after a restart; its copies are answered, and it waits on."""
    ids = [f"pay-{n}" for n in range(300)]
    send(kafka, topics, map(request, [*ids[:150], POISON, *ids[150:]]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(301)
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        assert flow.get("/ready")[0] == 200
        assert "payments_pending 1.0" in flow.metrics()
        assert flow.health()["charging"]["pending_oldest_seconds"] > 0
        assert flow.terminate() == 0
    [entry] = open_entries(kafka, topics).values()
    assert entry["paymentId"] == POISON
    assert entry["state"] == "pending"
    assert entry["attempts"] > 0
    send(kafka, topics, map(request, [POISON, "later"]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(303)
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "restored")
        assert flow.terminate() == 0
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["payment.duplicate"] == 1
    assert findings.counts["pending"] == 1


def test_a_parked_payment_has_its_outcome_once_there_is_an_answer(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Approved or declined; the entry goes with the outcome."""
    late = ["late:unavailable:4", "late:unavailable:5:decline:card_expired"]
    send(kafka, topics, map(request, ["pay-1", *late, "pay-2"]))
    run_until(kafka, topics, tmp_path, 4)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert (findings.counts["payment.processed"], findings.counts["payment.failed"]) == (3, 1)
    assert findings.counts["pending"] == 0
    written = [message.value() for message in read_all(kafka, topics.pending)]
    assert written.count(None) == 2, "they were parked, and are not any more"


CRASHES = [
    "claimed-not-charged:1",
    "claimed-not-charged:2",
    "charged-not-committed:1",
    "charged-not-committed:2",
    "parked-not-committed:1",
    "answered-not-committed:1",
    "tombstone-not-committed:1",
]


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_between_claim_and_outcome(
    crash: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Also with the recovery store lost; each payment is charged once, as it is published."""
    late = [f"late-{n}:hangs" for n in range(4)]
    ids = [f"pay-{n}" for n in range(60)]
    down = tmp_path / "book.down"
    down.touch()
    send(kafka, topics, map(request, [*ids[:30], *late, *ids[30:]]))
    environ = {**book_of(tmp_path), "CRASH_AT": crash}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        deadline_s = time.monotonic() + 120
        while flow.process.poll() is None and pending(flow) != len(late):
            assert time.monotonic() < deadline_s, flow.log
            time.sleep(0.02)
        down.unlink()
        send(kafka, topics, (request(f"more-{n}") for n in range(30)))
        assert flow.wait_for_exit() == -signal.SIGKILL
    down.unlink(missing_ok=True)
    if crash.endswith("2"):
        shutil.rmtree(tmp_path / "recovery")
    run_until(kafka, topics, tmp_path, 64 + 30, **book_of(tmp_path))
    assert check(kafka, topics).problems == []
    assert_book(tmp_path, kafka, topics)


def test_lanes_may_change_while_payments_wait(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Up and down; each is taken over by the lane it hashes to now, also if a crash is next."""
    late = [f"late-{n}:hangs" for n in range(12)]
    down = tmp_path / "book.down"
    down.touch()
    count = 0
    for lanes in ("2", "5"):
        # The second time they are copies of what waits.
        count += send(kafka, topics, map(request, [*late, *(f"pay-{lanes}-{n}" for n in range(9))]))
        environ = {**book_of(tmp_path), "LANES": lanes}
        with Flow(kafka, topics, tmp_path, environ=environ) as flow:
            flow.wait_until_ready()
            flow.wait_until_decided(count)
            flow.wait(lambda: pending(flow) == len(late), LIMIT_S, "parked")
            assert flow.terminate() == 0
    down.unlink()
    environ = {**book_of(tmp_path), "LANES": "3"}
    crash = {"CRASH_AT": "tombstone-not-committed:1"}
    with Flow(kafka, topics, tmp_path, environ={**environ, **crash}) as flow:
        assert flow.wait_for_exit() == -signal.SIGKILL
    run_until(kafka, topics, tmp_path, count, **environ)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert (findings.counts["payment.duplicate"], findings.counts["pending"]) == (len(late), 0)
    assert_book(tmp_path, kafka, topics)


def assert_book(directory: Path, kafka: Cluster, topics: Topics) -> None:
    """Check invariant 7: for each payment one movement, of the amount that is published."""
    moved = movements(directory / "book")
    events = published(kafka, topics)
    assert len({line["paymentId"] for line in moved}) == len(moved), "charged twice"
    assert {line["paymentId"] for line in moved} == events.keys()
    for line in moved:
        assert Decimal(line["amount"]) == events[line["paymentId"]]["amount"], line
    assert not (directory / "book.errors").exists(), (directory / "book.errors").read_text()


@pytest.mark.parametrize("crash", ["charged-not-committed:1", "claimed-not-charged:1"])
@pytest.mark.parametrize("store", ["kept", "lost"])
def test_the_charged_one_of_two_copies_is_published(
    crash: str, store: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Copies with other content, on two partitions, and a crash after the first was charged.

    After the restart the other one is read first: it is a conflict nevertheless.
    """
    ids = [f"pay-{n}" for n in range(40)]
    environ = book_of(tmp_path)
    put(kafka, topics, 1, *(request(each, "20.00") for each in ids))
    with Flow(kafka, topics, tmp_path, environ={**environ, "CRASH_AT": crash}) as flow:
        assert flow.wait_for_exit() == -signal.SIGKILL
    assert check(kafka, topics).counts["outcomes"] == 0
    put(kafka, topics, 0, *(request(each, "10.00") for each in ids))
    put(kafka, topics, 2, *(request(each, "20.00") for each in ids))
    if store == "lost":
        shutil.rmtree(tmp_path / "recovery")
    run_until(kafka, topics, tmp_path, 120, **environ)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert (findings.counts["payment.conflict"], findings.counts["payment.duplicate"]) == (40, 40)
    assert {event["amount"] for event in published(kafka, topics).values()} == {20}
    assert_book(tmp_path, kafka, topics)


def test_an_outage_of_the_provider_is_held_and_ends_by_itself(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Alive and ready; the backlog stays in its topic; a stop in it is in order."""
    out = tmp_path / "book.out"
    environ = book_of(tmp_path) | {"GATEWAY_CONCURRENCY": "16"} | STOPS_SOON
    send(kafka, topics, (request(f"pay-{n}") for n in range(2_000)))
    out.touch()
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: flow.health().get("status") == "held", LIMIT_S, "held")
        assert (flow.get("/ready")[0], flow.get("/live")[0]) == (200, 200)
        assert "held: the gateway has answered nobody" in flow.health()["reason"]
        assert 'payments_gateway_held{cause="outage"} 1.0' in flow.metrics()
        assert "Waiting for the gateway" in flow.get("/")[1]
        assert flow.terminate(GRACE_S) == 0
    assert not movements(tmp_path / "book")
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: flow.health().get("status") == "held", LIMIT_S, "held")
        flow.wait(lambda: lag(flow) > 1_000, LIMIT_S, "aware of the backlog")
        out.unlink()
        flow.wait(lambda: is_done(kafka, topics, flow, 2_000), LIMIT_S, "back")
        flow.wait(lambda: flow.health().get("status") == "ok", LIMIT_S, "well")
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []
    assert_book(tmp_path, kafka, topics)


@pytest.mark.parametrize(
    ("status", "wrong"),
    [(401, {"HTTP_GATEWAY_CREDENTIALS": "sk_wrong"}), (404, {"HTTP_GATEWAY_URL": "{url}/nowhere"})],
    ids=["credentials", "address"],
)
def test_a_provider_that_refuses_us_is_held_and_a_stop_is_in_order_at_any_time(
    status: int,
    wrong: dict[str, str],
    kafka: Cluster,
    topics: Topics,
    tmp_path: Path,
    provider: FakeProvider,
) -> None:
    """In that hold, and while calls begin again, few at first, after an outage."""
    right = {
        **PARKS_LATE,
        **STOPS_SOON,
        "GATEWAY": "http",
        "GATEWAY_CONCURRENCY": "64",
        "HTTP_GATEWAY_URL": provider.url,
        "HTTP_GATEWAY_CREDENTIALS": "sk_test_fake",
    }
    ids = [f"{topics.prefix}-{n}" for n in range(300)]
    send(kafka, topics, map(request, ids))
    wrong = {name: value.format(url=provider.url) for name, value in wrong.items()}
    with Flow(kafka, topics, tmp_path, environ=right | wrong) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: held(flow, "misconfigured"), LIMIT_S, "held")
        assert (flow.get("/ready")[0], flow.get("/live")[0]) == (200, 200)
        assert "held: the gateway refuses our credentials or URL" in flow.health()["reason"]
        assert f"HTTP {status}" in flow.health()["reason"]
        assert flow.terminate(GRACE_S) == 0
    assert not charged(provider, ids)
    provider.outage(3600)
    with Flow(kafka, topics, tmp_path, environ=right) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: held(flow, "outage"), LIMIT_S, "held")
        provider.change(latency_s=1.0)
        provider.end_outage()
        flow.wait(lambda: 1 < window(flow) < 64, LIMIT_S, "calling again")
        assert flow.terminate(GRACE_S) == 0
    assert 0 < len(charged(provider, ids)) < len(ids)
    provider.change(latency_s=0.0)
    run_until(kafka, topics, tmp_path, len(ids), **right)
    assert charged(provider, ids) == dict.fromkeys(ids, 1)
    assert published(kafka, topics).keys() == set(ids)
    assert check(kafka, topics).problems == []


def test_the_key_of_another_account_holds_the_flow(
    kafka: Cluster, topics: Topics, tmp_path: Path, provider: FakeProvider
) -> None:
    """Only a few payments are declined by it; all others are charged once that is mended."""
    provider.change(is_another_account=True)
    environ = {"GATEWAY": "stripe", "STRIPE_URL": provider.url, "STRIPE_API_KEY": "sk_test_fake"}
    ids = [f"{topics.prefix}-{n}" for n in range(300)]
    send(kafka, topics, (request(each, userId="cus_1", paymentMethod="pm_1") for each in ids))
    with Flow(kafka, topics, tmp_path, environ={**PARKS_LATE, **environ}) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: held(flow, "misconfigured"), LIMIT_S, "held")
        flow.wait(
            lambda: len(declined(kafka, topics)) == ROW - 1, LIMIT_S, "without more to decline"
        )
        flow.wait(lambda: pending(flow) > 0, LIMIT_S, "parked")
        assert (flow.get("/ready")[0], flow.get("/live")[0]) == (200, 200)
        provider.change(is_another_account=False)
        flow.wait(lambda: is_done(kafka, topics, flow, 300), LIMIT_S, "back")
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []
    wrongly = declined(kafka, topics)
    assert len(wrongly) == ROW - 1
    assert published(kafka, topics).keys() == set(ids) - wrongly
    assert charged(provider, ids) == dict.fromkeys(set(ids) - wrongly, 1)


def test_two_processes_hold_together(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Only one of them has lost the provider; records of its lanes come from both.

    The other one reads nothing more, for it, and goes on with it.
    """
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    other = tmp_path / "other"
    other.mkdir()
    shared = book_of(tmp_path) | {"GATEWAY_CONCURRENCY": "16"}
    away = shared | {"BOOK": str(other / "book")}
    (other / "book.out").touch()
    send(kafka, topics, (request(f"pay-{n}") for n in range(2_000)))
    with (
        Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses, environ=shared) as first,
        Flow(kafka, topics, tmp_path, "-i", "1", "-a", addresses, environ=away) as second,
    ):
        second.wait_until_ready()
        second.wait(lambda: held(second, "outage"), LIMIT_S, "held")
        first.wait(lambda: held(first, "peer"), LIMIT_S, "held by the other one")
        assert (first.get("/ready")[0], first.get("/live")[0]) == (200, 200)
        (other / "book.out").unlink()
        flows = (first, second)
        second.wait(lambda: sum(each.decided() for each in flows) == 2_000, LIMIT_S, "back")
        second.wait(lambda: not open_entries(kafka, topics), LIMIT_S, "resolved")
        for flow in flows:
            flow.wait(lambda flow=flow: flow.health().get("status") == "ok", LIMIT_S, "well")
        assert first.terminate() == 0
        assert second.wait_for_exit() == 0
    assert check(kafka, topics).problems == []


def delete(kafka: Cluster, topic: str) -> None:
    admin = kafka.admin()
    admin.delete_topics([topic])[topic].result(20)


def test_a_pending_topic_that_was_created_again_is_refused_and_what_to_do_without_it(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The payments that waited are lost with it; the line has commands to go on without them."""
    send(kafka, topics, map(request, ["pay-1", POISON]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        assert flow.terminate() == 0
    delete(kafka, topics.pending)
    topics.create_pending(kafka)
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        reason = flow.refusal()
    assert "it was deleted and created again" in reason
    assert f"{topics.group}.lane-" in reason


def test_a_pending_topic_of_another_flow_is_refused(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Or this flow would charge its payments, and end its entries."""
    send(kafka, topics, map(request, [POISON]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        assert flow.terminate() == 0
    another, elsewhere = Topics.fresh(kafka), tmp_path / "another"
    elsewhere.mkdir()
    shared = {"KAFKA_TOPIC_PENDING": topics.pending, "KAFKA_START": "earliest"}
    with Flow(kafka, another, elsewhere, environ=shared) as flow:
        reason = flow.refusal()
    assert f"is of the topic {topics.requested}, not {another.requested}" in reason
    assert "set KAFKA_TOPIC_PENDING" in reason


def test_an_entry_of_a_newer_version_is_refused(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Whatever it looks like: to go on without it would leave the payment undecided."""
    send(kafka, topics, map(request, ["pay-1", POISON]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        assert flow.terminate() == 0
    entry = read_all(kafka, topics.pending)[-1]
    headers: dict[str, str | bytes | None] = {"version": b"3", "lane": b"1", "lanes": b"2"}
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topics.pending, entry.value(), entry.key(), 0, headers=headers)
    assert producer.flush(10) == 0
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        reason = flow.refusal()
    assert "its layout is version 3, this is version 2" in reason
    assert "start that: the payment would stay undecided" in reason


def test_a_pending_topic_that_forgets_is_refused(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    delete(kafka, topics.pending)
    kafka.create_topics({topics.pending: 1}, {"cleanup.policy": "compact,delete"})
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        reason = flow.refusal()
    assert "Kafka would delete payments that wait for the gateway" in reason
    assert "--add-config cleanup.policy=compact" in reason
