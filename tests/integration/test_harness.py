"""The harness itself: what the other integration tests believe of their Kafka."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource

from dataflow.kafka.preflight import LANE_LOG_CONFIG, PENDING_CONFIG
from tests import ROOT
from tests.support.kafka import Broker, Cluster, SecureBroker, ToolError, archive, ports
from tests.support.kafka.cluster import TIMEOUT_S, java_command

GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def fresh(kafka: Cluster, partitions: int = 1) -> str:
    topic = f"harness-{uuid.uuid4().hex[:12]}"
    kafka.create_topics({topic: partitions})
    return topic


def produce(producer: Producer, topic: str, *values: bytes) -> None:
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(TIMEOUT_S) == 0


def read(kafka: Cluster, topic: str, isolation: str) -> list[bytes]:
    """Return all that such a reader sees of partition 0, up to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "unused",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,  # the end is reported only after an empty fetch
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    seen: list[bytes] = []
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            seen.append(message.value() or b"")
        elif error.code() == KafkaError._PARTITION_EOF:
            consumer.close()
            return seen
        else:
            raise KafkaException(error)
    raise TimeoutError(topic)


def test_an_aborted_transaction_is_invisible_to_a_read_committed_reader(kafka: Cluster) -> None:
    topic = fresh(kafka)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    for value, end in [
        (b"first", producer.commit_transaction),
        (b"aborted", producer.abort_transaction),
        (b"last", producer.commit_transaction),
    ]:
        producer.begin_transaction()
        produce(producer, topic, value)
        end(TIMEOUT_S)
    assert read(kafka, topic, "read_committed") == [b"first", b"last"]
    assert read(kafka, topic, "read_uncommitted") == [b"first", b"aborted", b"last"]


def test_a_second_producer_with_the_same_transactional_id_fences_the_first(
    kafka: Cluster,
) -> None:
    topic = fresh(kafka)
    config = {"bootstrap.servers": kafka.bootstrap, "transactional.id": topic}
    first, second = Producer(config), Producer(config)
    first.init_transactions(TIMEOUT_S)
    first.begin_transaction()
    produce(first, topic, b"of the fenced one")
    second.init_transactions(TIMEOUT_S)
    with pytest.raises(KafkaException) as raised:
        first.commit_transaction(TIMEOUT_S)
    assert raised.value.args[0].fatal()
    assert read(kafka, topic, "read_committed") == []


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill])
def test_a_restart_keeps_data_and_address(
    kafka_control: Broker, end: Callable[[Broker], None]
) -> None:
    topic = fresh(kafka_control)
    producer = Producer({"bootstrap.servers": kafka_control.bootstrap, "log_level": 0})
    produce(producer, topic, b"before")
    end(kafka_control)
    assert kafka_control.pid is None
    kafka_control.restart()
    produce(producer, topic, b"after")
    assert read(kafka_control, topic, "read_committed") == [b"before", b"after"]


def test_a_paused_broker_answers_only_after_it_resumes(kafka_control: Broker) -> None:
    kafka_control.pause()
    with pytest.raises(KafkaException):
        kafka_control.admin().list_topics(timeout=1)
    kafka_control.resume()
    assert kafka_control.admin().list_topics(timeout=TIMEOUT_S).brokers


def test_the_group_tool_prints_the_lag(kafka: Cluster) -> None:
    topic = fresh(kafka)
    group = f"group-of-{topic}"
    produce(Producer({"bootstrap.servers": kafka.bootstrap}), topic, *[b"x"] * 10)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    consumer.close()
    printed = kafka.tool(GROUP_TOOL, "--describe", "--group", group)
    assert re.search(rf"{group}\s+{topic}\s+0\s+7\s+10\s+3\s", printed), printed


def test_a_failing_tool_reports_the_reason(kafka: Cluster) -> None:
    with pytest.raises(ToolError, match="no-such-option"):
        kafka.tool(GROUP_TOOL, "--no-such-option")


def login_error(config: Mapping[str, str]) -> int | None:
    """Return the code of why a client is refused, or None when it gets an answer.

    That the connection is gone may be reported first, and is no reason.
    """
    gone = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
    codes: list[int] = []
    settings: dict[str, Any] = {"error_cb": lambda error: codes.append(error.code())}
    admin = AdminClient({**config, "log_level": 0, **settings})
    deadline = time.monotonic() + TIMEOUT_S
    while gone.issuperset(codes) and time.monotonic() < deadline:
        try:
            admin.list_topics(timeout=1)
        except KafkaException:
            admin.poll(0)
        else:
            return None
    return next((code for code in codes if code not in gone), codes[0])


def test_sasl_ssl_lets_the_right_password_in(secure_kafka: SecureBroker) -> None:
    assert login_error(secure_kafka.sasl_ssl_config()) is None


@pytest.mark.parametrize(
    "wrong",
    [{"sasl.password": "wrong"}, {"sasl.username": "nobody"}, {"sasl.mechanism": "PLAIN"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_sasl_ssl_refuses_a_wrong_login(secure_kafka: SecureBroker, wrong: dict[str, str]) -> None:
    assert login_error(secure_kafka.sasl_ssl_config() | wrong) == KafkaError._AUTHENTICATION


def test_sasl_ssl_is_refused_by_a_client_of_another_ca(secure_kafka: SecureBroker) -> None:
    config = secure_kafka.sasl_ssl_config() | {"ssl.ca.location": secure_kafka.other_ca_pem}
    assert login_error(config) == KafkaError._SSL


def test_sasl_ssl_is_refused_by_a_client_that_used_another_host_name(
    secure_kafka: SecureBroker,
) -> None:
    address = secure_kafka.sasl_ssl_bootstrap.replace("localhost", "127.0.0.1")
    config = secure_kafka.sasl_ssl_config() | {"bootstrap.servers": address}
    assert login_error(config) == KafkaError._SSL


@pytest.mark.kafka
def test_a_jvm_takes_kafkas_classes_from_the_archive() -> None:
    archive.make(wait=True)
    show = java_command(
        "kafka.tools.StorageTool", ["random-uuid"], "/dev/null", ["-Xlog:class+load"]
    )
    shown = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    ours = [line for line in shown.splitlines() if "kafka" in line.partition(" source: ")[0]]
    assert [line for line in ours if "shared objects file (top)" in line]
    # It was trained by a broker, and has few of the classes of the tools.
    loaded = [line for line in ours if ".jar" in line]
    assert len(loaded) < len(ours) / 2, loaded


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_dies_with_its_parent(tmp_path: Path, signum: signal.Signals) -> None:
    # Started by a thread that ends at once: that alone must not take the broker along.
    program = (
        "import threading, time; from tests.support.kafka import Broker\n"
        "def start(): print(Broker.start().pid, flush=True)\n"
        "thread = threading.Thread(target=start); thread.start(); thread.join()\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    ) as parent:
        assert parent.stdout is not None
        broker = int(parent.stdout.readline())
        time.sleep(0.5)
        assert lives(broker)
        parent.send_signal(signum)
    deadline = time.monotonic() + TIMEOUT_S
    while lives(broker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives(broker)


def test_the_broker_for_a_desk_has_the_topics_with_the_settings_they_need() -> None:
    """Set on the topics themselves: the defaults of this broker are not those of another."""
    [port] = ports.free(1)
    command = [sys.executable, "-m", "tests.support.kafka", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as desk:
        assert desk.stdout is not None
        try:
            assert any(line.startswith("Ready: ") for line in desk.stdout)
            admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
            names = "payments.lane-log", "payments.payment-pending"
            wanted = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
            answers = admin.describe_configs(wanted).values()
            ours = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            lane_log, pending = (
                {
                    name: entry.value
                    for name, entry in each.result(30).items()
                    if entry.source == ours
                }
                for each in answers
            )
        finally:
            desk.terminate()
        assert desk.stdout.read().endswith("Stopped; its data is deleted.\n")
    assert desk.returncode == 0
    assert lane_log == LANE_LOG_CONFIG
    assert pending == PENDING_CONFIG


def lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    # A zombie is dead: its new parent has not looked yet.
    return status.exists() and status.read_text().rpartition(") ")[2][0] != "Z"


def run_without_java(
    tmp_path: Path, test: str, workers: str = "0", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run tests under our conftest, on a machine that has no Java."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n{test}")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = kafka")
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "KAFKA_TEST_BROKERS"}}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--continue-on-collection-errors", "--numprocesses", workers],
        cwd=tmp_path,
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "PATH": "",
            "JAVA_HOME": "/nowhere",
            **env,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_port_is_given_out_twice_in_a_row() -> None:
    """The process that got one may not listen on it yet."""
    drawn = [port for _ in range(ports.SLICE // 6) for port in ports.free(3)]
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(ports.CANDIDATES)


def test_no_port_is_given_to_two_processes(tmp_path: Path) -> None:
    """The place of their temporary files makes no difference."""
    mine = set(ports.free(1)) | set(ports._mine)
    command = [
        sys.executable,
        "-c",
        "from tests.support.kafka import ports; print(*ports.free(50))",
    ]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    theirs = set(map(int, done.stdout.split()))
    assert len(theirs) == 50
    assert not theirs & mine


LEFTOVERS = """
import os, urllib.request
def test_they_are_gone():
    gone = {"KAFKA_BROKERS", "KAFKA_SASL_PASSWORD_FILE", "BYTEWAX_ADDRESSES", "LANES", "NODE_ENV"}
    assert not gone & os.environ.keys()
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("kept")
"""


def test_variables_that_the_shell_has_for_the_product_do_not_reach_the_tests(
    tmp_path: Path,
) -> None:
    product = dict.fromkeys(("KAFKA_BROKERS", "KAFKA_SASL_PASSWORD_FILE", "LANES", "NODE_ENV"), "x")
    shell = product | {"BYTEWAX_ADDRESSES": "x", "http_proxy": "http://127.0.0.1:9"}
    done = run_without_java(tmp_path, LEFTOVERS, **shell, no_proxy="kept")
    assert done.returncode == 0, done.stdout


SKIPPED = {
    "no payment is lost": "def test_no_payment_is_lost(kafka): pass",
    "the page is drawn": """
@pytest.mark.skipif(True, reason="no browser")
def test_the_page_is_drawn(): pass
""",
    "it skips itself": "def test_it_skips_itself(): pytest.skip('not today')",
    "it is skipped": "@pytest.mark.skip(reason='not today')\ndef test_it_is_skipped(): pass",
}
"""By their names in the summary, tests that are skipped each in another way."""
SKIPS_ITSELF = "pytest.skip('not this module', allow_module_level=True)"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_skipped_tests_are_named_and_fail_in_ci(workers: str, tmp_path: Path) -> None:
    """A fixture without Java, a mark, a call, and a module that skips itself."""
    (tmp_path / "test_a_module.py").write_text(f"import pytest\n{SKIPS_ITSELF}")
    tests = "\n".join(SKIPPED.values())
    done = run_without_java(tmp_path, tests, workers)
    assert done.returncode == 0
    shown = re.sub("\x1b.*?m", "", done.stdout)
    assert f"NOT TESTED: {len(SKIPPED) + 1} of the guarantees" in shown
    assert "no Java" in shown
    assert "no browser\n  the page is drawn" in shown
    for name in SKIPPED:
        assert f"  {name}  (" in shown

    done = run_without_java(tmp_path, tests, workers, CI="true")
    shown = re.sub("\x1b.*?m", "", done.stdout)
    # A module that cannot be collected ends a run before its tests, unless that is asked for.
    assert done.returncode == 1
    assert f"NOT TESTED: {len(SKIPPED) + 1} of the guarantees" in shown
    for reason in ("no Java", "no browser", "not today", "not this module"):
        assert re.search(f"skipped, which CI does not allow: {reason}", shown), shown
