"""The tools for payments that went another way, as their users run them: on a real Kafka."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.support.flow_process import Flow, Topics, request, send
from tests.support.hooks.tuning import PARKED_UNIT_S, tuned
from tests.support.kafka import Cluster

POISON = "x:unavailable:999999999"
PATIENT = {"GATEWAY_PATIENCE": "1s", "COMMIT_INTERVAL": "20ms", **tuned({PARKED_UNIT_S: 0.2})}


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
        timeout=90,
    )
    return done.returncode, done.stdout, done.stderr


def result(kafka: Cluster, topics: Topics, *args: str, **environ: str) -> tuple[int, Any]:
    """Run a tool with `--json`; its exit code, and the object that it printed."""
    code, out, err = run(kafka, topics, *args, "--json", **environ)
    assert not err
    return code, json.loads(out)


def test_what_waits_is_listed_beside_the_flow_and_without_it(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, map(request, ["pay-1", POISON, "pay-2"]))
    with Flow(kafka, topics, tmp_path, environ=PATIENT) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(3)
        flow.wait(lambda: flow.health()["charging"]["pending"] == 1, 20, "parked")
        code, running = result(kafka, topics, "pending")
        assert flow.terminate() == 0
    assert (code, [each["paymentId"] for each in running["entries"]]) == (0, [POISON])
    code, stopped = result(kafka, topics, "pending", "--older-than", "0ms")
    [entry] = stopped["entries"]
    assert (code, entry["amount"], entry["currency"]) == (0, "10.00", "USD")
    assert entry["attempts"] >= running["entries"][0]["attempts"] > 0
    assert stopped["notes"] == []
    assert result(kafka, topics, "pending", "--older-than", "1h")[1]["count"] == 0
