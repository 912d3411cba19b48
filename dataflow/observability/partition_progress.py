"""The progress of each input partition of a process: how far it is read, committed, and behind.

1. An offset is always that of the *next* record: "everything below it is read", or "durable".
2. Of a partition that another process reads nothing is kept.
3. Writers call once per batch or per epoch, never per record; each call is one short lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dataflow.core.silence import Silence, Stall
from dataflow.core.unread import Unread


@dataclass(slots=True)
class Partition:
    """One input partition of this process; None means "not known yet"."""

    first: int | None = None
    """Position at the first report: what counts as committed until something is."""
    position: int | None = None
    committed: int | None = None
    high_watermark: int | None = None
    cached_watermark: int | None = None
    """The latest value from the client: it repeats that for ever once it has stopped fetching."""
    silence: Silence = field(default_factory=Silence)
    live: bool = False
    in_flight: deque[tuple[int, float]] = field(default_factory=deque)
    """The batches that are read and not durable: end offset, and Unix time of the oldest record."""
    unread: Unread = field(default_factory=Unread)

    def client_saw_end(self, high_watermark: int) -> None:
        """Note the end that the client saw: of it and of Kafka's own answer the later one counts.

        As long as the client repeats itself it has seen nothing new, and Kafka's answer stands:
        also a lower one, of a topic that was created again.
        """
        if high_watermark != self.cached_watermark:
            self.cached_watermark = high_watermark
            self.high_watermark = max(high_watermark, self.high_watermark or 0)

    def look_for_unread(self, now: float) -> None:
        """Call it after each change of the position, the commit or the watermark."""
        if self.position is None or self.high_watermark is None:
            return
        self.unread.ends_at(self.high_watermark, now)
        # The markers of transactions at the end are no records: they are committed, never read.
        self.unread.read_up_to(max(self.position, self.committed or 0))

    def waiting_since(self) -> float | None:
        """Return the Unix time of the oldest record that is not done with; None when there is none.

        Of a record that is not even read the time is not known, only since when it is waiting.
        """
        return min((time for _, time in self.in_flight), default=self.unread.since_s)

    def lag(self) -> int | None:
        """Return the number of records at the broker whose outcome is not durable yet.

        Taken against the *committed* offset: under transactions a record that is only read may
        still have to be read again. A watermark older than the commit gives 0, never less.
        """
        durable = self.committed if self.committed is not None else self.first
        if durable is None or self.high_watermark is None:
            return None
        return max(0, self.high_watermark - durable)


class PartitionProgress:
    """The partitions of one process, safe to use from any thread.

    Args:
        monotonic: The clock that cannot be set.
        wall: The clock, in Unix time.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._partitions: dict[int, Partition] = {}

    # ---- written by the source and the watcher ----

    def expect(self, partitions: Iterable[int]) -> None:
        """Name partitions that this process reads."""
        with self._lock:
            for partition in partitions:
                self._of(partition)

    def at(self, partition: int, next_offset: int, high_watermark: int) -> None:
        """Note that all below `next_offset` is read; negative values (librdkafka: unknown) are not.

        `high_watermark` is where the client last saw the partition end.

        The first call should give the offset the source resumes from, before it reads on.
        """
        with self._lock:
            entry = self._of(partition)
            if next_offset >= 0:
                if next_offset != entry.position:
                    entry.silence.ended()
                entry.position = next_offset
                if entry.first is None:
                    entry.first = next_offset
            if high_watermark >= 0:
                entry.client_saw_end(high_watermark)
            entry.look_for_unread(self._wall())

    def in_flight(self, partition: int, end_offset: int, oldest_at: float) -> None:
        """Note a read batch up to `end_offset`; its oldest record has the Unix time `oldest_at`."""
        with self._lock:
            self._of(partition).in_flight.append((end_offset, oldest_at))

    def ends_at(self, partition: int, high_watermark: int, stable_offset: int) -> None:
        """Note where the partition ends at the broker, for all and for `read_committed` readers.

        Of no interest if it is another process's.
        """
        with self._lock:
            if entry := self._partitions.get(partition):
                entry.high_watermark = high_watermark
                entry.silence.stable_up_to(stable_offset, self._monotonic())
                entry.look_for_unread(self._wall())

    def nothing_came(self, partition: int, position: int) -> Stall | None:
        """Note that the source asked its client for what is at `position`, and got nothing.

        Returns:
            Why the client is at fault; None if it is not.
        """
        with self._lock:
            return self._of(partition).silence.nothing_came(position, self._monotonic())

    def to_be_witnessed(self) -> dict[int, int]:
        """Return where a second client should read, by partition, to see if something is there."""
        with self._lock:
            found = {n: entry.silence.to_be_witnessed for n, entry in self._partitions.items()}
        return {number: position for number, position in found.items() if position is not None}

    def witnessed(self, partition: int, position: int) -> None:
        """Note that a second client has had a record of the partition from `position` on."""
        with self._lock:
            self._of(partition).silence.witnessed(position)

    def committed_at(self, partition: int, next_offset: int) -> None:
        """Note that every outcome below `next_offset` is durable, in all lanes."""
        if next_offset >= 0:
            with self._lock:
                entry = self._of(partition)
                entry.committed = next_offset
                while entry.in_flight and entry.in_flight[0][0] <= next_offset:
                    entry.in_flight.popleft()
                entry.look_for_unread(self._wall())

    def live(self, partition: int) -> None:
        """Replay of this partition has finished; from here on it reads new records."""
        with self._lock:
            self._of(partition).live = True

    # ---- read by probes and metrics ----

    def lags(self) -> dict[int, int]:
        """Return the lag in records by partition; one whose lag is not known yet is left out."""
        with self._lock:
            lags = {number: entry.lag() for number, entry in self._partitions.items()}
        return {number: lag for number, lag in lags.items() if lag is not None}

    def lag_seconds(self) -> dict[int, float]:
        """Return the age of the oldest record that is not done with, by partition; 0 if all are.

        A partition whose lag in records is not known yet is left out.
        """
        with self._lock:
            now = self._wall()
            return {
                number: age_s(entry.waiting_since(), now) or 0.0
                for number, entry in self._partitions.items()
                if entry.lag() is not None
            }

    def not_live(self) -> list[int]:
        """Return the partitions that do not read new records yet."""
        with self._lock:
            return [number for number, entry in sorted(self._partitions.items()) if not entry.live]

    def silent(self) -> dict[int, float]:
        """Return for how long a client delivers nothing though records wait, by partition."""
        with self._lock:
            return {
                number: entry.silence.seconds
                for number, entry in sorted(self._partitions.items())
                if entry.silence.is_suspect
            }

    def shown(self) -> dict[str, dict[str, Any]]:
        """Return what `/health` has of the partitions."""
        with self._lock:
            return {
                str(number): {
                    "position": entry.position,
                    "committed": entry.committed,
                    "lag": entry.lag(),
                    "live": entry.live,
                }
                for number, entry in sorted(self._partitions.items())
            }

    def _of(self, number: int) -> Partition:
        entry = self._partitions.get(number)
        if entry is None:
            entry = self._partitions[number] = Partition()
        return entry


def age_s(since: float | None, now: float) -> float | None:
    """Return the age, never negative: the wall clock can be set back."""
    return None if since is None else round(max(0.0, now - since), 3)
