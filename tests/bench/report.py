"""The report: tables in Markdown, for `docs/performance.md` and for the terminal."""

import re
from collections.abc import Sequence
from pathlib import Path

from tests.bench import charging_terms as at_provider
from tests.bench import figures
from tests.bench.connection_flood import SCRAPES, SILENT
from tests.bench.contenders import RATES
from tests.bench.figures import FELL_BEHIND, Data, burst, latency, median, of_bursts, short

_IN_THE_README = {
    "streams": "Kafka Streams",
    "kafkajs": "a KafkaJS service",
    "quix": "Quix Streams",
}
"""Contenders, as the README calls them."""


def write(path: Path, block: str, text: str) -> None:
    """Put `text` between the two marks of a block in a document; within a line, if they are."""
    document = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    found = pattern.search(document)
    if not found:
        raise ValueError(f"{path} has no {begin} ... {end}")
    between = f"\n{text}\n" if "\n" in found[0] else text
    path.write_text(pattern.sub(lambda _: f"{begin}{between}{end}", document), encoding="utf-8")


def full(data: Data) -> str:
    """Return all tables."""
    return "\n\n".join(
        [
            _conditions(data),
            "### Backlog",
            _backlog(data),
            "### From request to visible outcome",
            _latencies(data),
            "### CPU at these rates",
            _cpu_at_rates(data),
            *(["### Remembered ids", _remembered(data)] if data.get("remembered") else []),
            *(["### More than usual", _overload(data)] if data.get("overload") else []),
            "### Targets",
            _targets(data),
            "### Settings",
            _settings(data),
        ]
    )


def charging(data: Data) -> str:
    """Return the table of payments that are charged at a provider over HTTP."""
    found = data["charging"]
    usual, hanging, parked, workers = (
        found[name] for name in ("usual", "hanging", "parked", "workers")
    )

    def of_ideal(one: Data) -> str:
        share = one["payments_per_s"] / one["ideal_per_s"]
        return f"{short(one['payments_per_s'])} payments/s, {share:.0%} of the ideal rate"

    def waits(one: Data | None) -> str:
        return (
            FELL_BEHIND
            if one is None
            else f"p50 {short(one['p50_ms'])} ms, p99 {short(one['p99_ms'])} ms"
        )

    latency_ms, in_flight = f"{at_provider.LATENCY_S * 1000:g} ms", at_provider.CONCURRENCY
    hang = f"one call in {1 / at_provider.HANGING:g} hangs {at_provider.HANG_S:g} s"
    rows = [
        (f"a provider of {latency_ms}, {in_flight} in flight", of_ideal(usual)),
        ("CPU of the flow for each charged payment", f"{short(usual['cpu_us'])} µs"),
        (f"the same, and {hang}", of_ideal(hanging)),
        (f"{at_provider.RATE} requests/s, from due to visible", waits(found["usual_latency"])),
        ("the same, and calls hang; those that were not parked", waits(found["hanging_latency"])),
        (
            f"{parked['parked']:,.0f} payments are parked",
            (
                f"at {short(parked['parked_per_s'])}/s; memory goes from"
                f" {short(parked['before_mb'])} to {short(parked['resident_mb'])} MB"
            ),
        ),
        (
            "a start with them",
            f"ready after {short(parked['ready_s'])} s, with {short(parked['ready_mb'])} MB",
        ),
        (
            (
                f"{at_provider.WORKERS} workers, {at_provider.WORKERS_PARTITIONS} partitions, a"
                f" provider of {at_provider.WORKERS_LATENCY_S * 1000:g} ms,"
                f" {at_provider.WORKERS_CONCURRENCY} in flight, a backlog, and a transaction"
                " timeout of 10 s"
            ),
            f"{of_ideal(workers)}; the first outcome {short(workers['first_s'])} s after the start",
        ),
        *_recovery(found.get("recovery")),
        *_poison(found.get("poison")),
    ]
    return "\n\n".join(
        [
            f"{_hardware(data)}, and with the provider.",
            _table(["", ""], rows),
            _judged(figures.of_charging(found)),
        ]
    )


def _recovery(found: Data | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    when = FELL_BEHIND if found["full_s"] is None else f"{short(found['full_s'])} s"
    return [
        (
            f"an outage of {found['outage_s']:g} s, and a backlog: after its end",
            (
                f"the first outcome {short(found['first_s'])} s;"
                f" {at_provider.FULL_SHARE:.0%} of {short(found['full_per_s'])} payments/s {when}"
            ),
        )
    ]


def _poison(found: Data | None) -> list[tuple[str, str]]:
    if found is None:
        return []

    def p99(name: str) -> str:
        value = figures.of_latencies(found[name], "p99_ms")
        return FELL_BEHIND if value is None else f"p99 {short(value)} ms"

    return [
        (f"{at_provider.RATE} requests/s, in turn with the next row", p99("without")),
        (
            f"the same, and one paymentId in {at_provider.POISON} is never answered; the others",
            p99("with"),
        ),
    ]


def many_ids(data: Data) -> str:
    """Return the tables of many remembered ids, and of the targets for them."""
    rows = [
        (
            f"{each['title']}, {each['ids']:,} ids",
            short(of_bursts(each["bursts"], "payments_per_s")),
            short(of_bursts(each["bursts"], "cpu_us")),
            short(each["anonymous_mb"]),
            _disk(each),
            short(each["with_files_s"]),
            short(each["without_files_s"]),
        )
        for each in data["many_ids"]
    ]
    head = ["", "payments/s", "CPU s per million", "memory MB", "disk MB"]
    return "\n\n".join(
        [
            f"{_hardware(data)}.",
            _table([*head, "start with its files, s", "start without, s"], rows),
            _judged(figures.of_many_ids(data["many_ids"])),
        ]
    )


def _disk(each: Data) -> str:
    """Return the size of the files, and of those that a merge has not finished."""
    unfinished_mb = each.get("unfinished_mb")
    note = f" ({short(unfinished_mb)} unfinished)" if unfinished_mb else ""
    return short(each["disk_mb"]) + note


def headline(data: Data) -> str:
    """Return the line that the README has about it, in its list."""

    def speed_and_cpu(name: str) -> tuple[str, str]:
        return short(burst(data, name, "payments_per_s")), short(burst(data, name, "cpu_us"))

    speed, cpu_us = speed_and_cpu("product")
    baselines = [
        "{} {}/s at {} µs".format(title, *speed_and_cpu(name))
        for name, title in _IN_THE_README.items()
    ]
    return (
        f"{speed} payments/s in one process, {cpu_us} µs of CPU each. The same work:"
        f" {', '.join(baselines)}."
    )


def _idle(data: Data, name: str) -> float | None:
    return median(run["idle_percent"] for run in data["contenders"][name]["runs"])


def _hardware(data: Data) -> str:
    machine = data["machine"]
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB, shared with the"
        " broker and the load"
    )


def _conditions(data: Data) -> str:
    machine = data["machine"]
    return (
        f"{_hardware(data)}. Apache Kafka {machine['kafka']}, one broker; Python"
        f" {machine['python']}, Java {machine['java']}, Node.js {machine['node']}. Requests of 200"
        f" bytes, 5 % duplicates, 1 % invalid; 3 partitions. Medians of {data['rounds']} rounds,"
        f" contenders in turn in each. Load average before the start: {machine['load']}."
    )


def _backlog(data: Data) -> str:
    rows = []
    for name, each in data["contenders"].items():
        bursts = [run["burst"] for run in each["runs"] if "burst" in run]
        if not bursts:
            continue
        speeds = [one["payments_per_s"] for one in bursts]
        rows.append(
            (
                each["title"],
                short(burst(data, name, "payments_per_s")),
                f"{short(min(speeds))} to {short(max(speeds))}",
                short(burst(data, name, "cpu_us")),
                short(burst(data, name, "peak_mb")),
                short(_idle(data, name)),
                _correct(each["runs"]),
            )
        )
    head = ["", "payments/s", "least to most", "CPU s per million", "peak MB", "idle CPU %"]
    return _table([*head, "outcomes right"], rows)


def _correct(runs: list[Data]) -> str:
    checks = [run["check"] for run in runs if "check" in run]
    right = all(check["outcomes"] == check["outcomes_wanted"] for check in checks)
    return ("yes" if right else "no") if checks else figures.short(None)


def _latencies(data: Data) -> str:
    return "p50 / p99 / p99.9 in milliseconds.\n\n" + _at_rates(
        data, ("p50_ms", "p99_ms", "p999_ms")
    )


def _cpu_at_rates(data: Data) -> str:
    return "Percent of one core, while the latencies were measured.\n\n" + _at_rates(
        data, ("cpu_percent",)
    )


def _at_rates(data: Data, names: tuple[str, ...]) -> str:
    rows = []
    for contender, each in data["contenders"].items():
        if not each["rates"]:
            continue
        cells = [each["title"]]
        for rate in each["rates"]:
            found = [latency(data, contender, rate, name) for name in names]
            cells.append(FELL_BEHIND if found[0] is None else " / ".join(map(short, found)))
        rows.append(tuple(cells))
    return _table(["", *(f"{rate:,}/s" for rate in RATES)], rows)


def _remembered(data: Data) -> str:
    rows = [
        (
            f"this product, {int(count):,} ids",
            short(of_bursts(each["bursts"], "payments_per_s")),
            short(of_bursts(each["bursts"], "cpu_us")),
            short(each["resident_mb"]),
            short(each["resume_s"]),
        )
        for count, each in data["remembered"].items()
    ]
    if obvious := data.get("obvious_remembered"):
        rows.append(
            (
                f"obvious Bytewax design, {obvious['ids']:,} ids",
                short(of_bursts(obvious["bursts"], "payments_per_s")),
                short(of_bursts(obvious["bursts"], "cpu_us")),
                short(obvious["bursts"][-1]["peak_mb"]),
                short(None),
            )
        )
    return _table(["", "payments/s", "CPU s per million", "resident MB", "resume s"], rows)


def _overload(data: Data) -> str:
    found = data["overload"]
    rows = [
        (
            title,
            short(found[name]["payments_per_s"]),
            short(found[name]["cpu_us"]),
            short(found[name]["peak_mb"]),
        )
        for name, title in (
            ("usual", "3 input partitions"),
            ("hot", "one hot partition of 3"),
            ("connection_flood", "a connection flood at the sidecar's ports"),
            ("many", "100 input partitions"),
            ("large", f"records of {found['large']['record_bytes'] / 1e6:g} MB"),
        )
    ]
    slow, flood = found["slow"], found["connection_flood"]
    return (
        _table(["", "payments/s", "CPU s per million", "peak MB"], rows)
        + f"\n\nThe flood: {SILENT} connections to each port that say only half a request, and"
        f" {SCRAPES:,} scrapes of `/metrics` at once, again a second after they were served;"
        f" {flood['scrapes']:,} were answered, {flood['turned_away']:,} turned away with 503. It"
        " shares the cores with the flow."
        + f"\n\nA gateway that takes at most {slow['gateway_per_s']:,} payments/s, given"
        f" {slow['payments']:,} at {short(slow['sent_per_s'])}/s: {slow['most_behind']:,} of them"
        " were waiting in Kafka when the last one was sent; no transaction timed out; all were"
        f" decided at {short(slow['payments_per_s'])}/s, the second half at"
        f" {short(slow['second_half_per_s'])}/s; memory went from {short(slow['before_mb'])} to at"
        f" most {short(slow['peak_mb'])} MB."
    )


def _targets(data: Data) -> str:
    return _judged(figures.targets(data))


def _judged(targets: Sequence[figures.Target]) -> str:
    said = {True: "met", False: "**not met**", None: "–"}
    return _table(
        ["target", "measured", ""],
        [(each.text, each.measured, said[each.met]) for each in targets],
    )


def _settings(data: Data) -> str:
    rows = [(each["title"], each["settings"]) for each in data["contenders"].values()]
    return _table(["", ""], rows)


def _table(head: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1) if len(head) > 2 else ["---"] * len(head)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *map(list, rows)])
