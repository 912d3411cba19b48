"""The measurements of the flow, from outside, again and again."""

import csv
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.soak.flatness import Allowance
from tests.soak.traffic import Traffic
from tests.support.flow_process import Flow

_NOTHING = float("nan")


class Sample(NamedTuple):
    """One moment."""

    seconds: float
    memory_mb: float
    fds: float
    threads: float
    store_mb: float
    remembered_ids: float
    p50_ms: float
    p99_ms: float
    """Latency of what became visible since the sample before."""
    rate: float
    """Requests a second that became visible since then."""


ALLOWED = {
    "memory_mb": Allowance(0.05, 8),
    "fds": Allowance(0, 2),
    "threads": Allowance(0, 1),
    "store_mb": Allowance(0.15, 1),
    "remembered_ids": Allowance(0.15, 1000),
    "p50_ms": Allowance(0.20, 100),
    "p99_ms": Allowance(0.30, 250),
}
"""The growth that counts as flat. The remembered ids go up and down with the segments they are
forgotten by, and the store with them; the machine plays a part in the latency."""

LABELS = {
    "memory_mb": "memory (resident), MB",
    "fds": "file descriptors",
    "threads": "threads",
    "store_mb": "recovery store, MB",
    "remembered_ids": "remembered ids",
    "p50_ms": "latency p50, ms",
    "p99_ms": "latency p99, ms",
}


class Sampler:
    """A sampler of one process.

    Args:
        flow: The process.
        store: Its recovery directory.
        traffic: Has the latencies.
    """

    def __init__(self, flow: Flow, store: Path, traffic: Traffic) -> None:
        self._flow = flow
        self._store = store
        self._traffic = traffic
        self._started_s = self._last_s = time.monotonic()

    def take(self) -> Sample:
        """Return how it stands now."""
        process = Path("/proc") / str(self._flow.process.pid)
        waits_ms = [wait_s * 1000 for wait_s in self._traffic.waits_s()]
        now_s = time.monotonic()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        enough = len(waits_ms) > 1
        return Sample(
            seconds=now_s - self._started_s,
            memory_mb=_status(process, "VmRSS") / 1024,
            fds=sum(1 for _ in (process / "fd").iterdir()),
            threads=_status(process, "Threads"),
            store_mb=_size(self._store) / 1e6,
            remembered_ids=self._flow.health().get("remembered_ids", _NOTHING),
            p50_ms=statistics.median(waits_ms) if enough else _NOTHING,
            p99_ms=statistics.quantiles(waits_ms, n=100)[98] if enough else _NOTHING,
            rate=len(waits_ms) / elapsed_s,
        )


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(Sample._fields)
        out.writerows([f"{value:.6g}" for value in sample] for sample in samples)


def series(samples: Sequence[Sample], name: str) -> tuple[list[float], list[float]]:
    """Return times and values of one column, where there are values."""
    pairs = [(each.seconds, float(getattr(each, name))) for each in samples]
    known = [(at_s, value) for at_s, value in pairs if value == value]  # noqa: PLR0124  (not a NaN)
    return [at_s for at_s, _ in known], [value for _, value in known]


def _status(process: Path, name: str) -> int:
    text = (process / "status").read_text()
    return int(text.partition(f"\n{name}:")[2].split()[0])


def _size(directory: Path) -> int:
    sizes = 0
    for path in directory.glob("**/*"):
        try:
            sizes += path.stat().st_size
        except FileNotFoundError:  # a journal that has just been removed
            continue
    return sizes
