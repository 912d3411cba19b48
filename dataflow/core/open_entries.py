"""The open entries of the pending topic, as its records leave them."""

from typing import Any

from dataflow.core.lane_log import is_of_a_lane
from schemas import pending
from schemas.decisions import KEY_PREFIX, is_decision
from schemas.pending import PendingEntry


class OpenEntries:
    """The open entries: of each eventId the last record counts, and a tombstone ends it.

    Attributes:
        foreign: Records that no lane has written, which the flow passes over as well.
        decided: The eventIds of payments with a person's decision that is not carried out yet.
    """

    def __init__(self) -> None:
        self.foreign = 0
        self.decided: set[str] = set()
        self._values: dict[bytes | None, bytes] = {}

    def take(self, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Take in a record; they come in their order."""
        if key is not None and is_decision(key):
            self._take_decision(key[len(KEY_PREFIX) :].decode(errors="replace"), value, headers)
        elif not is_of_a_lane(headers):
            self.foreign += 1
        elif value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def _take_decision(self, event_id: str, value: bytes | None, headers: Any) -> None:
        if value is not None:
            self.decided.add(event_id)
        elif is_of_a_lane(headers):
            self.decided.discard(event_id)

    def read(self) -> tuple[list[PendingEntry], int]:
        """Return the entries, the oldest first, and how many cannot be read by this version."""
        found: list[PendingEntry] = []
        unreadable = 0
        for value in self._values.values():
            try:
                found.append(pending.decode(value))
            except ValueError:
                unreadable += 1
        return sorted(found, key=lambda entry: (entry.parked_at, entry.event_id)), unreadable
