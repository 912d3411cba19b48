"""`payments resolve`: its options, what it prints, and the meaning of its exit codes."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from dataflow.config.settings import Settings
from dataflow.console import arguments, running
from dataflow.console.progress import Progress
from dataflow.console.reading import open_entries
from dataflow.console.text import amount_text, plain, span
from dataflow.core.open_entries import OpenEntries
from dataflow.kafka import preflight
from dataflow.kafka.topic_scan import TopicScan
from dataflow.pending_tools.carrying_out import Result, carry_out
from schemas import cards, decisions, events, pending
from schemas.decisions import MAX_BY, MAX_REASON, PersonsDecision
from schemas.events import MAX_REFERENCE
from schemas.outcomes import DECLINE_CODES, ErrorCode
from schemas.pending import PendingEntry, PendingState

DONE, NO_EFFECT, WAITS = 0, 1, 3
"""Exit codes, besides those of all tools."""

_DESCRIPTION = """\
Decide a payment that waits for the gateway and is unresolved: first find out from the provider what
became of it. The flow carries the decision out: it asks the provider once more, whose definite
answer counts whatever you have decided, and publishes outcome and audit event, which names you and
your reason. The decision is kept on the pending topic until then, also if the flow is stopped.
"""
_EPILOG = """\
examples:
  payments resolve pay_123 --processed ch_456 --reason "in the provider's dashboard, ticket 77"
  payments resolve pay_123 --failed declined --reason "the provider has no such charge, ticket 77"

exit code: 0 when the decision is carried out, 1 when it has no effect or is refused, or when the
audit topic cannot be read, 2 for a wrong argument or when Kafka does not answer, 3 when the flow
has not carried it out yet, 130 when it was interrupted
"""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Write the decision, wait until it is carried out, and return the exit code."""
    args = _arguments(argv)
    return running.run(environ, lambda settings, progress: _resolve(settings, args, progress))


def _resolve(settings: Settings, args: argparse.Namespace, progress: Progress) -> int:
    preflight.inspect(settings.kafka)
    scan = TopicScan(settings.kafka, running.timeout_s(settings, args.timeout), "resolve")
    found = open_entries(scan, settings.kafka.topic_pending, progress)
    progress.end()
    entry = _entry(found, args.payment_id)
    if entry is None:
        return _refused(
            args, "does not wait for the gateway: it has its outcome, or was never parked"
        )
    if entry.state is not PendingState.UNRESOLVED and not args.force:
        return _refused(args, f"is not unresolved: {_next(entry)}. --force decides it nevertheless")
    decision = _decision(args, entry)
    if not args.json:
        request = entry.payment()
        amount = amount_text(request.amount, request.currency)
        print(f"{plain(entry.payment_id)}, {amount} {request.currency}: {_words(decision)}")
    result = carry_out(settings, scan, decision, args.wait, progress)
    progress.end()
    _print(args, decision, result)
    if result.is_waiting:
        return WAITS
    return DONE if result.is_carried_out else NO_EFFECT


def _entry(found: OpenEntries, payment_id: str) -> PendingEntry | None:
    entries, _ = found.read()
    return next((each for each in entries if each.payment_id == payment_id), None)


def _next(entry: PendingEntry) -> str:
    """Return when it is asked for again by itself."""
    if entry.next_attempt_at is None:
        return "it is being asked for"
    return f"it is asked for in {span(pending.seconds(entry.next_attempt_at) - time.time())}"


def _refused(args: argparse.Namespace, problem: str) -> int:
    print(f"payment {plain(args.payment_id)} {problem}", file=sys.stderr)
    return NO_EFFECT


def _decision(args: argparse.Namespace, entry: PendingEntry) -> PersonsDecision:
    return PersonsDecision(
        event_id=entry.event_id,
        payment_id=entry.payment_id,
        reference=args.processed,
        code=args.failed,
        retryable=args.retryable,
        force=args.force,
        by=args.by,
        at=events.instant(time.time()),
        reason=args.reason,
    )


def _words(decision: PersonsDecision) -> str:
    if decision.reference is not None:
        return f"processed, with the reference {plain(decision.reference)}"
    assert decision.code is not None
    return f"failed, with the code {decision.code.value}"


def _print(args: argparse.Namespace, decision: PersonsDecision, result: Result) -> None:
    if args.json:
        written = json.loads(decisions.encode(decision))
        found = {"state": result.state, "outcome": result.outcome, "decision": written}
        print(json.dumps(found, indent=2))
        return
    print(result.text)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("resolve", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "payment_id", metavar="PAYMENT_ID", help="see payments pending --unresolved"
    )
    outcome = parser.add_mutually_exclusive_group(required=True)
    outcome.add_argument(
        "--processed",
        type=_text(MAX_REFERENCE),
        metavar="REFERENCE",
        help="it was charged: the provider's own id of the charge",
    )
    outcome.add_argument(
        "--failed",
        type=_code,
        metavar="CODE",
        help="it was not, and will not be: " + ", ".join(sorted(DECLINE_CODES)),
    )
    parser.add_argument(
        "--retryable",
        action="store_true",
        help="with --failed: the payer may try again with a new paymentId",
    )
    parser.add_argument(
        "--reason", required=True, type=_text(MAX_REASON), help="why, for the audit event"
    )
    parser.add_argument(
        "--by",
        type=_text(MAX_BY),
        default=_user(),
        metavar="NAME",
        help="who has decided, for the audit event (default: %(default)s)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="also if it is not unresolved, or the provider is still deciding",
    )
    parser.add_argument(
        "--wait",
        type=arguments.duration_s,
        default=300.0,
        metavar="DURATION",
        help="wait so long for the flow to carry it out (default: 5m)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments.add_timeout(parser)
    args = parser.parse_args(argv)
    if args.retryable and args.failed is None:
        parser.error("--retryable: only with --failed")
    if not args.by:
        parser.error("--by: required, since the system has no name for this user")
    return args


def _text(longest: int) -> Callable[[str], str]:
    """Return a parser of a text that an event may have."""

    def parse(text: str) -> str:
        text = text.strip()
        if not text or len(text) > longest or not text.isprintable():
            raise argparse.ArgumentTypeError(f"expected 1 to {longest} printable characters")
        if cards.masked(text) != text:
            raise argparse.ArgumentTypeError("it has a card number, which no event may have")
        return text

    return parse


def _code(text: str) -> ErrorCode:
    if text not in DECLINE_CODES:
        expected = ", ".join(sorted(DECLINE_CODES))
        raise argparse.ArgumentTypeError(f"expected one of {expected}, got {text!r}")
    return ErrorCode(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
