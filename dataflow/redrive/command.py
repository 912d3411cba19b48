"""`payments redrive`: its options, what it prints, and the meaning of its exit codes."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.console.reading import open_entries, read
from dataflow.console.text import amount_text, plain, table
from dataflow.kafka import preflight
from dataflow.kafka.topic_scan import TopicScan
from dataflow.redrive.selection import EVENT, MARK, ORIGIN, Choice, Plan, Redrive, Selection
from dataflow.redrive.sender import Sender, Sent
from schemas.events import EVENT_OVERHEAD_BYTES
from schemas.money import EXPONENTS
from schemas.outcomes import DECLINE_CODES, ErrorCode

DONE, INCOMPLETE = 0, 1
"""Exit codes, besides those of all tools."""

_DESCRIPTION = f"""\
Send failed payments again, as new requests, if their events have "retryable": true. The paymentId
of the new one is that of the failed one with `{MARK}1`; headers name its origin ({ORIGIN}: the
paymentId, {EVENT}: the eventId). Without --send nothing is sent, only listed.

It may be interrupted, and run again: what has an outcome or waits for one is left out, and what was
sent a moment ago is a duplicate to the flow. Which cluster, and which topics, is taken from the
environment, as for the flow itself; --send needs the right to write to the request topic.
"""
_EPILOG = """\
examples:
  payments redrive --since 2026-01-31 --code insufficient_funds
  payments redrive --since 2026-01-31 --code insufficient_funds --send --limit 10
  payments redrive --payment-id pay_123 --send
  payments redrive --json

exit code: 0 when everything that was asked for is sent, or listed; 1 when some of it could not be
sent, 2 for a wrong argument or when the topics could not be read, 130 when it was interrupted
"""
_SHOWN = 100
_EARLIER_S = 3600.0
"""The clocks of those that write records may differ by less."""
_HEADS = ("PAYMENT", "NEW PAYMENT", "AMOUNT", "CURRENCY", "CODE", "FAILED AT")


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """List or send, and return the exit code."""
    args = _arguments(argv)
    return running.run(environ, lambda settings, progress: _redrive(settings, args, progress))


def _redrive(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    preflight.inspect(settings.kafka)
    timeout_s = running.timeout_s(settings, args.timeout)
    scan = TopicScan(settings.kafka, timeout_s, "redrive", running.as_json(settings))
    plan = read_plan(scan, settings, _choice(args), progress)
    progress.end()
    if not args.json:
        print("\n".join(as_text(plan)))
    sent = None
    if args.send:
        sent = Sender(settings.kafka, args.rate, progress).send(plan.redrives)
        progress.end()
    if args.json:
        print(json.dumps(as_json(plan, sent), indent=2))
    else:
        print("\n".join(_about(sent, len(plan.redrives))))
    return INCOMPLETE if sent is not None and sent.error is not None else DONE


def read_plan(scan: TopicScan, settings: Settings, choice: Choice, progress: Progress) -> Plan:
    """Read the topics, and return what to send.

    The pending topic is read first: what waits no longer then has an outcome that is seen later.
    """
    kafka = settings.kafka
    waiting, _ = open_entries(scan, kafka.topic_pending, progress).read()
    selection = Selection(
        choice,
        kafka.message_max_bytes - EVENT_OVERHEAD_BYTES,
        (entry.payment_id for entry in waiting),
    )
    for chunk in read(scan, kafka.topic_failed, progress, _earlier_ms(choice.since_s)):
        selection.take_failed(chunk.values)
    since_ms = _earlier_ms(selection.oldest_s)
    if since_ms is not None:
        for chunk in read(scan, kafka.topic_processed, progress, since_ms):
            selection.take_processed(chunk.keys)
    return selection.plan()


def _earlier_ms(at_s: float | None) -> int | None:
    return None if at_s is None else max(0, int((at_s - _EARLIER_S) * 1000))


def as_text(plan: Plan) -> Iterator[str]:
    """Yield the plan in lines."""
    if plan.redrives:
        yield from table(_HEADS, [list(_cells(each)) for each in plan.redrives[:_SHOWN]], {2})
        if len(plan.redrives) > _SHOWN:
            yield f"and {len(plan.redrives) - _SHOWN:,} more (--json has all)"
        yield ""
    yield f"{len(plan.redrives):>9,}  to redrive"
    for currency, amount in _money(plan).items():
        yield f"{currency:>9}  {amount_text(amount, currency)}"
    for reason, count in plan.skipped.most_common():
        yield f"{count:>9,}  left out: {reason}"


def as_json(plan: Plan, sent: Sent | None) -> dict[str, Any]:
    """Return the plan, and what was sent of it; amounts are strings, so that nobody rounds them."""
    return {
        "sent": None if sent is None else sent.acknowledged,
        "error": None if sent is None else sent.error,
        "money": {name: amount_text(each, name) for name, each in _money(plan).items()},
        "leftOut": {reason.value: count for reason, count in plan.skipped.items()},
        "redrives": [_object(each) for each in plan.redrives],
    }


def _about(sent: Sent | None, wanted: int) -> Iterator[str]:
    if sent is None:
        yield "\nNothing was sent: --send sends them." if wanted else "\nThere is nothing to send."
        return
    yield f"\n{sent.acknowledged:,} of {wanted:,} are sent."
    if sent.error is not None:
        yield f"The rest is not, or may not be: {sent.error}. Run it again: nothing is sent twice."


def _object(redrive: Redrive) -> dict[str, Any]:
    event, request = redrive
    return {
        "paymentId": event.payment_id,
        "newPaymentId": request.payment_id,
        "eventId": event.event_id,
        "amount": amount_text(request.amount, request.currency),
        "currency": request.currency,
        "code": event.error.code.value,
        "failedAt": event.failed_at,
    }


def _cells(redrive: Redrive) -> Iterator[str]:
    event, request = redrive
    yield plain(event.payment_id or "")
    yield plain(request.payment_id)
    yield amount_text(request.amount, request.currency)
    yield request.currency
    yield event.error.code.value
    yield event.failed_at


def _money(plan: Plan) -> dict[str, Decimal]:
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    for each in plan.redrives:
        money[each.request.currency] += each.request.amount
    return dict(sorted(money.items()))


def _choice(args: argparse.Namespace) -> Choice:
    return Choice(
        codes=_set(args.code),
        currencies=_set(args.currency),
        payment_ids=_set(args.payment_id),
        since_s=args.since,
        until_s=args.until,
        max_generation=args.max_generation,
        limit=args.limit,
    )


def _set(given: list[Any] | None) -> frozenset[Any] | None:
    return None if given is None else frozenset(given)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("redrive", _DESCRIPTION, _EPILOG)
    chosen = parser.add_argument_group("filters", "of the failed events; each may be given again")
    chosen.add_argument(
        "--code", action="append", type=ErrorCode, choices=sorted(DECLINE_CODES), metavar="CODE"
    )
    chosen.add_argument("--currency", action="append", choices=sorted(EXPONENTS), metavar="USD")
    chosen.add_argument("--payment-id", action="append", metavar="ID")
    chosen.add_argument(
        "--since", type=arguments.instant_s, metavar="INSTANT", help="failed then or later"
    )
    chosen.add_argument(
        "--until", type=arguments.instant_s, metavar="INSTANT", help="failed before"
    )
    parser.add_argument("--send", action="store_true", help="send them; without it, list them only")
    parser.add_argument(
        "--rate",
        type=arguments.whole_number,
        default=50,
        metavar="N",
        help="requests a second (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=arguments.whole_number, metavar="N", help="not more than so many"
    )
    parser.add_argument(
        "--max-generation",
        type=arguments.whole_number,
        default=1,
        metavar="N",
        help="also the redrives that have failed, up to the Nth try (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_timeout(parser)
    return parser.parse_args(argv)
