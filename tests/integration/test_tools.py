"""The tools for payments that went another way, as their users run them: on a real Kafka."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dataflow.core.lanes import lane_of_key
from dataflow.fake_provider.process import FakeProvider
from schemas.requests import key_of
from tests import ROOT
from tests.integration.test_parking import PARKS_LATE, pending
from tests.support.flow_process import (
    LIMIT_S,
    Flow,
    Topics,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import PARKED_UNIT_S, QUIET_S, UNRESOLVED_AFTER_S, tuned
from tests.support.invariants import check, event_of, open_entries
from tests.support.kafka import Cluster, ports

POISON = "x:unavailable:999999999"
UNRESOLVED = {
    "GATEWAY_PARK_AFTER": "1s",
    "COMMIT_INTERVAL": "20ms",
    **tuned({PARKED_UNIT_S: 0.2, QUIET_S: 1.0, UNRESOLVED_AFTER_S: 0.5}),
}
"""Also, a payment needs a person after half a second."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def run(kafka: Cluster, topics: Topics, *args: str, **environ: str) -> tuple[int, str, str]:
    """Run a tool as a user does; its exit code, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "dataflow", *args],
        cwd=ROOT,
        env={
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "LANES": "4",
            **topics.environ(),
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    return done.returncode, done.stdout, done.stderr


def unresolved(flow: Flow) -> int:
    """Return how many of what its lanes have parked needs a person."""
    return int(flow.health().get("charging", {}).get("unresolved", -1))


def result(kafka: Cluster, topics: Topics, *args: str, **environ: str) -> tuple[int, Any]:
    """Run a tool with `--json`; its exit code, and the object that it printed."""
    code, out, err = run(kafka, topics, *args, "--json", **environ)
    assert not err
    return code, json.loads(out)


def test_pending_payments_are_listed_beside_the_flow_and_without_it(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, map(request, ["pay-1", POISON, "pay-2"]))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(3)
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        code, running = result(kafka, topics, "pending")
        assert flow.terminate() == 0
    assert (code, [each["paymentId"] for each in running["entries"]]) == (0, [POISON])
    code, stopped = result(kafka, topics, "pending", "--older-than", "0ms")
    [entry] = stopped["entries"]
    assert (code, entry["amount"], entry["currency"]) == (0, "10.00", "USD")
    assert entry["attempts"] >= running["entries"][0]["attempts"] > 0
    assert stopped["notes"] == []
    assert result(kafka, topics, "pending", "--older-than", "1h")[1]["count"] == 0


def test_a_failed_payment_is_tried_again_once_however_often_the_tool_runs(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    poor = [f"pay-{n}:decline:insufficient_funds" for n in range(5)]
    send(kafka, topics, map(request, [*poor, "pay-6", "pay-7:decline:card_expired"]))
    run_until_decided(kafka, topics, tmp_path, 7)
    code, found = result(kafka, topics, "redrive")
    assert (code, found["sent"], found["money"]) == (0, None, {"USD": "50.00"})
    assert result(kafka, topics, "redrive", "--send", "--limit", "2")[1]["sent"] == 2
    # Of the first two it is not known yet what became of them: the flow has not run.
    code, found = result(kafka, topics, "redrive", "--send", "--rate", "1000")
    assert (code, found["sent"], found["error"]) == (0, 5, None)
    run_until_decided(kafka, topics, tmp_path, 7 + 2 + 5)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["payment.duplicate"] == 2

    sent = {each.key(): each.headers() for each in read_all(kafka, topics.requested) if each.key()}
    first = next(
        each for each in read_all(kafka, topics.outputs[1]) if each.key() == poor[0].encode()
    )
    event_id = json.loads(first.value() or b"")["eventId"]
    assert sent[f"{poor[0]}~redrive-1".encode()] == [
        ("redrive-of", poor[0].encode()),
        ("redrive-event", event_id.encode()),
    ]
    # They were declined again, which is the end of it, unless it is asked for.
    code, found = result(kafka, topics, "redrive", "--send")
    assert (code, found["sent"]) == (0, 0)
    assert set(found["leftOut"].values()) == {5}
    _, found = result(kafka, topics, "redrive", "--max-generation", "2")
    assert {each["newPaymentId"] for each in found["redrives"]} == {
        f"{each}~redrive-2" for each in poor
    }


HANGING = "pay-x:hangs"
REASON = ["--reason", "ticket 7", "--by", "ann"]


def without_answers(directory: Path) -> dict[str, str]:
    """Return the environment of a flow whose provider has no book, and no answer for some."""
    gateway = "tests.support.book_gateway:SilentGateway"
    return {**UNRESOLVED, "GATEWAY": gateway, "BOOK": str(directory / "book")}


def events_of(kafka: Cluster, topics: Topics, payment_id: str) -> list[dict[str, Any]]:
    return [
        event
        for topic in topics.outputs
        for event in map(event_of, read_all(kafka, topic))
        if event["paymentId"] == payment_id
    ]


def test_a_decision_is_carried_out_by_the_running_flow(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    ids = [f"{HANGING}-{n}" for n in range(3)]
    send(kafka, topics, map(request, ["pay-1", *ids]))
    with Flow(kafka, topics, tmp_path, environ=without_answers(tmp_path)) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: unresolved(flow) == 3, LIMIT_S, "unresolved")
        processed = ["resolve", ids[0], "--processed", "ch_7", *REASON]
        code, found = result(kafka, topics, *processed)
        assert (code, found["state"], found["outcome"]) == (0, "carried_out", "payment.processed")
        code, found = result(kafka, topics, "resolve", ids[1], "--failed", "declined", *REASON)
        assert (code, found["state"], found["outcome"]) == (0, "carried_out", "payment.failed")
        code, _, err = run(kafka, topics, *processed)
        assert code == 1
        assert "does not wait for the gateway" in err
        assert flow.terminate() == 0
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["pending"] == 1
    outcome, audit = events_of(kafka, topics, ids[0])
    assert outcome["gatewayReference"] == audit["gatewayReference"] == "ch_7"
    assert (audit["resolution"]["by"], audit["resolution"]["reason"]) == ("ann", "ticket 7")
    assert "resolution" not in outcome
    assert result(kafka, topics, "pending")[1]["notes"] == []


def test_decisions_reach_the_process_that_has_the_lane(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """In a cluster each process reads all decisions, and carries out those of its own lanes."""
    by_lane = {lane_of_key(key_of(each), 4): each for each in (f"{HANGING}-{n}" for n in range(40))}
    ids = list(by_lane.values())
    assert len(ids) == 4
    send(kafka, topics, map(request, ids))
    addresses = ";".join(f"127.0.0.1:{port}" for port in ports.free(2))
    environ = without_answers(tmp_path)
    with (
        Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses, environ=environ) as one,
        Flow(kafka, topics, tmp_path, "-i", "1", "-a", addresses, environ=environ) as other,
    ):
        one.wait(lambda: unresolved(one) + unresolved(other) == 4, LIMIT_S, "unresolved")
        assert unresolved(one) > 0
        assert unresolved(other) > 0
        for payment_id in ids:
            given = ["resolve", payment_id, "--processed", "ch_7", *REASON]
            code, found = result(kafka, topics, *given)
            assert (code, found["state"]) == (0, "carried_out")
        one.wait(lambda: unresolved(one) + unresolved(other) == 0, LIMIT_S, "decided")
        assert one.terminate() == 0
        assert other.wait_for_exit() == 0
    findings = check(kafka, topics)
    assert findings.problems == []
    assert (findings.counts["payment.processed"], findings.counts["pending"]) == (4, 0)


def test_a_decision_outlives_a_stop_and_a_crash(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Carried out once, whichever start it is that has it."""
    environ = without_answers(tmp_path)
    send(kafka, topics, map(request, ["pay-1", HANGING]))
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: unresolved(flow) == 1, LIMIT_S, "unresolved")
        assert flow.terminate() == 0
    assert result(kafka, topics, "pending")[1]["unresolved"] == 1
    given = ["resolve", HANGING, "--processed", "ch_7", *REASON, "--wait", "1s"]
    code, found = result(kafka, topics, *given)
    assert (code, found["state"]) == (3, "waiting")
    assert result(kafka, topics, "pending")[1]["entries"][0]["isDecided"] is True
    crash = {
        **environ,
        "CRASH_AT": "tombstone-not-committed:1",
        # The tool after it waits for the end of the transaction.
        "KAFKA_TRANSACTION_TIMEOUT": "10s",
    }
    with Flow(kafka, topics, tmp_path, environ=crash) as flow:
        assert flow.wait_for_exit() == -9
    assert result(kafka, topics, "pending")[1]["count"] == 1
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: not open_entries(kafka, topics), LIMIT_S, "resolved")
        assert flow.terminate() == 0
    assert result(kafka, topics, "pending")[1]["count"] == 0
    findings = check(kafka, topics)
    assert (findings.problems, findings.counts["pending"]) == ([], 0)
    assert len(events_of(kafka, topics, HANGING)) == 2
    last = {each.key(): each.value() for each in read_all(kafka, topics.pending)}
    assert {*last.values()} == {None}, "the decision has ended with the entry"


def test_the_providers_list_agrees_until_it_does_not(
    kafka: Cluster, topics: Topics, tmp_path: Path, provider: FakeProvider
) -> None:
    """With charges that are approved, declined and undecided, and one of another system."""
    since = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
    environ = {
        **PARKS_LATE,
        "GATEWAY": "http",
        "HTTP_GATEWAY_URL": provider.url,
        "HTTP_GATEWAY_CREDENTIALS": "sk_test_fake",
    }
    mark = topics.prefix  # The provider is shared.
    ids = [f"{mark}-{n}" for n in range(5)]
    late = f"{mark}-late:processing"
    provider.change(finish_after_s=3600.0, page_size=3)
    send(kafka, topics, map(request, [*ids, f"{mark}-no:decline_expired_card", late]))
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        # On a slow machine others are parked, too, for a while.
        flow.wait(lambda: flow.decided() == 7 and pending(flow) == 1, LIMIT_S, "decided")
        assert flow.terminate() == 0
    until = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    given = ["reconcile", "--since", since, "--until", until, "--lookback", "0ms"]
    code, found = result(kafka, topics, *given, **environ)
    mine = [each for each in found["findings"] if each["paymentId"].startswith(mark)]
    assert mine == [], "others' payments at this provider are none of ours"
    assert found["counts"]["processed"] == 5
    assert found["counts"]["pending"] == 1
    assert found["money"]["USD"]["processed"] == "50.00"

    charged = [each for each in provider.book() if each.payment_id in ids]
    rows = [f"{each.payment_id},{each.id},{each.amount / 100:.2f},USD" for each in charged]
    file = tmp_path / "export.csv"
    file.write_text("\n".join(["paymentId,reference,amount,currency", *rows]))
    given = [*given, "--provider-file", str(file)]
    code, found = result(kafka, topics, *given)
    assert (code, found["money"]["USD"]["difference"]) == (0, "0.00")
    file.write_text(file.read_text().replace("10.00", "10.01", 1).replace(rows[-1], ""))
    code, found = result(kafka, topics, *given)
    assert code == 1
    assert {each["paymentId"]: each["difference"] for each in found["findings"]} == {
        charged[0].payment_id: "amount",
        charged[-1].payment_id: "not_charged",
    }
