"""`payments reconcile`: its options, and where both sides come from."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.console.reading import open_entries, read
from dataflow.gateways import registry
from dataflow.gateways.listing import ListedPayment, ListError, ListingGateway
from dataflow.kafka import preflight
from dataflow.kafka.topic_scan import TopicScan
from dataflow.reconcile import provider_file, report
from dataflow.reconcile.comparison import Comparison, Period, Published
from dataflow.reconcile.report import Report
from schemas import pending

AGREES, DIFFERS = 0, 1
"""Exit codes, besides those of all tools."""

_DESCRIPTION = """\
Compare the provider's list of payments with the processed events, in both directions and to the
cent. The list is that of the gateway (stripe; http, if the provider has a list), or a file. Which
gateway, cluster and topics is taken from the environment, as for the flow itself. Nothing is
written, and no money is moved.
"""
_EPILOG = """\
examples:
  payments reconcile                                       the last 24 hours
  payments reconcile --since 2026-01-30 --until 2026-01-31
  payments reconcile --since 2026-01-30 --provider-file export.csv --column paymentId=merchant_ref
  payments reconcile --json > report.json

exit code: 0 when both sides agree, 1 when they differ, 2 for a wrong argument or when one side
could not be read, 130 when it was interrupted
"""
_DAY_S = 24 * 3600.0
_IN_FLIGHT_S = 600.0
"""A payment that is younger may be on its way from the provider to the topic."""
_EARLIER_S = 3600.0
"""The clocks of those that write records may differ by less."""


class _Processed(Struct, rename="camel"):
    """The part of a processed event that is compared."""

    payment_id: str
    gateway_reference: str
    amount: Raw
    currency: str
    processed_at: str


_decode = msgspec.json.Decoder(_Processed).decode


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Compare, print the report, and return the exit code."""
    args = _arguments(argv)

    def work(settings: Settings, progress: Progress) -> int:
        try:
            return _reconcile(settings, args, progress)
        except ListError as error:
            progress.end()
            print(f"the provider's list: {error}", file=sys.stderr)
            return running.NOT_POSSIBLE

    return running.run(environ, work, charges=args.provider_file is None)


def _reconcile(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    until_s = time.time() - _IN_FLIGHT_S if args.until is None else args.until
    period = Period(until_s - _DAY_S if args.since is None else args.since, until_s)
    if period.since_s >= period.until_s:
        print("--since: expected an instant before --until", file=sys.stderr)
        return running.NOT_POSSIBLE
    preflight.inspect(settings.kafka)
    # First of all: what the provider has by now is published, or waits, when the topics are read.
    listed = _listed(settings, args, period, progress)
    timeout_s = running.timeout_s(settings, args.timeout)
    scan = TopicScan(settings.kafka, timeout_s, "reconcile", running.as_json(settings))
    found = compare(scan, settings, period, listed, progress)
    progress.end()
    print(report.as_json(found) if args.json else "\n".join(report.as_text(found)))
    return AGREES if found.result.agrees else DIFFERS


def _listed(
    settings: Settings, args: argparse.Namespace, period: Period, progress: Progress
) -> list[ListedPayment]:
    if args.provider_file is not None:
        return list(provider_file.read(args.provider_file, dict(args.column)))
    # What was charged earlier may be processed in the time; what is charged later, never.
    wider = Period(period.since_s - args.lookback, period.until_s + _EARLIER_S)
    return asyncio.run(_ask(settings, wider, lambda n: progress("payments of the provider", n, 0)))


async def _ask(
    settings: Settings, period: Period, shown: Callable[[int], None]
) -> list[ListedPayment]:
    gateway = registry.create(settings.gateway)
    try:
        if not isinstance(gateway, ListingGateway):
            raise ListError(
                f"GATEWAY={settings.gateway.name} has none; give a file (--provider-file)"
            )
        found: list[ListedPayment] = []
        async for each in gateway.payments(*period):
            found.append(each)
            shown(len(found))
        return found
    finally:
        await gateway.close()


def compare(
    scan: TopicScan,
    settings: Settings,
    period: Period,
    listed: Iterable[ListedPayment],
    progress: Progress,
) -> Report:
    """Return the comparison of a list with the topics.

    The pending topic is read first: what waits no longer then has an event that is seen later.
    """
    kafka = settings.kafka
    waiting, unreadable = open_entries(scan, kafka.topic_pending, progress).read()
    comparison = Comparison(period, (entry.payment_id for entry in waiting))
    for each in listed:
        comparison.take_listed(each)
    since_ms = max(0, int((period.since_s - _EARLIER_S) * 1000))
    for chunk in read(scan, kafka.topic_processed, progress, since_ms):
        for value in chunk.values:
            event = published(value)
            if event is None:
                unreadable += 1
            else:
                comparison.take_processed(event)
    for chunk in read(scan, kafka.topic_failed, progress, since_ms):
        for key in filter(None, chunk.keys):
            comparison.take_failed(key.decode(errors="replace"))
    return Report(period, comparison.result(), waiting, unreadable)


def published(value: bytes | None) -> Published | None:
    """Return the part of a processed event that is compared; None if it is none."""
    try:
        event = _decode(value or b"")
        return Published(
            event.payment_id,
            event.gateway_reference,
            Decimal(bytes(event.amount).decode()),
            event.currency,
            pending.seconds(event.processed_at),
        )
    except (ValueError, ArithmeticError):
        return None


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("reconcile", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--since",
        type=arguments.instant_s,
        metavar="INSTANT",
        help="payments that were made or processed then or later (default: 24h before --until)",
    )
    parser.add_argument(
        "--until",
        type=arguments.instant_s,
        metavar="INSTANT",
        help="... and before that (default: 10 minutes ago)",
    )
    parser.add_argument(
        "--lookback",
        type=arguments.duration_s,
        default=4 * _DAY_S,
        metavar="DURATION",
        help="a payment is processed at most so long after it was charged (default: 4d)",
    )
    parser.add_argument(
        "--provider-file",
        type=Path,
        metavar="FILE",
        help=f"the provider's list, with {', '.join(provider_file.FIELDS)}: a .csv file with a"
        " line of names, or else one JSON object in each line",
    )
    parser.add_argument(
        "--column",
        type=_column,
        action="append",
        default=[],
        metavar="FIELD=NAME",
        help="the file's name of one of these fields",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_timeout(parser)
    return parser.parse_args(argv)


def _column(text: str) -> tuple[str, str]:
    field, _, name = text.partition("=")
    if field not in provider_file.FIELDS or not name:
        expected = f"FIELD=NAME with one of {', '.join(provider_file.FIELDS)}"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return field, name
