"""Throughput, CPU per payment and latency of one process; a table on standard output.

The numbers of one machine compare with each other only: this reports, and never judges.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Message, Producer
from kafkatest import Broker
from product import Flow, Topics, read_all, request, send

PARTITIONS = 3
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--records", type=int, default=500_000, help="requests to catch up with")
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 5_000], help="per second")
    parser.add_argument("--seconds", type=int, default=20, help="of each rate")
    parser.add_argument("--intervals", nargs="*", default=["1", "0"], help="snapshot intervals, s")
    args = parser.parse_args()
    options = ("-Xmx1g", "-XX:TieredStopAtLevel=4")
    with Broker.start(java_options=options) as kafka, tempfile.TemporaryDirectory() as scratch:
        print(f"{'catching up':28}{'payments/s':>12}{'CPU us/payment':>16}{'peak MB':>9}")
        catch_up(kafka, Path(scratch) / "catch-up", args.records)
        print(f"\n{'request to visible':28}{'p50 ms':>12}{'p99 ms':>9}{'p99.9 ms':>10}{'CPU %':>7}")
        for interval in args.intervals:
            for rate in args.rates:
                directory = Path(scratch) / f"{interval}-{rate}"
                latency(kafka, directory, rate, args.seconds, interval)


def catch_up(kafka: Broker, directory: Path, records: int) -> None:
    """How fast one process works through what is there already."""
    directory.mkdir()
    topics = Topics("bench-catch-up")
    topics.create(kafka, PARTITIONS)
    _say(f"loading {records} requests")
    send(kafka, topics, _requests(records), PARTITIONS)
    with Flow(kafka, topics, directory, snapshot_interval="1", environ={"LANES": ""}) as flow:
        flow.wait(lambda: _decided(flow) > 0, 60, "started")
        started_s, cpu_s, before = time.monotonic(), _cpu_s(flow), _decided(flow)
        if before == records:
            sys.exit(f"{records} requests are done before they can be timed: give more --records")
        flow.wait(lambda: _decided(flow) >= records, 600, "done")
        seconds, cpu_s = time.monotonic() - started_s, _cpu_s(flow) - cpu_s
        peak_mb = _peak_mb(flow)
        flow.terminate()
    visible = len(read_all(kafka, topics.outputs[2]))
    assert visible == records, f"{visible} audit events for {records} requests"
    rate, cpu_us = (records - before) / seconds, cpu_s / (records - before) * 1e6
    print(f"{f'{records} requests':28}{rate:12,.0f}{cpu_us:16.1f}{peak_mb:9.0f}")


def latency(kafka: Broker, directory: Path, rate: int, seconds: int, interval: str) -> None:
    """How long a request takes until a `read_committed` reader sees its outcome."""
    directory.mkdir()
    topics = Topics(f"bench-latency-{interval}-{rate}")
    topics.create(kafka, PARTITIONS)
    environ = {"LANES": "" if interval != "0" else "2"}
    with Flow(kafka, topics, directory, snapshot_interval=interval, environ=environ) as flow:
        flow.wait_until_ready()
        reader = Reader(kafka, topics)
        cpu_s, started_s = _cpu_s(flow), time.monotonic()
        sent = _send_at(kafka, topics, rate, seconds)
        share = (_cpu_s(flow) - cpu_s) / (time.monotonic() - started_s)
        seen = reader.wait_for(len(sent))
        flow.terminate()
    waits_ms = [(seen[place] - at_s) * 1000 for place, at_s in sent.items()]
    cuts = statistics.quantiles(waits_ms, n=1000)
    label = f"{rate}/s, {interval} s epochs"
    print(f"{label:28}{cuts[499]:12.0f}{cuts[989]:9.0f}{cuts[998]:10.0f}{share * 100:7.0f}")


class Reader:
    """Reads the audit topic as it grows, and notes when it saw the event of each record."""

    def __init__(self, kafka: Broker, topics: Topics) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": "bench",
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([topics.outputs[2]])
        self._seen: dict[tuple[int, int], float] = {}
        self._wanted = sys.maxsize
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while len(self._seen) < self._wanted:
            messages = self._consumer.consume(10_000, 0.005)
            now_s = time.time()
            for message in messages:
                if message.error() is None:
                    source = json.loads(message.value() or b"")["source"]
                    self._seen[source["partition"], source["offset"]] = now_s
        self._consumer.close()

    def wait_for(self, count: int) -> dict[tuple[int, int], float]:
        """When each of `count` records was seen."""
        self._wanted = count
        self._thread.join(60)
        assert len(self._seen) == count, f"{len(self._seen)} of {count} outcomes became visible"
        return self._seen


def _send_at(
    kafka: Broker, topics: Topics, rate: int, seconds: int
) -> dict[tuple[int, int], float]:
    """When each record was handed to the producer, by partition and offset."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 1})
    sent: dict[tuple[int, int], float] = {}

    def note(at_s: float) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            sent[message.partition() or 0, message.offset() or 0] = at_s

        return delivered

    started_s = time.monotonic()
    for n, value in enumerate(_requests(rate * seconds)):
        while (ahead_s := n / rate - (time.monotonic() - started_s)) > 0:
            producer.poll(min(ahead_s, 0.001))
        producer.produce(
            topics.requested, value, partition=n % PARTITIONS, on_delivery=note(time.time())
        )
    producer.flush(30)
    return sent


def _requests(count: int) -> Iterator[bytes]:
    """200 bytes each, 5 % duplicates, 1 % invalid."""
    for n in range(count):
        first = n - 1 if n % 20 == 19 else n
        amount = "-1" if n % 100 == 50 else f"{first % 1000 + 1}.99"
        metadata = {"orderId": f"order-{n:010d}", "note": "x" * 40}
        yield request(f"pay-{first:010d}", amount, metadata=metadata)


def _decided(flow: Flow) -> float:
    """How many records have a committed outcome, by the flow's own account."""
    name = 'kafka_messages_total{status="success",topic="'
    lines = [line for line in flow.metrics().splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in lines if ".audit" in line)


def _cpu_s(flow: Flow) -> float:
    fields = Path(f"/proc/{flow.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_mb(flow: Flow) -> float:
    status = Path(f"/proc/{flow.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
