"""From the runs to the figures of the report: medians, and the targets, met or not."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tests.bench import charging_terms as terms

Data = dict[str, Any]
FELL_BEHIND, NOT_MEASURED = "falls behind", "not measured"
_ENOUGH_CORES = 4
"""Two processes, a broker and a sender: with fewer, they share what they have."""


class Target(NamedTuple):
    """One target, and what was measured."""

    text: str
    measured: str
    met: bool | None
    """None when this run has not measured it."""


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of those that are there."""
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def of_bursts(bursts: list[Data], name: str) -> float | None:
    """Return the median of one figure of several backlogs."""
    return median(burst[name] for burst in bursts)


def burst(data: Data, contender: str, name: str) -> float | None:
    """Return the median of one figure of a contender's backlogs."""
    runs = data["contenders"].get(contender, {}).get("runs", [])
    return of_bursts([run["burst"] for run in runs if "burst" in run], name)


def latency(data: Data, contender: str, rate: int, name: str) -> float | None:
    """Return the median at a rate; None if it fell behind in half of the runs, or more."""
    return of_latencies(latencies(data, contender, rate), name)


def latencies(data: Data, contender: str, rate: int) -> list[Data | None]:
    """Return what was measured at a rate; None where it fell behind."""
    runs = data["contenders"].get(contender, {}).get("runs", [])
    return [run["latency"][str(rate)] for run in runs if str(rate) in run["latency"]]


def of_latencies(measured: Sequence[Data | None], name: str) -> float | None:
    """Return the median of one figure; None if it fell behind in half of the runs, or more."""
    found = [(each or {}).get(name) for each in measured]
    kept_up = [value for value in found if value is not None]
    return median(kept_up) if len(kept_up) * 2 > len(found) else None


def bytes_per_id(remembered: Data) -> float | None:
    """Return the memory of a remembered id, from the largest store and the empty one."""
    counts = sorted(map(int, remembered))
    if len(counts) < 2:
        return None
    most, least = (remembered[str(count)]["resident_mb"] for count in (counts[-1], counts[0]))
    return float((most - least) * 2**20 / (counts[-1] - counts[0]))


def targets(data: Data) -> list[Target]:
    """Return each target of the product."""
    remembered = data.get("remembered") or {}
    obvious = data.get("obvious_remembered")
    at = {int(n): of_bursts(each["bursts"], "cpu_us") for n, each in remembered.items()}
    speed = {int(n): of_bursts(each["bursts"], "payments_per_s") for n, each in remembered.items()}
    most = max(at, default=0)
    idle = median(
        run["idle_percent"] for run in data["contenders"].get("product", {}).get("runs", [])
    )
    product_us = burst(data, "product", "cpu_us")
    resume_s = remembered[str(most)]["resume_s"] if most else None
    million = 1_000_000
    return [
        _ratio(
            "at least 10 times the obvious Bytewax design, both with 1 M remembered ids",
            speed.get(million),
            of_bursts(obvious["bursts"], "payments_per_s") if obvious else None,
            at_least=10,
        ),
        _ratio(
            "at least 5 times Quix Streams",
            burst(data, "product", "payments_per_s"),
            burst(data, "quix", "payments_per_s"),
            at_least=5,
        ),
        _ratio(
            "catches up at least as fast as Kafka Streams",
            burst(data, "product", "payments_per_s"),
            burst(data, "streams", "payments_per_s"),
            at_least=1,
        ),
        _ratio(
            "CPU per payment at most that of Kafka Streams",
            product_us,
            burst(data, "streams", "cpu_us"),
            at_most=1,
        ),
        _ratio(
            "CPU per payment at most twice that of the bare loop",
            product_us,
            burst(data, "bare", "cpu_us"),
            at_most=2,
        ),
        _ratio(
            f"CPU per payment with {most:,} remembered ids within 10 % of that with none",
            at.get(most),
            at.get(0),
            at_most=1.1,
        ),
        _limit(
            "at most 64 bytes of memory for a remembered id", bytes_per_id(remembered), 64, "bytes"
        ),
        _limit(f"resumes with {most:,} ids within 15 s", resume_s, 15, "s"),
        _limit("idle: at most 3 % of a core", idle, 3, "%"),
        _wait(
            "request to visible at 5,000/s: p50 at most 80 ms",
            latencies(data, "product", 5_000),
            "p50_ms",
            80,
        ),
        _wait(
            "request to visible at 5,000/s: p99 at most 200 ms",
            latencies(data, "product", 5_000),
            "p99_ms",
            200,
        ),
        _limit(
            "at most 18 % of a core at 1,000/s",
            latency(data, "product", 1_000, "cpu_percent"),
            18,
            "%",
        ),
        _of_two_processes(data),
    ]


def of_many_ids(found: Sequence[Data]) -> list[Target]:
    """Return each target for many remembered ids.

    Args:
        found: What `many_ids.measure` has returned. The product with none comes first, and the one
            with most ids last.
    """
    none, most = found[0], found[-1]
    product = [each for each in found if each["title"] == none["title"]]
    some = next(each for each in product if each["ids"])
    others = {each["ids"]: each for each in found if each["title"] != none["title"]}
    streams = others[some["ids"]]
    return [
        _ratio(
            "catches up at least as fast as Kafka Streams, both with none",
            of_bursts(none["bursts"], "payments_per_s"),
            of_bursts(others[0]["bursts"], "payments_per_s") if 0 in others else None,
            at_least=1,
        ),
        _ratio(
            f"CPU per payment with {most['ids']:,} ids within 15 % of that with none",
            of_bursts(most["bursts"], "cpu_us"),
            of_bursts(none["bursts"], "cpu_us"),
            at_most=1.15,
        ),
        _limit(
            f"memory with {most['ids']:,} ids, without the pages of files: below 1 GB",
            most["anonymous_mb"],
            1024,
            "MB",
        ),
        _limit("disk: at most 45 bytes an id", most["disk_mb"] * 2**20 / most["ids"], 45, "bytes"),
        _limit(
            f"a start with {most['ids']:,} ids and its files within 5 s of one with none",
            most["with_files_s"] - none["with_files_s"],
            5,
            "s more",
        ),
        _limit(
            f"a start with {some['ids']:,} ids, from the lane log, within 10 s",
            some["without_files_s"],
            10,
            "s",
        ),
        _ratio(
            f"throughput at least that of RocksDB, both with {some['ids']:,} ids",
            of_bursts(some["bursts"], "payments_per_s"),
            of_bursts(streams["bursts"], "payments_per_s"),
            at_least=1,
        ),
    ]


def of_charging(found: Data) -> list[Target]:
    """Return each target for payments that are charged over HTTP.

    Args:
        found: What `charging.scenarios` has returned. What it lacks was not measured.
    """
    usual, hanging, workers = (found.get(name, {}) for name in ("usual", "hanging", "workers"))
    waits = [found["usual_latency"]] if "usual_latency" in found else []
    recovery, poison = found.get("recovery"), found.get("poison", {})
    hang = f"one call in {1 / terms.HANGING:g} hanging {terms.HANG_S:g} s"
    return [
        _ratio(
            f"at {terms.LATENCY_S * 1000:g} ms and {terms.CONCURRENCY} in flight at least"
            " 90 % of the ideal rate",
            usual.get("payments_per_s"),
            usual.get("ideal_per_s"),
            at_least=0.9,
        ),
        _ratio(
            f"with {hang}, within 10 % of the rate without",
            hanging.get("payments_per_s"),
            usual.get("payments_per_s"),
            at_least=0.9,
        ),
        _ratio(
            f"with {hang}, too, at least 90 % of the ideal rate",
            hanging.get("payments_per_s"),
            hanging.get("ideal_per_s"),
            at_least=0.9,
        ),
        _limit("CPU for each charged payment: at most 228 µs", usual.get("cpu_us"), 228, "µs"),
        _wait(f"at {terms.RATE}/s: p50 at most 140 ms", waits, "p50_ms", 140),
        _wait(f"at {terms.RATE}/s: p99 at most 600 ms", waits, "p99_ms", 600),
        _ratio(
            f"one paymentId in {terms.POISON} is never answered: p99 of the others within 10 %"
            " of that without",
            of_latencies(poison.get("with", []), "p99_ms"),
            of_latencies(poison.get("without", []), "p99_ms"),
            at_most=1.1,
            fell_behind=None in poison.get("with", []),
        ),
        _limit(
            f"at the full rate within 2 s after an outage of {terms.OUTAGE_S:g} s",
            recovery and recovery["full_s"],
            2,
            "s",
            fell_behind=recovery is not None,
        ),
        _ratio(
            f"{terms.WORKERS} workers, {terms.WORKERS_PARTITIONS} partitions, a backlog: at"
            " least 90 % of the ideal rate from the first start",
            workers.get("payments_per_s"),
            workers.get("ideal_per_s"),
            at_least=0.9,
        ),
    ]


def _of_two_processes(data: Data) -> Target:
    if data["machine"]["cores"] >= _ENOUGH_CORES:
        return _ratio(
            "two processes at least 1.7 times one",
            burst(data, "two", "payments_per_s"),
            burst(data, "product", "payments_per_s"),
            at_least=1.7,
        )
    return _ratio(
        "CPU per payment of two processes within 15 % of one (too few cores to go faster)",
        burst(data, "two", "cpu_us"),
        burst(data, "product", "cpu_us"),
        at_most=1.15,
    )


def _ratio(
    text: str,
    ours: float | None,
    theirs: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    fell_behind: bool = False,
) -> Target:
    if ours is None or theirs is None:
        return _without_a_figure(text, fell_behind=fell_behind)
    ratio = ours / theirs
    met = (at_least is None or ratio >= at_least) and (at_most is None or ratio <= at_most)
    return Target(text, f"{ratio:.2f} times ({short(ours)} to {short(theirs)})", met)


def _limit(
    text: str, value: float | None, at_most: float, unit: str, *, fell_behind: bool = False
) -> Target:
    if value is None:
        return _without_a_figure(text, fell_behind=fell_behind)
    return Target(text, f"{short(value)} {unit}", value <= at_most)


def _wait(text: str, measured: Sequence[Data | None], name: str, at_most_ms: float) -> Target:
    value = of_latencies(measured, name)
    return _limit(text, value, at_most_ms, "ms", fell_behind=None in measured)


def _without_a_figure(text: str, *, fell_behind: bool) -> Target:
    """Return a target that has no figure: it is not met if the reason is how slow it was."""
    return Target(text, FELL_BEHIND, met=False) if fell_behind else Target(text, NOT_MEASURED, None)


def short(value: float | None) -> str:
    """Return a number with three digits or so; a dash when there is none."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
