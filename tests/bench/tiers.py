"""The speed of looking up remembered ids in files: `python -m tests.bench.tiers --ids 1e8`.

The files are built once, in pieces, in `--directory` (38 bytes an id), and kept there. An index
without files judges the same batches in turn: a busy machine slows down both.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataflow.core.bloom import probes
from dataflow.core.hot_ids import HotIds
from dataflow.core.lane_log import entries_of
from dataflow.core.verdicts import Batch
from dataflow.dedupe.background import Background
from dataflow.dedupe.lane_files import LaneFiles
from dataflow.dedupe.manifest import Owner, Summary
from dataflow.dedupe.tiered import TieredIndex

OWNER = Owner(cluster="bench", topic="bench", lane=0, lanes=1)
PIECE = 1_000_000
BATCHES = (20, 250, 2_500, 20_000)
SHARES = (0.0, 0.05, 0.3)
ROUNDS = 30


def keys_of(piece: int, count: int) -> NDArray[np.uint64]:
    """Return the ids of one piece: the same ones each time."""
    return np.random.default_rng(piece).integers(0, 2**64, (count, 2), np.uint64)


def build(files: LaneFiles, ids: int, runs: int) -> None:
    """Make the runs that are missing."""
    for number in range(len(files.runs), runs):
        hot = HotIds()
        each = ids // runs
        for start in range(0, each, PIECE):
            count = min(PIECE, each - start)
            keys = keys_of(number << 32 | start, count)
            words = np.arange(count, dtype=np.uint64) + np.uint64(1)
            rows = np.full(count, -1, np.int64)
            hot.put(entries_of(keys, words, words, 1_000 + number), rows)
        began = time.perf_counter()
        files.add(hot, {}, {0: number}, Summary())
        took_us = (time.perf_counter() - began) * 1e6
        print(f"run {number}: {took_us / each:.2f} us an id", flush=True)


def compare(files: LaneFiles, known: NDArray[np.uint64], size: int, share: float) -> None:
    """Look up, and judge, batches of which a share is known to the files."""
    random = np.random.default_rng(2**62)
    seen = int(size * share)

    def batch() -> Batch:
        keys = random.integers(0, 2**64, (size, 2), np.uint64)
        keys[:seen] = known[random.choice(len(known), seen, replace=False)]
        words = np.ones(size, np.uint64)
        return Batch(2_000, keys, words, words)

    batches = [batch() for _ in range(ROUNDS)]
    lookups = [each.keys[np.argsort(each.keys[:, 1])] for each in batches]

    def look_up(keys: NDArray[np.uint64]) -> int:
        asked = probes(keys)
        return sum(len(each.run.find(keys, asked).places) for each in files.runs)

    assert [look_up(keys) for keys in lookups] == [seen] * ROUNDS
    tiered = TieredIndex(lambda: 1 << 40, 1 << 30, 1, files, Background())
    hot = TieredIndex(lambda: 1 << 40, 1 << 30, 1, None, Background())
    works: list[Callable[[int], object]] = [
        lambda n: look_up(lookups[n]),
        lambda n: tiered.observe(*batches[n]),
        lambda n: hot.observe(*batches[n]),
    ]
    took_us: list[list[float]] = [[], [], []]
    for n in range(ROUNDS):
        for work, took in zip(works, took_us, strict=True):
            began = time.perf_counter()
            work(n)
            took.append((time.perf_counter() - began) * 1e6 / size)
    lookup, whole, without = (f"{np.median(took):7.3f}" for took in took_us)
    print(
        f"batch {size:6} known {share:4.0%}: us an id: lookup {lookup},"
        f" observe {whole}, without files {without}",
        flush=True,
    )


def main() -> None:
    """Build, open, look up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=float, default=10e6)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--directory", type=Path, default=Path("/tmp/bench-tiers"))  # noqa: S108
    chosen = parser.parse_args()
    ids, runs = int(chosen.ids), chosen.runs
    directory = chosen.directory / f"{ids}-{runs}"
    build(LaneFiles(directory, OWNER), ids, runs)
    began = time.perf_counter()
    files = LaneFiles(directory, OWNER)
    opened_s = time.perf_counter() - began
    assert len(files.runs) == runs
    size = sum(each.run.facts.size_bytes for each in files.runs)
    print(f"{ids:,} ids in {runs} runs: {size / ids:.2f} bytes an id, opened in {opened_s:.3f} s")
    started = time.perf_counter()
    for each in files.runs:
        each.run.verify()
    print(f"verify {time.perf_counter() - started:.1f} s")
    known = np.concatenate([keys_of(number << 32, 5_000) for number in range(runs)])
    for size in BATCHES:
        for share in SHARES:
            compare(files, known, size, share)
    print("resident MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main()
