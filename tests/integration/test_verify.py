"""`python -m dataflow verify` as its users run it: on a real Kafka, beside the real flow."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition

from dataflow.core.lane_log import entries_in
from tests import ROOT
from tests.support.flow_process import (
    Flow,
    Topics,
    mixed_requests,
    read_all,
    run_until_decided,
    send,
)
from tests.support.kafka import Cluster

COUNT = 2_000
WAIT_S = 150.0


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@contextmanager
def verifying(
    kafka: Cluster, topics: Topics, *args: str, **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """Yield the checker at work, with `--json`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dataflow", "verify", "--json", *args],
        cwd=ROOT,
        env={
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "LANES": "4",
            **topics.environ(),
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def result(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Return its exit code, and what it printed."""
    out, err = process.communicate(timeout=WAIT_S)
    assert out, err
    assert not err
    return process.returncode, json.loads(out)


def verify(kafka: Cluster, topics: Topics, *args: str, **environ: str) -> tuple[int, Any]:
    with verifying(kafka, topics, *args, **environ) as process:
        return result(process)


def wait_until_following(process: subprocess.Popen[str]) -> None:
    """Wait until it reads: from then on a signal ends that in order."""
    status = Path(f"/proc/{process.pid}/status")
    deadline_s = time.monotonic() + WAIT_S
    while not caught(status.read_text()) & (1 << (signal.SIGTERM - 1)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def caught(status: str) -> int:
    """Return the signals that a process catches, as bits."""
    [found] = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return int(found, 16)


def bad(report: dict[str, Any]) -> dict[str, int]:
    return {kind: count for kind, count in report["findings"].items() if count}


def test_two_readings_agree_on_what_a_crash_has_left(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """One reads along while the flow is killed with a transaction open, and starts again."""
    with verifying(kafka, topics, "--follow", "--until-idle", "10m") as follower:
        wait_until_following(follower)
        send(kafka, topics, mixed_requests(COUNT, seed=21))
        with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": "mid-batch:2"}) as flow:
            assert flow.wait_for_exit() == -9
        send(kafka, topics, mixed_requests(COUNT, seed=21))
        run_until_decided(kafka, topics, tmp_path, 2 * COUNT)
        follower.send_signal(signal.SIGINT)
        code, report = result(follower)
    assert (code, bad(report)) == (0, {}), report["examples"]
    assert report["counts"]["requests"] == report["counts"]["audits"] == 2 * COUNT
    assert any("seen while things happened" in note for note in report["notes"])


def test_a_flow_that_is_behind_and_one_that_is_not(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=22))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert verify(kafka, topics)[0] == 0
    send(kafka, topics, mixed_requests(10, seed=23))
    code, report = verify(kafka, topics)
    assert (code, set(bad(report))) == (1, {"not_at_the_end"})
    assert report["counts"]["waiting"] == 10
    code, report = verify(kafka, topics, "--running")
    assert (code, bad(report)) == (0, {}), report["examples"]


def test_an_open_transaction_that_hides_the_end(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(100, seed=24))
    run_until_decided(kafka, topics, tmp_path, 100)
    audit = topics.outputs[2]
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": f"{topics.prefix}-x",
            # Kafka does not abort it before the test does.
            "transaction.timeout.ms": 600_000,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(audit, b"{}", partition=1)
    assert producer.flush(30) == 0
    code, report = verify(kafka, topics, "--timeout", "1s")
    assert (code, bad(report)) == (1, {"open_transaction": 1}), report["examples"]
    [example] = report["examples"]
    assert (example["topic"], example["partition"]) == (audit, 1)
    # Committed by another than the flow, it is a phantom; aborted, it never was.
    producer.abort_transaction(30)
    assert verify(kafka, topics)[0] == 0


def test_records_deleted_by_retention(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    send(kafka, topics, mixed_requests(300, seed=25))
    run_until_decided(kafka, topics, tmp_path, 300)
    admin = kafka.admin()
    for each in admin.delete_records([TopicPartition(topics.requested, 0, 50)]).values():
        each.result(30)
    code, report = verify(kafka, topics)
    assert (code, bad(report)) == (0, {}), report["examples"]
    assert report["counts"]["requests"] == 250
    [note] = report["notes"]
    assert note.endswith(f"{topics.requested}: [0] below 50")


def test_a_broken_flow_is_found_out(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    armed = tmp_path / "armed"
    broken = {"BREAK": "no-replay"}
    crash = {"CRASH_AT": "after-commit:1", "CRASH_ARMED": str(armed)}
    send(kafka, topics, mixed_requests(COUNT, seed=26))
    with Flow(kafka, topics, tmp_path, environ=broken | crash) as flow:
        flow.wait_until_decided(COUNT)
        armed.touch()
        send(kafka, topics, mixed_requests(COUNT, seed=27))
        assert flow.wait_for_exit() == -9
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT, environ=broken)
    code, report = verify(kafka, topics)
    assert code == 1
    assert "doubled" in bad(report)


def test_a_log_with_a_claim_too_many_and_one_without_any(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(300, seed=28))
    run_until_decided(kafka, topics, tmp_path, 300)
    code, report = verify(kafka, topics)
    assert (code, bad(report)) == (0, {}), report["examples"]
    payments = report["counts"]["payments"]
    assert report["counts"]["claims"] >= payments > 0

    first = next(each for each in read_all(kafka, topics.lane_log) if each.value())
    invented = entries_in(first.value() or b"")[:1].copy()
    invented["origin"] += np.uint64(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    headers = dict(first.headers() or ())
    producer.produce(topics.lane_log, invented.tobytes(), partition=2, headers=headers)
    assert producer.flush(30) == 0
    code, report = verify(kafka, topics)
    assert (code, bad(report)) == (1, {"wrong_claim": 1})
    [example] = report["examples"]
    assert (example["topic"], example["partition"]) == (topics.lane_log, 2)

    kafka.recreate_topic(topics.lane_log, 3, {"retention.ms": "-1"})
    code, report = verify(kafka, topics)
    assert (code, bad(report)) == (1, {"unclaimed": payments})


def test_topics_that_are_not_there(kafka: Cluster) -> None:
    with verifying(kafka, Topics("nowhere")) as process, closing(process.stdout):  # type: ignore[type-var]
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert "topic nowhere.requested: does not exist" in err
    assert "Traceback" not in err
