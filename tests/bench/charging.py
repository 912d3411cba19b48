"""Payments that are charged at a provider over HTTP: the fake one, on the same machine.

Each payment takes one call, and a call takes the provider's latency. So the ideal rate is the calls
in flight divided by it. All pauses are those of the product.
"""

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from dataflow.fake_provider.behaviour import Settings
from dataflow.fake_provider.process import FakeProvider
from tests.bench import load
from tests.bench.charging_terms import (
    CONCURRENCY,
    FULL_SHARE,
    HANG_S,
    HANGING,
    LATENCY_S,
    MOST_PARKED,
    OUTAGE_S,
    POISON,
    RATE,
    WORKERS,
    WORKERS_CONCURRENCY,
    WORKERS_LATENCY_S,
    WORKERS_PARTITIONS,
)
from tests.bench.contenders import FLOW, Command, Contender, Place, product, product_environ
from tests.bench.rounds import Result, Run, Say
from tests.support.kafka import Cluster, ports

_POISON_AT = 7
"""The place of the first of them: its request is valid, and has no duplicate."""
_POISON_ROUNDS = 3
_THAWED_S = 1.0
_WATCH_EVERY_S = 0.05
_SHARE = 0.99
"""A rate is that of the first so many outcomes: a payment whose call hangs comes a minute later."""
_LATENCY_FOR_S = 10.0
_TIMEOUT_S = 420.0
_PENDING = re.compile(r"^payments_pending(?:\{[^}]*\})? ([\d.e+]+)$", re.MULTILINE)


def scenarios(kafka: Cluster, scratch: Path, sender: Executor, size: float, say: Say) -> Result:
    """Run each once; `size` is the share of the full length."""
    found: Result = {}

    @contextmanager
    def charging(title: str, **settings: str) -> Iterator[tuple[Run, FakeProvider]]:
        say(f"charging: {title}")
        # Each with a book of its own: the paymentIds are the same in all of them.
        with FakeProvider(scratch / f"{title}.sqlite") as provider:
            provider.change(latency_s=LATENCY_S)
            contender = Contender("charging", title, "", product(**_at(provider), **settings))
            with Run(contender, kafka, scratch, sender) as run:
                run.warm_up(2_000)
                yield run, provider

    with charging("all calls are answered") as (run, _):
        found["usual"] = _rate(run, int(30_000 * size))
        found["usual_latency"] = run.latency(RATE, _LATENCY_FOR_S * size)
    with charging("some calls hang") as (run, provider):
        hanging = {"fault": "hang_before", "share": HANGING}
        provider.change(faults=[hanging], hang_s=HANG_S)
        found["hanging"] = _rate(run, int(30_000 * size))
        found["hanging_latency"] = run.latency(RATE, _LATENCY_FOR_S * size, may_lack=True)
        provider.change(faults=[])
        run.wait(_TIMEOUT_S)
    with charging("an outage") as (run, provider):
        found["recovery"] = _recovery(run, provider, int(30_000 * size))
    with (
        charging("everybody is answered") as (calm, _),
        charging("some are never answered") as (run, provider),
    ):
        found["poison"] = _poison(calm, run, provider, _LATENCY_FOR_S * size)
    port, metrics_port = ports.free(2)
    at = {"PORT": str(port), "METRICS_PORT": str(metrics_port)}
    with charging("many are parked", GATEWAY_PARKED_MAX=str(MOST_PARKED), **at) as (run, provider):
        provider.change(latency_s=0.0, finish_after_s=3600.0)
        found["parked"] = _parked(run, int(100_000 * size), port, metrics_port)
    say("charging: two workers, a slow provider, a backlog")
    found["workers"] = _workers(kafka, scratch, sender, int(12_000 * size))
    return found


def fast_after_s(watched: Sequence[tuple[float, int]], per_s: float) -> float | None:
    """Return from when on so much came in the next second; None if it never did.

    Not before the first has come: what follows may be so fast that it makes up for the silence.

    Args:
        watched: Moments in seconds, and how much had come by then.
        per_s: The rate.
    """
    for began_s, before in watched:
        ended_s, after = next((each for each in watched if each[0] >= began_s + 1), (began_s, 0))
        if before and ended_s > began_s and (after - before) / (ended_s - began_s) >= per_s:
            return began_s
    return None


def _at(provider: FakeProvider) -> dict[str, str]:
    return {
        "GATEWAY": "http",
        "HTTP_GATEWAY_URL": provider.url,
        "HTTP_GATEWAY_CREDENTIALS": Settings().secret,
        "GATEWAY_CONCURRENCY": str(CONCURRENCY),
    }


def _rate(run: Run, count: int) -> Result:
    """Return the payments that are charged in a second, and the CPU of the flow for each."""
    run.running.freeze()
    run.fill(count)
    base = run.reader.count
    cpu_s, started = run.usage.cpu_s(), time.time()
    run.running.thaw()
    end = run.reader.wait_for(base + int(count * _SHARE), run.running.check, _TIMEOUT_S)
    if end is None:
        raise RuntimeError(f"{run.reader.count - base} of {count} outcomes after {_TIMEOUT_S:g} s")
    charged = load.charged(count) * _SHARE
    return {
        "payments_per_s": charged / (end - started),
        "ideal_per_s": CONCURRENCY / LATENCY_S,
        "cpu_us": (run.usage.cpu_s() - cpu_s) / charged * 1e6,
    }


def _recovery(run: Run, provider: FakeProvider, count: int) -> Result:
    """Return how long after an outage the flow charges as fast as before; a backlog waits."""
    before = _rate(run, count)
    run.wait(_TIMEOUT_S)
    # Until it is ended.
    provider.outage(_TIMEOUT_S)
    run.fill(count)
    time.sleep(OUTAGE_S)
    base = run.reader.count
    provider.end_outage()
    ended = time.time()
    watched = [(0.0, 0)]
    while run.reader.count < run.sent:
        run.running.check()
        if watched[-1][0] > _TIMEOUT_S:
            raise RuntimeError(f"{run.reader.count} of {run.sent} outcomes after {_TIMEOUT_S:g} s")
        time.sleep(_WATCH_EVERY_S)
        watched.append((time.time() - ended, run.reader.count - base))
    # Duplicates and invalid requests have outcomes, too.
    full_per_s = before["payments_per_s"] * count / load.charged(count)
    return {
        "outage_s": OUTAGE_S,
        "full_per_s": before["payments_per_s"],
        "first_s": next(at_s for at_s, outcomes in watched if outcomes),
        "full_s": fast_after_s(watched, FULL_SHARE * full_per_s),
    }


def _poison(calm: Run, run: Run, provider: FakeProvider, seconds: float) -> Result:
    """Return the latencies without and with payments that are never answered, in turn."""
    found: Result = {"without": [], "with": []}
    never: list[str] = []
    run.running.freeze()
    for _ in range(_POISON_ROUNDS):
        found["without"].append(calm.latency(RATE, seconds))
        calm.running.freeze()
        run.running.thaw()
        sent = range(_POISON_AT, int(RATE * seconds), POISON)
        never += [load.payment_id(run.next_prefix, number) for number in sent]
        hanging = {"fault": "hang_before", "payment_ids": never}
        provider.change(faults=[hanging], hang_s=_TIMEOUT_S)
        time.sleep(_THAWED_S)
        others = run.latency(RATE, seconds, may_lack=True)
        assert others is not None
        found["with"].append(others if others["lacking"] == len(sent) else None)
        run.running.freeze()
        calm.running.thaw()
        time.sleep(_THAWED_S)
    return found


def _parked(run: Run, count: int, port: int, metrics_port: int) -> Result:
    """Park payments that the provider accepts and does not decide; then start again with them."""
    before_mb, started = run.usage.resident_bytes() / 2**20, time.monotonic()
    run.fill(count, method=b"processing")
    wanted = load.charged(count)
    parked = 0.0
    while (parked := _pending(metrics_port)) < wanted and time.monotonic() - started < _TIMEOUT_S:
        run.running.check()
        time.sleep(0.5)
    found = {
        "parked": parked,
        "parked_per_s": parked / (time.monotonic() - started),
        "before_mb": before_mb,
        "resident_mb": run.usage.resident_bytes() / 2**20,
    }
    run.stop()
    started = time.monotonic()
    run.start()
    while not _is_ready(port):
        run.running.check()
        time.sleep(0.05)
    return found | {
        "ready_s": time.monotonic() - started,
        "ready_mb": run.usage.resident_bytes() / 2**20,
    }


def _workers(kafka: Cluster, scratch: Path, sender: Executor, count: int) -> Result:
    """Start two workers with a backlog that takes far longer than a transaction may be open."""

    def commands(place: Place) -> list[Command]:
        slow = {
            "SIMULATED_LATENCY": f"{WORKERS_LATENCY_S * 1000:g}ms",
            "GATEWAY_CONCURRENCY": str(WORKERS_CONCURRENCY),
            "KAFKA_TRANSACTION_TIMEOUT": "10s",
        }
        return [([*FLOW, "-w", str(WORKERS)], product_environ(place, slow))]

    contender = Contender("workers", "two workers", "", commands)
    with Run(contender, kafka, scratch, sender, partitions=WORKERS_PARTITIONS) as run:
        run.warm_up(100)
        run.stop()
        run.fill(count)
        base, started = run.reader.count, time.time()
        run.start()
        first = run.reader.wait_for(base + 1, run.running.check, _TIMEOUT_S)
        half = run.reader.wait_for(base + count // 2, run.running.check, _TIMEOUT_S)
        if first is None or half is None:
            raise RuntimeError(f"{run.reader.count - base} of {count} outcomes")
        # Duplicates and invalid requests are not charged.
        share = load.charged(count) / count
        return {
            "first_s": first - started,
            "payments_per_s": share * (count // 2) / (half - first),
            "ideal_per_s": WORKERS_CONCURRENCY / WORKERS_LATENCY_S,
        }


def _pending(metrics_port: int) -> float:
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        return sum(map(float, _PENDING.findall(answer.read().decode())))


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
