"""The outputs as our users' readers see them: KafkaJS's consumer and Kafka's own.

Both are real, from their registries, without any plug-in. They must see, decode and skip exactly
what the reader of all other tests does.
"""

import base64
import json
import os
import struct
import subprocess
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from dataflow.config.variables import KAFKA
from tests.bench import prepare
from tests.support.flow_process import (
    Topics,
    end_badly,
    mixed_requests,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.kafka import Broker, Cluster

READERS = Path(__file__).parent / "readers"
END = "the end"
COUNT = 400
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
"""In the order of their numbers in a batch of records."""
BUILT_INTO_KAFKAJS = {"none", "gzip"}
[DEFAULT] = [variable.default for variable in KAFKA if variable.name == "KAFKA_COMPRESSION"]

Place = tuple[str, int, int]


class Seen(NamedTuple):
    """One record: its bytes, and what the reader's own JSON parser makes of them."""

    key: bytes | None
    value: bytes
    event: dict[str, Any]


class RefusedError(Exception):
    """A reader gave up."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@pytest.fixture(scope="module")
def kafkajs() -> Path:
    """Return where KafkaJS is installed."""
    lacking = prepare.missing("node", "npm")
    if lacking:
        pytest.skip(f"a KafkaJS consumer needs {lacking}")
    try:
        return prepare.kafkajs(print)
    except prepare.BuildError as error:
        pytest.skip(f"npm could not bring KafkaJS: {error}")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("lanes", ["1", "4"])
def test_kafkajs_and_java_see_what_we_see(
    lanes: str, kafka: Cluster, topics: Topics, tmp_path: Path, kafkajs: Path
) -> None:
    """With the default codec, and transactions that were aborted.

    Where those of several lanes were aborted together, KafkaJS (2.2.4) may show some of their
    records: it expects the list of them in the order in which they began, and Kafka sends it in
    that in which they ended. It loses nothing, and what it shows comes again.
    """
    environ = {"LANES": lanes}
    send(kafka, topics, mixed_requests(COUNT - 2, seed=1))
    end_badly(kafka, topics, tmp_path, environ)
    notes = {"note": "Zoë pays 100 € \U0001f4b6", "quoted": '"\\', "deep": [1, {"x": None}]}
    send(kafka, topics, iter([request("pay-ø", "0.070", metadata=notes), b"\xc3("]))
    run_until_decided(kafka, topics, tmp_path, COUNT, environ)
    if isinstance(kafka, Broker):
        assert codecs_on_disk(kafka, topics) == {DEFAULT}

    floats, exact = ours(kafka, topics, float), ours(kafka, topics, Decimal)
    assert {topic for topic, _, _ in floats} == set(topics.outputs)
    mark_the_ends(kafka, topics)
    assert by_java(kafka, topics, "read_committed") == exact
    # Kafka's default, which a reader in Java must change.
    assert len(by_java(kafka, topics, "read_uncommitted")) > len(exact)

    seen = by_kafkajs(kafka, topics, kafkajs)
    assert {place: seen.get(place) for place in floats} == floats
    aborted = [record for place, record in seen.items() if place not in floats]
    if lanes == "1":
        assert aborted == []
    else:
        decided = {record.key for record in floats.values()}
        assert {record.key for record in aborted} <= decided


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("codec", CODECS)
def test_readers_of_each_codec(
    codec: str, kafka: Cluster, topics: Topics, tmp_path: Path, kafkajs: Path
) -> None:
    """As in docs/migration.md: Java reads all; KafkaJS crashes on what is not built in."""
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, COUNT, {"KAFKA_COMPRESSION": codec})
    if isinstance(kafka, Broker):
        assert codecs_on_disk(kafka, topics) == {codec}

    floats, exact = ours(kafka, topics, float), ours(kafka, topics, Decimal)
    mark_the_ends(kafka, topics)
    assert by_java(kafka, topics, "read_committed") == exact
    if codec in BUILT_INTO_KAFKAJS:
        assert by_kafkajs(kafka, topics, kafkajs) == floats
    else:
        with pytest.raises(RefusedError, match=rf"(?i)KafkaJSNotImplemented: {codec} compression"):
            by_kafkajs(kafka, topics, kafkajs)


def ours(kafka: Cluster, topics: Topics, number: Any) -> dict[Place, Seen]:
    """Return what the other tests' reader sees, with numbers as the other reader has them."""
    return {
        (topic, int(message.partition() or 0), int(message.offset() or 0)): Seen(
            message.key(),
            message.value() or b"",
            json.loads(message.value() or b"", parse_float=number, parse_int=number),
        )
        for topic in topics.outputs
        for message in read_all(kafka, topic)
    }


def mark_the_ends(kafka: Cluster, topics: Topics) -> None:
    """End every partition with a record by which the other readers notice that it is the last."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for topic in topics.outputs:
        for partition in range(3):
            producer.produce(topic, b"null", END, partition)
    assert producer.flush(30) == 0


def by_kafkajs(kafka: Cluster, topics: Topics, installed: Path) -> dict[Place, Seen]:
    group = f"kafkajs-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        ["node", str(READERS / "read.js"), kafka.bootstrap, group, END, *topics.outputs],
        env={
            "PATH": os.environ.get("PATH", ""),
            "NODE_PATH": str(installed / "node_modules"),
            "NODE_NO_WARNINGS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    if done.returncode != 0:
        raise RefusedError(done.stderr)
    return parsed(done.stdout, float)


def by_java(kafka: Cluster, topics: Topics, isolation: str) -> dict[Place, Seen]:
    printed = kafka.tool(str(READERS / "Read.java"), isolation, END, *topics.outputs)
    return parsed(printed, Decimal)


def parsed(printed: str, number: Any) -> dict[Place, Seen]:
    """Return the lines of a reader; a record that it saw twice is an error."""
    seen: dict[Place, Seen] = {}
    for line in printed.splitlines():
        record = json.loads(line, parse_float=number)
        place = record["topic"], int(record["partition"]), int(record["offset"])
        assert place not in seen
        key = record["key"]
        seen[place] = Seen(
            None if key is None else base64.b64decode(key),
            base64.b64decode(record["value"]),
            record["event"],
        )
    return seen


def codecs_on_disk(kafka: Broker, topics: Topics) -> set[str]:
    """Return the codecs of all batches with records in the broker's files of the output topics."""
    found = set()
    for topic in topics.outputs:
        for file in (kafka.directory / "data").glob(f"{topic}-*/*.log"):
            log, at = file.read_bytes(), 0
            # Of each batch: base offset, length, leader epoch, magic, checksum, attributes.
            while at < len(log):
                length, attributes = struct.unpack_from(">8xi4xx4xh", log, at)
                is_control = attributes & 0x20
                if not is_control:
                    found.add(CODECS[attributes & 7])
                at += 12 + length
    return found
