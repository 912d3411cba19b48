"""The first pass: all events about each input record.

Every record has one audit event, and an outcome where its audit event requires one; their content
follows from the record. A record that waits for the gateway has an entry of the pending topic
instead.

Long because all these rules judge the same rows of one record.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from dataflow.core.origins import place
from dataflow.core.timestamps import PAST_MS
from dataflow.verify import rows
from dataflow.verify.accounts import CurrencySums
from dataflow.verify.findings import EXAMPLES, FindingKind, Findings, RecordPlace
from dataflow.verify.pending import Waiting
from dataflow.verify.rows import Rows

Mask = NDArray[np.bool_]
Places = Callable[[Rows], tuple[int, list[RecordPlace]]]
"""The number of rows, and the places of the records of the first few."""
_PARTITION_SHIFT = np.uint64(48)
_OFFSET_MASK = np.uint64((1 << 48) - 1)


class Limits(Struct, frozen=True):
    """The records of an input partition that are held against the flow."""

    low: int
    """Below it, retention has deleted the input: an output may be of a record that was there."""
    known_from: int
    """Below it, retention may have deleted outputs."""
    reached: int
    """From here on the flow has not got to it yet: no outcome is not a loss."""


class Topics(Struct, frozen=True):
    """The names of the topics."""

    requested: str
    processed: str
    failed: str
    audit: str
    lane_log: str
    pending: str


class RecordCounts(Struct):
    """The counts made by the way."""

    requests: int = 0
    valid: int = 0
    outcomes: int = 0
    audits: int = 0
    duplicates: int = 0
    conflicts: int = 0
    claims: int = 0
    """Entries of the lanes' log: a paymentId that is seen again later has another one."""
    pending: int = 0
    """Payments that wait for the gateway."""
    waiting: int = 0
    """Records that the flow has not got to yet."""
    unknown: int = 0
    """Outputs of records, and firsts, that retention has deleted: they cannot be judged."""
    payments: int = 0
    """Different paymentIds of valid requests."""


class Records:
    """The rules of the first pass."""

    def __init__(
        self,
        topics: Topics,
        limits: Mapping[int, Limits],
        findings: Findings,
        accounts: CurrencySums,
        totals: RecordCounts,
        pending: Waiting,
    ) -> None:
        self._pending = pending
        self._topics = topics
        self._findings = findings
        self._accounts = accounts
        self._totals = totals
        size = max(limits, default=0) + 1
        self._low = np.full(size, 0, np.uint64)
        self._known_from = np.full(size, 0, np.uint64)
        self._reached = np.full(size, 0, np.uint64)
        for partition, limit in limits.items():
            self._low[partition] = limit.low
            self._known_from[partition] = limit.known_from
            self._reached[partition] = limit.reached

    def judge(self, requests: Rows, outcomes: Rows, audits: Rows) -> Rows:
        """Judge all rows of some records, and return their `rows.SIGHTING`s.

        Args:
            requests: Of these records.
            outcomes: All about them.
            audits: All about them.
        """
        requests = requests[np.argsort(requests["origin"])]
        self._count(requests, outcomes, audits)
        outcomes, decided = self._join(requests, outcomes, self._outcome_places)
        audits, audited = self._join(requests, audits, self._audit_places)
        known = self.is_known(requests["origin"])
        self._accounts.decide(outcomes[(known & requests["valid"])[decided]])
        outcomes, decided = self._without_repeats(outcomes, decided, self._outcome_places)
        audits, audited = self._without_repeats(audits, audited, self._audit_places)
        has_outcome, outcome = _first_of(decided, len(requests))
        has_audit, audit = _first_of(audited, len(requests))
        verdicts = np.where(has_audit, _take(audits["verdict"], audit), rows.NONE)
        waits, found = self._pending.judge(requests, has_audit | has_outcome)
        verdicts[waits] = rows.PENDING
        self._totals.pending += int(np.count_nonzero(waits))
        for kind, text, mask in found:
            self._lack(kind, text, requests[mask])
        self._judge_presence(requests, known, has_outcome, verdicts)
        both = np.flatnonzero(has_outcome & has_audit)
        self._judge_pairs(outcomes[outcome[both]], audits[audit[both]])
        self._judge_outcomes(requests[decided], outcomes)
        self._judge_audits(requests[audited], audits)
        first = (verdicts == rows.PROCESSED) | (verdicts == rows.FAILED)
        self._accounts.request(requests[known & requests["valid"] & first])
        # Whatever the audit trail has, readers of the outcomes take the request for decided.
        verdicts[has_outcome & ~first] = rows.PROCESSED
        decided_ms = np.where(has_outcome, _take(outcomes["decided_ms"], outcome), -1)
        decided_ms = np.where(has_audit, _take(audits["decided_ms"], audit), decided_ms)
        return _sightings(requests, known, verdicts, decided_ms, audits, audit, has_audit)

    def _count(self, requests: Rows, outcomes: Rows, audits: Rows) -> None:
        totals = self._totals
        totals.requests += len(requests)
        totals.valid += int(np.count_nonzero(requests["valid"]))
        totals.outcomes += len(outcomes)
        totals.audits += len(audits)
        totals.duplicates += int(np.count_nonzero(audits["verdict"] == rows.DUPLICATE))
        totals.conflicts += int(np.count_nonzero(audits["verdict"] == rows.CONFLICT))

    def _join(self, requests: Rows, table: Rows, places: Places) -> tuple[Rows, NDArray[np.int64]]:
        """Return the rows about a request, and the request each is about."""
        table = table[np.lexsort((table["offset"], table["partition"], table["origin"]))]
        found = np.searchsorted(requests["origin"], table["origin"])
        hit = np.zeros(len(table), np.bool_)
        inside = found < len(requests)
        hit[inside] = requests["origin"][found[inside]] == table["origin"][inside]
        expired = ~hit & self._is_deleted(table["origin"])
        self._totals.unknown += int(np.count_nonzero(expired))
        phantom = table[~hit & ~expired]
        self._add(FindingKind.PHANTOM, "tells of a record that is not there", places(phantom))
        return table[hit], found[hit]

    def _without_repeats(
        self, table: Rows, found: NDArray[np.int64], places: Places
    ) -> tuple[Rows, NDArray[np.int64]]:
        """Return the first row of each request; each more is one too many."""
        again = np.zeros(len(table), np.bool_)
        again[1:] = found[1:] == found[:-1]
        self._add(FindingKind.DOUBLED, "is the second event of its record", places(table[again]))
        return table[~again], found[~again]

    def judge_phantoms(self) -> None:
        """Check, once all records were judged, that what waits for the gateway is a record."""
        deleted = self._is_deleted(self._pending.entries["origin"])
        phantoms = self._pending.phantoms(int(np.count_nonzero(deleted)))
        if phantoms > 0:
            text = f"{phantoms} entries in {self._topics.pending} are of records that do not exist"
            self._findings.add(FindingKind.PHANTOM, text)

    def _judge_presence(
        self, requests: Rows, known: Mask, has_outcome: Mask, verdicts: NDArray[Any]
    ) -> None:
        partitions, offsets = _split(requests["origin"])
        nothing = (verdicts == rows.NONE) & ~has_outcome
        waiting = nothing & (offsets >= self._reached[partitions])
        self._totals.waiting += int(np.count_nonzero(waiting))
        self._lack(FindingKind.LOST, "has no audit event", requests[nothing & ~waiting & known])
        torn = has_outcome & (verdicts == rows.NONE) & known
        self._lack(FindingKind.TORN, "has an outcome, but no audit event", requests[torn])
        says_decided = (verdicts == rows.PROCESSED) | (verdicts == rows.FAILED)
        torn = says_decided & ~has_outcome & known
        self._lack(
            FindingKind.TORN, "has an audit event of an outcome that is not there", requests[torn]
        )
        torn = has_outcome & (verdicts != rows.NONE) & ~says_decided
        text = "has an outcome, but an audit event of a repeat"
        self._lack(FindingKind.TORN, text, requests[torn])

    def _judge_pairs(self, outcomes: Rows, audits: Rows) -> None:
        """Check that an outcome and its audit event, which were published together, agree."""
        decided = (audits["verdict"] == rows.PROCESSED) | (audits["verdict"] == rows.FAILED)
        other = decided & (audits["verdict"] != outcomes["topic"] + rows.PROCESSED)
        other |= decided & (audits["reply"] != outcomes["reply"])
        other |= decided & (audits["decided_ms"] != outcomes["decided_ms"])
        text = "tells of another decision than the outcome of the same record"
        self._add(FindingKind.TORN, text, self._audit_places(audits[other]))

    def _judge_outcomes(self, requests: Rows, outcomes: Rows) -> None:
        wrong = requests["content"] != outcomes["content"]
        text = "does not say what follows from its request"
        self._add(FindingKind.CONTENT, text, self._outcome_places(outcomes[wrong]))
        # An approval of an invalid record has other content in any case.

    def _judge_audits(self, requests: Rows, audits: Rows) -> None:
        wrong = requests["key_low"] != audits["key_low"]
        text = "does not name the paymentId of its request"
        self._add(FindingKind.CONTENT, text, self._audit_places(audits[wrong]))
        wrong = ~requests["valid"] & (audits["verdict"] != rows.FAILED)
        text = "is not a failure, though its record is invalid"
        self._add(FindingKind.VERDICT, text, self._audit_places(audits[wrong]))

    def is_known(self, origins: NDArray[np.uint64]) -> Mask:
        """Return whether these records, and all events about them, must be there."""
        partitions, offsets = _split(origins)
        inside = partitions < len(self._low)
        partitions = np.where(inside, partitions, 0)
        floor = np.maximum(self._known_from[partitions], self._low[partitions])
        return np.asarray(~inside | (offsets >= floor))

    def is_reached(self, origins: NDArray[np.uint64]) -> Mask:
        """Return whether the flow had decided these records when the reading began."""
        partitions, offsets = _split(origins)
        inside = partitions < len(self._reached)
        return np.asarray(inside & (offsets < self._reached[np.where(inside, partitions, 0)]))

    def _is_deleted(self, origins: NDArray[np.uint64]) -> Mask:
        partitions, offsets = _split(origins)
        inside = partitions < len(self._low)
        return np.asarray(inside & (offsets < self._low[np.where(inside, partitions, 0)]))

    def _lack(self, kind: FindingKind, text: str, requests: Rows) -> None:
        self._add(kind, text, self.request_places(requests["origin"]))

    def _add(self, kind: FindingKind, text: str, places: tuple[int, list[RecordPlace]]) -> None:
        self._findings.add_all(kind, text, *places)

    def request_places(self, origins: NDArray[np.uint64]) -> tuple[int, list[RecordPlace]]:
        """Return the number of these input records, and the places of the first few."""
        shown = map(place, origins[:EXAMPLES].tolist())
        return len(origins), [RecordPlace(self._topics.requested, *each) for each in shown]

    def _audit_places(self, audits: Rows) -> tuple[int, list[RecordPlace]]:
        return len(audits), [self.audit_place(each) for each in audits[:EXAMPLES]]

    def audit_place(self, row: Any) -> RecordPlace:
        """Return where the audit event of a row stands."""
        return RecordPlace(self._topics.audit, int(row["partition"]), int(row["offset"]))

    def claim_places(self, claims: Rows) -> tuple[int, list[RecordPlace]]:
        """Return the number of these entries of the lanes' log, and the places of the first few."""
        return len(claims), [
            RecordPlace(self._topics.lane_log, int(each["partition"]), int(each["offset"]))
            for each in claims[:EXAMPLES]
        ]

    def _outcome_places(self, outcomes: Rows) -> tuple[int, list[RecordPlace]]:
        names = self._topics.processed, self._topics.failed
        return len(outcomes), [
            RecordPlace(names[each["topic"]], int(each["partition"]), int(each["offset"]))
            for each in outcomes[:EXAMPLES]
        ]


def _split(origins: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    return (origins >> _PARTITION_SHIFT).astype(np.int64), origins & _OFFSET_MASK


def _first_of(found: NDArray[np.int64], size: int) -> tuple[Mask, NDArray[np.int64]]:
    """Return, for each request, whether a row is about it, and which one (0 where none is)."""
    which = np.zeros(size, np.int64)
    which[found] = np.arange(len(found))
    there = np.zeros(size, np.bool_)
    there[found] = True
    return there, which


def _take(column: NDArray[Any], which: NDArray[np.int64]) -> NDArray[Any]:
    return column[which] if len(column) else np.zeros(len(which), column.dtype)


def _sightings(
    requests: Rows,
    known: Mask,
    verdicts: NDArray[Any],
    decided_ms: NDArray[np.int64],
    audits: Rows,
    audit: NDArray[np.int64],
    has_audit: Mask,
) -> Rows:
    """Return what the second pass needs of the records that have a paymentId."""
    found = np.zeros(len(requests), rows.SIGHTING)
    for name in ("key_high", "key_low", "origin", "valid", "print"):
        found[name] = requests[name]
    found["verdict"] = verdicts
    found["required"] = known
    found["decided_ms"] = decided_ms
    found["first"] = np.where(has_audit, _take(audits["first"], audit), requests["origin"])
    found["partition"] = _take(audits["partition"], audit)
    found["offset"] = np.where(has_audit, _take(audits["offset"], audit), -1)
    # A stamp is when a record came, unless that cannot be true: it came before it was decided.
    latest_ms = np.where(decided_ms < 0, np.iinfo(np.int64).max, decided_ms)
    for name in ("time_ms", "high_ms"):
        stamped_ms = requests[name]
        believed = (stamped_ms >= 0) & (stamped_ms >= decided_ms - PAST_MS)
        found[name] = np.where(believed, np.minimum(stamped_ms, latest_ms), latest_ms)
    return np.asarray(found[requests["named"]])
