"""`payments demo`: from the arguments to the exit code."""

import argparse
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import KafkaException

from dataflow.config import gateway_names
from dataflow.config.gateway_names import HTTP
from dataflow.console import arguments
from dataflow.demo.broker import SIMULATED, Broker, open_broker
from dataflow.demo.flow_process import FlowDiedError, FlowProcess
from dataflow.demo.provider import DemoProvider
from dataflow.demo.session import Demo, Options
from dataflow.demo.snapshot import DemoAddresses, View, printable
from dataflow.demo.stop import Stop
from dataflow.demo.text_view import PlainView, summary
from dataflow.errors import SettingsError, StartRefusedError

_DESCRIPTION = "Show the flow at work, on an embedded broker or on that of KAFKA_BROKERS."
_EPILOG = """\
examples:
  payments demo                                    an embedded broker, until Ctrl-C
  payments demo --rate 1000 --seconds 30 --plain   half a minute, as lines of text
  payments demo --gateway http                     a provider that is away now and then
  KAFKA_BROKERS=localhost:9092 payments demo       on your Kafka, with topics of its own

exit code: 0 when every request has its one audit event, 1 when not or when it cannot run, 2 for a
wrong argument
"""
_RATE_MAX = 10_000
"""The embedded broker would drop what has not been read yet at a few times as many."""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a demo; the exit code: 0 when all went well, and the accounts agree."""
    options = _arguments(argv)
    stop = Stop()
    try:
        with ExitStack() as stack:
            provider = _provider(stack) if options.gateway == HTTP else None
            broker = open_broker(environ, provider.environ() if provider else SIMULATED)
            sys.stdout.write(broker.notice + "\n")
            stack.enter_context(stop.by_signal())
            flow = stack.enter_context(FlowProcess(broker.environ))
            return _run(broker, flow, stop, options, provider)
    except SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
    except StartRefusedError as error:
        sys.stderr.write(f"{error}\n")
    except KafkaException as error:
        sys.stderr.write(f"Kafka: {error.args[0].str()}\n")
    except FlowDiedError as error:
        sys.stderr.write(f"{error}\n")
    except BrokenPipeError:
        # The reader of our lines has gone; what is still buffered has to go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 0  # nothing had begun yet
    return 1


def _provider(stack: ExitStack) -> DemoProvider:
    directory = stack.enter_context(TemporaryDirectory(prefix="payments-demo-provider-"))
    return stack.enter_context(DemoProvider(Path(directory)))


def _run(
    broker: Broker, flow: FlowProcess, stop: Stop, options: Options, provider: DemoProvider | None
) -> int:
    addresses = DemoAddresses(
        broker=broker.description,
        probes_url=f"http://localhost:{flow.port}",
        metrics_url=f"http://localhost:{flow.metrics_port}/metrics",
        log_path=str(flow.log_path),
    )
    sys.stdout.write(
        f"Seed {options.seed}, {options.rate:g} requests a second.\n"
        f"Probes   {addresses.probes_url}/health /ready /live\n"
        f"Metrics  {addresses.metrics_url}\n"
        f"Log      {addresses.log_path}\n\n"
    )
    sys.stdout.flush()
    try:
        with _view(addresses, plain=options.plain) as view:
            totals = Demo(broker.settings.kafka, flow, view, stop, options, provider).run()
    except FlowDiedError as error:
        tail = "\n".join(printable(line) for line in flow.log_tail().splitlines())
        raise FlowDiedError(
            f"{tail}\n\n{error}; the end of its log is above, all of it is in {flow.log_path}"
        ) from error
    sys.stdout.write(summary(totals))
    return 1 if totals.disagreements() else 0


def _view(addresses: DemoAddresses, *, plain: bool) -> View:
    if (
        plain
        or not sys.stdout.isatty()
        or os.environ.get("TERM") == "dumb"
        or not find_spec("rich")
    ):
        return PlainView(sys.stdout)
    from dataflow.demo.terminal_view import ScreenView  # noqa: PLC0415  (needs rich; lines do not)

    return ScreenView(addresses)


def _arguments(argv: Sequence[str]) -> Options:
    parser = arguments.parser("demo", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--rate", type=_rate, default=200, help=f"requests per second, up to {_RATE_MAX}"
    )
    parser.add_argument("--seconds", type=float, help="stop by itself after so long")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**4), help="makes the requests repeatable"
    )
    parser.add_argument(
        "--gateway",
        choices=(gateway_names.SIMULATED, HTTP),
        default=gateway_names.SIMULATED,
        help=f"{HTTP}: a provider in a process of its own, with outages",
    )
    parser.add_argument("--plain", action="store_true", help="lines of text; the default in a pipe")
    return Options(**vars(parser.parse_args(argv)))


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= _RATE_MAX:
        raise argparse.ArgumentTypeError(f"must be above 0, and at most {_RATE_MAX}")
    return rate
