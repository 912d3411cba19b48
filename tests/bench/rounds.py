"""One run of one contender: warm it up, then latency at fixed rates, idle, and a backlog.

The backlog is sent while the contender is frozen (SIGSTOP), and the clock runs from when it is let
go until the last outcome is readable by a `read_committed` reader. So nothing depends on how long
an interpreter or a JVM takes to start, and all of them are warm.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.bench import load
from tests.bench.contenders import Contender, Place, Running
from tests.bench.watch import Reader, Usage
from tests.support.flow_process import Topics, read_all
from tests.support.kafka import Cluster

PARTITIONS = 3
_LEAD_S = 0.3
_CALM_S = 2.0
_BEHIND_S = 3.0
Say = Callable[[str], None]
Result = dict[str, Any]


@dataclass(frozen=True)
class Length:
    """The length of a run.

    Attributes:
        warm_up: Requests before anything is measured.
        rate_s: Seconds of each rate.
        idle_s: Seconds without requests in which CPU is measured.
        burst: Times the contender's own backlog.
    """

    warm_up: int
    rate_s: float
    idle_s: float
    burst: float


FULL = Length(warm_up=20_000, rate_s=2.5, idle_s=2.5, burst=1.0)
QUICK = Length(warm_up=5_000, rate_s=1.5, idle_s=2.0, burst=0.4)


class Run:
    """One contender at work, and those who watch it.

    Attributes:
        sent: Requests so far: as many audit events there must be.
    """

    def __init__(
        self,
        contender: Contender,
        kafka: Cluster,
        scratch: Path,
        sender: Executor,
        *,
        topics: Topics | None = None,
        partitions: int = PARTITIONS,
    ) -> None:
        self.contender = contender
        self.topics = topics or Topics.unused(f"bench-{contender.name}-")
        self.sent = 0
        if topics is None:
            self.topics.create(kafka, partitions)
        self._outcomes = 0
        self._parts = 0
        self._kafka = kafka
        self._sender = sender
        self._place = Place(kafka, self.topics, scratch / self.topics.prefix)

    def __enter__(self) -> Self:
        self.reader = Reader(self._kafka.bootstrap, self.topics.outputs[2])
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.reader.stop()
        # The disk profits, not the measurement: whether it works does not matter.
        self._kafka.admin().delete_topics([self.topics.requested, *self.topics.written])

    @property
    def directory(self) -> Path:
        """The directory for its state and its logs."""
        return self._place.directory

    @property
    def next_prefix(self) -> str:
        """The beginning of the paymentIds that are sent next."""
        return f"p{self._parts + 1:04d}-"

    def stop(self) -> None:
        """End its processes, in order."""
        self.usage.stop()
        self.running.stop()

    def resume(self, timeout_s: float = 180.0) -> float:
        """Start it again with one request waiting: seconds until its outcome is readable."""
        self.fill(1)
        started = time.time()
        self.start()
        return self.wait(timeout_s) - started

    def start(self) -> None:
        """Start its processes; what they did before is theirs to find again."""
        self.running = Running(self.contender, self._place)
        self.usage = Usage(self.running.pids)

    def fill(self, count: int, **how: Any) -> None:
        """Send requests as fast as possible; returns when Kafka has them."""
        self._sent(count)
        topic = self.topics.requested
        self._sender.submit(
            load.fill, self._kafka.bootstrap, topic, self._prefix(), count, **how
        ).result()

    def warm_up(self, count: int) -> None:
        """Send requests until it is up and running."""
        self.fill(count)
        self.wait()
        time.sleep(_CALM_S)

    def wait(self, timeout_s: float = 180.0) -> float:
        """Return when the last outcome of all that was sent was readable, in seconds since 1970."""
        at = self.reader.wait_for(self.sent, self.running.check, timeout_s)
        if at is None:
            name, count = self.contender.name, self.reader.count
            raise RuntimeError(f"{name}: {count} of {self.sent} outcomes after {timeout_s:g} s")
        return at

    def burst(self, count: int, **how: Any) -> Result:
        """Measure a backlog, sent while it is frozen: payments per second, CPU, memory."""
        self.running.freeze()
        self.fill(count, **how)
        self.usage.peak_bytes = 0
        cpu_s, started = self.usage.cpu_s(), time.time()
        self.running.thaw()
        seconds = self.wait() - started
        cpu_s = self.usage.cpu_s() - cpu_s
        return {
            "payments": count,
            "seconds": seconds,
            "payments_per_s": count / seconds,
            "cpu_us": cpu_s / count * 1e6,
            "peak_mb": self.usage.peak_bytes / 2**20,
        }

    def latency(self, rate: int, seconds: float, *, may_lack: bool = False) -> Result | None:
        """Return the time from a due request to its readable outcome; None if it falls behind.

        Args:
            rate: Requests a second.
            seconds: For how long.
            may_lack: Whether outcomes may come later; then those that are there are counted.
        """
        count = int(rate * seconds)
        self._sent(count)
        self.reader.note(keys=True)
        start = time.time() + _LEAD_S
        sending = self._sender.submit(
            load.pace,
            self._kafka.bootstrap,
            self.topics.requested,
            prefix := self._prefix(),
            rate,
            count,
            start,
        )
        time.sleep(_LEAD_S)
        cpu_s = self.usage.cpu_s()
        sent = sending.result()
        cpu_share = (self.usage.cpu_s() - cpu_s) / (time.time() - start)
        at = self.reader.wait_for(self.sent, self.running.check, seconds + _BEHIND_S)
        seen = self.reader.first_seen
        self.reader.note(keys=False)
        if at is None and not may_lack:
            self.wait()
            return None
        mine = prefix.encode()
        waits_ms = sorted(
            (seen_at - start - load.number(key) / rate) * 1000
            for key, seen_at in seen.items()
            if key.startswith(mine)
        )
        return {
            "p50_ms": quantile(waits_ms, 0.5),
            "p99_ms": quantile(waits_ms, 0.99),
            "p999_ms": quantile(waits_ms, 0.999),
            "lacking": load.distinct(count) - len(waits_ms),
            "cpu_percent": cpu_share * 100,
            "sent_late_ms": sent.late_s * 1000,
        }

    def idle(self, seconds: float) -> float:
        """Return the share of a core that it takes to wait, in percent."""
        time.sleep(_CALM_S)
        cpu_s, started = self.usage.idle_cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (self.usage.idle_cpu_s() - cpu_s) / (time.monotonic() - started) * 100

    def check(self) -> Result:
        """Return the number of records, of outcomes, and of the outcomes there should be."""
        processed, failed, _ = self.topics.outputs
        outcomes = sum(len(read_all(self._kafka, topic)) for topic in (processed, failed))
        wanted = self._outcomes if self.contender.dedupes else self.sent
        return {"records": self.sent, "outcomes": outcomes, "outcomes_wanted": wanted}

    def _sent(self, count: int) -> None:
        self.sent += count
        self._outcomes += load.distinct(count)

    def _prefix(self) -> str:
        prefix = self.next_prefix
        self._parts += 1
        return prefix


def measure(run: Run, length: Length, *, check: bool) -> Result:
    """Measure all that one round measures of a contender."""
    contender = run.contender
    run.warm_up(length.warm_up)
    result: Result = {"latency": {}}
    for rate in contender.rates:
        found = run.latency(rate, length.rate_s)
        result["latency"][str(rate)] = found
        if found is None:
            break
    result["idle_percent"] = run.idle(length.idle_s)
    if contender.burst:
        result["burst"] = run.burst(int(contender.burst * length.burst))
    if check:
        result["check"] = run.check()
    return result


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which that share of an ordered list is."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
