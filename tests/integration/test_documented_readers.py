"""The programs in docs/events.md do as documented: they read what the flow has written, each once.

They are the files that the document shows, run as a reader of it would run them.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests import ROOT, published
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
from tests.support.kafka import Cluster
from tests.support.kafka.cluster import java_command

READERS = ROOT / "docs" / "readers"
TYPESCRIPT = READERS / "typescript"
COUNT = 200
EXACT = [request("pay-ø", "123456789012.340"), request("pay-e", "1e2"), request("pay-z", "0.070")]
TIMEOUT_S = 120

Event = dict[str, Any]


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@pytest.fixture(scope="module")
def print_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the TypeScript reader, compiled."""
    if lacking := prepare.missing("node", "npm"):
        pytest.skip(f"a TypeScript consumer needs {lacking}")
    try:
        installed = prepare.packages("typescript", TYPESCRIPT, print)
    except prepare.BuildError as error:
        pytest.skip(f"npm could not bring TypeScript and KafkaJS: {error}")
    directory = tmp_path_factory.mktemp("typescript")
    for name in ("package.json", "tsconfig.json", "print.ts"):
        shutil.copy(TYPESCRIPT / name, directory)
    (directory / "node_modules").symlink_to(installed / "node_modules")
    done = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return directory / "print.js"


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a reader, and kill it at the end as a crash would."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait(process: subprocess.Popen[bytes], log: Path, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"not done:\n{log.read_text()[-4000:]}"
        time.sleep(0.1)


def decide(kafka: Cluster, topics: Topics, directory: Path, values: list[bytes], upto: int) -> None:
    """Publish the events of more requests; and others before, in transactions that are aborted."""
    send(kafka, topics, iter(values))
    end_badly(kafka, topics, directory)
    run_until_decided(kafka, topics, directory, upto)


def all_events(kafka: Cluster, topic: str) -> list[Event]:
    """Return what is in an output topic; all of it is as its published schema states."""
    events = []
    for message in read_all(kafka, topic):
        value = message.value() or b""
        published.assert_valid(published.OF_TOPIC[topic.rpartition(".")[2]], value)
        assert message.headers() is None
        event = json.loads(value, parse_float=Decimal, parse_int=Decimal)
        assert message.key() == (event["paymentId"] and event["paymentId"].encode())
        events.append(event)
    return events


@contextmanager
def reading(kafka: Cluster, group: str, topics: tuple[str, ...]) -> Iterator[Callable[[], bool]]:
    """Yield whether the group's offset is past what is the last event of each partition now."""
    ends: dict[tuple[str, int], int] = {}
    for topic in topics:
        for message in read_all(kafka, topic):
            place = topic, int(message.partition() or 0)
            ends[place] = max(ends.get(place, 0), int(message.offset() or 0) + 1)
    wanted = [TopicPartition(*place) for place in ends]
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": group}
    with closing(Consumer(config)) as consumer:

        def is_done() -> bool:
            committed = consumer.committed(wanted, timeout=60)
            return all(ends[each.topic, each.partition] <= each.offset for each in committed)

        yield is_done


def test_the_ledger_counts_every_event_once(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Killed half-way; and reading everything again, as if no position had been committed."""
    database, log, group = tmp_path / "ledger.db", tmp_path / "ledger.log", f"g{uuid.uuid4().hex}"

    def read(group: str) -> None:
        args = [kafka.bootstrap, group, "reader-0", str(database), *topics.outputs]
        with (
            reading(kafka, group, topics.outputs) as has_read,
            running([sys.executable, str(READERS / "ledger.py"), *args], log) as reader,
        ):
            wait(reader, log, has_read)

    values = [*mixed_requests(2 * COUNT, seed=1), *EXACT]
    decide(kafka, topics, tmp_path, values[:COUNT], COUNT)
    read(group)
    decide(kafka, topics, tmp_path, values[COUNT:], len(values))
    read(group)
    read(f"{group}-again")

    processed, failed, audit = (all_events(kafka, topic) for topic in topics.outputs)
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    for event in processed:
        totals[event["currency"]] += event["amount"]
    with closing(sqlite3.connect(database)) as kept:
        rows = kept.execute("SELECT currency, amount FROM total").fetchall()
        assert {currency: Decimal(amount) for currency, amount in rows} == totals
        outcomes = [(e["eventId"], e["eventType"], e["paymentId"]) for e in processed + failed]
        query = "SELECT event_id, event_type, payment_id FROM outcome"
        assert sorted(kept.execute(query)) == sorted(outcomes)

        joined = kept.execute((READERS / "join.sql").read_text()).fetchall()
        decided_at = {event["eventId"]: event["occurredAt"] for event in audit}
        repeats = {"payment.duplicate", "payment.conflict"}
        expected = Counter(
            (
                event["paymentId"],
                event["eventType"],
                None if event["eventType"] in repeats else decided_at[event["eventId"]],
            )
            for event in audit
        )
        assert Counter(joined) == expected
        assert len(joined) == len(values)


@pytest.mark.usefixtures("compiler")
def test_forwarding_writes_every_amount_once(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Killed half-way through, with a transaction open perhaps."""
    own, log = f"{topics.prefix}.own", tmp_path / "forward.log"
    kafka.create_topics({own: 3})
    args = [kafka.bootstrap, f"g{topics.prefix}", "reader-0", topics.outputs[0], own]
    command = java_command(str(READERS / "Forward.java"), args, "/dev/null", ("-Xmx256m",))

    def read_until(enough: Callable[[int], bool]) -> None:
        with running(command, log) as reader:
            wait(reader, log, lambda: enough(len(read_all(kafka, own))))

    values = [*mixed_requests(2 * COUNT, seed=2), *EXACT]
    decide(kafka, topics, tmp_path, values[:COUNT], COUNT)
    half = len(all_events(kafka, topics.outputs[0]))
    read_until(lambda count: count > 0)
    read_until(lambda count: count >= half)
    decide(kafka, topics, tmp_path, values[COUNT:], len(values))
    processed = all_events(kafka, topics.outputs[0])
    assert len(processed) > half
    read_until(lambda count: count >= len(processed))

    lines = [(message.value() or b"").decode() for message in read_all(kafka, own)]
    expected = [f"{e['eventId']} {e['amount']:f} {e['currency']}" for e in processed]
    assert sorted(lines) == sorted(expected)


def test_printing_shows_every_event(
    kafka: Cluster, topics: Topics, tmp_path: Path, print_js: Path
) -> None:
    log = tmp_path / "print.log"
    values = [*mixed_requests(COUNT, seed=3), *EXACT, request("decline:card_expired"), b"\xff"]
    send(kafka, topics, iter(values))
    run_until_decided(kafka, topics, tmp_path, len(values))
    expected = [
        line(json.loads(message.value() or b"", parse_float=str, parse_int=str), topic)
        for topic in topics.outputs
        for message in read_all(kafka, topic)
    ]
    assert len({text.split()[0] for text in expected}) == 3
    group = f"g{topics.prefix}"
    command = ["node", str(print_js), kafka.bootstrap, group, *topics.outputs]
    with reading(kafka, group, topics.outputs) as has_read, running(command, log) as reader:
        wait(reader, log, has_read)
    # KafkaJS logs to the same stream, as JSON.
    printed = [text for text in log.read_text().splitlines() if not text.startswith("{")]
    assert sorted(printed) == sorted(expected)


def line(event: Event, topic: str) -> str:
    """Return what the TypeScript reader prints; numbers are as they are written."""
    at = f"{event['source']['partition']}:{event['source']['offset']}"
    start = f"{event['eventType']} {event['paymentId'] or '-'} at {at}"
    if topic.endswith("processed"):
        return f"{start}: {event['amount']} {event['currency']}"
    if topic.endswith("failed"):
        return f"{start}: {event['error']['code']}"
    if "firstSource" in event:
        first = event["firstSource"]
        return f"audit {start}: as {first['partition']}:{first['offset']}"
    return f"audit {start}: {event.get('gatewayReference') or event['error']['code']}"
