"""The speed of the checker, and the memory it takes, by the number of requests.

The topics are made up as they are read, as a flow without a fault would have written them, so that
no broker takes part: what Kafka's client costs comes on top (about 1 us a record).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from msgspec import UNSET

from dataflow.config.settings import Settings
from dataflow.core.lane_log import entries_of, headers
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origin
from dataflow.verify.checker import Check
from dataflow.verify.reader import Bounds, Chunk, LanePosition, Positions, Snapshot
from schemas import events
from schemas.events import AuditEvent, Records
from schemas.outcomes import EventType
from schemas.parsing import parse
from schemas.requests import PaymentRequest

PARTITIONS = 3
CHUNK = 10_000
AT = "2026-01-01T00:00:00.000Z"
REPEAT_EVERY = 20
LOG_HEADERS = headers(0, 1)
"""Of all records: only in the lanes' log they are looked at."""


class MadeUp:
    """A `Reader` of topics with so many requests in each input partition."""

    def __init__(self, settings: Settings, requests: int) -> None:
        self._kafka = settings.kafka
        self._each = requests // PARTITIONS
        self._lanes = settings.lanes

    def look(self) -> Snapshot:
        """Return a snapshot with everything committed."""
        kafka = self._kafka
        bounds = {n: Bounds(0, self._each, self._each) for n in range(PARTITIONS)}
        topics = [kafka.topic_requested, kafka.topic_processed, kafka.topic_failed]
        at_end = {n: LanePosition(self._each, self._lanes) for n in range(PARTITIONS)}
        return Snapshot(
            Positions(
                dict.fromkeys(range(PARTITIONS), self._each),
                dict.fromkeys(range(self._lanes), at_end),
            ),
            dict.fromkeys([*topics, kafka.topic_audit, kafka.topic_lane_log], bounds),
            [],
        )

    def read(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield a chunk of each partition in turn; an output stands where its request stands."""
        for start in range(0, self._each, CHUNK):
            for partition in bounds:
                chunk = Chunk(partition, [], [], [], [], [])
                for offset in range(start, min(start + CHUNK, self._each)):
                    found = self._record(topic, partition, offset)
                    if found is not None:
                        chunk.offsets.append(offset)
                        chunk.times_ms.append(offset)
                        chunk.keys.append(found[0])
                        chunk.values.append(found[1])
                        chunk.headers.append(LOG_HEADERS)
                if chunk.offsets:
                    yield chunk

    def _record(self, topic: str, partition: int, offset: int) -> tuple[bytes | None, bytes] | None:
        first = offset - offset % REPEAT_EVERY
        repeated = offset % REPEAT_EVERY == 1
        name = f"pay-{partition}-{first if repeated else offset:010d}"
        if topic == self._kafka.topic_failed:
            return None
        if topic == self._kafka.topic_requested:
            return None, _request(name)
        if topic == self._kafka.topic_lane_log:
            return None if repeated else (None, _claim(name, partition, offset))
        if topic == self._kafka.topic_processed:
            if repeated:
                return None
            records = Records(self._kafka.topic_requested, partition)
            request = parse(_request(name), 10**6)
            assert isinstance(request, PaymentRequest)
            source = records.source(offset)
            event = events.processed(records.event_id(offset), source, request, "ref", AT)
            return name.encode(), events.encode(event)
        records = Records(self._kafka.topic_requested, partition)
        audit = AuditEvent(
            event_id=records.event_id(offset),
            event_type=EventType.DUPLICATE if repeated else EventType.PROCESSED,
            payment_id=name,
            source=records.source(offset),
            occurred_at=AT,
            first_source=records.source(first) if repeated else UNSET,
            gateway_reference=UNSET if repeated else "ref",
        )
        return name.encode(), events.encode(audit)

    def stuck(self) -> dict[tuple[str, int], int]:
        """Return nothing."""
        return {}

    def record(self, topic: str, partition: int, offset: int) -> tuple[bytes | None, bool]:
        """Return the record at an offset."""
        found = self._record(topic, partition, offset)
        return (found[1], True) if found else (None, False)


def _request(name: str) -> bytes:
    return (
        b'{"paymentId":"%b","userId":"user_1","amount":10.99,"currency":"USD",'
        b'"paymentMethod":"credit_card","metadata":{"orderId":"%b"}}' % ((name.encode(),) * 2)
    )


def _claim(name: str, partition: int, offset: int) -> bytes:
    request = parse(_request(name), 10**6)
    assert isinstance(request, PaymentRequest)
    keys, fingerprints = split_identities(request.identity())
    return entries_of(
        keys, fingerprints, np.array([origin(partition, offset)], np.uint64), 0
    ).tobytes()


def measure(requests: int, scratch: Path | None) -> None:
    """Check so many requests; a line of figures."""
    settings = Settings.from_env(
        {
            "KAFKA_BROKERS": "localhost:9092",
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "GATEWAY": "simulated",
        }
    )
    reader = MadeUp(settings, requests)
    made_cpu_s = time.process_time()
    for topic, bounds in reader.look().bounds.items():
        for _ in reader.read(topic, bounds):
            pass
    made_cpu_s = time.process_time() - made_cpu_s
    started_cpu_s = time.process_time()
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        report = Check(settings, reader, Path(directory)).run()
    seconds = time.process_time() - started_cpu_s - made_cpu_s
    if not report.holds:
        sys.exit(f"the made-up topics do not hold: {report.findings.examples}")
    records = report.totals.requests + report.totals.outcomes + report.totals.audits
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "requests": report.totals.requests,
                "cpu_seconds": round(seconds, 1),
                "records_a_cpu_second": round(records / seconds),
                "requests_a_cpu_second": round(report.totals.requests / seconds),
                "peak_mb": round(peak_mb),
            }
        )
    )


def main() -> None:
    """Measure each size in a process of its own, for its memory."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.verify", description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[300_000, 3_000_000])
    parser.add_argument("--scratch", type=Path, help="for temporary files")
    parser.add_argument("--here", action="store_true", help="in this process")
    args = parser.parse_args()
    for requests in args.requests:
        if args.here:
            measure(requests, args.scratch)
        else:
            command = [
                sys.executable,
                "-m",
                "tests.bench.verify",
                "--here",
                "--requests",
                str(requests),
            ]
            if args.scratch:
                command += ["--scratch", str(args.scratch)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
