"""The ids that a flow has claimed, from what it has published about them.

1. An outcome has the content of its request, and names its record: that is all of a claim. The
   outcome of an invalid record claims nothing.
2. A payment that waits for the gateway has no outcome, but an entry on the pending topic.
3. A repeat, which is only audited, prolongs the life of its id. If the outcome of its first request
   is not there any more, the content is not known: the id is remembered without it. No copy of it
   is charged then, but each is called a conflict.
4. An id is dated by the time at which its request was decided. That is a little later than when it
   was read, so it is remembered a little longer.
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from dataflow.core.lane_log import ENTRY, Entries, entries_of, sorted_newest
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origin
from schemas.events import Source
from schemas.outcomes import INVALID_RECORD, EventType
from schemas.parsing import parse
from schemas.pending import PendingEntry, seconds
from schemas.requests import PRINT_BYTES, PaymentRequest, key_of

_PIECE = 100_000
"""So many claims are made into an array at once, which takes far less memory than the objects."""
_REPEATS = {EventType.DUPLICATE.value, EventType.CONFLICT.value}
_INVALID = {code.value for code in INVALID_RECORD}


class _Error(Struct):
    code: str


class _Event(Struct, rename="camel"):
    """The part of an event that counts here."""

    event_type: str
    source: Source
    payment_id: str | None = None
    processed_at: str | None = None
    failed_at: str | None = None
    occurred_at: str | None = None
    first_source: Source | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Event).decode


class Found(NamedTuple):
    """The ids that were found."""

    entries: Entries
    """One for each, the newest."""
    waiting: int
    """Those of payments that wait for the gateway."""
    without_content: int
    """Those of which only repeats are left."""
    unreadable: int
    """Records of the topics that are no events of this flow; they are passed over."""


class History:
    """The claims of one flow; topics may be taken in any order.

    Args:
        requested: Its request topic; events about another one are another flow's.
        generation: Of that topic: see `dataflow.core.origins`.
    """

    def __init__(self, requested: str, generation: int) -> None:
        self._requested = requested
        self._generation = generation
        self._identities: list[bytes] = []
        self._origins: list[int] = []
        self._dates_s: list[int] = []
        self._pieces: list[Entries] = []
        self._repeats: dict[bytes, tuple[int, int]] = {}
        self._waiting = self._unreadable = 0

    def take_outcomes(self, values: Iterable[bytes | None]) -> None:
        """Take records of the processed or the failed topic."""
        for value in values:
            event = self._event(value)
            if event is None or (event.error is not None and event.error.code in _INVALID):
                continue
            request = parse(value, len(value or b""))
            at = event.processed_at or event.failed_at
            if isinstance(request, PaymentRequest) and at is not None:
                self._claim(request, event.source, _seconds(at))
            else:
                self._unreadable += 1

    def take_audit(self, values: Iterable[bytes | None]) -> None:
        """Take records of the audit topic."""
        for value in values:
            event = self._event(value)
            if event is None or event.event_type not in _REPEATS:
                continue
            if event.payment_id is None or event.occurred_at is None or event.first_source is None:
                self._unreadable += 1
                continue
            key, date_s = key_of(event.payment_id), _seconds(event.occurred_at)
            first = self._origin(event.first_source)
            self._repeats[key] = max((date_s, first), self._repeats.get(key, (0, 0)))

    def take_pending(self, entries: Sequence[PendingEntry], now_s: float) -> None:
        """Take the open entries of the pending topic: their ids live as long as they wait."""
        for entry in entries:
            if entry.source.topic == self._requested:
                self._claim(entry.payment(), entry.source, int(now_s))
                self._waiting += 1

    def found(self) -> Found:
        """Return all that was taken."""
        self._pack()
        entries = sorted_newest(np.concatenate([np.empty(0, ENTRY), *self._pieces]))
        alone = dict(self._repeats)
        keys = np.array([np.frombuffer(key, "<u8") for key in alone], "<u8").reshape(-1, 2)
        # The second word of a key is enough to find the few that come into question.
        for row in np.flatnonzero(np.isin(entries["key"][:, 1], keys[:, 1])):
            repeat = alone.pop(entries["key"][row].tobytes(), None)
            if repeat is not None:
                entries["date_s"][row] = max(entries["date_s"][row], repeat[0])
        rest = self._without_content(alone)
        both = sorted_newest(np.concatenate([entries, rest]))
        return Found(both, self._waiting, len(rest), self._unreadable)

    def _event(self, value: bytes | None) -> _Event | None:
        try:
            event = _decode(value or b"")
        except msgspec.DecodeError:
            self._unreadable += 1
            return None
        return event if event.source.topic == self._requested else None

    def _claim(self, request: PaymentRequest, source: Source, date_s: int) -> None:
        self._identities.append(request.identity())
        self._origins.append(self._origin(source))
        self._dates_s.append(date_s)
        if len(self._dates_s) >= _PIECE:
            self._pack()

    def _pack(self) -> None:
        keys, prints = split_identities(b"".join(self._identities))
        origins, dates_s = np.array(self._origins, np.uint64), np.array(self._dates_s, np.int64)
        self._pieces.append(entries_of(keys, prints, origins, dates_s))
        for each in (self._identities, self._origins, self._dates_s):
            each.clear()

    @staticmethod
    def _without_content(repeats: dict[bytes, tuple[int, int]]) -> Entries:
        keys, prints = split_identities(b"".join(key + bytes(PRINT_BYTES) for key in repeats))
        dates_s, origins = np.array([*repeats.values()], np.uint64).reshape(-1, 2).T
        return entries_of(keys, prints, origins, dates_s)

    def _origin(self, source: Source) -> int:
        return origin(source.partition, source.offset, self._generation)


def _seconds(instant: str) -> int:
    """Return an instant of an event in seconds since 1970, rounded up."""
    return ceil(seconds(instant))
