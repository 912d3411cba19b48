"""The lanes' log: what is remembered is in Kafka, not in files; and it is refused if it is lost."""

import itertools
import json
import re
import shlex
import shutil
import time
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from dataflow.config.settings import Settings
from dataflow.core.lane_log import entries_in, entries_of, lane_in
from dataflow.core.lanes import lane_of_key, split_identities
from dataflow.core.origins import place
from dataflow.kafka import lane_log_trimmer
from dataflow.kafka.lane_log_trimmer import Trimmer
from dataflow.kafka.lane_offsets import Offset
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
from tests.support.hooks.tuning import (
    COMMITS_AT_ONCE,
    FIRST_BATCH,
    REFRESH_OFFSETS_EVERY_S,
    TRIM_APART_S,
    TRIM_LEAST_S,
    WATCH_EVERY_S,
    tuned,
)
from tests.support.invariants import check
from tests.support.kafka import Cluster

GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONFIG_TOOL = "kafka.admin.ConfigCommand"
COUNT = 600
LANES = 4
APPROVE_ALL = {"SIMULATED_DECLINE_RATE": "0"}
FEW_LANES = {"LANES": "2"}
"""For tests that run the commands of a refusal, which start a JVM for every lane."""
BEATS = {REFRESH_OFFSETS_EVERY_S: -1}
"""Each batch gets the position."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def settings(kafka: Cluster, topics: Topics) -> Settings:
    environ = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "GATEWAY": "simulated",
        "LANES": str(LANES),
        **topics.environ(),
    }
    return Settings.from_env(environ)


def crash(kafka: Cluster, topics: Topics, directory: Path, at: str, **environ: str) -> None:
    one_by_one = {COMMITS_AT_ONCE: 1}
    environ = {"CRASH_AT": at, **tuned(one_by_one), **environ}
    with Flow(kafka, topics, directory, environ=environ) as flow:
        assert flow.wait_for_exit() == -9


class Claim(NamedTuple):
    """An entry of the log."""

    key: tuple[int, int]
    origin: tuple[int, int]
    """Partition and offset."""
    date_s: int


def claims(kafka: Cluster, topics: Topics) -> list[Claim]:
    """Return what is in the log now, in some order that is always the same."""
    return sorted(
        Claim((int(key[0]), int(key[1])), place(origin), date_s)
        for message in read_all(kafka, topics.lane_log)
        for key, _, origin, date_s in entries_in(message.value() or b"").tolist()
    )


def outcomes(kafka: Cluster, topics: Topics) -> dict[tuple[int, int], str]:
    """Return the type of the audit event of each record, by its partition and offset."""
    events = [json.loads(message.value() or b"") for message in read_all(kafka, topics.outputs[2])]
    return {
        (event["source"]["partition"], event["source"]["offset"]): event["eventType"]
        for event in events
    }


def named(value: object) -> str:
    """Return the name of a case."""
    return ", ".join(each.__name__ for each in value) if isinstance(value, list) else str(value)


# ---- what it holds ----


def test_claims_are_exactly_the_published_outcomes(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Each valid id once, by the record whose outcome is public; also across crashes."""
    for seed, point in enumerate(("logged:3", "flushed:3", "after-commit:2")):
        send(kafka, topics, mixed_requests(COUNT, seed))
        crash(kafka, topics, tmp_path, point)
    run_until_decided(kafka, topics, tmp_path, 3 * COUNT)
    claimed = claims(kafka, topics)
    assert len({each.key for each in claimed}) == len(claimed)
    charged = [at for at, kind in outcomes(kafka, topics).items() if kind == "payment.processed"]
    declined = [
        (event["source"]["partition"], event["source"]["offset"])
        for event in (json.loads(m.value() or b"") for m in read_all(kafka, topics.outputs[1]))
        if event["error"]["code"] not in {"malformed", "invalid", "tombstone"}
    ]
    assert sorted(each.origin for each in claimed) == sorted(charged + declined)
    assert check(kafka, topics).problems == []


def test_its_records_have_no_key_and_name_their_lane(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    found = read_all(kafka, topics.lane_log)
    assert {message.key() for message in found} == {None}
    assert {lane_in(message.headers()) for message in found} == {(n, LANES) for n in range(LANES)}
    for message in filter(Message.value, found):
        lane, _ = lane_in(message.headers())
        entries = entries_in(message.value() or b"")
        assert message.partition() == lane % 3
        assert {int(key[0]) % LANES for key in entries["key"]} == {lane}
        assert message.timestamp()[1] == int(entries["date_s"].max()) * 1000


def test_an_epoch_larger_than_a_record_may_be_is_written_in_pieces(
    kafka: Cluster, tmp_path: Path
) -> None:
    topics = Topics.unused("pieces-")
    kafka.create_topics({topics.requested: 1})
    small = {"max.message.bytes": "66000", "retention.ms": "-1"}
    kafka.create_topics(dict.fromkeys(topics.kept_in_full, 1), small)
    topics.create_pending(kafka, {"max.message.bytes": "66000"})
    count = 2_500
    requests = [request(f"pay-{n}") for n in range(count)]
    send(kafka, topics, iter(requests), partitions=1)
    environ = {
        **APPROVE_ALL,
        # All of it in one epoch: by itself, a flow on a slow machine reads less at once.
        **tuned({FIRST_BATCH: count}),
        "LANES": "1",
        "KAFKA_MESSAGE_MAX_BYTES": "65536",
        "BYTEWAX_SNAPSHOT_INTERVAL": "1",
    }
    run_until_decided(kafka, topics, tmp_path, count, environ)
    records = read_all(kafka, topics.lane_log)
    assert max(len(message.value() or b"") for message in records) > 60_000
    shutil.rmtree(tmp_path / "recovery")
    send(kafka, topics, iter(requests), partitions=1)
    run_until_decided(kafka, topics, tmp_path, 2 * count, environ)
    assert Counter(outcomes(kafka, topics).values()) == {
        "payment.processed": count,
        "payment.duplicate": count,
    }


# ---- the recovery directory is dispensable ----


def deleted(recovery: Path, _old: Path) -> None:
    shutil.rmtree(recovery)


def emptied(recovery: Path, _old: Path) -> None:
    for path in recovery.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def swapped(recovery: Path, old: Path) -> None:
    shutil.rmtree(recovery)
    shutil.copytree(old, recovery)


@pytest.mark.parametrize(
    ("point", "losses"),
    [
        (None, [deleted]),
        (None, [emptied, swapped]),
        ("flushed:3", [deleted, emptied, swapped]),
        ("after-commit:2", [deleted, emptied, swapped]),
        ("all-committed:1", [deleted, emptied, swapped]),
    ],
    ids=named,
)
def test_nothing_is_forgotten_with_the_recovery_directory(
    point: str | None,
    losses: Sequence[Callable[[Path, Path], None]],
    kafka: Cluster,
    topics: Topics,
    tmp_path: Path,
) -> None:
    """Deleted, emptied or put back from an old copy, after a clean stop or a crash."""
    count = send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, count)
    for seed, lose in enumerate(losses, 2):
        old = Path(shutil.copytree(tmp_path / "recovery", tmp_path / f"old-{seed}"))
        count += send(kafka, topics, mixed_requests(COUNT, seed))
        if point:
            crash(kafka, topics, tmp_path, point)
        else:
            run_until_decided(kafka, topics, tmp_path, count)
        lose(tmp_path / "recovery", old)
        # Every id once more, and on another partition than before.
        count += send(kafka, topics, iter([b"", *mixed_requests(COUNT, seed=1)]))
        count += send(kafka, topics, mixed_requests(COUNT, seed))
        run_until_decided(kafka, topics, tmp_path, count)
    assert check(kafka, topics).problems == []
    claimed = claims(kafka, topics)
    assert len(claimed) == len({each.key for each in claimed})


def test_a_flow_that_never_has_a_recovery_directory(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    for n, point in enumerate(["after-commit:2", "flushed:2", "logged:2"]):
        send(kafka, topics, mixed_requests(COUNT, seed=n))
        crash(kafka, topics, tmp_path, point, **NO_RECOVERY)
    send(kafka, topics, mixed_requests(COUNT, seed=0))
    run_until_decided(kafka, topics, tmp_path, 4 * COUNT, NO_RECOVERY)
    assert check(kafka, topics).problems == []


def test_a_beat_does_not_take_back_what_a_lane_is_ahead(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """A beat is due while the lanes drop what they have committed already."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    crash(kafka, topics, tmp_path, "after-commit:2")
    crash(kafka, topics, tmp_path, "all-committed:1", **tuned(BEATS))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert check(kafka, topics).problems == []


# ---- other lanes, other partitions, another run ----


def test_lanes_and_partitions_of_the_log_may_change(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Several times, up and down; and then crashes, the first without the recovery directory."""
    count = 0
    for lanes, partitions in [(4, 3), (9, 5), (2, 5), (7, 8)]:
        if partitions > 3:
            wanted = [NewPartitions(topics.lane_log, partitions)]
            admin = kafka.admin()
            for grown in admin.create_partitions(wanted).values():
                # It may have as many already.
                assert grown.exception(LIMIT_S) is None or "has 5" in str(grown.exception())
        count += send(kafka, topics, mixed_requests(COUNT, seed=1))
        count += send(kafka, topics, mixed_requests(COUNT, seed=lanes))
        run_until_decided(kafka, topics, tmp_path, count, {"LANES": str(lanes)})
        shutil.rmtree(tmp_path / "recovery")
    for seed, point in enumerate(["all-committed:1", "logged:1"], 98):
        count += send(kafka, topics, mixed_requests(COUNT, seed))
        crash(kafka, topics, tmp_path, point, LANES="7")
    count += send(kafka, topics, mixed_requests(COUNT, seed=9))
    run_until_decided(kafka, topics, tmp_path, count, {"LANES": "7"})
    assert check(kafka, topics).problems == []


def test_a_store_from_before_lanes_were_changed_does_not_hold_up_a_start(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Though lanes that are no longer used have committed beyond it."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, {"LANES": "8"})
    old = Path(shutil.copytree(tmp_path / "recovery", tmp_path / "old"))
    for n, lanes in enumerate(["8", "4"], 2):
        send(kafka, topics, mixed_requests(COUNT, seed=n))
        run_until_decided(kafka, topics, tmp_path, n * COUNT, {"LANES": lanes})
    swapped(tmp_path / "recovery", old)
    send(kafka, topics, mixed_requests(COUNT, seed=2))
    run_until_decided(kafka, topics, tmp_path, 4 * COUNT, {"LANES": "4"})
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize("group", ["with", "without"])
def test_a_store_from_before_lanes_were_added_repeats_nothing(
    group: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """A lane cannot drop what others decided before there was it, unless it has an offset.

    With or without the group, whose offset is later than that of the store.
    """
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    old = Path(shutil.copytree(tmp_path / "recovery", tmp_path / "old"))
    send(kafka, topics, mixed_requests(COUNT, seed=2))
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT)
    names = (f"later-{n}" for n in itertools.count())
    later = itertools.islice(
        (request(each) for each in names if lane_of_key(key_of(each), 16) < LANES), 90
    )
    send(kafka, topics, later)
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT + 90, {"LANES": "16"})
    swapped(tmp_path / "recovery", old)
    if group == "without":
        kafka.delete_groups([topics.group])
    send(kafka, topics, mixed_requests(COUNT, seed=2))
    run_until_decided(kafka, topics, tmp_path, 3 * COUNT + 90, {"LANES": "16"})
    assert check(kafka, topics).problems == []


def test_lanes_that_are_no_longer_used_are_not_built(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, {"LANES": "64"})
    with Flow(kafka, topics, tmp_path, environ={"LANES": "2"}) as flow:
        flow.wait_until_ready()
        assert flow.health()["lanes"] == {"expected": 2, "open": [0, 1]}
        tasks = Path(f"/proc/{flow.process.pid}/task")
        threads = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
        assert flow.terminate() == 0
    # Each client has a thread of its own, and a producer's name is not free to choose: count all.
    assert len(threads) < 64, threads


def test_the_log_is_read_after_the_run_before_is_fenced(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Two runs with directories of their own: the older commits until the newer fences it."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    sent = 0

    def feed(flow: Flow, seconds: float) -> None:
        nonlocal sent
        until = time.monotonic() + seconds
        while time.monotonic() < until and flow.process.poll() is None:
            for _ in range(10):
                producer.produce(topics.requested, request(f"pay-{sent}"), partition=sent % 3)
                sent += 1
            assert producer.flush(LIMIT_S) == 0
            time.sleep(0.05)

    older_directory, newer_directory = tmp_path / "older", tmp_path / "newer"
    older_directory.mkdir()
    newer_directory.mkdir()
    with Flow(kafka, topics, older_directory, environ=APPROVE_ALL) as older:
        older.wait_until_ready()
        feed(older, 1.0)
        with Flow(kafka, topics, newer_directory, environ=APPROVE_ALL) as newer:
            feed(older, LIMIT_S)
            assert older.wait_for_exit() == 1
            newer.wait_until_ready()
            again = [request(f"pay-{n}") for n in range(sent)]
            send(kafka, topics, iter(again))
            newer.wait_until_decided(2 * sent)
            assert newer.terminate() == 0
    assert Counter(outcomes(kafka, topics).values()) == {
        "payment.processed": sent,
        "payment.duplicate": sent,
    }
    assert check(kafka, topics).problems == []


# ---- a log that is not right ----

AHEAD = "message.timestamp.after.max.ms"


@pytest.mark.parametrize(
    "wrong",
    [
        # By line of the refusal: what belongs together is mended by one command.
        [
            {
                "cleanup.policy": "compact,delete",
                "retention.ms": "604800000",
                "retention.bytes": "1000000000",
            },
            # The default before Kafka 4.
            {AHEAD: "9223372036854775807"},
        ],
        [{"cleanup.policy": "compact"}],
    ],
    ids=["all that there is", "one alone"],
)
def test_a_topic_that_would_forget_is_refused_with_the_commands_that_mend_it(
    wrong: list[dict[str, str]], kafka: Cluster, tmp_path: Path
) -> None:
    topics = Topics.unused("wrong-")
    kafka.create_topics({topics.requested: 3, **dict.fromkeys(topics.outputs, 3)})
    kafka.create_topics({topics.lane_log: 3}, {"retention.ms": "-1", **dict(ChainMap(*wrong))})
    topics.create_pending(kafka)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    for each in wrong:
        said = ", ".join(f"{name}={value}" for name, value in each.items())
        assert f"topic {topics.lane_log}: with {said} Kafka would " in refusal

    commands = [line for line in refusal.splitlines() if line.startswith("  kafka-configs.sh ")]
    assert len(commands) == len(wrong)
    for command in commands:
        _, *args = shlex.split(command)
        at = args.index("--bootstrap-server")
        kafka.tool(CONFIG_TOOL, *args[:at], *args[at + 2 :])
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)


def recreated(kafka: Cluster, topics: Topics) -> str:
    kafka.recreate_topic(topics.lane_log, 3, {"retention.ms": "-1"})
    return "it was deleted and created again since the lanes committed last"


def emptied_log(kafka: Cluster, topics: Topics) -> str:
    _delete_records(kafka, topics.lane_log, {0: -1, 1: -1, 2: -1})
    return "it has no ids, though the lanes remembered"


def shortened(kafka: Cluster, topics: Topics) -> str:
    claims = [m for m in read_all(kafka, topics.lane_log) if m.partition() == 1 and m.value()]
    _delete_records(kafka, topics.lane_log, {1: (claims[0].offset() or 0) + 1})
    return r"it has \d+ ids of lane 1, which had at least"


def _delete_records(kafka: Cluster, topic: str, upto: dict[int, int]) -> None:
    wanted = [TopicPartition(topic, partition, at) for partition, at in upto.items()]
    admin = kafka.admin()
    for done in admin.delete_records(wanted).values():
        done.result(LIMIT_S)


def test_claims_of_an_aborted_transaction_claim_nothing(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Or a copy would be the duplicate of a record that was deleted before it was decided."""
    requests = [request(f"pay-{n}") for n in range(40)]
    send(kafka, topics, iter(requests), partitions=1)
    with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": "claims-flushed:1"}) as flow:
        assert flow.wait_for_exit() == -9
    assert read_all(kafka, topics.lane_log, isolation="read_uncommitted")
    _delete_records(kafka, topics.requested, {0: -1})
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, 40, {"KAFKA_START": "earliest", **APPROVE_ALL})
    assert len(read_all(kafka, topics.outputs[0])) == 40
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize(
    ("losses", "store"),
    [
        ([shortened], "without one"),
        ([recreated, emptied_log], "without one"),
        ([recreated, emptied_log, shortened], "with a store"),
    ],
    ids=named,
)
def test_a_lost_log_is_refused_and_the_remedy_works(
    losses: Sequence[Callable[[Cluster, Topics], str]],
    store: str,
    kafka: Cluster,
    topics: Topics,
    tmp_path: Path,
) -> None:
    """And after it, the next loss is refused as well."""
    environ = FEW_LANES if store == "with a store" else FEW_LANES | NO_RECOVERY
    count = send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, count, environ)
    for seed, lose in enumerate(losses, 2):
        said = lose(kafka, topics)
        with Flow(kafka, topics, tmp_path, environ=environ) as flow:
            refusal = flow.refusal()
        assert re.search(f"topic {topics.lane_log}: {said}", refusal)

        for args in loop_in(refusal, kafka):
            kafka.tool(GROUP_TOOL, *args)
        count += send(kafka, topics, mixed_requests(COUNT, seed))
        run_until_decided(kafka, topics, tmp_path, count, environ)
    assert check(kafka, topics).problems == []


def test_a_log_that_was_restored_from_a_mirror_counts(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """It has another topic id, so it is refused; the remedy forgets nothing then."""
    count = send(kafka, topics, (request(f"pay-{n}") for n in range(90)))
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    mirrored = read_all(kafka, topics.lane_log)
    recreated(kafka, topics)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for each in mirrored:
        producer.produce(
            topics.lane_log,
            each.value() or b"",
            partition=each.partition() or 0,
            headers=each.headers(),
            timestamp=each.timestamp()[1],
        )
    assert producer.flush(30) == 0
    with Flow(kafka, topics, tmp_path, environ=FEW_LANES) as flow:
        refusal = flow.refusal()
    assert "it was deleted and created again since the lanes committed last" in refusal

    for args in loop_in(refusal, kafka):
        kafka.tool(GROUP_TOOL, *args)
    count += send(kafka, topics, (request(f"pay-{n}") for n in range(90)))
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    events = [json.loads(each.value() or b"") for each in read_all(kafka, topics.outputs[2])]
    assert sum(event["eventType"] == "payment.duplicate" for event in events) == 90
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize("lose", [emptied_log, shortened])
def test_a_log_that_was_lost_is_noticed_with_other_lanes_too(
    lose: Callable[[Cluster, Topics], str], kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    lose(kafka, topics)
    for _ in range(2):  # as a supervisor does
        with Flow(kafka, topics, tmp_path, environ={"LANES": "7"}) as flow:
            refusal = flow.refusal()
        assert re.search(r"it has (no|\d+) ids, though the lanes remembered \d+", refusal)


def test_the_remedy_for_a_lost_log_loses_no_record_of_a_new_partition(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The tool puts an offset at the end of a partition that has none."""
    count = send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    topics.grow(kafka, 4)
    count += send(kafka, topics, mixed_requests(COUNT, seed=2), partitions=4)
    recreated(kafka, topics)
    with Flow(kafka, topics, tmp_path, environ=FEW_LANES) as flow:
        refusal = flow.refusal()
    for args in loop_in(refusal, kafka):
        kafka.tool(GROUP_TOOL, *args)
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    assert check(kafka, topics, log_was_lost=True).problems == []


def loop_in(refusal: str, kafka: Cluster) -> Iterator[list[str]]:
    """Yield the arguments of the group tool in the shell loops that the refusal ends with."""
    loops = re.findall(r"^ for lane in ([\d ]+); do (.*); done$", refusal, re.MULTILINE)
    assert loops, refusal
    for lanes, command in loops:
        for lane in lanes.split():
            script, *args = shlex.split(command.replace("$lane", lane))
            assert script == "kafka-consumer-groups.sh"
            at = args.index("--bootstrap-server")
            assert args[at + 1] == kafka.bootstrap
            yield [*args[:at], *args[at + 2 :]]


def test_a_record_of_something_else_is_passed_over(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Also if it looks like entries: it claims nothing, and stops nothing."""
    requests = [request(f"pay-{n}") for n in range(90)]
    claims_all = b"".join(
        entries_of(
            *split_identities(key_of(f"pay-{n}") + bytes(8)), np.zeros(1, "<u8"), 2**31
        ).tobytes()
        for n in range(90)
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    send(kafka, topics, iter(requests[:45]))
    run_until_decided(kafka, topics, tmp_path, 45)
    producer.produce(topics.lane_log, b"not ours", partition=1)
    producer.produce(topics.lane_log, claims_all, partition=1, headers={"version": b"1"})
    assert producer.flush(LIMIT_S) == 0
    send(kafka, topics, iter(requests))
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_decided(135)
        assert "payments_lane_log_foreign_records 2.0" in flow.metrics()
        [warning] = [each for each in flow.entries if "no lane has written" in each["event"]]
        assert (warning["topic"], warning["partition"]) == (topics.lane_log, 1)
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize(
    ("version", "value", "said"),
    [
        (b"1", b"cut short", "9 bytes are no whole number of entries"),
        (b"3", b"", "its layout is version 3, this is version 2"),
    ],
    ids=["damaged", "of a newer version"],
)
def test_a_record_of_a_lane_that_cannot_be_read_is_refused_and_what_to_do(
    version: bytes, value: bytes, said: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    count = send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    headers: dict[str, str | bytes | None] = {"version": version, "lane": b"1", "lanes": b"2"}
    producer.produce(topics.lane_log, value, partition=1, headers=headers)
    assert producer.flush(LIMIT_S) == 0
    with Flow(kafka, topics, tmp_path, environ=FEW_LANES) as flow:
        refusal = flow.refusal()
    assert re.match(rf"{topics.lane_log}\[1\] at \d+: {said}", refusal), refusal

    [echo, delete] = re.findall(r"^ (echo .*|kafka-delete-records.sh .*)$", refusal, re.MULTILINE)
    _, document, _, name = shlex.split(echo)
    (tmp_path / name).write_text(document)
    assert shlex.split(delete)[1:] == [
        *("--offset-json-file", name),
        *("--bootstrap-server", kafka.bootstrap),
    ]
    tool = "org.apache.kafka.tools.DeleteRecordsCommand"
    kafka.tool(tool, "--offset-json-file", str(tmp_path / name))
    assert not [m for m in read_all(kafka, topics.lane_log) if m.partition() == 1]
    for args in loop_in(refusal, kafka):
        kafka.tool(GROUP_TOOL, *args)
    count += send(kafka, topics, mixed_requests(COUNT, seed=2))
    run_until_decided(kafka, topics, tmp_path, count, FEW_LANES)
    assert check(kafka, topics).problems == []


# ---- dates and the window ----


def remembered(flow: Flow) -> int:
    [line] = [x for x in flow.metrics().splitlines() if x.startswith("payments_remembered_ids ")]
    return int(float(line.split()[1]))


QUICK = {WATCH_EVERY_S: 0.2}


def test_a_clock_that_jumps_ahead_forgets_nothing(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    requests = [request(f"pay-{n}") for n in range(90)]
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    environ = {**APPROVE_ALL, **tuned(QUICK), "DEDUPE_WINDOW": "1h", "CLOCK_AHEAD": str(ahead)}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        send(kafka, topics, iter(requests))
        flow.wait_until_decided(90)
        ahead.write_text("864000")
        time.sleep(3)  # as the ends of the partitions are looked up again and again
        assert remembered(flow) == 90
        flow.kill()
    ahead.write_text("0")
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, 180, environ)
    assert Counter(outcomes(kafka, topics).values()) == {
        "payment.processed": 90,
        "payment.duplicate": 90,
    }


def test_a_start_with_a_clock_that_is_far_ahead_forgets_nothing_and_is_refused(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Kafka does not take records of the future."""
    requests = [request(f"pay-{n}") for n in range(90)]
    environ = {**APPROVE_ALL, **tuned(QUICK), "DEDUPE_WINDOW": "1h"}
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, 90, environ)
    ahead = tmp_path / "ahead"
    ahead.write_text("864000")
    with Flow(kafka, topics, tmp_path, environ={**environ, "CLOCK_AHEAD": str(ahead)}) as flow:
        assert flow.wait_for_exit() == 1
    assert "too far ahead of Kafka's (message.timestamp.after.max.ms): set it right" in flow.log
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, 180, environ)
    assert Counter(outcomes(kafka, topics).values()) == {
        "payment.processed": 90,
        "payment.duplicate": 90,
    }


@pytest.mark.parametrize("stamp", ["in seconds", "ten days old", "in the future"])
def test_a_first_start_on_strange_timestamps_forgets_nothing(
    stamp: str, kafka: Cluster, tmp_path: Path
) -> None:
    topics = Topics.fresh(kafka, partitions=1)
    at_ms = {
        "in seconds": int(time.time()),
        "ten days old": int((time.time() - 10 * 86_400) * 1000),
        # Kafka takes no more than an hour.
        "in the future": int((time.time() + 3_000) * 1000),
    }[stamp]
    environ = {**APPROVE_ALL, "DEDUPE_WINDOW": "7d", **tuned(QUICK)}
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        for count in (1, 2):
            producer.produce(topics.requested, request("pay"), timestamp=at_ms + count)
            assert producer.flush(LIMIT_S) == 0
            flow.wait_until_decided(count)
            # Until the partition's end was looked up again, which may make ids be forgotten.
            time.sleep(1.5)
        assert remembered(flow) == 1
        assert flow.terminate() == 0
    assert sorted(outcomes(kafka, topics).values()) == ["payment.duplicate", "payment.processed"]


def test_a_trickle_of_ancient_timestamps_does_not_stop_expiry(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    environ = {**APPROVE_ALL, "DEDUPE_WINDOW": "2s", **tuned(QUICK)}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        send(kafka, topics, iter(request(f"pay-{n}") for n in range(90)))
        flow.wait_until_decided(90)
        ancient = 0

        def trickle() -> bool:
            nonlocal ancient
            for _ in range(3):
                producer.produce(topics.requested, b"", partition=0, timestamp=1)
                ancient += 1
            assert producer.flush(LIMIT_S) == 0
            return remembered(flow) == 0 and ancient > 90

        flow.wait(trickle, LIMIT_S, "done forgetting")
        count = 90 + ancient
        flow.wait_until_decided(count)
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


def test_ids_of_every_partition_leave_the_window_after_a_crash(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """A resend long after it is a new payment, whichever partition it was on."""
    requests = [request(f"pay-{n}") for n in range(90)]
    environ = {**APPROVE_ALL, "DEDUPE_WINDOW": "2s", **tuned(QUICK)}
    send(kafka, topics, iter(requests))
    with Flow(kafka, topics, tmp_path, environ={**environ, "CRASH_AT": "all-committed:1"}) as flow:
        assert flow.wait_for_exit() == -9
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_decided(90)
        flow.wait(lambda: remembered(flow) == 0, LIMIT_S, "done forgetting")
        send(kafka, topics, iter(requests))
        flow.wait_until_decided(180)
        assert flow.terminate() == 0
    assert Counter(outcomes(kafka, topics).values()) == {"payment.processed": 180}


def test_forgotten_ids_stay_forgotten_after_a_restart(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Though it is still in the log, and waits there for the next trim."""
    environ = {**APPROVE_ALL, "DEDUPE_WINDOW": "2s", **tuned(QUICK | {TRIM_LEAST_S: 3600})}
    requests = [request(f"pay-{n}") for n in range(90)]
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        send(kafka, topics, iter(requests))
        flow.wait_until_decided(90)
        flow.wait(lambda: remembered(flow) == 0, LIMIT_S, "done forgetting")
        # What the lanes have forgotten is committed with their offsets.
        send(kafka, topics, iter(request(f"later-{n}") for n in range(90)))
        flow.wait_until_decided(180)
        flow.kill()
    assert len(claims(kafka, topics)) == 180
    send(kafka, topics, iter(requests))
    run_until_decided(kafka, topics, tmp_path, 270, environ)
    assert Counter(outcomes(kafka, topics).values()) == {"payment.processed": 270}


# ---- trimming ----


def test_the_flow_trims_the_log_below_what_is_remembered(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Then as little is read at a start, and nothing that is remembered is missing."""
    environ = {
        "DEDUPE_WINDOW": "2s",
        **tuned(QUICK | {TRIM_LEAST_S: 0.2, TRIM_APART_S: 0}),
    }
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        count = send(kafka, topics, iter(request(f"old-{n}") for n in range(90)))
        flow.wait_until_decided(count)
        old = {each.key for each in claims(kafka, topics)}
        assert len(old) == 90

        def has_trimmed() -> bool:
            nonlocal count
            # Every lane has to commit that it has forgotten them.
            count += send(kafka, topics, iter(request(f"new-{count}-{n}") for n in range(30)))
            flow.wait_until_decided(count)
            time.sleep(0.1)
            return "lane log trimmed" in flow.log and not old & {
                each.key for each in claims(kafka, topics)
            }

        flow.wait(has_trimmed, LIMIT_S, "done trimming")
        flow.kill()
    # What it must have is what its offsets state: nothing is missing.
    run_until_decided(kafka, topics, tmp_path, count, {"DEDUPE_WINDOW": "2s"})
    assert check(kafka, topics).problems == []


def test_nothing_is_trimmed_that_a_lane_still_remembers(
    kafka: Cluster, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    before = claims(kafka, topics)
    found = settings(kafka, topics)
    trimmer = Trimmer(found.kafka, LANES, inspect(found.kafka), window_s=2)
    trimmer.trim()
    assert claims(kafka, topics) == before
    # As if all lanes but one had forgotten everything.
    committed = Trimmer._committed

    def forgotten(self: Trimmer, lane: int) -> dict[int, Offset]:
        offsets = committed(self, lane)
        if lane == 2:
            return offsets
        later = int(time.time()) + 10 * 86_400
        return {
            partition: each._replace(metadata=each.metadata._replace(since_s=later))
            for partition, each in offsets.items()
        }

    monkeypatch.setattr(Trimmer, "_committed", forgotten)
    trimmer.trim()
    assert claims(kafka, topics) == before
    monkeypatch.setattr(lane_log_trimmer, "trimmed_s", lambda *_: int(time.time()) + 3_600)
    trimmer.trim()
    assert claims(kafka, topics) == []
