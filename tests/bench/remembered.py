"""The cost of remembered ids: the product at 0, 1, 10 million, the obvious design at 1 million.

All runs of the product are live at once, and all but the one that works are frozen, so that the
slices of work can be interleaved.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path

from tests.bench.contenders import Contender
from tests.bench.prefill import prefill
from tests.bench.rounds import Result, Run, Say
from tests.support.kafka import Cluster

SLICE = 100_000
_OBVIOUS_SLICE = 20_000
_FILL_S = 420.0
LANES = 4
"""The default."""


def of_product(
    contender: Contender,
    kafka: Cluster,
    scratch: Path,
    sender: Executor,
    counts: Sequence[int],
    rounds: int,
    say: Say,
) -> Result:
    """Return, by remembered ids, the CPU, speed, memory, and the time to resume with them."""
    with ExitStack() as stack:
        runs: dict[int, Run] = {}
        found: dict[int, Result] = {}
        for count in counts:
            say(f"{contender.title}: {count:,} remembered ids, resuming")
            run = runs[count] = stack.enter_context(Run(contender, kafka, scratch, sender))
            run.warm_up(3_000)
            run.stop()
            if count:
                prefill(kafka.bootstrap, run.topics.lane_log, LANES, count)
            resume_s = run.resume()
            found[count] = {"resume_s": resume_s, "resume_peak_mb": run.usage.peak_bytes / 2**20}
            run.burst(SLICE // 10)
            run.running.freeze()
        bursts: dict[int, list[Result]] = {count: [] for count in counts}
        for n in range(rounds):
            for count, run in runs.items():
                say(f"{contender.title}: {count:,} remembered ids, {n + 1} of {rounds}")
                bursts[count].append(run.burst(SLICE))
                run.running.freeze()
        return {
            str(count): {
                **found[count],
                "bursts": bursts[count],
                "resident_mb": run.usage.resident_bytes() / 2**20,
            }
            for count, run in runs.items()
        }


def of_obvious(
    contender: Contender,
    kafka: Cluster,
    scratch: Path,
    sender: Executor,
    count: int,
    rounds: int,
    say: Say,
) -> Result:
    """Measure the obvious design, once it has seen `count` ids: those it must really be given."""
    with Run(contender, kafka, scratch, sender) as run:
        run.warm_up(5_000)
        empty = run.usage.resident_bytes()
        say(f"{contender.title}: taking in {count:,} ids")
        run.fill(count * 20 // 19)
        run.wait(_FILL_S)
        resident = run.usage.resident_bytes()
        bursts = []
        for n in range(rounds):
            say(f"{contender.title}: {count:,} remembered ids, {n + 1} of {rounds}")
            bursts.append(run.burst(_OBVIOUS_SLICE))
        return {
            "ids": count,
            "bursts": bursts,
            "bytes_per_id": (resident - empty) / count,
        }
