"""Measure the product and its baselines on a real Kafka, from outside, and write the report.

The numbers of one machine compare with each other only. Nothing is judged but the targets.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from tests import ROOT
from tests.bench import charging, many_ids, overload, prepare, remembered, report, rounds
from tests.bench.contenders import CONTENDERS
from tests.bench.figures import Data
from tests.support.kafka import Cluster, DiskBroker, distribution

ROUNDS = 5
_BY_NAME = {contender.name: contender for contender in CONTENDERS}
_BROKER = ("-Xmx1g", "-XX:TieredStopAtLevel=4")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, not for the docs")
    parser.add_argument("--rounds", type=int, default=None, help=f"default: {ROUNDS}")
    parser.add_argument("--only", nargs="+", choices=_BY_NAME, help="some contenders, no extras")
    parser.add_argument(
        "--charging", action="store_true", help="the product at a provider over HTTP, nothing else"
    )
    parser.add_argument(
        "--ids",
        action="store_true",
        help="the product up to a hundred million ids, and RocksDB, nothing else: half an hour",
    )
    parser.add_argument("--into", type=Path, default=None, help="where to write; default: docs")
    args = parser.parse_args()
    partial = args.quick or args.only
    into: Path = args.into or (prepare.STORE / "report" if partial else ROOT / "docs")
    names = args.only or list(_BY_NAME)
    started = time.monotonic()
    if args.charging:
        _charge(into, quick=args.quick)
        return
    if args.ids:
        prepare.prepare(_say)
        _remember(into, args.rounds or ROUNDS, quick=args.quick)
        return
    if set(names) - {"product", "low-latency", "two", "bare", "obvious"}:
        prepare.prepare(_say)
    data: Data = {
        "machine": _machine(),
        "rounds": args.rounds or (1 if args.quick else ROUNDS),
        "contenders": {
            name: {
                "title": _BY_NAME[name].title,
                "settings": _BY_NAME[name].settings,
                "rates": _BY_NAME[name].rates,
                "runs": [],
            }
            for name in names
        },
    }
    context = multiprocessing.get_context("spawn")
    with (
        DiskBroker.start(java_options=_BROKER) as kafka,
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(1, context) as sender,
    ):
        _contest(data, kafka, Path(scratch), sender, quick=args.quick)
        if not args.only:
            _extras(data, kafka, Path(scratch), sender, quick=args.quick)
    _write(data, into)
    print(report.full(data))
    _say(f"{(time.monotonic() - started) / 60:.1f} minutes; the report is in {into}")


def _charge(into: Path, *, quick: bool) -> None:
    context = multiprocessing.get_context("spawn")
    with (
        DiskBroker.start(java_options=_BROKER) as kafka,
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(1, context) as sender,
    ):
        data = {"machine": _machine()}
        size = 0.25 if quick else 1.0
        data["charging"] = charging.scenarios(kafka, Path(scratch), sender, size, _say)
    _keep(data, into, "charging", report.charging(data))


def _remember(into: Path, times: int, *, quick: bool) -> None:
    context = multiprocessing.get_context("spawn")
    product = many_ids.Store(
        _BY_NAME["product"], "recovery-0/remembered-ids", many_ids.in_the_lane_log
    )
    streams = many_ids.Store(_BY_NAME["streams"], "state", many_ids.by_requests)
    none, some, most = many_ids.QUICK if quick else many_ids.COUNTS
    stores = [(product, none), (streams, none), (product, some), (streams, some), (product, most)]
    with (
        DiskBroker.start(java_options=_BROKER) as kafka,
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(1, context) as sender,
    ):
        data: Data = {"machine": _machine()}
        data["many_ids"] = many_ids.measure(kafka, Path(scratch), sender, stores, times, _say)
    _keep(data, into, "many_ids", report.many_ids(data))


def _keep(data: Data, into: Path, name: str, table: str) -> None:
    """Write what was measured beside the report's other tables, and print it."""
    into.mkdir(parents=True, exist_ok=True)
    (into / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if into == ROOT / "docs":
        report.write(into / "performance.md", name, table)
    print(table)


def _contest(data: Data, kafka: Cluster, scratch: Path, sender: Executor, *, quick: bool) -> None:
    """Measure each in turn, again and again: what disturbs the machine disturbs all of them."""
    length = rounds.QUICK if quick else rounds.FULL
    for n in range(data["rounds"]):
        for name, each in data["contenders"].items():
            _say(f"round {n + 1} of {data['rounds']}: {each['title']}")
            run = rounds.Run(_BY_NAME[name], kafka, scratch, sender)
            with run:
                each["runs"].append(rounds.measure(run, length, check=n == 0))


def _extras(data: Data, kafka: Cluster, scratch: Path, sender: Executor, *, quick: bool) -> None:
    """Measure the cost of remembered ids, and the effect of more work than usual."""
    million = 1_000_000
    counts = (0, million) if quick else (0, million, 10 * million)
    data["remembered"] = remembered.of_product(
        _BY_NAME["product"], kafka, scratch, sender, counts, data["rounds"], _say
    )
    if not quick:
        data["obvious_remembered"] = remembered.of_obvious(
            _BY_NAME["obvious"], kafka, scratch, sender, million, data["rounds"], _say
        )
    data["overload"] = overload.scenarios(kafka, scratch, sender, 0.25 if quick else 1.0, _say)


def _write(data: Data, into: Path) -> None:
    """Write the data, the plot, and the documents: the project's own ones, or a new one."""
    images = into / "images"
    images.mkdir(parents=True, exist_ok=True)
    source = into / "performance.json"
    source.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    document = into / "performance.md"
    if into == ROOT / "docs":
        picture = "![Throughput, CPU and latency of all contenders](images/performance.png)"
        report.write(document, "bench", f"{picture}\n\n{report.full(data)}")
        report.write(ROOT / "README.md", "measured", report.headline(data))
    else:
        document.write_text(report.full(data) + "\n", encoding="utf-8")
    if prepare.PYTHON.exists():
        plot = [
            str(prepare.PYTHON),
            "-m",
            "tests.bench.plot",
            str(source),
            str(images / "performance.png"),
        ]
        subprocess.run(plot, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def _machine() -> Data:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(int(memory[1]) / 2**20) if memory else 0,
        "python": platform.python_version(),
        "kafka": distribution.version(),
        "java": _version([distribution.java(), "-version"]),
        "node": _version(["node", "--version"]),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _version(command: list[str]) -> str:
    """Return the version that a tool prints; a dash when it is not here."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "-"
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "-"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
