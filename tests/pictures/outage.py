"""Record an outage of the payment provider: what the flow does in it, and after it.

    python -m tests.pictures.outage

A real flow under a steady load on a real Kafka charges at the fake provider, over HTTP. After a
while the provider refuses all connections, for some time. The pauses between probes, trials and
later attempts are `--compress` times shorter than in production, so that an outage of a minute has
the course of one of so many.

Writes docs/images/outage.json and outage.svg, and prints the figures. The exit code is 1 if a
payment was lost, doubled, or charged twice.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from dataflow.core.hold import PROBE_LEAST_S, PROBE_MOST_S, TRIAL_LEAST_S
from dataflow.core.retry_schedule import PARKED_UNIT_S
from dataflow.fake_provider.behaviour import Settings
from dataflow.fake_provider.process import FakeProvider
from tests import ROOT
from tests.pictures.outage_plot import draw
from tests.support.flow_process import Flow, Topics, request
from tests.support.hooks import tuning
from tests.support.invariants import check
from tests.support.kafka import Broker, DiskBroker

IMAGES = ROOT / "docs" / "images"
PARTITIONS = 3
_EVERY_S = 0.5
_LATENCY_S = 0.1
_DECIDE_S = 300.0
_IN_TIME_S = 2.0
"""The backlog is gone once the oldest request has waited for less."""


class Sample(NamedTuple):
    """The state of the flow at one moment."""

    seconds: float
    """Since the load began."""
    rate: float
    """Outcomes a second since the sample before."""
    lag: float
    oldest_s: float
    parked: float
    held: float
    window: float


class Figures(NamedTuple):
    """The figures of a recording; times are in seconds."""

    held_after_s: float | None
    """From the begin of the outage to the hold."""
    answers_after_s: float | None
    """From the end of the outage to the end of the hold."""
    full_rate_after_s: float | None
    """From the end of the outage until as much is decided as comes in."""
    in_time_after_s: float | None
    """From the end of the outage until the backlog is gone."""
    none_parked_after_s: float | None
    most_lag: float
    most_parked: float


def figures(samples: Sequence[Sample], began_s: float, ended_s: float, rate: float) -> Figures:
    """Return the figures of an outage from one moment to another, under a load of such a rate."""

    def after(moment_s: float, is_so: Callable[[Sample], bool]) -> float | None:
        found = (each.seconds for each in samples if each.seconds >= moment_s and is_so(each))
        first_s = next(found, None)
        return None if first_s is None else round(first_s - moment_s, 1)

    return Figures(
        held_after_s=after(began_s, lambda each: each.held > 0),
        answers_after_s=after(ended_s, lambda each: each.held == 0),
        full_rate_after_s=after(ended_s, lambda each: each.rate >= rate),
        in_time_after_s=after(ended_s, lambda each: each.oldest_s < _IN_TIME_S),
        none_parked_after_s=after(ended_s, lambda each: each.parked == 0),
        most_lag=max(each.lag for each in samples),
        most_parked=max(each.parked for each in samples),
    )


class Sampler:
    """A sampler of `/metrics`; each sample has the rate since the one before."""

    def __init__(self, scrape: Callable[[], str]) -> None:
        self._scrape = scrape
        self._began_s = self._last_s = time.monotonic()
        self._audited = 0.0

    def take(self) -> Sample:
        """Return the state of now."""
        found = read(self._scrape())
        now_s = time.monotonic()
        audited, passed_s = found["payments_audited_total"], now_s - self._last_s
        rate = (audited - self._audited) / passed_s
        self._audited, self._last_s = audited, now_s
        return Sample(
            seconds=round(now_s - self._began_s, 2),
            rate=round(rate, 1),
            lag=found["kafka_consumer_lag"],
            oldest_s=found["kafka_consumer_lag_seconds"],
            parked=found["payments_pending"],
            held=found["payments_gateway_held"],
            window=found["payments_gateway_window"],
        )


def read(text: str) -> dict[str, float]:
    """Return each metric of a scrape as one number: ages are the highest, all others the sum."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            before = found.get(sample.name, 0.0)
            together = max if sample.name.endswith("_lag_seconds") else sum_of
            found[sample.name] = together(before, sample.value)
    return found


def sum_of(one: float, other: float) -> float:
    """Return the sum of two."""
    return one + other


@contextmanager
def load(kafka: Broker, topics: Topics, rate: int) -> Iterator[Callable[[], int]]:
    """Send so many requests a second until the end of the block; yield what counts them."""
    done, sent = threading.Event(), 0

    def run() -> None:
        nonlocal sent
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        began_s = time.monotonic()
        while not done.wait(0.02):
            due = int((time.monotonic() - began_s) * rate)
            while sent < due:
                producer.produce(
                    topics.requested, request(f"pay-{sent}"), partition=sent % PARTITIONS
                )
                sent += 1
            producer.poll(0)
        producer.flush(30)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: sent
    finally:
        done.set()
        thread.join()


def record(kafka: Broker, directory: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return a recording: its samples, its figures, and what was found in the topics."""
    topics = Topics("outage")
    topics.create(kafka, PARTITIONS)
    with FakeProvider(directory / "provider.sqlite") as provider:
        provider.change(latency_s=_LATENCY_S)
        environ = {
            "GATEWAY": "http",
            "HTTP_GATEWAY_URL": provider.url,
            "HTTP_GATEWAY_CREDENTIALS": Settings().secret,
            **compressed(args.compress),
        }
        with Flow(kafka, topics, directory, environ=environ, commit_interval="") as flow:
            flow.wait_until_ready()
            samples, sent = _sample(kafka, topics, flow, provider, args)
            if flow.terminate():
                sys.exit(f"the flow did not stop in order:\n{flow.log[-4000:]}")
        charged = provider.count("succeeded")
    found = check(kafka, topics)
    began_s, ended_s = float(args.before), float(args.before + args.outage)
    return {
        "rate": args.rate,
        "compress": args.compress,
        "outage_s": [began_s, ended_s],
        "sent": sent,
        "processed": found.counts["payment.processed"],
        "charged": charged,
        "problems": found.problems,
        "figures": figures(samples, began_s, ended_s, args.rate)._asdict(),
        "fields": Sample._fields,
        "samples": samples,
    }


def compressed(times: float) -> dict[str, str]:
    """Return the environment of a flow whose pauses are so many times shorter."""
    return tuning.tuned(
        {
            tuning.PARKED_UNIT_S: PARKED_UNIT_S / times,
            tuning.PROBE_LEAST_S: PROBE_LEAST_S / times,
            tuning.PROBE_MOST_S: PROBE_MOST_S / times,
            tuning.TRIAL_LEAST_S: TRIAL_LEAST_S / times,
        }
    )


def _sample(
    kafka: Broker, topics: Topics, flow: Flow, provider: FakeProvider, args: argparse.Namespace
) -> tuple[list[Sample], int]:
    """Return the samples from the begin of the load until all of it is decided, and its number."""
    samples: list[Sample] = []

    def sample_until(is_over: Callable[[], bool], at_most_s: float) -> None:
        deadline_s = time.monotonic() + at_most_s
        while not is_over():
            if flow.process.poll() is not None or time.monotonic() > deadline_s:
                sys.exit(f"this took too long, or the flow has ended:\n{flow.log[-4000:]}")
            time.sleep(_EVERY_S)
            samples.append(sampler.take())

    with load(kafka, topics, args.rate) as sent:
        sampler = Sampler(flow.metrics)
        sample_until(lambda: bool(samples) and samples[-1].seconds >= args.before, _DECIDE_S)
        provider.outage(args.outage)
        whole_s = args.before + args.outage + args.after
        sample_until(lambda: samples[-1].seconds >= whole_s, whole_s + _DECIDE_S)
    sample_until(lambda: flow.decided() == sent() and samples[-1].parked == 0, _DECIDE_S)
    return samples, sent()


def is_good(recording: dict[str, Any]) -> bool:
    """Return whether each payment was charged and published once."""
    counts = {recording[name] for name in ("sent", "processed", "charged")}
    return not recording["problems"] and len(counts) == 1


def main() -> int:
    """Record, draw, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures.outage", description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="requests a second: %(default)s")
    parser.add_argument("--before", type=int, default=15, help="seconds: %(default)s")
    parser.add_argument("--outage", type=int, default=60, help="seconds: %(default)s")
    parser.add_argument("--after", type=int, default=45, help="seconds: %(default)s")
    parser.add_argument("--compress", type=float, default=30.0, help="pauses: %(default)s times")
    parser.add_argument("--out", type=Path, default=IMAGES, help="directory: %(default)s")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="payments-outage-") as scratch,
        DiskBroker.start() as kafka,
    ):
        recording = record(kafka, Path(scratch), args)
    (args.out / "outage.json").write_text(json.dumps(recording) + "\n")
    (args.out / "outage.svg").write_text(draw(recording))
    for name, value in recording["figures"].items():
        print(f"{name:24}{value}")
    print(*(f"{name} {recording[name]:,}" for name in ("sent", "processed", "charged")), sep=", ")
    print(*recording["problems"], sep="\n")
    return 0 if is_good(recording) else 1


if __name__ == "__main__":
    sys.exit(main())
