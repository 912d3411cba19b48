"""`payments pending`: its options, what it prints, and the meaning of its exit codes."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.console.reading import open_entries
from dataflow.console.text import amount_text, plain, span, table
from dataflow.core.open_entries import OpenEntries
from dataflow.kafka import preflight
from dataflow.kafka.topic_scan import TopicScan
from dataflow.pending_tools.entries import Choice, Summary, age_s, summary
from schemas import pending
from schemas.pending import PendingEntry

NOBODY_NEEDED, PERSON_NEEDED = 0, 1
"""Exit codes, besides those of all tools."""

_DESCRIPTION = """\
List the payments that wait for the gateway: the entries of the pending topic that are open. Which
cluster, and which topic, is taken from the environment, as for the flow itself. Nothing is written.
"""
_EPILOG = """\
examples:
  payments pending
  payments pending --unresolved                  those that need a person
  payments pending --older-than 1h --json | jq -r '.entries[].paymentId'
  payments pending --payment-id pay_123

exit code: 0 when none of those listed is unresolved, 1 when one is, 2 for a wrong argument or when
the topic could not be read, 130 when it was interrupted
"""
_REASONS_SHOWN = 20
_HEADS = ("PAYMENT", "AMOUNT", "CURRENCY", "AGE", "ATTEMPTS", "NEXT", "STATE", "REASON")
_NUMBERS = {1, 4}
"""The columns of it that are numbers."""


class Listing:
    """The entries that were chosen, at one moment."""

    def __init__(self, found: OpenEntries, choice: Choice, now_s: float) -> None:
        entries, unreadable = found.read()
        self.now_s = now_s
        self.decided = found.decided
        self.entries = [entry for entry in entries if choice.has(entry, now_s)]
        self.notes = list(_notes(unreadable, found.foreign))

    @property
    def summary(self) -> Summary:
        """The figures of the entries."""
        return summary(self.entries, self.now_s)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """List, and return the exit code."""
    args = _arguments(argv)
    return running.run(environ, lambda settings, progress: _list(settings, args, progress))


def _list(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    preflight.inspect(settings.kafka)
    scan = TopicScan(settings.kafka, running.timeout_s(settings, args.timeout), "pending")
    found = open_entries(scan, settings.kafka.topic_pending, progress)
    progress.end()
    choice = Choice(args.unresolved, args.older_than, args.payment_id)
    listing = Listing(found, choice, time.time())
    if args.json:
        print(json.dumps(as_json(listing), indent=2))
    else:
        print("\n".join(as_text(listing)))
    return PERSON_NEEDED if listing.summary.unresolved else NOBODY_NEEDED


def as_text(listing: Listing) -> Iterator[str]:
    """Yield the listing in lines."""
    figures = listing.summary
    if listing.entries:
        rows = [list(_cells(entry, listing)) for entry in listing.entries]
        yield from table(_HEADS, rows, _NUMBERS)
        yield ""
    yield f"{figures.number:,} pending, {figures.unresolved:,} of them unresolved" + (
        f"; the oldest for {span(figures.oldest_s)}" if figures.number else ""
    )
    for reason, count in figures.reasons[:_REASONS_SHOWN]:
        yield f"{count:>9,}  {plain(reason) or 'not asked yet'}"
    if len(figures.reasons) > _REASONS_SHOWN:
        yield f"{'':>9}  and {len(figures.reasons) - _REASONS_SHOWN:,} other reasons"
    for currency, amount in figures.money.items():
        yield f"{currency:>9}  {amount_text(amount, currency)}"
    for note in listing.notes:
        yield f"Note: {note}."


def as_json(listing: Listing) -> dict[str, Any]:
    """Return the listing for machines; amounts are strings, so that no reader rounds them."""
    figures = listing.summary
    return {
        "count": figures.number,
        "unresolved": figures.unresolved,
        "oldestSeconds": round(figures.oldest_s),
        "reasons": [{"reason": reason, "count": count} for reason, count in figures.reasons],
        "money": {
            currency: amount_text(amount, currency) for currency, amount in figures.money.items()
        },
        "entries": [_object(entry, listing) for entry in listing.entries],
        "notes": listing.notes,
    }


def _object(entry: PendingEntry, listing: Listing) -> dict[str, Any]:
    request = entry.payment()
    return {
        "eventId": entry.event_id,
        "paymentId": entry.payment_id,
        "state": entry.state.value,
        "isDecided": entry.event_id in listing.decided,
        "amount": amount_text(request.amount, request.currency),
        "currency": request.currency,
        "parkedAt": entry.parked_at,
        "ageSeconds": round(age_s(entry, listing.now_s)),
        "firstAttemptAt": entry.first_attempt_at,
        "attempts": entry.attempts,
        "nextAttemptAt": entry.next_attempt_at,
        "reason": entry.reason,
        "source": {
            "topic": entry.source.topic,
            "partition": entry.source.partition,
            "offset": entry.source.offset,
        },
    }


def _cells(entry: PendingEntry, listing: Listing) -> Iterator[str]:
    request, now_s = entry.payment(), listing.now_s
    yield plain(entry.payment_id)
    yield amount_text(request.amount, request.currency)
    yield request.currency
    yield span(age_s(entry, now_s))
    yield str(entry.attempts)
    yield _next(entry.next_attempt_at, now_s)
    # A person has decided; the flow has not carried it out yet.
    yield "decided" if entry.event_id in listing.decided else entry.state.value
    yield plain(entry.reason)


def _next(at: str | None, now_s: float) -> str:
    """Return when the next attempt is; none where there is no safe way to ask."""
    if at is None:
        return "-"
    left_s = pending.seconds(at) - now_s
    return f"in {span(left_s)}" if left_s > 0 else "due"


def _notes(unreadable: int, foreign: int) -> Iterator[str]:
    if unreadable:
        yield f"{unreadable} entries cannot be read by this version: a newer one has written them"
    if foreign:
        yield f"no lane has written {foreign} records of the topic, which do not count"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("pending", _DESCRIPTION, _EPILOG)
    parser.add_argument("--unresolved", action="store_true", help="only those that need a person")
    parser.add_argument(
        "--older-than",
        type=arguments.duration_s,
        default=0.0,
        metavar="DURATION",
        help="only those that have been parked for so long",
    )
    parser.add_argument("--payment-id", metavar="ID", help="only this payment")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_timeout(parser)
    return parser.parse_args(argv)
