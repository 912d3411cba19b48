"""The result, for people and for machines."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from dataflow.verify.checker import Report
from dataflow.verify.extract import payment_id_of
from dataflow.verify.findings import Finding, FindingKind
from dataflow.verify.reader import Reader

PaymentId = Callable[[Finding], str | None]


def payment_ids(reader: Reader) -> PaymentId:
    """Return a function that finds the payment of a finding: it reads the record again."""

    def look_up(finding: Finding) -> str | None:
        if finding.place is None or finding.kind in {FindingKind.OPEN, FindingKind.POSITION}:
            return None
        value, there = reader.record(*finding.place)
        return payment_id_of(value) if there else None

    return look_up


def as_text(report: Report, payment_id: PaymentId) -> Iterator[str]:
    """Yield the report in lines."""
    totals = report.totals
    yield f"{totals.requests:>15,}  requests read, {totals.valid:,} of them valid"
    yield f"{totals.payments:>15,}  different paymentIds"
    yield f"{totals.outcomes:>15,}  outcomes (processed and failed)"
    yield f"{totals.audits:>15,}  audit events"
    yield f"{totals.duplicates:>15,}  duplicates, and {totals.conflicts:,} conflicts"
    yield f"{totals.claims:>15,}  claims in the lanes' log, or prolonged ones"
    yield f"{totals.pending:>15,}  pending: they wait for the gateway"
    yield f"{totals.waiting:>15,}  waiting: not decided yet"
    if totals.unknown:
        yield f"{totals.unknown:>15,}  not judged: the records they refer to are deleted"
    yield ""
    for kind in FindingKind:
        yield f"{report.findings.counts[kind]:>15,}  {kind.replace('_', ' ')}"
    if report.accounts:
        yield ""
        yield f"{'':>5}{'requested':>26}{'processed':>26}{'failed':>26}{'difference':>14}"
    for each in report.accounts:
        yield (
            f"{each.currency:>5}{each.requested:>26,f}{each.processed:>26,f}{each.failed:>26,f}"
            f"{each.difference:>14,f}"
        )
    for note in report.notes:
        yield f"\nNote: {note}."
    if report.findings:
        yield "\nThe first of each kind:"
    for finding in report.findings.examples:
        yield f"  {finding.kind.replace('_', ' ')}: {_sentence(finding, payment_id)}"
    yield "\nEverything holds." if report.holds else "\nNOT everything holds."


def as_json(report: Report, payment_id: PaymentId) -> str:
    """Return the report as one JSON object; amounts are strings, so that no reader rounds them."""
    return json.dumps(
        {
            "holds": report.holds,
            "counts": msgspec.structs.asdict(report.totals),
            "findings": {kind.value: report.findings.counts[kind] for kind in FindingKind},
            "examples": [_object(each, payment_id) for each in report.findings.examples],
            "money": {
                each.currency: {
                    "requested": f"{each.requested:f}",
                    "processed": f"{each.processed:f}",
                    "failed": f"{each.failed:f}",
                    "difference": f"{each.difference:f}",
                }
                for each in report.accounts
            },
            "notes": report.notes,
        },
        indent=2,
    )


def _sentence(finding: Finding, payment_id: PaymentId) -> str:
    if finding.place is None or finding.kind is FindingKind.POSITION:
        return finding.text
    topic, partition, offset = finding.place
    name = payment_id(finding)
    whose = f" (paymentId {name})" if name is not None else ""
    return f"{topic}[{partition}] at {offset}{whose} {finding.text}"


def _object(finding: Finding, payment_id: PaymentId) -> dict[str, Any]:
    place = finding.place._asdict() if finding.place else {}
    return {
        "kind": finding.kind.value,
        "text": finding.text,
        **place,
        "paymentId": payment_id(finding),
    }
