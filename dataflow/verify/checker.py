"""The whole check, from a reader to a report.

Long because it is the one list of what is read, in which order, and of who judges it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from dataflow.config.settings import Settings
from dataflow.verify import content, extract, pending, positions, retention, rows
from dataflow.verify.accounts import Account, CurrencySums
from dataflow.verify.findings import FindingKind, Findings, RecordPlace
from dataflow.verify.payment_rules import Payments, Times
from dataflow.verify.reader import Bounds, Chunk, Reader, Snapshot
from dataflow.verify.record_rules import Limits, RecordCounts, Records, Topics
from dataflow.verify.rows import Rows
from dataflow.verify.spill import Spill
from schemas.events import EVENT_OVERHEAD_BYTES

PART_RECORDS = 250_000
"""Records in one file: 100 to 150 MB while it is being checked."""
_BLOCK = np.uint64(15)
"""Neighbouring records, 2**15 at a time, are in one file: a chunk goes to one or two files."""

OnChunk = Callable[[str, Chunk], None]
"""A callback with each chunk that was read, and its topic."""
Progress = Callable[[str, int, int], None]
"""A callback with what is being done, how much of it is done, and how much there is."""


class Watched(NamedTuple):
    """The callbacks of a check."""

    progress: Progress = lambda _what, _done, _total: None
    seen: OnChunk = lambda _topic, _chunk: None


UNWATCHED = Watched()


class Report(Struct, frozen=True):
    """The result of a check."""

    findings: Findings
    totals: RecordCounts
    accounts: list[Account]
    notes: list[str]
    """Limits of the check that are no fault of the flow's."""

    @property
    def holds(self) -> bool:
        """True if every invariant holds."""
        return not self.findings


class Check:
    """One reading of the whole, and all rules.

    Args:
        settings: Of the flow that is checked.
        reader: Reads its cluster.
        scratch: A directory for large files, for this check alone.
        running: The flow is running: what it has not got to yet is not held against it.
        watched: Called with everything that is read, and with the progress.
        part_records: Records in one file.

    Attributes:
        lows: Where each topic and partition began when everything had been read.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        scratch: Path,
        *,
        running: bool = False,
        watched: Watched = UNWATCHED,
        part_records: int = PART_RECORDS,
    ) -> None:
        kafka = settings.kafka
        self._settings = settings
        self._topics = Topics(
            kafka.topic_requested,
            kafka.topic_processed,
            kafka.topic_failed,
            kafka.topic_audit,
            kafka.topic_lane_log,
            kafka.topic_pending,
        )
        self._reader = reader
        self._scratch = scratch
        self._running = running
        self._watched = watched
        self._part_records = part_records
        self._findings = Findings()
        self._notes: list[str] = []
        self._last = positions.LastRecords(settings.lanes)
        self._done = 0
        self.lows: dict[tuple[str, int], int] = {}

    def run(self) -> Report:
        """Read everything, and judge it."""
        snapshot = self._reader.look()
        self._note_cleanup(snapshot)
        requested = snapshot.bounds[self._topics.requested]
        records = sum(bound.high - bound.low for bound in requested.values())
        self._parts = records // self._part_records + 1
        requests = self._spill("requests", rows.REQUEST)
        outcomes = self._spill("outcomes", rows.OUTCOME)
        audits = self._spill("audits", rows.AUDIT)
        claims = self._spill("claims", rows.CLAIM)
        waiting = self._read_pending(snapshot)
        self._read(snapshot, requests, outcomes, audits)
        self._read_log(snapshot, claims)
        after = self._reader.look().bounds
        limits = self._limits(snapshot, after, audits)
        self.lows = {(topic, n): each.low for topic, of in after.items() for n, each in of.items()}
        totals, accounts = RecordCounts(), CurrencySums()
        judge = Records(self._topics, limits, self._findings, accounts, totals, waiting)
        sightings = self._spill("sightings", rows.SIGHTING)
        for part in range(self._parts):
            self._watched.progress("records", part, 2 * self._parts)
            found = judge.judge(requests.load(part), outcomes.load(part), audits.load(part))
            sightings.append(found, found["key_low"])
            for table in (requests, outcomes, audits):
                table.drop(part)
        judge.judge_phantoms()
        payments = Payments(
            times=Times(
                window_ms=self._settings.dedupe_window_ms,
                decides_within_ms=self._decides_within_ms,
                claimed_from_ms=self._claimed_from_ms(after),
            ),
            running=self._running,
            records=judge,
            findings=self._findings,
            totals=totals,
        )
        for part in range(self._parts):
            self._watched.progress("payments", self._parts + part, 2 * self._parts)
            payments.judge(sightings.load(part), claims.load(part))
            sightings.drop(part)
            claims.drop(part)
        self._judge_ends(snapshot, totals)
        self._judge_money(list(accounts))
        return Report(self._findings, totals, list(accounts), self._notes)

    def _spill(self, name: str, dtype: "np.dtype[np.void]") -> Spill:
        return Spill(self._scratch, name, dtype, self._parts)

    # ---- reading ----

    def _read(self, snapshot: Snapshot, requests: Spill, outcomes: Spill, audits: Spill) -> None:
        topics, findings = self._topics, self._findings
        requested = topics.requested
        processed = extract.Outcomes(rows.PROCESSED, topics.processed, requested, findings)
        failed = extract.Outcomes(rows.FAILED, topics.failed, requested, findings)
        audit = extract.Audits(topics.audit, requested, findings)
        max_bytes = self._settings.kafka.message_max_bytes - EVENT_OVERHEAD_BYTES
        reducer = extract.Requests(max_bytes)

        def request_rows(chunk: Chunk) -> Rows:
            found = reducer.rows(chunk)
            self._last.add(chunk.partition, chunk.offsets, found)
            return found

        for topic, reduced, spill in (
            (requested, request_rows, requests),
            (topics.processed, processed.rows, outcomes),
            (topics.failed, failed.rows, outcomes),
            (topics.audit, audit.rows, audits),
        ):
            for chunk in self._chunks(topic, snapshot.bounds):
                table = reduced(chunk)
                spill.append(table, table["origin"] >> _BLOCK)

    def _read_pending(self, snapshot: Snapshot) -> pending.Waiting:
        topic = self._topics.pending
        found = pending.Entries(topic, self._findings)
        for chunk in self._chunks(topic, snapshot.bounds):
            found.take(chunk)
        if found.foreign:
            self._notes.append(f"no lane has written {found.foreign} records in {topic}")
        return pending.Waiting(found.rows(), running=self._running)

    def _read_log(self, snapshot: Snapshot, claims: Spill) -> None:
        topic = self._topics.lane_log
        log = extract.Claims(topic, self._findings)
        for chunk in self._chunks(topic, snapshot.bounds):
            table = log.rows(chunk)
            claims.append(table, table["key_low"])
        if log.foreign:
            self._notes.append(f"no lane has written {log.foreign} records in {topic}")

    def _chunks(self, topic: str, bounds: Mapping[str, Mapping[int, Bounds]]) -> Iterator[Chunk]:
        total = sum(each.high - each.low for of in bounds.values() for each in of.values())
        for chunk in self._reader.read(topic, bounds[topic]):
            self._watched.seen(topic, chunk)
            self._done += len(chunk.offsets)
            self._watched.progress(topic, self._done, total)
            yield chunk

    # ---- what can be judged ----

    def _note_cleanup(self, snapshot: Snapshot) -> None:
        for topic in set(snapshot.compacted) - {self._topics.pending}:
            text = f"{topic} is compacted: of the events of one payment only the last is kept"
            self._findings.add(FindingKind.COMPACTED, text)
        for topic, bounds in snapshot.bounds.items():
            if topic in {self._topics.lane_log, self._topics.pending}:
                continue  # the flow itself trims the one; the other is compacted
            if cut := retention.has_deleted(bounds):
                where = ", ".join(f"[{each}] below {bounds[each].low}" for each in cut)
                self._notes.append(f"retention has deleted records of {topic}: {where}")

    def _limits(
        self, before: Snapshot, after: Mapping[str, Mapping[int, Bounds]], audits: Spill
    ) -> dict[int, Limits]:
        requested = before.bounds[self._topics.requested]
        ends = {partition: bound.high for partition, bound in requested.items()}
        known = dict.fromkeys(ends, 0)
        left_ms = self._first_left_ms(after)
        if left_ms is not None:
            tables = (audits.load(part) for part in range(self._parts))
            timeout_ms = self._settings.kafka.transaction_timeout_ms
            known = retention.known_from(left_ms, timeout_ms, tables, ends)
            where = ", ".join(f"[{each}] from {known[each]}" for each in sorted(ends))
            self._notes.append(f"so of {self._topics.requested} only this is checked: {where}")
        now = after[self._topics.requested]
        return {
            partition: Limits(
                low=max(bound.low, now[partition].low if partition in now else 0),
                known_from=known[partition],
                reached=before.positions.group.get(partition, 0),
            )
            for partition, bound in requested.items()
        }

    def _first_left_ms(self, bounds: Mapping[str, Mapping[int, Bounds]]) -> int | None:
        """Return when the first event was decided that is left where some were deleted."""
        latest: int | None = None
        topics = self._topics
        for topic in (topics.processed, topics.failed, topics.audit):
            for partition in retention.has_deleted(bounds[topic]):
                low = bounds[topic][partition].low
                value, there = self._reader.record(topic, partition, low)
                # Where nothing is left, nothing is known.
                at_ms = content.decided_ms(value) if there else np.iinfo(np.int64).max // 2
                latest = max(latest or 0, at_ms)
        return latest

    def _claimed_from_ms(self, bounds: Mapping[str, Mapping[int, Bounds]]) -> int:
        """Return the time before which what was read may have been trimmed from the lanes' log.

        It is trimmed below the first record that is not older than some time: so what is as new as
        that record is there.
        """
        topic = self._topics.lane_log
        latest = 0
        for partition in retention.has_deleted(bounds[topic]):
            value, there = self._reader.record(topic, partition, bounds[topic][partition].low)
            at_ms = extract.last_seen_ms(value) if there else None
            if at_ms is None:
                at_ms = int(time.time() * 1000) - self._settings.dedupe_window_ms
            latest = max(latest, at_ms)
        return latest

    @property
    def _decides_within_ms(self) -> int:
        """The longest time from reading a request to deciding or parking it."""
        settings = self._settings
        gateway_ms = int(settings.gateway.park_after_s * 1000)
        return gateway_ms + settings.kafka.transaction_timeout_ms

    # ---- the ends ----

    def _judge_ends(self, snapshot: Snapshot, totals: RecordCounts) -> None:
        if not totals.requests:
            text = f"there is no record in {self._topics.requested}, so there is nothing to check"
            self._findings.add(FindingKind.EMPTY, text)
        for (topic, partition), offset in sorted(self._reader.stuck().items()):
            end = snapshot.bounds[topic][partition].high
            text = f"an open transaction hides everything from here to the end at {end}"
            self._findings.add(FindingKind.OPEN, text, RecordPlace(topic, partition, offset))
        if self._running:
            self._notes.append(f"{totals.waiting} requests are not decided yet")
        else:
            topic = self._topics.requested
            positions.judge(
                snapshot.positions,
                snapshot.bounds[topic],
                self._last,
                self._settings.kafka.group_id,
                topic,
                self._findings,
            )

    def _judge_money(self, accounts: list[Account]) -> None:
        for account in accounts:
            if account.difference:
                text = f"{account.difference} {account.currency} more requested than decided"
                self._findings.add(FindingKind.MONEY, text)
