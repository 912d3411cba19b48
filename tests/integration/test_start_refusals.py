"""The refusals of the flow at a start: exit code 1, and one line with the reason and the remedy.

And what it does start with, though much is gone: then no committed outcome is repeated.
"""

import json
import os
import pickle
import re
import shlex
import shutil
import socket
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from bytewax.recovery import init_db_dir
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from dataflow.config.settings import Settings
from dataflow.core.lanes import lane_of_key
from dataflow.core.state import SourceState, pack, unpack
from dataflow.errors import StartRefusedError
from dataflow.kafka.preflight import inspect
from schemas.requests import key_of
from tests.support.flow_process import (
    LIMIT_S,
    NO_RECOVERY,
    Flow,
    Topics,
    mixed_requests,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import COMMITS_AT_ONCE, tuned
from tests.support.invariants import check
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
TOOLS = {
    "kafka-consumer-groups.sh": GROUP_TOOL,
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}
COUNT = 600
OPEN_MS = 600_000
"""The time for which Kafka leaves a transaction open: longer than a test takes."""


class Stopped(NamedTuple):
    """A flow that has decided `COUNT` records and was stopped; what it left behind."""

    topics: Topics
    recovery: Path

    def copy(self, directory: Path) -> Path:
        """Return where a test may spoil its recovery directory; for a `Flow` in `directory`."""
        return Path(shutil.copytree(self.recovery, directory / "recovery"))


@pytest.fixture(scope="module")
def stopped(kafka: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    topics, directory = Topics.fresh(kafka), tmp_path_factory.mktemp("stopped")
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, directory, COUNT)
    return Stopped(topics, directory / "recovery")


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@pytest.fixture
def nowhere() -> Topics:
    """Return topics that do not exist, for what is refused before any look at them."""
    return Topics("nowhere")


def crash(kafka: Cluster, topics: Topics, directory: Path, at: str) -> None:
    one_by_one = {COMMITS_AT_ONCE: 1}
    with Flow(kafka, topics, directory, environ={"CRASH_AT": at, **tuned(one_by_one)}) as flow:
        assert flow.wait_for_exit() == -9


def execute_remedy(kafka: Cluster, refusal: str) -> None:
    """Run the command that the refusal names."""
    script, *args = shlex.split(refusal.splitlines()[-1])
    at = args.index("--bootstrap-server")
    assert args[at + 1] == kafka.bootstrap
    kafka.tool(TOOLS[script], *args[:at], *args[at + 2 :])


def decided_once(kafka: Cluster, directory: Path) -> Topics:
    """Return the topics of a stopped flow that has decided `COUNT` records of one partition."""
    topics = Topics.fresh(kafka, partitions=1)
    send(kafka, topics, mixed_requests(COUNT, seed=1), partitions=1)
    run_until_decided(kafka, topics, directory, COUNT)
    return topics


def expect_only_copies_after_the_remedy(
    kafka: Cluster, topics: Topics, directory: Path, refusal: str
) -> None:
    """Follow the refusal, send the same records once more, and check all that is published."""
    execute_remedy(kafka, refusal)
    send(kafka, topics, mixed_requests(COUNT, seed=1), partitions=1)
    run_until_decided(kafka, topics, directory, 2 * COUNT)
    assert check(kafka, topics).problems == []


# ---- settings and ports ----


def test_all_wrong_settings_are_named_at_once(
    kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    wrong = {"LANES": "0", "PORT": "x", "KAFKA_BROKERS": "nonsense", "DEDUPE_WINDOW": "1"}
    with Flow(kafka, nowhere, tmp_path, environ=wrong) as flow:
        assert flow.wait_for_exit() == 1
    problems = [entry["problem"] for entry in flow.entries]
    assert {problem.partition(":")[0] for problem in problems} == set(wrong)
    assert all("; example: " in problem for problem in problems)


def test_fewer_lanes_than_workers_and_an_interval_that_is_too_long(
    kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    with Flow(kafka, nowhere, tmp_path, "-w", "5") as flow:
        assert flow.wait_for_exit() == 1
    [lanes] = [entry["problem"] for entry in flow.entries if "problem" in entry]
    assert lanes.startswith("LANES: 4 lanes are not enough for 5 workers")
    with Flow(kafka, nowhere, tmp_path, commit_interval="2s") as flow:
        assert flow.wait_for_exit() == 1
    [interval] = [entry["problem"] for entry in flow.entries if "problem" in entry]
    assert interval.startswith("COMMIT_INTERVAL: expected a duration from 10ms to 1s")


@pytest.mark.parametrize("by", ["flags", "variables"])
def test_snapshots_that_are_kept(by: str, kafka: Cluster, nowhere: Topics, tmp_path: Path) -> None:
    """The engine would keep them all, until the disk is full."""
    flags = ["-s", "30", "-b", "60"] if by == "flags" else []
    environ = {} if by == "flags" else {"BYTEWAX_RECOVERY_BACKUP_INTERVAL": "60"}
    with Flow(kafka, nowhere, tmp_path, *flags, environ=environ) as flow:
        assert flow.wait_for_exit() == 1
    [problem] = [entry["problem"] for entry in flow.entries if "problem" in entry]
    assert problem.startswith("BYTEWAX_RECOVERY_BACKUP_INTERVAL: expected 0, got 60: ")


def test_the_simulated_gateway_is_a_warning_and_the_environment_in_every_line(
    kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    with Flow(kafka, nowhere, tmp_path, environ={"APP_ENV": "staging"}) as flow:
        flow.refusal()
    warnings = [entry["event"] for entry in flow.entries if entry["level"] == "warning"]
    assert [text for text in warnings if text.startswith("simulated gateway in use")]
    assert {entry["environment"] for entry in flow.entries} == {"staging"}


def test_a_variable_that_may_be_another_programs_is_a_warning(
    kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    shared = {"KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092", "KAFKA_CLIENT_ID": "payments"}
    with Flow(kafka, nowhere, tmp_path, environ=shared) as flow:
        assert "topic nowhere.requested: does not exist" in flow.refusal()
    problems = [e["problem"] for e in flow.entries if e["event"] == "variable ignored"]
    assert [problem.partition(":")[0] for problem in problems] == list(shared)


def test_no_gateway_is_chosen_for_the_user(kafka: Cluster, nowhere: Topics, tmp_path: Path) -> None:
    with Flow(kafka, nowhere, tmp_path, environ={"GATEWAY": ""}) as flow:
        assert flow.wait_for_exit() == 1
    [problem] = [entry["problem"] for entry in flow.entries if "problem" in entry]
    assert problem.startswith("GATEWAY: required: one of ")


def test_more_processes_than_there_is_to_read(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(4))
    with Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses) as flow:
        refusal = flow.refusal()
    assert "4 processes of 1 workers are too many for the 3 partitions" in refusal
    assert topics.requested in refusal


@pytest.mark.parametrize("variable", ["PORT", "METRICS_PORT"])
def test_a_taken_port(variable: str, kafka: Cluster, nowhere: Topics, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Flow(kafka, nowhere, tmp_path, environ={variable: port}) as flow:
            refusal = flow.refusal()
    assert refusal.startswith(f"{variable}: port {port} is already in use")
    assert f"set {variable} to a free port" in refusal


def test_an_address_that_is_none_of_this_machine(
    kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    """So both ports listen on `HOST`; elsewhere they would be free."""
    with Flow(kafka, nowhere, tmp_path, environ={"HOST": "192.0.2.1"}) as flow:
        refusal = flow.refusal()
    assert refusal.startswith("PORT: cannot listen on 192.0.2.1 port ")
    assert refusal.endswith("set PORT or HOST to another")


# ---- Kafka ----


def test_missing_topics_are_all_named(kafka: Cluster, nowhere: Topics, tmp_path: Path) -> None:
    with Flow(kafka, nowhere, tmp_path) as flow:
        refusal = flow.refusal()
    for topic in (nowhere.requested, *nowhere.written):
        assert f"topic {topic}: does not exist" in refusal


def test_output_topics_that_take_smaller_records_than_we_may_write(kafka: Cluster) -> None:
    topics = Topics.unused()
    kafka.create_topics({topics.requested: 1})
    small = {"max.message.bytes": "100000"}
    kafka.create_topics(dict.fromkeys(topics.kept_in_full, 1), {"retention.ms": "-1", **small})
    topics.create_pending(kafka, small)

    def look(most_bytes: int) -> None:
        environ = {
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "GATEWAY": "simulated",
            "KAFKA_MESSAGE_MAX_BYTES": str(most_bytes),
            **topics.environ(),
        }
        inspect(Settings.from_env(environ).kafka)

    look(100_000)
    with pytest.raises(StartRefusedError) as caught:
        look(100_001)
    lines = str(caught.value).splitlines()
    assert [line.partition(": accepts records of at most 100000 ")[0] for line in lines] == [
        f"topic {topic}" for topic in topics.written
    ]
    assert all("less than KAFKA_MESSAGE_MAX_BYTES (100001)" in line for line in lines)


def test_a_broker_that_is_slow_does_not_hide_a_log_that_would_forget(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives no answer when it is first asked for the settings of the topics."""
    describe, left = AdminClient.describe_configs, 0

    def slow(self: AdminClient, resources: Any, **more: Any) -> Any:
        nonlocal left
        if not left:
            return describe(self, resources, **more)
        left -= 1
        answer: Future[Any] = Future()
        answer.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return dict.fromkeys(resources, answer)

    monkeypatch.setattr(AdminClient, "describe_configs", slow)
    topics = Topics.unused()
    kafka.create_topics({topics.requested: 1, **dict.fromkeys(topics.outputs, 1)})
    kafka.create_topics({topics.lane_log: 1}, {"retention.ms": "604800000"})
    topics.create_pending(kafka)
    environ = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "GATEWAY": "simulated",
        **topics.environ(),
    }
    found = Settings.from_env(environ).kafka
    reasons: list[str] = []
    for sit_out in (None, reasons.append):
        left = 2
        with pytest.raises(StartRefusedError, match="Kafka would delete remembered paymentIds"):
            inspect(found, sit_out)
        assert left == 0
    assert len(reasons) == 2
    assert all("the settings of the topics are not known: " in reason for reason in reasons)


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_compacted_output_topics_and_the_remedy(
    policy: str, kafka: Cluster, tmp_path: Path
) -> None:
    """They refuse records without a key, and some of ours have none."""
    topics = Topics.unused()
    processed, failed, audit = topics.outputs
    kafka.create_topics({topics.requested: 1, processed: 1, audit: 1})
    kafka.create_topics({failed: 1}, {"cleanup.policy": policy})
    kafka.create_topics({topics.lane_log: 1}, {"retention.ms": "-1"})
    topics.create_pending(kafka)
    send(kafka, topics, iter([b"{", request("pay-1")]), partitions=1)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert refusal.startswith(f"topic {failed}: is compacted (cleanup.policy={policy})")

    execute_remedy(kafka, refusal)
    run_until_decided(kafka, topics, tmp_path, 2)
    assert check(kafka, topics).problems == []


# ---- the recovery directory ----


def test_a_recovery_directory_in_use(
    kafka: Cluster, topics: Topics, nowhere: Topics, tmp_path: Path
) -> None:
    with Flow(kafka, topics, tmp_path) as first:
        first.wait(lambda: "sidecar listens" in first.log, LIMIT_S, "started")
        with Flow(kafka, nowhere, tmp_path) as second:
            refusal = second.refusal()
        assert "is in use by another execution of this flow" in refusal
        assert first.process.poll() is None


@pytest.mark.parametrize("kind", ["a file", "below a file", "read-only"])
def test_a_recovery_directory_that_cannot_be_written(
    kind: str, kafka: Cluster, nowhere: Topics, tmp_path: Path
) -> None:
    file, read_only = tmp_path / "file", tmp_path / "read-only"
    file.touch()
    read_only.mkdir(mode=0o500)
    recovery = {"a file": file, "below a file": file / "below", "read-only": read_only}[kind]
    environ = {"BYTEWAX_RECOVERY_DIRECTORY": str(recovery)}
    # To root a mode means nothing, until it gives up the right to ignore it.
    prefix = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    with Flow(kafka, nowhere, tmp_path, environ=environ, prefix=prefix) as flow:
        refusal = flow.refusal()
    assert refusal.startswith(f"BYTEWAX_RECOVERY_DIRECTORY: cannot write to {recovery}: ")


def test_the_recovery_directory_of_another_group(
    kafka: Cluster, stopped: Stopped, tmp_path: Path
) -> None:
    stopped.copy(tmp_path)
    environ = {"KAFKA_GROUP_ID": "another"}
    with Flow(kafka, stopped.topics, tmp_path, environ=environ) as flow:
        refusal = flow.refusal()
    assert f"belongs to another flow: group '{stopped.topics.group}', not 'another'" in refusal
    assert "BYTEWAX_RECOVERY_DIRECTORY" in refusal


def test_the_recovery_directory_of_another_topic(
    kafka: Cluster, stopped: Stopped, topics: Topics, tmp_path: Path
) -> None:
    stopped.copy(tmp_path)
    environ = {"KAFKA_GROUP_ID": stopped.topics.group}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        refusal = flow.refusal()
    before = stopped.topics.requested
    assert f"belongs to another flow: topic '{before}', not '{topics.requested}'" in refusal


def test_the_recovery_directory_of_another_cluster(
    kafka: Cluster, stopped: Stopped, tmp_path: Path
) -> None:
    """The id of the cluster is all that differs, as where topics of the same names were made."""
    recovery = stopped.copy(tmp_path)
    with sqlite3.connect(recovery / "part-0.sqlite3") as store:
        query = "SELECT rowid, ser_change FROM snaps WHERE step_id LIKE '%.source'"
        found = store.execute(query).fetchall()
        assert found
        for row, pickled in found:
            theirs = unpack(pickle.loads(pickled), SourceState)  # noqa: S301  (made by us)
            ours = pickle.dumps(pack(msgspec.structs.replace(theirs, cluster="elsewhere")))
            store.execute("UPDATE snaps SET ser_change = ? WHERE rowid = ?", [ours, row])
    store.close()
    with Flow(kafka, stopped.topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert "belongs to another flow: cluster 'elsewhere', not '" in refusal


def other_flows_state(recovery: Path) -> None:
    with sqlite3.connect(recovery / "part-0.sqlite3") as store:
        theirs = pickle.dumps({"offset": 7})
        store.execute("UPDATE snaps SET ser_change = ? WHERE step_id LIKE '%.source'", [theirs])
    store.close()


def older_version(recovery: Path) -> None:
    with sqlite3.connect(recovery / "part-0.sqlite3") as store:
        older = pickle.dumps(msgspec.msgpack.encode({"version": 1, "ledger": {}}))
        store.execute("UPDATE snaps SET ser_change = ? WHERE step_id LIKE '%.source'", [older])
    store.close()


def no_database(recovery: Path) -> None:
    (recovery / "part-0.sqlite3").write_bytes(b"no database" * 1000)


def cut_short(recovery: Path) -> None:
    (recovery / "part-0.sqlite3").write_bytes(b"")


def lost_partition(recovery: Path) -> None:
    shutil.rmtree(recovery)
    recovery.mkdir()
    init_db_dir(recovery, 2)  # type: ignore[no-untyped-call]
    (recovery / "part-1.sqlite3").unlink()


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (other_flows_state, "holds a snapshot that is not ours"),
    (older_version, "was written before the paymentIds were kept in Kafka"),
    (no_database, "part-0.sqlite3 is not a usable recovery partition: file is not a"),
    (cut_short, "part-0.sqlite3 is not a usable recovery partition: no such table"),
    (lost_partition, "lacks part-1.sqlite3"),
]


@pytest.mark.parametrize(("spoil", "said"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
def test_a_spoilt_recovery_directory(
    spoil: Callable[[Path], None], said: str, kafka: Cluster, stopped: Stopped, tmp_path: Path
) -> None:
    spoil(stopped.copy(tmp_path))
    with Flow(kafka, stopped.topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert said in refusal
    assert re.search("BYTEWAX_RECOVERY_DIRECTORY|empty recovery directory", refusal)


# ---- offsets that do not fit ----


def test_a_snapshot_ahead_of_the_committed_offsets_and_the_remedy(
    kafka: Cluster, tmp_path: Path
) -> None:
    """As with a recreated topic that has grown long again, or with offsets that expired."""
    topics = decided_once(kafka, tmp_path)
    kafka.delete_groups(topics.lane_groups())
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"[0]: the snapshot stands at {COUNT}, but the lanes have only committed" in refusal
    expect_only_copies_after_the_remedy(kafka, topics, tmp_path, refusal)


def test_lost_offsets_of_the_lanes_are_noticed_without_a_recovery_directory(
    kafka: Cluster, tmp_path: Path
) -> None:
    """The flow's own group has with its offset how far the lanes had committed."""
    topics = decided_once(kafka, tmp_path)
    shutil.rmtree(tmp_path / "recovery")
    run_until_decided(kafka, topics, tmp_path, COUNT)  # it has nothing to commit, and forgets none
    kafka.delete_groups(topics.lane_groups())
    shutil.rmtree(tmp_path / "recovery")
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    group = f"the committed offset of group {topics.group}"
    assert f"[0]: {group} stands at {COUNT}, but the lanes have only committed" in refusal
    expect_only_copies_after_the_remedy(kafka, topics, tmp_path, refusal)


def test_lost_offsets_of_lanes_that_a_crash_has_left_apart(kafka: Cluster, tmp_path: Path) -> None:
    """Each needs its own, as documented: with one for all, records are decided twice, or never."""
    topics = Topics.fresh(kafka, partitions=1)
    send(kafka, topics, (request(f"before-{n}") for n in range(COUNT)), partitions=1)
    run_until_decided(kafka, topics, tmp_path, COUNT)
    send(kafka, topics, (request(f"after-{n}") for n in range(COUNT)), partitions=1)
    crash(kafka, topics, tmp_path, "after-commit:2")
    kafka.delete_groups(topics.lane_groups())
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"[0]: the snapshot stands at {COUNT}, but the lanes have only committed" in refusal

    upto = dict.fromkeys(range(4), COUNT)
    for message in read_all(kafka, topics.outputs[2]):
        event = json.loads(message.value() or b"")
        lane = lane_of_key(key_of(event["paymentId"]), 4)
        upto[lane] = max(upto[lane], event["source"]["offset"] + 1)
    assert len(set(upto.values())) > 1
    admin = kafka.admin()
    for group, offset in zip(topics.lane_groups(), upto.values(), strict=True):
        place = TopicPartition(topics.requested, 0, offset)
        wanted = [ConsumerGroupTopicPartitions(group, [place])]
        for done in admin.alter_consumer_group_offsets(wanted).values():
            done.result(30)
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT)
    assert check(kafka, topics).problems == []


def test_records_that_retention_deleted_before_they_were_read_and_the_remedy(
    kafka: Cluster, tmp_path: Path
) -> None:
    topics = decided_once(kafka, tmp_path)
    send(kafka, topics, mixed_requests(COUNT, seed=2), partitions=1)
    low = COUNT + 100
    delete_below(kafka, topics, low)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"the snapshot stands at {COUNT}, but retention has deleted" in refusal
    assert f"100 offsets were never read, from {COUNT} to {low - 1}" in refusal

    with_start = {"KAFKA_START": started_by(refusal, "earliest")}
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT, with_start)
    audited = len(read_all(kafka, topics.outputs[2]))
    assert audited == 2 * COUNT - 100


def test_aborted_records_that_were_deleted_while_the_flow_was_stopped_and_the_remedy(
    kafka: Cluster, tmp_path: Path
) -> None:
    """A deleted record may have been a request, for all that Kafka still has; here none was."""
    topics = decided_once(kafka, tmp_path)
    send_and_take_back(transactional_sender(kafka), topics)
    low = COUNT + 2  # after the record and the marker of its transaction
    delete_below(kafka, topics, low)
    send(kafka, topics, mixed_requests(COUNT, seed=2), partitions=1)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"the snapshot stands at {COUNT}, but retention has deleted" in refusal
    assert f"2 offsets were never read, from {COUNT} to {low - 1}" in refusal

    with_start = {"KAFKA_START": started_by(refusal, "earliest")}
    run_until_decided(kafka, topics, tmp_path, low + COUNT, with_start)
    events = [json.loads(m.value() or b"") for m in read_all(kafka, topics.outputs[2])]
    audited = sorted(event["source"]["offset"] for event in events)
    assert audited == [*range(COUNT), *range(low, low + COUNT)]


def transactional_sender(kafka: Cluster) -> Producer:
    name = f"sender-{uuid.uuid4().hex}"
    sender = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    sender.init_transactions(LIMIT_S)
    return sender


def send_and_take_back(sender: Producer, topics: Topics) -> None:
    """Leave an aborted record and a marker in the first partition."""
    sender.begin_transaction()
    sender.produce(topics.requested, request("taken back"), partition=0)
    assert sender.flush(LIMIT_S) == 0
    sender.abort_transaction(LIMIT_S)


def delete_below(kafka: Cluster, topics: Topics, low: int) -> None:
    """Delete the requests of the first partition below an offset, as retention does."""
    admin = kafka.admin()
    for deleted in admin.delete_records([TopicPartition(topics.requested, 0, low)]).values():
        deleted.result(LIMIT_S)


def test_a_recreated_topic(kafka: Cluster, tmp_path: Path) -> None:
    topics = decided_once(kafka, tmp_path)
    kafka.recreate_topic(topics.requested, 1)
    # As long as the one before: only its id differs.
    send(kafka, topics, mixed_requests(COUNT, seed=2), partitions=1)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert "the snapshot is of a topic of this name that was deleted since" in refusal
    run_until_decided(
        kafka, topics, tmp_path, COUNT, {"KAFKA_START": started_by(refusal, "earliest")}
    )
    assert len(read_all(kafka, topics.outputs[2])) == 2 * COUNT


def test_a_recreated_topic_with_the_same_records(kafka: Cluster, tmp_path: Path) -> None:
    """Each at its old place: none is taken for a claim that a crash has cut off."""
    topics = Topics.fresh(kafka, partitions=1)
    ids = [f"pay-{n}" for n in range(COUNT)]
    send(kafka, topics, map(request, ids), partitions=1)
    run_until_decided(kafka, topics, tmp_path, COUNT)
    decided = [len(read_all(kafka, topic)) for topic in topics.outputs[:2]]
    kafka.recreate_topic(topics.requested, 1)
    send(kafka, topics, map(request, ids), partitions=1)
    run_until_decided(kafka, topics, tmp_path, COUNT, {"KAFKA_START": "earliest"})
    assert len(read_all(kafka, topics.outputs[2])) == 2 * COUNT
    assert [len(read_all(kafka, topic)) for topic in topics.outputs[:2]] == decided


def started_by(refusal: str, choice: str) -> str:
    """Return the value of `KAFKA_START` that the refusal offers."""
    assert f"KAFKA_START={choice}" in refusal, refusal
    return choice


def test_no_position_of_any_kind_though_something_was_published(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """As when all offsets have expired, or with the topics of another cluster."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, NO_RECOVERY)
    kafka.delete_groups([topics.group, *topics.lane_groups()])
    with Flow(kafka, topics, tmp_path, environ=NO_RECOVERY) as flow:
        refusal = flow.refusal()
    assert "there is no position of any kind" in refusal
    assert "KAFKA_START=latest" in refusal

    send(kafka, topics, mixed_requests(COUNT, seed=2))
    each = COUNT // 3
    explicit = {**NO_RECOVERY, "KAFKA_START": f"0={each},1={each},2={each}"}
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT, explicit)
    # It does not override the position that there is now.
    send(kafka, topics, mixed_requests(COUNT, seed=2))
    run_until_decided(kafka, topics, tmp_path, 3 * COUNT, explicit)
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize("lanes", [range(4), [2]], ids=["of all lanes", "of one lane"])
def test_offsets_that_only_one_partition_has_lost(
    lanes: Sequence[int], kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """As Kafka forgets each partition's by itself. To read it again would decide it again."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, NO_RECOVERY)
    for group in [topics.group, *(topics.lane_groups()[lane] for lane in lanes)]:
        of = f"{topics.requested}:1"
        kafka.tool(GROUP_TOOL, "--delete-offsets", "--group", group, "--topic", of)
    with Flow(kafka, topics, tmp_path, environ=NO_RECOVERY) as flow:
        refusal = flow.refusal()
    assert f"{topics.requested}[1]: there is neither a snapshot nor an offset of group" in refusal
    assert f"{len(lanes)} of the 4 lanes have no offset of it either" in refusal

    send(kafka, topics, mixed_requests(COUNT, seed=2))
    environ = {**NO_RECOVERY, "KAFKA_START": started_by(refusal, "1=") + str(COUNT // 3)}
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT, environ)
    assert check(kafka, topics).problems == []


def test_a_choice_of_where_to_start_that_is_not_there(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, NO_RECOVERY)
    kafka.delete_groups([topics.group, *topics.lane_groups()])
    for choice, said in [
        ("0=999,1=0,2=0", "KAFKA_START is 999, but the partition has offsets from 0 to 200"),
        ("1=0,2=0", "[0]: there is no position of any kind"),
    ]:
        with Flow(kafka, topics, tmp_path, environ={**NO_RECOVERY, "KAFKA_START": choice}) as flow:
            assert said in flow.refusal()


def test_a_first_run_that_crashed_before_it_had_a_position(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The lanes have committed, so this is no start from nothing; what they have they drop."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(
        kafka, topics, tmp_path, environ={**NO_RECOVERY, "CRASH_AT": "after-commit:1"}
    ) as flow:
        assert flow.wait_for_exit() == -9
    run_until_decided(kafka, topics, tmp_path, COUNT, NO_RECOVERY)
    assert check(kafka, topics).problems == []


def test_a_partition_of_which_only_a_marker_is_left(kafka: Cluster, tmp_path: Path) -> None:
    """A request in a transaction leaves a marker behind it: nothing that was never read."""
    topics = Topics.fresh(kafka, partitions=1)
    sender = transactional_sender(kafka)
    sender.begin_transaction()
    sender.produce(topics.requested, request("pay-1"), partition=0)
    sender.commit_transaction(LIMIT_S)
    for committed in (True, False):
        send_and_take_back(sender, topics)
        with Flow(kafka, topics, tmp_path) as flow:
            flow.wait_until_ready()
            flow.wait_until_decided(6 if not committed else 4)
            assert flow.terminate() == 0
    delete_below(kafka, topics, 6)
    send(kafka, topics, iter([request("pay-1"), request("pay-2")]), partitions=1)
    run_until_decided(kafka, topics, tmp_path, 8)
    types = sorted(
        json.loads(m.value() or b"")["eventType"] for m in read_all(kafka, topics.outputs[2])
    )
    assert types == ["payment.duplicate", "payment.processed", "payment.processed"]


# ---- LANES ----


def test_lanes_changed_after_a_clean_stop(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Up and down; repeats of earlier payments now come by other lanes."""
    count = 0
    for lanes in ("4", "7", "3"):
        count += send(kafka, topics, mixed_requests(COUNT, seed=1))
        run_until_decided(kafka, topics, tmp_path, count, {"LANES": lanes})
    assert check(kafka, topics).problems == []


def test_lanes_changed_with_work_in_flight(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    crash(kafka, topics, tmp_path, "after-commit:1")
    with Flow(kafka, topics, tmp_path, environ={"LANES": "2"}) as flow:
        refusal = flow.refusal()
    assert "LANES was changed from 4 to 2 while work was in flight" in refusal
    assert "Start once with LANES=4" in refusal

    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert check(kafka, topics).problems == []


# ---- a transaction that nobody ends ----


def test_a_transaction_without_an_end_in_the_outputs(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """If it were a lane's own, that lane's next commit would publish what was never committed."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    _, failed, _ = topics.outputs
    name = f"nobody-{uuid.uuid4().hex}"
    nobody = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": name,
            "transaction.timeout.ms": OPEN_MS,
        }
    )
    nobody.init_transactions(LIMIT_S)
    nobody.begin_transaction()
    nobody.produce(failed, b"?", partition=1)
    assert nobody.flush(LIMIT_S) == 0

    send(kafka, topics, mixed_requests(COUNT, seed=2))
    with Flow(kafka, topics, tmp_path, environ={"KAFKA_TRANSACTION_TIMEOUT": "10s"}) as flow:
        refusal = flow.refusal()
    assert f"{failed}[1]: a transaction is still open at offset " in refusal
    assert "See docs/start-refusals.md" in refusal

    nobody.abort_transaction(LIMIT_S)
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT)
    assert check(kafka, topics).problems == []


# ---- what may be gone ----


@pytest.mark.parametrize("point", ["after-commit:2", "claims-flushed:2"])
def test_a_lost_recovery_directory_repeats_nothing_committed(
    point: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """And forgets nothing; nor does it lose what was read, and claimed by no lane yet."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    send(kafka, topics, mixed_requests(COUNT, seed=2))
    crash(kafka, topics, tmp_path, point)
    shutil.rmtree(tmp_path / "recovery")
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, 3 * COUNT)
    assert check(kafka, topics).problems == []


def test_nothing_committed_is_repeated_without_a_recovery_directory(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    environ = {"BYTEWAX_RECOVERY_DIRECTORY": ""}
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(kafka, topics, tmp_path, environ={**environ, "CRASH_AT": "after-commit:2"}) as flow:
        assert flow.wait_for_exit() == -9
    warnings = [entry["event"] for entry in flow.entries if entry["level"] == "warning"]
    assert not [warning for warning in warnings if "RECOVERY" in warning]
    run_until_decided(kafka, topics, tmp_path, COUNT, environ)
    assert check(kafka, topics).problems == []


@pytest.fixture
def old_copy(kafka: Cluster, topics: Topics, tmp_path: Path) -> Path:
    """Return where a copy of the recovery directory is, taken before the first payment."""
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_ready()
        assert flow.terminate() == 0
    return Path(shutil.copytree(tmp_path / "recovery", tmp_path / "old" / "recovery")).parent


def test_an_old_copy_of_the_recovery_directory(
    old_copy: Path, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Records since then are read again: decided payments, and repeats of them that are not."""
    requests = [request(f"pay-{n}") for n in range(COUNT)]
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    # One record more, and each repeat is on another partition than its first copy.
    send(kafka, topics, iter([b"", *requests]))
    crash(kafka, topics, tmp_path, "after-commit:1")
    run_until_decided(kafka, topics, old_copy, 2 * COUNT + 1)
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["outcomes"] == COUNT + 1
