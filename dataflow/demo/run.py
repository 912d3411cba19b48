"""The course of a demo: start, send, stop sending, drain, stop the flow, settle the accounts."""

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import inf
from types import FrameType

from confluent_kafka import KafkaException

from dataflow.demo.accounts import Accounts, Totals
from dataflow.demo.broker import Broker, open_broker
from dataflow.demo.kafka import AuditReader, Load, request_ends
from dataflow.demo.plain import PlainView, summary
from dataflow.demo.process import FlowDiedError, FlowProcess
from dataflow.demo.snapshot import Place, Rate, Snapshot, View, printable
from dataflow.demo.traffic import Traffic
from dataflow.errors import SettingsError, StartRefusedError
from schemas.events import EVENT_OVERHEAD_BYTES

_TICK_S = 0.2
_START_S = 90.0
"""On a shared broker there may be a backlog to replay, and coordinators to elect."""
_DRAIN_S = 30.0
_STOP_S = 30.0
_RATE_MAX = 10_000


class Stop:
    """How often we were asked to stop: once means after the work is done, twice means now."""

    def __init__(self) -> None:
        self.times = 0

    @property
    def asked(self) -> bool:
        """Whether it is time to stop."""
        return self.times > 0

    @property
    def at_once(self) -> bool:
        """Whether even that takes too long."""
        return self.times > 1

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Within, the signals that end a program ask."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [(number, signal.signal(number, self._on_signal)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1


class Demo:
    """One run, with everything it needs at hand."""

    def __init__(
        self, broker: Broker, flow: FlowProcess, view: View, stop: Stop, options: argparse.Namespace
    ) -> None:
        kafka = broker.settings.kafka
        traffic = Traffic(options.seed, kafka.message_max_bytes - EVENT_OVERHEAD_BYTES)
        self._flow = flow
        self._view = view
        self._stop = stop
        self._seconds = options.seconds or inf
        self._partitions = broker.partitions
        self._accounts = Accounts(request_ends(kafka))
        self._audit = AuditReader(kafka, self._accounts)
        self._load = Load(kafka, traffic, options.rate, self._accounts)
        self._began_s = time.monotonic()
        self._sent, self._audited = Rate(), Rate()

    def run(self) -> Totals:
        """From the flow's start to its end; what there was.

        Raises:
            FlowDiedError: the flow did not do its part.
        """
        if self._wait_until_ready():
            self._load.start()
            self._watch("sending; Ctrl-C stops", lambda: self._stop.asked, self._seconds)
            self._load.stop()
            self._watch("waiting for the broker", lambda: self._load.ended, _DRAIN_S)
            self._watch("waiting for the last outcomes", self._is_settled, _DRAIN_S)
        self._end_flow()
        self._audit.stop()
        return self._accounts.totals()

    def _wait_until_ready(self) -> bool:
        """False when we were asked to stop before."""
        ready = lambda: bool(self._flow.health().get("ready"))  # noqa: E731
        what = "waiting for the flow to be ready"
        if not self._watch(what, lambda: ready() or self._stop.asked, _START_S):
            raise FlowDiedError(f"the flow was not ready within {_START_S:g} s")
        return not self._stop.asked

    def _is_settled(self) -> bool:
        return self._accounts.totals().open == 0

    def _end_flow(self) -> None:
        was_ready = bool(self._flow.health().get("ready"))
        self._flow.terminate()
        ended = self._watch("stopping the flow", lambda: self._flow.exit_code is not None, _STOP_S)
        if not ended and not self._stop.at_once:
            raise FlowDiedError(f"the flow did not end within {_STOP_S:g} s of SIGTERM")
        # Before it is ready it may not have taken the signal over yet.
        if ended and self._flow.exit_code != 0 and was_ready:
            raise FlowDiedError(f"the flow ended with exit code {self._flow.exit_code}")

    def _watch(self, doing: str, until: Callable[[], bool], at_most_s: float) -> bool:
        """Show what happens until something has; False when it takes too long."""
        deadline_s = time.monotonic() + at_most_s
        while not until():
            if self._flow.exit_code is not None:
                raise FlowDiedError(f"the flow has ended with exit code {self._flow.exit_code}")
            if time.monotonic() > deadline_s or self._stop.at_once:
                return False
            self._view.show(self._snapshot(doing))
            time.sleep(_TICK_S)
        return True

    def _snapshot(self, doing: str) -> Snapshot:
        now_s = time.monotonic()
        totals, health = self._accounts.totals(), self._flow.health()
        state = health.get("status", "starting")
        partitions = health.get("partitions", {})
        return Snapshot(
            elapsed_s=now_s - self._began_s,
            state="ready" if state == "ok" else state,
            doing=doing,
            totals=totals,
            sent_rate=self._sent.at(now_s, totals.sent_total),
            audited_rate=self._audited.at(now_s, totals.audited_total),
            lags={
                partition: partitions.get(str(partition), {}).get("lag")
                for partition in self._partitions
            },
        )


def main(args: Sequence[str] | None = None) -> int:
    """Run a demo; the exit code: 0 when all went well, and the accounts agree."""
    options = _arguments(args)
    stop = Stop()
    try:
        broker = open_broker(os.environ)
        sys.stdout.write(broker.notice + "\n")
        with stop.by_signal(), FlowProcess(broker.environ) as flow:
            return _run(broker, flow, stop, options)
    except SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
    except StartRefusedError as error:
        sys.stderr.write(f"{error}\n")
    except KafkaException as error:
        sys.stderr.write(f"Kafka: {error.args[0].str()}\n")
    except FlowDiedError as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        return 0  # nothing had begun yet
    return 1


def _run(broker: Broker, flow: FlowProcess, stop: Stop, options: argparse.Namespace) -> int:
    place = Place(
        broker=broker.description,
        probes_url=f"http://localhost:{flow.port}",
        metrics_url=f"http://localhost:{flow.metrics_port}/metrics",
        log_path=str(flow.log_path),
    )
    sys.stdout.write(
        f"Seed {options.seed}, {options.rate:g} requests a second.\n"
        f"Probes   {place.probes_url}/health /ready /live\n"
        f"Metrics  {place.metrics_url}\n"
        f"Log      {place.log_path}\n\n"
    )
    sys.stdout.flush()
    try:
        with _view(place, plain=options.plain) as view:
            totals = Demo(broker, flow, view, stop, options).run()
    except FlowDiedError as error:
        tail = "\n".join(printable(line) for line in flow.log_tail().splitlines())
        raise FlowDiedError(
            f"{tail}\n\n{error}; the end of its log is above, all of it is in {flow.log_path}"
        ) from error
    sys.stdout.write(summary(totals))
    return 1 if totals.disagreements() else 0


def _view(place: Place, *, plain: bool) -> View:
    if (
        plain
        or not sys.stdout.isatty()
        or os.environ.get("TERM") == "dumb"
        or not find_spec("rich")
    ):
        return PlainView(sys.stdout)
    from dataflow.demo.screen import ScreenView  # noqa: PLC0415  (needs rich; lines do not)

    return ScreenView(place)


def _arguments(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dataflow.demo",
        description="Show the flow at work, on an embedded broker or on that of KAFKA_BROKERS.",
    )
    parser.add_argument(
        "--rate", type=_rate, default=200, help=f"requests per second, up to {_RATE_MAX}"
    )
    parser.add_argument("--seconds", type=float, help="stop by itself after so long")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="makes the requests repeatable"
    )
    parser.add_argument("--plain", action="store_true", help="lines of text; the default in a pipe")
    return parser.parse_args(args)


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= _RATE_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0, and at most {_RATE_MAX}")
    return rate
