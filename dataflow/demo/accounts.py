"""The requests sent against the events audited, record by record: each must have its one event."""

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from typing import NamedTuple

from dataflow.demo.traffic import Outcome, RequestKind

_SENT = 0x80
_TIMES = 0x7F
"""The bits of a record's byte: whether we sent it, and how often it was audited."""
_LATEST = 100


class AuditedRecord(NamedTuple):
    """One audit event, as far as it is shown."""

    payment_id: str | None
    outcome: Outcome


class Totals(NamedTuple):
    """The accounts at one moment."""

    sent: Mapping[RequestKind, int]
    """Requests that Kafka took."""
    undelivered: int
    """Requests that it did not."""
    audited: Mapping[Outcome, int]
    """Events since the demo began."""
    open: int
    """Requests without an event."""
    repeated: int
    """Events beyond the first for a request."""
    foreign: int
    """Events for records that this demo did not send."""
    ends: Mapping[int, int]
    """The next offset of each partition of the request topic, as far as reported."""
    latest: tuple[AuditedRecord, ...]
    """The last events, newest first."""

    @property
    def sent_total(self) -> int:
        """The number of requests that Kafka took."""
        return sum(self.sent.values())

    @property
    def audited_total(self) -> int:
        """The number of events."""
        return sum(self.audited.values())

    def disagreements(self) -> list[str]:
        """Return the disagreements, one line for each; nothing when all is well."""
        lines = []
        if self.open:
            lines.append(f"requests without an audit event: {self.open}")
        if self.repeated:
            lines.append(f"audit events beyond the first for a request: {self.repeated}")
        expected: Counter[Outcome] = Counter()
        for kind, count in self.sent.items():
            expected[kind.outcome] += count
        # Next to other people's requests only the sum of both can be seen.
        if not lines and not self.foreign and expected != Counter(self.audited):
            lines.append("some requests had another outcome than they were made for")
        return lines


class DemoAccounts:
    """The keeper of the accounts; safe to use from any thread.

    One byte for each record, so that a demo may run for days.

    Args:
        begins: The next offset of each partition of the request topic, before anything is sent.
    """

    def __init__(self, begins: Mapping[int, int]) -> None:
        self._lock = threading.Lock()
        self._begins = dict(begins)
        self._records: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._sent: Counter[RequestKind] = Counter()
        self._undelivered = 0
        self._audited: Counter[Outcome] = Counter()
        self._matched = 0
        self._repeated = 0
        self._backlog = 0
        self._latest: deque[AuditedRecord] = deque(maxlen=_LATEST)

    def sent(self, partition: int, offset: int, kind: RequestKind) -> None:
        """Note that Kafka took a request. Its audit may have come before this call."""
        with self._lock:
            records, at = self._place(partition, offset)
            records[at] |= _SENT
            self._sent[kind] += 1
            self._matched += bool(records[at] & _TIMES)

    def undelivered(self) -> None:
        """Note that Kafka did not take a request: nothing is owed for it."""
        with self._lock:
            self._undelivered += 1

    def audited(self, partition: int, offset: int, seen: AuditedRecord) -> None:
        """Note that there is an audit event for a record."""
        with self._lock:
            self._latest.appendleft(seen)
            self._audited[seen.outcome] += 1
            if offset < self._begins.get(partition, 0):
                self._backlog += 1
                return
            records, at = self._place(partition, offset)
            if records[at] & _TIMES:
                self._repeated += 1
                return
            records[at] += 1
            self._matched += bool(records[at] & _SENT)

    def totals(self) -> Totals:
        """Return the accounts as of now."""
        with self._lock:
            sent = self._sent.total()
            firsts = self._audited.total() - self._repeated
            return Totals(
                sent=dict(self._sent),
                undelivered=self._undelivered,
                audited=dict(self._audited),
                open=sent - self._matched,
                repeated=self._repeated,
                foreign=firsts - self._matched,
                ends={
                    partition: begin + len(self._records[partition])
                    for partition, begin in self._begins.items()
                },
                latest=tuple(self._latest),
            )

    def _place(self, partition: int, offset: int) -> tuple[bytearray, int]:
        records = self._records[partition]
        at = offset - self._begins.get(partition, 0)
        if at >= len(records):
            records.extend(bytes(at + 1 - len(records)))
        return records, at
