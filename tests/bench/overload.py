"""More than usual: a slow gateway, many partitions, a hot one, a flood of scrapes, 1 MB."""

import time
from concurrent.futures import Executor
from pathlib import Path

from tests.bench.connection_flood import connection_flood
from tests.bench.contenders import Contender, product
from tests.bench.rounds import Result, Run, Say
from tests.support.kafka import Cluster, ports

_LATENCY_MS = 50
_CONCURRENCY = 256
CEILING = _CONCURRENCY * 1000 // _LATENCY_MS
"""Payments a second that the slow gateway can take."""
_LARGE_BYTES = 1_000_000
_TIMEOUT_S = 240.0


def scenarios(kafka: Cluster, scratch: Path, sender: Executor, size: float, say: Say) -> Result:
    """Run each once; `size` is the share of the full length."""

    def run(title: str, **how: object) -> Run:
        say(f"overload: {title}")
        environ = {str(name): str(value) for name, value in how.items() if name != "partitions"}
        contender = Contender("overload", title, "", product(**environ))
        partitions = int(str(how.get("partitions", 3)))
        return Run(contender, kafka, scratch, sender, partitions=partitions)

    count = int(200_000 * size)
    found: Result = {}
    with run("slow gateway", SIMULATED_LATENCY=f"{_LATENCY_MS}ms") as slow:
        found["slow"] = _slow_gateway(slow, int(80_000 * size))
    port, metrics_port = ports.free(2)
    with run("3 partitions", PORT=port, METRICS_PORT=metrics_port) as usual:
        usual.warm_up(20_000)
        found["usual"] = usual.burst(count)
        found["hot"] = usual.burst(count, hot=True)
        with connection_flood(port, metrics_port) as scrapes:
            beset = usual.burst(count)
        found["connection_flood"] = beset | {"scrapes": scrapes[200], "turned_away": scrapes[503]}
    with run("100 partitions", partitions=100) as many:
        many.warm_up(20_000)
        found["many"] = many.burst(count)
    with run("1 MB records") as large:
        large.warm_up(3_000)
        note = b"x" * _LARGE_BYTES
        found["large"] = large.burst(int(400 * size), note=note) | {"record_bytes": _LARGE_BYTES}
    return found


def _slow_gateway(run: Run, count: int) -> Result:
    """Measure a burst that is far above what the gateway can take, and then nothing.

    Any fault (like a transaction that timed out) would end the process, and with it the benchmark.
    """
    run.warm_up(2_000)
    base, resident = run.reader.count, run.usage.resident_bytes()
    run.usage.peak_bytes = 0
    started = time.time()
    run.fill(count)
    sent_s, behind = time.time() - started, run.sent - run.reader.count
    half = run.reader.wait_for(base + count // 2, run.running.check, _TIMEOUT_S)
    end = run.wait(_TIMEOUT_S)
    return {
        "payments": count,
        "gateway_per_s": CEILING,
        "sent_per_s": count / sent_s,
        "most_behind": behind,
        "payments_per_s": count / (end - started),
        "second_half_per_s": (count - count // 2) / (end - (half or started)),
        "before_mb": resident / 2**20,
        "peak_mb": run.usage.peak_bytes / 2**20,
    }
