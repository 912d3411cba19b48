"""Many remembered ids: the product up to a hundred million, and the store one would pick instead.

That is RocksDB, as Kafka Streams has it. The product's ids are put into its lane log; Kafka Streams
is really given its own. Each starts once with nothing but Kafka, and once with its files. All runs
are live at once, and all but the one that works are frozen, so that the slices of work can be
interleaved.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dataflow.dedupe.writing import TEMPORARY
from tests.bench.contenders import Contender
from tests.bench.prefill import prefill
from tests.bench.remembered import LANES, SLICE
from tests.bench.rounds import Result, Run, Say
from tests.support.kafka import Cluster

MILLION = 1_000_000
COUNTS = (0, 10 * MILLION, 100 * MILLION)
QUICK = (0, MILLION, 4 * MILLION)
_START_S = 1_200.0
_FILL_S = 1_800.0
_CALM_S = 5.0
_IDLE_SHARE = 0.15
"""Of a core: more than any contender takes to wait."""
_WARM = 20_000
_WARM_BURST = 2 * SLICE
"""After a start: until the pages of the filters are mapped, or the JVM has compiled its code."""


@dataclass(frozen=True)
class Store:
    """The files of a contender: where they are, and how the ids get there.

    Attributes:
        contender: Whose they are.
        files: The directory, below that of the run.
        put: Gives a run so many ids. It is stopped before, and started after that.
    """

    contender: Contender
    files: str
    put: Callable[[Run, Cluster, int], None]


def in_the_lane_log(run: Run, kafka: Cluster, count: int) -> None:
    """Write the ids into Kafka only, as if the product had claimed them."""
    run.stop()
    if count:
        prefill(kafka.bootstrap, run.topics.lane_log, LANES, count)


def by_requests(run: Run, _kafka: Cluster, count: int) -> None:
    """Send so many payments, and wait until they are decided."""
    run.fill(count * 20 // 19)  # of 20 requests one is a duplicate
    run.wait(_FILL_S)
    run.stop()


def measure(
    kafka: Cluster,
    scratch: Path,
    sender: Executor,
    stores: Sequence[tuple[Store, int]],
    rounds: int,
    say: Say,
) -> list[Result]:
    """Return, for each store with so many ids: CPU, speed, memory, disk, and both starts."""
    with ExitStack() as stack:
        runs: list[tuple[Store, int, Run, Result]] = []
        for store, count in stores:
            say(f"{store.contender.title}: {count:,} remembered ids")
            run = stack.enter_context(Run(store.contender, kafka, scratch, sender))
            run.warm_up(_WARM)
            store.put(run, kafka, count)
            runs.append((store, count, run, _start_twice(run, store.files)))
            run.burst(_WARM_BURST)
            run.running.freeze()
        bursts: list[list[Result]] = [[] for _ in runs]
        for n in range(rounds):
            for (store, count, run, _), found in zip(runs, bursts, strict=True):
                say(f"{store.contender.title}: {count:,} ids, {n + 1} of {rounds}")
                found.append(run.burst(SLICE))
                run.running.freeze()
        return [
            {
                "title": store.contender.title,
                "ids": count,
                **starts,
                "bursts": found,
                "anonymous_mb": run.usage.anonymous_bytes() / 2**20,
                "disk_mb": _size(run.directory / store.files) / 2**20,
                "unfinished_mb": _size(run.directory / store.files, f"*{TEMPORARY}") / 2**20,
            }
            for (store, count, run, starts), found in zip(runs, bursts, strict=True)
        ]


def _start_twice(run: Run, files: str) -> Result:
    """Start it without files, wait until they are there, and start it with them."""
    directory = run.directory / files
    shutil.rmtree(directory, ignore_errors=True)
    without_s = run.resume(_START_S)
    calm_s = _wait_until_calm(run, directory)
    run.stop()
    with_s = run.resume(_START_S)
    _wait_until_calm(run, directory)
    return {"without_files_s": without_s, "with_files_s": with_s, "calm_s": calm_s}


def _wait_until_calm(run: Run, directory: Path) -> float:
    """Return how long it still wrote and merged files. It may do so for minutes."""
    began = since = time.monotonic()
    before = -1, run.usage.cpu_s()
    while (passed_s := time.monotonic() - since) < _CALM_S:
        time.sleep(1)
        now = _size(directory), run.usage.cpu_s()
        if now[0] != before[0] or now[1] - before[1] > _IDLE_SHARE * (passed_s + 1):
            before, since = now, time.monotonic()
    return since - began


def _size(directory: Path, names: str = "*") -> int:
    """Return the bytes that the files below a directory take on the disk."""
    total = 0
    for path in directory.rglob(names):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
