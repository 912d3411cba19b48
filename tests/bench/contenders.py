"""The contenders that are measured: how each is started, and with which settings."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.bench import prepare
from tests.support.flow_process import FOREIGN, Topics
from tests.support.kafka import Cluster, distribution, ports

_STOP_S = 15.0


@dataclass(frozen=True)
class Place:
    """The place a contender works in: its topics, and a directory for its state and its logs."""

    kafka: Cluster
    topics: Topics
    directory: Path


Command = tuple[list[str], Mapping[str, str]]
"""A process to start: its arguments, and its variables over those of this one."""


@dataclass(frozen=True)
class Contender:
    """One row of the table.

    Attributes:
        name: Short, for the command line.
        title: For the report.
        settings: What a reader of the report needs to judge it.
        commands: The processes it is made of.
        dedupes: Whether it remembers ids.
        burst: Requests of its backlog: some seconds' worth.
        rates: Requests a second at which its latency is measured.
    """

    name: str
    title: str
    settings: str
    commands: Callable[[Place], list[Command]]
    dedupes: bool = True
    burst: int = 0
    rates: tuple[int, ...] = ()


class Running:
    """The processes of a contender."""

    def __init__(self, contender: Contender, place: Place) -> None:
        place.directory.mkdir(parents=True, exist_ok=True)
        self._logs: list[Path] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        own = {k: v for k, v in os.environ.items() if not k.startswith((*FOREIGN, "BENCH_"))}
        for n, (command, environ) in enumerate(contender.commands(place)):
            self._logs.append(place.directory / f"{contender.name}-{n}.log")
            with self._logs[-1].open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**own, **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self._processes.append(process)

    @property
    def pids(self) -> list[int]:
        """Of the processes that were started, without their children."""
        return [process.pid for process in self._processes]

    def check(self) -> None:
        """Fail if it has ended, with the end of its log."""
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.poll() is not None:
                tail = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{log.stem} ended with {process.returncode}:\n{tail}")

    def freeze(self) -> None:
        """Stop the clock: it does nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, in order if it can."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _signal(self, signum: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signum)


def product_environ(place: Place, more: Mapping[str, str], number: int = 0) -> dict[str, str]:
    """Return the product's variables, `more` over them; the number of its process."""
    port, metrics_port = ports.free(2)
    return {
        "KAFKA_BROKERS": place.kafka.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "GATEWAY": "simulated",
        # As its baselines do.
        "KAFKA_COMPRESSION": "lz4",
        **place.topics.environ(),
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "BYTEWAX_RECOVERY_DIRECTORY": str(place.directory / f"recovery-{number}"),
        "BYTEWAX_SNAPSHOT_INTERVAL": "0",
        "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
        "PYTHONPATH": str(ROOT),
        **more,
    }


FLOW = [sys.executable, "-m", "bytewax.run", "dataflow.flow"]


def product(**more: str) -> Callable[[Place], list[Command]]:
    """Return the start of one process of the product, with settings of its own."""
    return lambda place: [(FLOW, product_environ(place, more))]


def _two_processes(place: Place) -> list[Command]:
    addresses = ";".join(f"127.0.0.1:{port}" for port in ports.free(2))
    cluster = {"BYTEWAX_ADDRESSES": addresses}
    return [
        (FLOW, product_environ(place, {**cluster, "BYTEWAX_PROCESS_ID": str(n)}, n))
        for n in range(2)
    ]


def _baseline_environ(place: Place) -> dict[str, str]:
    processed, failed, audit = place.topics.outputs
    return {
        "BENCH_BROKERS": place.kafka.bootstrap,
        "BENCH_GROUP": place.topics.group,
        "BENCH_REQUESTED": place.topics.requested,
        "BENCH_PROCESSED": processed,
        "BENCH_FAILED": failed,
        "BENCH_AUDIT": audit,
        "BENCH_STATE": str(place.directory / "state"),
        "PYTHONPATH": str(ROOT),
    }


def _bare(place: Place) -> list[Command]:
    return [([sys.executable, "-m", "tests.bench.baselines.bare"], _baseline_environ(place))]


def _obvious(place: Place) -> list[Command]:
    store = place.directory / "recovery"
    if not store.exists():
        store.mkdir()
        init = [sys.executable, "-m", "bytewax.recovery", str(store), "1"]
        subprocess.run(init, check=True)
    command = [sys.executable, "-m", "bytewax.run", "tests.bench.baselines.obvious.flow:flow"]
    return [([*command, "-r", str(store), "-s", "1", "-b", "0"], _baseline_environ(place))]


def _quix(place: Place) -> list[Command]:
    command = [str(prepare.PYTHON), "-m", "tests.bench.baselines.quix.app"]
    return [(command, _baseline_environ(place))]


def _streams(place: Place) -> list[Command]:
    path = f"{prepare.STREAMS}/payments-streams-1.jar{os.pathsep}{prepare.STREAMS}/lib/*"
    command = [distribution.java(), "-Xmx1g", "-cp", path, "baselines.Payments"]
    return [(command, _baseline_environ(place))]


def _kafkajs(place: Place) -> list[Command]:
    return [(["node", str(prepare.KAFKAJS / "service.js")], _baseline_environ(place))]


RATES = (1_000, 5_000, 20_000)

CONTENDERS = (
    Contender(
        "product",
        "this product",
        "one process, the defaults: `COMMIT_INTERVAL=100ms`, 4 lanes; but `KAFKA_COMPRESSION=lz4`",
        product(),
        burst=300_000,
        rates=RATES,
    ),
    Contender(
        "low-latency",
        "this product, low latency",
        "`COMMIT_INTERVAL=20ms`, `LANES=2`",
        product(COMMIT_INTERVAL="20ms", LANES="2"),
        burst=300_000,
        rates=RATES,
    ),
    Contender(
        "two",
        "this product, two processes",
        "as the first, in a cluster of two processes",
        _two_processes,
        burst=300_000,
    ),
    Contender(
        "bare",
        "bare confluent-kafka loop",
        "no dedupe at all; batches of up to 10,000, a transaction for each; lz4, `linger.ms` 5",
        _bare,
        dedupes=False,
        burst=300_000,
        rates=RATES,
    ),
    Contender(
        "obvious",
        "obvious Bytewax design",
        "stock `KafkaSource`, `stateful_map`, three stock `KafkaSink`s; recovery with 1 s epochs;"
        " lz4, `linger.ms` 5; not exactly-once",
        _obvious,
        burst=60_000,
        rates=RATES,
    ),
    Contender(
        "quix",
        "Quix Streams",
        '`processing_guarantee="exactly-once"`, `commit_interval` 1 s (default: 5 s), RocksDB'
        " state with changelog; lz4, `linger.ms` 5",
        _quix,
        burst=20_000,
        rates=RATES,
    ),
    Contender(
        "streams",
        "Kafka Streams",
        "Java 17, `exactly_once_v2`, `commit.interval.ms` 100 (its default), one stream thread,"
        " RocksDB store with changelog, `-Xmx1g`; lz4",
        _streams,
        burst=200_000,
        rates=RATES,
    ),
    Contender(
        "kafkajs",
        "KafkaJS service",
        "Node.js, a transaction for each batch of a partition, ids in a `Set`; no compression",
        _kafkajs,
        burst=60_000,
        rates=RATES,
    ),
)
