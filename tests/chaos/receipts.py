"""The places of what a sender has sent, by Kafka's receipts for it.

A receipt may lack the offset. A broker that has a record already when it is sent again, as after
its partition's leader was killed, says so, and not always where. Such a record is looked for in
the topic.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.support.invariants import Place


class Receipts:
    """The records that Kafka has taken, of one sender, whose topic nobody else writes to.

    Attributes:
        places: The records, by their place.
        ends: The end of each partition, as far as records were taken.
    """

    def __init__(self) -> None:
        self.places: dict[Place, bytes | None] = {}
        self.ends: dict[int, int] = {}
        self._without_place: defaultdict[int, Counter[bytes]] = defaultdict(Counter)

    def note(self, partition: int, offset: int | None, value: bytes) -> None:
        """Note a receipt."""
        end = self.ends.get(partition, 0)
        if offset is None:
            self._without_place[partition][value] += 1
            self.ends[partition] = end + 1
        else:
            self.places[partition, offset] = value
            self.ends[partition] = max(end, offset + 1)

    @property
    def is_complete(self) -> bool:
        """True if the place of each record is known."""
        return not any(each.total() for each in self._without_place.values())

    def complete(self, records: Iterable[tuple[Place, bytes | None]]) -> None:
        """Find the records whose receipts had no offset.

        Args:
            records: Everything that is in the topic.

        Raises:
            AssertionError: One of them is not there, although Kafka has taken it.
        """
        for place, value in records:
            wanted = self._without_place[place[0]]
            if place not in self.places and value is not None and wanted[value]:
                wanted[value] -= 1
                self.places[place] = value
        missing = [+each for each in self._without_place.values() if each.total()]
        assert not missing, f"Kafka has taken these records, and does not have them: {missing}"

    def lose(self, partition: int, first: int, low: int) -> None:
        """Note that records of a partition from `first` to `low` were deleted."""
        for offset in range(first, low):
            del self.places[partition, offset]
