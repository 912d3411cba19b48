"""The invariants, checked over everything in the topics, as any `read_committed` reader sees it."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from confluent_kafka import Message

from dataflow.core import origins
from dataflow.core.lane_log import ENTRY, entries_in, is_of_a_lane
from dataflow.kafka.partition_offsets import EARLIEST, offsets_at, partitions_of
from dataflow.kafka.record_headers import headers_of
from schemas.decisions import is_decision
from schemas.parsing import parse
from schemas.requests import IDENTITY_BYTES, PaymentRequest
from tests.support.flow_process import Topics, read_all, read_topics
from tests.support.kafka import Cluster

Place = tuple[int, int]
Claim = tuple[bytes, Place]
"""The identity of a request (`PaymentRequest.identity`), and its record, which claims the id."""
NOWHERE = (-1, -1)
OUTCOMES = {"payment.processed", "payment.failed"}


@dataclass
class Findings:
    """The counts, and every line that should not be there."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def check(kafka: Cluster, topics: Topics, *, log_was_lost: bool = False) -> Findings:
    """Read all topics, and find everything that breaks an invariant.

    Args:
        kafka: Where the topics are.
        topics: Of a flow that has decided all there is.
        log_was_lost: Whether the lanes' log was created again: it lacks what was claimed before.
    """
    everything = [topics.requested, *topics.outputs, topics.pending, topics.lane_log]
    found = read_topics(kafka, everything)
    inputs = {place_of(m): m.value() for m in found[topics.requested]}
    processed, failed, audit = (found[topic] for topic in topics.outputs)
    outcomes = [event_of(m) for m in processed + failed]
    pending = _open_in(found[topics.pending])
    findings = find(inputs, outcomes, [event_of(m) for m in audit], pending)

    claims = claims_in((headers_of(m), m.value()) for m in found[topics.lane_log])
    findings.counts["claims"] = len(claims)
    low = _low(kafka, topics.requested)
    claims = {claim for claim in claims if claim[1][1] >= low.get(claim[1][0], 0)}
    is_whole = not (log_was_lost or any(_low(kafka, topics.lane_log).values()))
    waiting = pending.values()
    findings.problems += claims_match(inputs, [*outcomes, *waiting], claims, is_whole=is_whole)
    return findings


def _low(kafka: Cluster, topic: str) -> dict[int, int]:
    """Return the first offset of each partition: above 0 if records were deleted."""
    admin = kafka.admin()
    return offsets_at(admin, topic, partitions_of(admin, topic), EARLIEST)


def claims_in(records: Iterable[tuple[Any, bytes | None]]) -> set[Claim]:
    """Return the claims in the lanes' log, of whose records there are the headers and the value.

    Later entries only prolong the life of a claim.
    """
    joined = b"".join({value for headers, value in records if value and is_of_a_lane(headers)})
    step = ENTRY.itemsize
    return {
        (joined[n * step : n * step + IDENTITY_BYTES], origins.place(origin))
        for n, origin in enumerate(entries_in(joined)["origin"].tolist())
    }


def claims_match(
    inputs: Mapping[Place, bytes | None],
    settled: Iterable[dict[str, Any]],
    claims: set[Claim],
    *,
    is_whole: bool = True,
) -> Iterable[str]:
    """Check that each claim is of a payment that has an outcome or waits, and each of them is one.

    Args:
        inputs: All records.
        settled: The outcomes, and the open entries of the pending topic.
        claims: As in the lanes' log.
        is_whole: Whether the log has all that was ever claimed.
    """
    requests = requests_in(inputs)
    places = {source_of(event) for event in settled} & requests.keys()
    wanted = {(requests[place].identity(), place) for place in places}
    for _, place in sorted(claims - wanted):
        yield f"claimed by {place}, which is no such request, or neither decided nor waiting"
    for _, place in sorted(wanted - claims if is_whole else ()):
        yield f"not claimed: {place}, which is decided or waiting"


def open_entries(kafka: Cluster, topics: Topics) -> dict[Place, dict[str, Any]]:
    """Return what waits for the gateway, by the place of its record."""
    return _open_in(read_all(kafka, topics.pending))


def _open_in(messages: Iterable[Message]) -> dict[Place, dict[str, Any]]:
    entries: dict[bytes | None, dict[str, Any]] = {}
    for message in messages:
        if is_decision(message.key()):
            continue
        if message.value() is None:
            entries.pop(message.key(), None)
        else:
            entries[message.key()] = event_of(message)
    return {source_of(entry): entry for entry in entries.values()}


def find(
    inputs: dict[Place, bytes | None],
    outcomes: list[dict[str, Any]],
    audits: list[dict[str, Any]],
    pending: dict[Place, dict[str, Any]] | None = None,
) -> Findings:
    """Return the findings of the invariants over what was read."""
    pending = pending or {}
    requests = requests_in(inputs)
    findings = Findings()
    findings.counts.update(event["eventType"] for event in audits)
    findings.counts.update(records=len(inputs), outcomes=len(outcomes), pending=len(pending))
    waiting = list(pending.values())
    findings.problems += [
        *_one_audit_event_each(inputs.keys(), [*audits, *waiting]),
        *_one_outcome_each(requests, [*outcomes, *waiting]),
        *_nothing_torn(outcomes, audits),
        *_true_content(requests, outcomes, audits, pending),
        *_money_adds_up(requests, outcomes, audits),
    ]
    return findings


def requests_in(inputs: Mapping[Place, bytes | None]) -> dict[Place, PaymentRequest]:
    """Return the valid ones of the records."""
    return {
        place: request
        for place, value in inputs.items()
        if isinstance(request := parse(value, 10**9), PaymentRequest)
    }


def _one_audit_event_each(places: Iterable[Place], audits: list[dict[str, Any]]) -> Iterable[str]:
    """Check invariant 1: one audit event, or one open entry of the pending topic."""
    seen = Counter(source_of(event) for event in audits)
    for place in places:
        if seen[place] != 1:
            yield f"{seen[place]} audit events for {place}"
    for place in seen.keys() - set(places):
        yield f"phantom: an audit event for {place}, which is no record"


def _one_outcome_each(
    requests: dict[Place, PaymentRequest], outcomes: list[dict[str, Any]]
) -> Iterable[str]:
    """Check invariant 2, with those that wait; outcomes of invalid records do not count."""
    decided = Counter(e["paymentId"] for e in outcomes if source_of(e) in requests)
    wanted = {request.payment_id for request in requests.values()}
    for payment_id in wanted:
        if decided[payment_id] != 1:
            kind = "doubled" if decided[payment_id] else "lost"
            yield f"{kind}: {decided[payment_id]} outcomes for {payment_id}"
    for payment_id in decided.keys() - wanted:
        yield f"phantom: an outcome for {payment_id}, which nobody asked for"


def _nothing_torn(outcomes: list[dict[str, Any]], audits: list[dict[str, Any]]) -> Iterable[str]:
    """Check invariant 3: an outcome and its audit event are there together."""
    published = Counter((e["eventId"], e["eventType"]) for e in outcomes)
    audited = Counter((e["eventId"], e["eventType"]) for e in audits if e["eventType"] in OUTCOMES)
    for event in published - audited:
        yield f"torn: {event} without its audit event"
    for event in audited - published:
        yield f"torn: an audit event of {event}, which was not published"


def _true_content(
    requests: dict[Place, PaymentRequest],
    outcomes: list[dict[str, Any]],
    audits: list[dict[str, Any]],
    pending: dict[Place, dict[str, Any]],
) -> Iterable[str]:
    """Check that what is published was asked for, under the right key; repeats name their first."""
    for place, entry in pending.items():
        asked = requests.get(place)
        if asked is None or entry["paymentId"] != asked.payment_id:
            yield f"an entry of no request: {entry['eventId']}"
    for event in outcomes:
        request = requests.get(source_of(event))
        if request is not None and not (
            event["paymentId"] == request.payment_id
            and event.get("userId") == request.user_id
            and event.get("amount") == request.amount
            and event.get("currency") == request.currency
        ):
            yield f"wrong content: {event['eventId']}"
        if event["key"] != (event["paymentId"] and event["paymentId"].encode()):
            yield f"wrong key: {event['eventId']}"
    yield from _true_repeats(requests, [*outcomes, *pending.values()], audits)


def _true_repeats(
    requests: dict[Place, PaymentRequest],
    outcomes: list[dict[str, Any]],
    audits: list[dict[str, Any]],
) -> Iterable[str]:
    """Check that a repeat names the decided record, and is a conflict if it differs from that."""
    decided = {source_of(event): event["paymentId"] for event in outcomes}
    for event in audits:
        if event["eventType"] in OUTCOMES:
            continue
        # Any record may be named: one that is no request, or that does not exist.
        named = source_of({"source": event["firstSource"]}) if "firstSource" in event else NOWHERE
        first, repeat = requests.get(named), requests.get(source_of(event))
        if first is None or decided.get(named) != event["paymentId"]:
            yield f"wrong first: {event['eventType']} {event['eventId']}"
        elif repeat is None or event["eventType"] != _kind(first, repeat):
            yield f"wrong kind: {event['eventType']} {event['eventId']}"


def _kind(first: PaymentRequest, repeat: PaymentRequest) -> str:
    same = first.identity() == repeat.identity()
    return "payment.duplicate" if same else "payment.conflict"


def _money_adds_up(
    requests: dict[Place, PaymentRequest],
    outcomes: list[dict[str, Any]],
    audits: list[dict[str, Any]],
) -> Iterable[str]:
    """Check invariant 5, by currency: the audit trail's first requests against the outcomes."""
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    for event in audits:
        request = requests.get(source_of(event))
        if request is not None and event["eventType"] in OUTCOMES:
            money[request.currency] += request.amount
    for event in outcomes:
        if source_of(event) in requests:
            # The failed event of an invalid record may have neither.
            money[event.get("currency", "no currency")] -= event.get("amount", 0)
    for currency, difference in money.items():
        if difference:
            yield f"money: {difference} {currency} more requested than decided"


def place_of(message: Message) -> Place:
    return int(message.partition() or 0), int(message.offset() or 0)


def event_of(message: Message) -> dict[str, Any]:
    event = json.loads(message.value() or b"", parse_float=Decimal, parse_int=Decimal)
    return {**event, "key": message.key()}


def source_of(event: dict[str, Any]) -> Place:
    return int(event["source"]["partition"]), int(event["source"]["offset"])
