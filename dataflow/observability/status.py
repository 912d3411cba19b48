"""The current state of this process: written by the Kafka ends, read by probes and metrics.

Rules of this file:
- Writers call once per batch or per epoch, never per record; each call is one short lock.
- An offset is always that of the *next* record: "everything below it is read", or "durable".
- Nothing here decides anything about payments; losing all of it loses no outcome.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dataflow.core.silence import Silence, Stall
from dataflow.observability.restore_progress import Restores, Restoring

_REASON_MAX_CHARS = 300
_AWAITS_PEERS = "waiting for the other processes of the cluster to start"


def _age_s(since: float | None, now: float) -> float | None:
    """Return the age, never negative: the wall clock can be set back."""
    return None if since is None else round(max(0.0, now - since), 3)


@dataclass(slots=True)
class _Partition:
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
    unread_since: float | None = None
    """Unix time when it was first seen that there is something to read; None if there is not."""

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
        # The markers of transactions at the end are no records: they are committed, never read.
        if max(self.position, self.committed or 0) >= self.high_watermark:
            self.unread_since = None
        elif self.unread_since is None:
            self.unread_since = now

    def waiting_since(self) -> float | None:
        """Return the Unix time of the oldest record that is not settled; None when there is none.

        Of a record that is not even read the time is not known, only since when it is waiting.
        """
        return min((time for _, time in self.in_flight), default=self.unread_since)

    def lag(self) -> int | None:
        """Return the number of records at the broker whose outcome is not durable yet.

        Taken against the *committed* offset: under transactions a record that is only read may
        still have to be read again. A watermark older than the commit gives 0, never less.
        """
        durable = self.committed if self.committed is not None else self.first
        if durable is None or self.high_watermark is None:
            return None
        return max(0, self.high_watermark - durable)


class About(NamedTuple):
    """The facts about a process that `/health` and `payments_build_info` show."""

    version: str
    gateway: str = ""
    """The payment gateway in use, by name."""
    environment: str = ""
    """`APP_ENV`."""
    recovery_dir: Path | None = None


class LivenessLimits(NamedTuple):
    """The limits of the time in which a process closes no epoch."""

    timeout_s: float
    """The time the flow may make no progress."""
    startup_grace_s: float = 120.0
    """The same, until the first epoch has closed."""
    processes: int = 1
    """In the cluster."""
    peers_wait_s: float = 0.0
    """The longest declared wait of any other process: none closes its epoch before all do."""


class Status:
    """The state of one process, safe to use from any thread.

    Attributes:
        about: What is shown of the process.
        id_files_fail: Returns whether files of remembered ids cannot be written.
    """

    def __init__(
        self,
        about: About,
        limits: LivenessLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.about = about
        self.id_files_fail: Callable[[], bool] = lambda: False
        self._timeout_s = limits.timeout_s
        self._grace_s = max(limits.startup_grace_s, limits.timeout_s)
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._started_at = monotonic()
        self._progress_at = self._started_at
        self._epoch_at: float | None = None
        self._expected = False
        self._partitions: dict[int, _Partition] = {}
        self._lanes_expected = 0
        self._lanes_open: set[int] = set()
        self._remembered: dict[int, int | None] = {}
        self._replayed = 0
        self._foreign_log_records = 0
        self._last_commit_at: float | None = None
        self._lane_commits: dict[int, float] = {}
        self._epoch_ended_at: float | None = None
        self._broker: bool | None = None
        self._broker_reason = ""
        self._waits: dict[object, tuple[str, float]] = {}
        self._draining = False
        self._peers_wait_s = limits.peers_wait_s if limits.processes > 1 else 0.0
        self._restores = Restores(limits.processes, monotonic, self._on_restored)
        self._restored_at: float | None = None
        self._awaits_peers = False

    # ---- written by the source and the sink ----

    def assign(self, partitions: Iterable[int], lanes: int) -> None:
        """Name what *this process* owns: input partitions, and how many lanes.

        May be called again as more is assigned: partitions add up, the highest `lanes` counts.
        Until the first call the process is not ready. No partitions at all is a valid answer
        (a cluster with more workers than partitions).
        """
        with self._lock:
            self._expected = True
            for partition in partitions:
                self._partition(partition)
            self._lanes_expected = max(self._lanes_expected, lanes)

    def partition_at(self, partition: int, next_offset: int, high_watermark: int) -> None:
        """Note that all below `next_offset` is read; negative values (librdkafka: unknown) are not.

        `high_watermark` is where the client last saw the partition end.

        The first call should give the offset the source resumes from, before it reads on.
        """
        with self._lock:
            entry = self._partition(partition)
            if next_offset >= 0:
                if next_offset != entry.position:
                    entry.unread_since = None  # something was read; the rest is another record
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
            self._partition(partition).in_flight.append((end_offset, oldest_at))

    def partition_ends_at(self, partition: int, high_watermark: int, stable_offset: int) -> None:
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
            return self._partition(partition).silence.nothing_came(position, self._monotonic())

    def to_be_witnessed(self) -> dict[int, int]:
        """Return where a second client should read, by partition, to see if something is there."""
        with self._lock:
            found = {n: entry.silence.to_be_witnessed for n, entry in self._partitions.items()}
        return {number: position for number, position in found.items() if position is not None}

    def witnessed(self, partition: int, position: int) -> None:
        """Note that a second client has had a record of the partition from `position` on."""
        with self._lock:
            self._partition(partition).silence.witnessed(position)

    def committed_at(self, partition: int, next_offset: int) -> None:
        """Note that every outcome below `next_offset` is durable, in all lanes."""
        if next_offset >= 0:
            with self._lock:
                entry = self._partition(partition)
                entry.committed = next_offset
                while entry.in_flight and entry.in_flight[0][0] <= next_offset:
                    entry.in_flight.popleft()
                entry.look_for_unread(self._wall())

    def partition_live(self, partition: int) -> None:
        """Replay of this partition has finished; from here on it reads new records."""
        with self._lock:
            self._partition(partition).live = True

    def lane_open(self, lane: int) -> None:
        """Note that the lane's producer is initialised: any earlier execution of it is fenced."""
        with self._lock:
            self._lanes_open.add(lane)

    def epoch_closed(self) -> None:
        """Note that the flow made progress: the one thing liveness is measured by."""
        now = self._monotonic()
        with self._lock:
            self._epoch_at = self._progress_at = now
            self._epoch_ended_at = self._wall()

    def record_commit(self, lane: int) -> None:
        """Note that a lane's transaction was committed."""
        with self._lock:
            self._last_commit_at = self._lane_commits[lane] = self._wall()

    def broker_up(self) -> None:
        """Note that Kafka answers. Cheap when it already did; call it on any success.

        When that is news, the flow gets a full LIVENESS_TIMEOUT again to close its epoch.
        """
        if self._broker:
            return
        with self._lock:
            self._broker, self._broker_reason = True, ""
            self._progress_at = self._monotonic()

    def broker_down(self, reason: str) -> None:
        """Note that no broker can be reached, until `broker_up`. Makes us unready, not dead."""
        with self._lock:
            self._broker, self._broker_reason = False, reason[:_REASON_MAX_CHARS]

    @contextmanager
    def waiting(self, what: str, at_most_s: float = 600.0) -> Iterator[None]:
        """Declare a wait with an end of its own, such as "kafka commit" or "gateway".

        Liveness is not lost meanwhile, for `at_most_s` seconds: past that the wait's own deadline
        has failed us, and it no longer excuses anything. When the wait ends, the flow gets a full
        LIVENESS_TIMEOUT again to close its epoch. May be nested, and used by many threads.
        """
        token = object()
        with self._lock:
            self._waits[token] = (what, self._monotonic() + at_most_s)
        try:
            yield
        finally:
            with self._lock:
                del self._waits[token]
                self._progress_at = self._monotonic()

    def restoring(self, ids: int = 0) -> Restoring:
        """Declare that `ids` remembered ids are being restored: see `Restoring` for the progress.

        Liveness is not lost meanwhile, for a time that grows with the number of ids. Several at
        once, or one after the other, add up; begin all before the first ends, if possible, so that
        the whole is known from the beginning.
        """
        return self._restores.begin(ids)

    def start_draining(self) -> None:
        """Take no new records from here on. Takes no lock, so that a signal handler may call it."""
        self._draining = True

    def record_remembered(self, lane: int, count: int | None) -> None:
        """Note that the lane holds `count` payment ids in memory; None while it has none yet.

        Lanes are numbered as this process has them.
        """
        with self._lock:
            self._remembered[lane] = count

    def replayed(self, count: int) -> None:
        """Count `count` records that were read a second time, to settle what a crash left open."""
        with self._lock:
            self._replayed += count

    def passed_over(self) -> None:
        """Note that a record of the lanes' log was passed over, as no lane has written it."""
        with self._lock:
            self._foreign_log_records += 1

    def await_peers(self) -> None:
        """Note that the engine waits for the cluster's other processes, as long as they need."""
        self._awaits_peers = True

    def flow_began(self) -> None:
        """Note that all processes are there: the engine runs the flow."""
        with self._lock:
            self._awaits_peers = False
            self._progress_at = self._monotonic()

    def _on_restored(self) -> None:
        with self._lock:
            self._restored_at = self._progress_at = self._monotonic()

    # ---- read by the sidecar and the metrics ----

    def live(self) -> tuple[bool, str]:
        """Return whether the flow makes progress, and why; False means "restart me"."""
        with self._lock:
            return self._live()

    def ready(self) -> tuple[bool, str]:
        """Return whether payments flow through this process, and what is missing if not."""
        with self._lock:
            return self._ready()

    def lags(self) -> dict[int, int]:
        """Return the lag in records by partition; one whose lag is not known yet is left out."""
        with self._lock:
            lags = {number: entry.lag() for number, entry in self._partitions.items()}
        return {number: lag for number, lag in lags.items() if lag is not None}

    def lag_seconds(self) -> dict[int, float]:
        """Return the age of the oldest record that is not settled, by partition; 0 if all are.

        A partition whose lag in records is not known yet is left out.
        """
        with self._lock:
            now = self._wall()
            return {
                number: _age_s(entry.waiting_since(), now) or 0.0
                for number, entry in self._partitions.items()
                if entry.lag() is not None
            }

    def lanes(self) -> tuple[int, dict[int, float | None]]:
        """Return the number of lanes of this process, and when each open one committed last.

        In Unix time; None for a lane that has not committed yet.
        """
        with self._lock:
            open_ones = {lane: self._lane_commits.get(lane) for lane in sorted(self._lanes_open)}
            return self._lanes_expected, open_ones

    @property
    def kafka_reachable(self) -> bool | None:
        """True if a broker answered last time; None before the first question."""
        return self._broker

    @property
    def last_epoch_at(self) -> float | None:
        """Unix time in seconds when an epoch was closed last; None before the first."""
        return self._epoch_ended_at

    @property
    def last_commit_at(self) -> float | None:
        """Unix time in seconds of the last committed transaction; None before the first."""
        return self._last_commit_at

    @property
    def remembered_ids(self) -> int:
        """Payment ids held in memory, over all lanes of this process."""
        with self._lock:
            return self._remembered_ids()

    @property
    def restored_ids(self) -> tuple[int, int]:
        """The number of ids this start has restored so far, and the number it has to."""
        done, ids, _ = self._restores.so_far
        return done, ids

    @property
    def foreign_log_records(self) -> int:
        """Records in the lanes' log that no lane has written, as this start has found."""
        return self._foreign_log_records

    @property
    def replayed_records(self) -> int:
        """Records replayed since the process started."""
        return self._replayed

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return `(ready and live, the JSON body of /health)`; ages and uptime in seconds."""
        with self._lock:
            now = self._monotonic()
            live, live_reason = self._live()
            ready, ready_reason = self._ready()
            restored = self._restores.so_far
            recovery_dir = self.about.recovery_dir
            body = {
                "status": self._word(live=live, ready=ready),
                "reason": ready_reason if live else live_reason,
                "live": live,
                "ready": ready,
                "draining": self._draining,
                "version": self.about.version,
                "gateway": self.about.gateway,
                "environment": self.about.environment,
                "uptime_seconds": _age_s(self._started_at, now),
                "kafka": {"reachable": self._broker, "reason": self._broker_reason},
                "partitions": {
                    str(number): {
                        "position": entry.position,
                        "committed": entry.committed,
                        "lag": entry.lag(),
                        "live": entry.live,
                    }
                    for number, entry in sorted(self._partitions.items())
                },
                "lanes": {"expected": self._lanes_expected, "open": sorted(self._lanes_open)},
                "remembered_ids": self._remembered_ids(),
                "restore": {"ids": restored.ids, "done": restored.done},
                "last_commit_age_seconds": _age_s(self._last_commit_at, self._wall()),
                "epoch_age_seconds": _age_s(self._epoch_at, now),
                "waiting_for": sorted({what for what, _ in self._waits.values()}),
                "recovery": {
                    "configured": recovery_dir is not None,
                    # The name only: the path is nobody's business outside this machine.
                    "directory": recovery_dir.name if recovery_dir else None,
                    "id_files_failing": self.id_files_fail(),
                },
            }
            return live and ready, body

    # ---- the rules; the lock is held ----

    def _partition(self, number: int) -> _Partition:
        entry = self._partitions.get(number)
        if entry is None:
            entry = self._partitions[number] = _Partition()
        return entry

    def _remembered_ids(self) -> int:
        return sum(count or 0 for count in self._remembered.values())

    def _live(self) -> tuple[bool, str]:
        now = self._monotonic()
        idle_s = now - self._progress_at
        if idle_s <= self._timeout_s:
            return True, "making progress"
        if excuse := next(self._excuses(now, idle_s), None):
            return True, excuse
        overdue = sorted({what for what, _ in self._waits.values()})
        stuck = f", still waiting for {', '.join(overdue)}" if overdue else ""
        return False, f"no epoch closed for {idle_s:.0f} s (limit {self._timeout_s:g} s){stuck}"

    def _excuses(self, now: float, idle_s: float) -> Iterator[str]:
        """Yield why no epoch has closed for so long, where a restart would not help."""
        if self._epoch_at is None and idle_s <= self._grace_s:
            yield "starting"
        if self._awaits_peers:
            yield _AWAITS_PEERS
        pending = {what for what, until in self._waits.values() if now <= until}
        if pending:
            yield f"waiting for {', '.join(sorted(pending))}"
        if (restored := self._restores.so_far).under_way and (
            idle_s <= self._restores.allowed_s
            or self._restores.has_advanced_since(now - self._timeout_s)
        ):
            yield str(restored)
        if self._broker is False:
            yield f"Kafka is unreachable: {self._broker_reason}"
        if self._peers_wait_s and idle_s <= self._timeout_s + self._peers_may_take_s():
            yield "waiting for the other processes of the cluster to close the epoch"

    def _peers_may_take_s(self) -> float:
        """Return how long after its own work a process may wait for the others."""
        restored_now = self._restored_at is not None and self._restored_at > (self._epoch_at or 0.0)
        return max(self._peers_wait_s, self._restores.allowed_s if restored_now else 0.0)

    def _ready(self) -> tuple[bool, str]:
        missing = []
        if self._draining:
            missing.append("draining")
        if self._awaits_peers:
            missing.append(_AWAITS_PEERS)
        if not self._expected:
            missing.append("partitions not assigned yet")
        replaying = [str(n) for n, entry in sorted(self._partitions.items()) if not entry.live]
        if replaying:
            missing.append(f"partitions not live yet: {', '.join(replaying)}")
        if len(self._lanes_open) < self._lanes_expected:
            missing.append(f"lanes open: {len(self._lanes_open)} of {self._lanes_expected}")
        if restoring := sum(count is None for count in self._remembered.values()):
            missing.append(f"lanes without their remembered ids: {restoring}")
        if (restored := self._restores.so_far).under_way and restored.ids:
            missing.append(str(restored))
        silent = [n for n, entry in sorted(self._partitions.items()) if entry.silence.is_suspect]
        if silent:
            longest_s = max(self._partitions[n].silence.seconds for n in silent)
            missing.append(
                f"partitions whose client delivers nothing, for {longest_s:.0f} s, though records"
                f" wait: {', '.join(map(str, silent))}"
            )
        if self._broker is False:
            missing.append(f"Kafka is unreachable: {self._broker_reason}")
        return not missing, "; ".join(missing) or "ready"

    def _word(self, *, live: bool, ready: bool) -> str:
        if not live:
            return "stuck"
        if self._draining:
            return "draining"
        if ready:
            return "ok"
        if self._broker is False:
            return "kafka_unreachable"
        silent = any(entry.silence.is_suspect for entry in self._partitions.values())
        return "not_reading" if silent else "starting"
