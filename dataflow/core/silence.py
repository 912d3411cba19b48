"""The silence of a client that has stopped delivering its partition's records, without any error.

Nothing else notices: the process closes its epochs, and the client repeats the end of the partition
that it saw last. A new client, and so a restart, reads on.

1. Only records below the last stable offset count. From there on a transaction of a sender is open,
   for however long, and no reader may have its records.
2. Only time in which the source asks for records counts. It does not ask while its epoch is full,
   while it waits for the gateway or for a commit, and while it drains.
3. Only time in which Kafka answers for the partition counts. After an outage the client has all of
   its time again.
4. A position that moves, past records or past the end of a transaction, ends the silence.
5. Only a position counts from which a second client has had a record. Below the last stable offset
   there may be none for readers: those of a transaction that was aborted, if its end is above.
"""

from typing import NamedTuple

SUSPECT_S = 30.0
"""The longest silence of a healthy client: it is an answer of half a second late, or it connects
again, which takes some seconds."""
STALLED_S = 180.0
"""A request without an answer is given up after a minute, a connection after half of one (both
are defaults of the client). Twice in a row that may happen to a client which recovers."""
GAP_MOST_S = 5.0
"""Between two questions that came to nothing at most so much counts: an idle source asks many times
a second, and one that has not asked for longer was busy with something else."""
FRESH_S = 30.0
"""An answer of Kafka's is good for so long: several rounds of the watcher, with their timeouts."""


class Stall(NamedTuple):
    """A client that is not believed to recover."""

    position: int
    stable_offset: int
    seconds: float


class Silence:
    """The time for which the client of one partition has given nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._position: int | None = None
        self._asked_s: float | None = None
        self._stable_offset = -1
        self._answered_s = 0.0
        self._witnessed: int | None = None

    def stable_up_to(self, offset: int, now_s: float) -> None:
        """Note that Kafka has answered: readers may read everything below `offset`."""
        self._stable_offset, self._answered_s = offset, now_s

    def witnessed(self, position: int) -> None:
        """Note that a second client has had a record from `position` on."""
        self._witnessed = position

    @property
    def to_be_witnessed(self) -> int | None:
        """The position from which a second client should try to read, if it matters."""
        too_long = self.seconds >= SUSPECT_S
        return self._position if too_long and self._position != self._witnessed else None

    def ended(self) -> None:
        """End the silence: records came."""
        self.seconds, self._asked_s = 0.0, None

    def nothing_came(self, position: int, now_s: float) -> Stall | None:
        """Note that the client gave nothing at `position`; return a stall if that is a fault."""
        waits = position < self._stable_offset and now_s - self._answered_s <= FRESH_S
        if not waits or position != self._position:
            self.ended()
        elif self._asked_s is not None:
            self.seconds += min(now_s - self._asked_s, GAP_MOST_S)
        self._position, self._asked_s = position, now_s if waits else None
        if self.seconds < STALLED_S or position != self._witnessed:
            return None
        return Stall(position, self._stable_offset, self.seconds)

    @property
    def is_suspect(self) -> bool:
        """True if it is longer than anything that a healthy client does, and there are records."""
        return self.seconds >= SUSPECT_S and self._position == self._witnessed
