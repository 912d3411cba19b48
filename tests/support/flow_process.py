"""The product as its users run it: a subprocess, its topics, and what it has published."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec

from dataflow.kafka.preflight import PENDING_CONFIG
from tests import ROOT
from tests.support.hooks import SITE
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

FOREIGN = ("KAFKA_", "BYTEWAX_", "RUST_")
"""Variables of the tests' own user, which the flow does not get."""
NO_RECOVERY = {"BYTEWAX_RECOVERY_DIRECTORY": "", "BYTEWAX_SNAPSHOT_INTERVAL": "-1"}
"""For a flow that keeps its positions in Kafka only."""
COMMAND = (sys.executable, "-m", "bytewax.run", "dataflow.flow")
LIMIT_S = 120.0
"""The time for anything that a flow does by itself: a start asks Kafka a dozen questions, and each
answer may take seconds on a machine with too much to do."""
_ANSWER_S = 60.0
"""The same for one answer, of the flow or of Kafka."""


@dataclass
class Topics:
    """The topics of one test, and the group that goes with them."""

    prefix: str

    @property
    def requested(self) -> str:
        return f"{self.prefix}.requested"

    @property
    def outputs(self) -> tuple[str, str, str]:
        return f"{self.prefix}.processed", f"{self.prefix}.failed", f"{self.prefix}.audit"

    @property
    def lane_log(self) -> str:
        return f"{self.prefix}.lane-log"

    @property
    def pending(self) -> str:
        return f"{self.prefix}.pending"

    @property
    def kept_in_full(self) -> tuple[str, ...]:
        """Those that a lane's transaction writes to and that are not compacted."""
        return *self.outputs, self.lane_log

    @property
    def written(self) -> tuple[str, ...]:
        """All that a lane's transaction writes to."""
        return *self.kept_in_full, self.pending

    @property
    def group(self) -> str:
        return f"{self.prefix}.group"

    def lane_groups(self, lanes: int = 4) -> list[str]:
        """Return the groups that hold the lanes' offsets."""
        return [f"{self.group}.lane-{lane:03d}" for lane in range(lanes)]

    def environ(self) -> dict[str, str]:
        processed, failed, audit = self.outputs
        return {
            "KAFKA_TOPIC_REQUESTED": self.requested,
            "KAFKA_TOPIC_PROCESSED": processed,
            "KAFKA_TOPIC_FAILED": failed,
            "KAFKA_TOPIC_AUDIT": audit,
            "KAFKA_TOPIC_LANE_LOG": self.lane_log,
            "KAFKA_TOPIC_PENDING": self.pending,
            "KAFKA_GROUP_ID": self.group,
        }

    @classmethod
    def unused(cls, prefix: str = "t") -> "Topics":
        """Return names that nothing else has; too short for a card number, which logs mask."""
        return cls(f"{prefix}{uuid.uuid4().hex[:8]}")

    @classmethod
    def fresh(cls, kafka: Cluster, partitions: int = 3) -> "Topics":
        topics = cls.unused()
        topics.create(kafka, partitions)
        return topics

    def create(self, kafka: Cluster, partitions: int = 3) -> None:
        kafka.create(
            [
                NewTopic(self.requested, partitions),
                *(NewTopic(each, 3) for each in self.outputs),
                # Another number than that of the lanes, which share partitions.
                NewTopic(self.lane_log, 3, config={"retention.ms": "-1"}),
                NewTopic(self.pending, 1, config=PENDING_CONFIG),
            ]
        )

    def grow(self, kafka: Cluster, partitions: int) -> None:
        """Add partitions to the request topic, up to so many."""
        wanted = [NewPartitions(self.requested, partitions)]
        admin = kafka.admin()
        for grown in admin.create_partitions(wanted).values():
            grown.result(_ANSWER_S)

    def create_pending(self, kafka: Cluster, config: Mapping[str, str] | None = None) -> None:
        kafka.create_topics({self.pending: 1}, {**PENDING_CONFIG, **(config or {})})


class Flow:
    """One process of `python -m bytewax.run dataflow.flow`."""

    def __init__(
        self,
        kafka: Cluster,
        topics: Topics,
        directory: Path,
        *args: str,
        environ: Mapping[str, str] | None = None,
        commit_interval: str = "20ms",
        prefix: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.log_path = directory / f"flow-{time.monotonic_ns()}.log"
        self.port, self.metrics_port = free(2)
        recovery = directory / "recovery"
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)},
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "GATEWAY": "simulated",
            "APP_ENV": "test",
            **topics.environ(),
            "LANES": "4",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "BYTEWAX_RECOVERY_DIRECTORY": str(recovery),
            "COMMIT_INTERVAL": commit_interval,
            "BYTEWAX_SNAPSHOT_INTERVAL": "0",
            "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
            "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}",
            **(environ or {}),
        }
        self.environ = {name: value for name, value in self.environ.items() if value}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, *command, *args],
                cwd=ROOT,
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """The lines it has logged; without a line that it is just writing."""
        has_ended = self.process.poll() is not None  # looked at first: then all is written
        text = self.log_path.read_text(errors="replace")
        return text if has_ended else text[: text.rfind("\n") + 1]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The lines of its log; fails when it wrote anything else, such as a bare traceback."""
        return [json.loads(line) for line in self.log.splitlines()]

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        url = f"http://127.0.0.1:{port or self.port}{path}"
        try:
            try:
                with urlopen(url, timeout=_ANSWER_S) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                return error.code, error.read().decode()
        except (HTTPException, URLError, OSError):
            return 0, ""

    def health(self) -> dict[str, Any]:
        _, body = self.get("/health")
        return dict(json.loads(body)) if body else {}

    def decided(self) -> int:
        """Return how many input records are decided for good, over all its partitions and runs."""
        partitions = self.health().get("partitions", {}).values()
        return sum(partition["committed"] or 0 for partition in partitions)

    def charges(self) -> bool:
        """Return whether a call to the gateway is in flight."""
        return bool(self.health().get("charging", {}).get("in_flight"))

    def wait_until_decided(self, count: int, timeout_s: float = LIMIT_S) -> None:
        self.wait(lambda: self.decided() == count, timeout_s, f"done with {count} records")

    def refusal(self, timeout_s: float = LIMIT_S) -> str:
        """Wait until it has ended, refusing to start, and return the one reason that it gave."""
        has_started = self.wait_or_end(lambda: self.get("/ready")[0] == 200, timeout_s, "refused")
        assert not has_started, f"not refused:\n{self.log[-4000:]}"
        code = self.wait_for_exit(timeout_s)
        reasons = [entry["reason"] for entry in self.entries if entry["level"] == "critical"]
        assert (code, len(reasons)) == (1, 1), self.log
        assert "Traceback" not in self.log
        return str(reasons[0])

    def metrics(self) -> str:
        return self.get("/metrics", self.metrics_port)[1]

    def wait_until_ready(self, timeout_s: float = LIMIT_S) -> None:
        self.wait(lambda: self.get("/ready")[0] == 200, timeout_s, "ready")

    def wait(self, done: Any, timeout_s: float, what: str) -> None:
        is_done = self.wait_or_end(done, timeout_s, what)
        assert is_done, f"ended before it was {what}:\n{self.log[-4000:]}"

    def wait_or_end(self, done: Any, timeout_s: float, what: str) -> bool:
        """Wait likewise, or until it has ended; return whether it was done before."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, f"not {what}:\n{self.log[-4000:]}"
            time.sleep(0.05)
        return True

    def wait_for_exit(self, timeout_s: float = LIMIT_S) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running:\n{self.log[-4000:]}") from None

    def terminate(self, timeout_s: float = LIMIT_S) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait_for_exit(timeout_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def run_until_decided(
    kafka: Cluster,
    topics: Topics,
    directory: Path,
    count: int,
    environ: Mapping[str, str] | None = None,
) -> Flow:
    """Run once without faults, until so many records are decided in all, and stop cleanly."""
    with Flow(kafka, topics, directory, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(count)
        assert flow.terminate() == 0
    return flow


def end_badly(
    kafka: Cluster, topics: Topics, directory: Path, environ: Mapping[str, str] | None = None
) -> None:
    """Kill the flow with records of open transactions in Kafka; the next run aborts them."""
    environ = {**(environ or {}), "CRASH_AT": "flushed:1"}
    with Flow(kafka, topics, directory, environ=environ) as flow:
        assert flow.wait_for_exit() == -9


def request(payment_id: str, amount: str = "10.00", currency: str = "USD", **more: object) -> bytes:
    fields = {
        "paymentId": payment_id,
        "userId": "user_1",
        "amount": amount,
        "currency": currency,
        "paymentMethod": "credit_card",
        **more,
    }
    return json.dumps(fields).encode()


def mixed_requests(count: int, seed: int, duplicates: float = 0.3) -> Iterator[bytes]:
    """Yield a stream as it may come: duplicates, conflicts, invalid ones, garbage; by `seed`."""
    rng = random.Random(seed)
    ids: list[tuple[str, str, str]] = []
    for n in range(count):
        draw = rng.random()
        if ids and draw < duplicates:
            payment_id, amount, currency = rng.choice(ids)
            if rng.random() < 0.1:
                amount = "77.77" if currency != "JPY" else "7777"
            yield request(payment_id, amount, currency)
        elif draw > 0.99:
            yield rng.choice([b"\xff\xfe", b"{", b"[]", request(f"bad-{n}", "-1"), b""])
        else:
            currency = rng.choice(["USD", "EUR", "JPY", "KWD"])
            amount = str(rng.randrange(1, 10_000))
            if currency != "JPY":
                amount += f".{rng.randrange(100):02d}"
            ids.append((f"pay-{seed}-{n}", amount, currency))
            yield request(*ids[-1])


def send(kafka: Cluster, topics: Topics, values: Iterator[bytes], partitions: int = 3) -> int:
    """Spread records over the partitions *not* by key; the number of them."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    count = 0
    for count, value in enumerate(values, 1):
        while True:
            try:
                producer.produce(topics.requested, value, partition=(count * 7919) % partitions)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(_ANSWER_S) == 0
    return count


def put(kafka: Cluster, topics: Topics, partition: int, *values: bytes) -> None:
    """Send records to one partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topics.requested, value, partition=partition)
    assert producer.flush(_ANSWER_S) == 0


def has_open_transaction(kafka: Cluster, topic: str) -> bool:
    """Return whether a `read_committed` reader of the topic waits for one to end."""
    admin = kafka.admin()
    partitions = admin.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    ends = [
        [
            listed.result(_ANSWER_S).offset
            for listed in admin.list_offsets(
                dict.fromkeys([TopicPartition(topic, n) for n in sorted(partitions)], latest),
                isolation_level=level,
            ).values()
        ]
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED)
    ]
    return ends[0] != ends[1]


def read_all(kafka: Cluster, topic: str, *, isolation: str = "read_committed") -> list[Message]:
    """Return everything that is in a topic now, of each partition in its order."""
    return read_topics(kafka, [topic], isolation=isolation)[topic]


def read_topics(
    kafka: Cluster, topics: Sequence[str], *, isolation: str = "read_committed"
) -> dict[str, list[Message]]:
    """Return everything that is in some topics now, by one client: each costs its connections."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    left = {
        (topic, partition)
        for topic in topics
        for partition in consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic].partitions
    }
    consumer.assign([TopicPartition(*each, 0) for each in left])
    messages: dict[str, list[Message]] = {topic: [] for topic in topics}
    deadline = time.monotonic() + LIMIT_S
    while left:
        assert time.monotonic() < deadline, f"{left}: an open transaction blocks the reader"
        # Not for longer: it returns after that, though all there is has come.
        for message in consumer.consume(10_000, 0.02):
            error = message.error()
            if error is not None:
                # Others pass: after an outage a partition may be without a leader for a moment.
                if error.code() == KafkaError._PARTITION_EOF:
                    left.discard((str(message.topic()), int(message.partition() or 0)))
            else:
                messages[str(message.topic())].append(message)
    consumer.close()
    return messages
