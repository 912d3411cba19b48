"""The pending topic: the records that wait for the gateway instead of having an audit event."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dataflow.core.lane_log import is_of_a_lane
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origin
from dataflow.verify import rows
from dataflow.verify.findings import FindingKind, Findings, RecordPlace
from dataflow.verify.reader import Chunk
from dataflow.verify.rows import Rows
from schemas import pending
from schemas.decisions import is_decision

_Mask = NDArray[np.bool_]


class Entries:
    """The pending topic: of each entry the last record counts, and a tombstone ends it."""

    def __init__(self, topic: str, findings: Findings) -> None:
        self._topic = topic
        self._findings = findings
        self._open: dict[bytes | None, tuple[int, bytes, int, int]] = {}
        self.foreign = 0

    def take(self, chunk: Chunk) -> None:
        """Take in records, in their order."""
        each = zip(chunk.offsets, chunk.keys, chunk.values, chunk.headers, strict=True)
        for offset, key, value, headers in each:
            if is_decision(key):
                continue
            if not is_of_a_lane(headers):
                self.foreign += 1
            elif value is None:
                self._open.pop(key, None)
            else:
                self._take(key, value, chunk.partition, offset)

    def _take(self, key: bytes | None, value: bytes, partition: int, offset: int) -> None:
        try:
            entry = pending.decode(value)
        except ValueError as error:
            where = RecordPlace(self._topic, partition, offset)
            self._findings.add(FindingKind.CONTENT, f"is no pending entry: {error}", where)
            return
        at = origin(entry.source.partition, entry.source.offset)
        self._open[key] = at, entry.payment().identity(), partition, offset

    def rows(self) -> Rows:
        """Return a row for each entry that is open, sorted by origin."""
        found = np.zeros(len(self._open), rows.PENDING_ENTRY)
        if self._open:
            origins, identities, partitions, offsets = zip(*self._open.values(), strict=True)
            keys, found["print"] = split_identities(b"".join(identities))
            found["key_high"], found["key_low"] = keys[:, 0], keys[:, 1]
            found["origin"], found["partition"] = origins, partitions
            found["offset"] = offsets
        return found[np.argsort(found["origin"])]


class Waiting:
    """The rules for what waits.

    Args:
        entries: Of `rows.PENDING_ENTRY`, sorted by origin.
        running: The flow is running: what waited when the topic was read may be decided since.
    """

    def __init__(self, entries: Rows, *, running: bool) -> None:
        self.entries = entries
        self._running = running
        self._found = 0

    def judge(
        self, requests: Rows, is_decided: _Mask
    ) -> tuple[_Mask, Iterator[tuple[FindingKind, str, _Mask]]]:
        """Return which of some records wait, and what is wrong with which of them.

        Args:
            requests: The records.
            is_decided: Which of them have an audit event or an outcome.
        """
        if not len(self.entries):
            return np.zeros(len(requests), np.bool_), iter(())
        at = np.searchsorted(self.entries["origin"], requests["origin"])
        inside = at < len(self.entries)
        mine = self.entries[np.where(inside, at, 0)]
        has_entry = inside & (mine["origin"] == requests["origin"])
        self._found += int(np.count_nonzero(has_entry))
        return has_entry & ~is_decided, self._wrong(requests, mine, has_entry, is_decided)

    def _wrong(
        self, requests: Rows, mine: Rows, has_entry: _Mask, is_decided: _Mask
    ) -> Iterator[tuple[FindingKind, str, _Mask]]:
        if not self._running:
            text = "is decided, and waits for the gateway nevertheless"
            yield FindingKind.DOUBLED, text, has_entry & is_decided
        other = (
            (mine["print"] != requests["print"])
            | (mine["key_low"] != requests["key_low"])
            | ~requests["valid"]
        )
        text = "waits for the gateway with another content"
        yield FindingKind.CONTENT, text, has_entry & other

    def phantoms(self, deleted: int) -> int:
        """Return how many entries are of no record, but for so many whose records are deleted."""
        return len(self.entries) - deleted - self._found
