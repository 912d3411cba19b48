"""The current state of this process: written by the Kafka ends, read by probes and metrics.

Rules of this file:
- Writers call once per batch or per epoch, never per record; each call is one short lock.
- An offset is always that of the *next* record: "everything below it is read", or "durable".
- Nothing here decides anything about payments; losing all of it loses no outcome.

Long because it is the list of what all parts of a process report, and of what is read of them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dataflow.core.charging import ChargingFigures
from dataflow.core.hold import HoldCause
from dataflow.observability.liveness import AWAITS_PEERS, Liveness, LivenessLimits
from dataflow.observability.partition_progress import PartitionProgress, age_s
from dataflow.observability.restore_progress import Restores, Restoring

_REASON_MAX_CHARS = 300

Word = Literal[
    "ok",
    "held",
    "starting",
    "draining",
    "kafka_unreachable",
    "waiting_for_schemas",
    "not_reading",
    "stuck",
]
"""The state of the process, in one word."""


class About(NamedTuple):
    """The facts about a process that `/health` and `payments_build_info` show."""

    version: str
    gateway: str = ""
    """The payment gateway in use, by name."""
    environment: str = ""
    """`APP_ENV`."""
    recovery_dir: Path | None = None


class Status:
    """The state of one process, safe to use from any thread.

    Attributes:
        about: What is shown of the process.
        partitions: The progress of its input partitions.
        id_files_fail: Returns whether files of remembered ids cannot be written.
        charging: Returns the state of the calls to the gateway.
        refused_secrets: Returns the variables of changed files whose content cannot be used.
        schemas_awaited: Returns why records wait for the schema registry; empty if none does.
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
        self.charging: Callable[[], ChargingFigures] = ChargingFigures
        self.refused_secrets: Callable[[], list[str]] = list
        self.schemas_awaited: Callable[[], str] = lambda: ""
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._started_at = monotonic()
        self._expected = False
        self.partitions = PartitionProgress(monotonic, wall)
        self._lanes_expected = 0
        self._lanes_open: set[int] = set()
        self._remembered: dict[int, int | None] = {}
        self._awaits_pending = False
        self._replayed = 0
        self._foreign_log_records = 0
        self._last_commit_at: float | None = None
        self._lane_commits: dict[int, float] = {}
        self._epoch_ended_at: float | None = None
        self._broker: bool | None = None
        self._broker_reason = ""
        self._draining = False
        self._restores = Restores(limits.processes, monotonic, self._on_restored)
        self._liveness = Liveness(limits, monotonic, self._restores)

    # ---- written by the source and the sink ----

    def assign(self, partitions: Iterable[int], lanes: int) -> None:
        """Name what *this process* owns: input partitions, and how many lanes.

        May be called again as more is assigned: partitions add up, the highest `lanes` counts.
        Until the first call the process is not ready. No partitions at all is a valid answer
        (a cluster with more workers than partitions).
        """
        self.partitions.expect(partitions)
        with self._lock:
            self._expected = True
            self._lanes_expected = max(self._lanes_expected, lanes)

    def lane_open(self, lane: int) -> None:
        """Note that the lane's producer is initialised: any earlier execution of it is fenced."""
        with self._lock:
            self._lanes_open.add(lane)

    def epoch_closed(self) -> None:
        """Note that the flow made progress: the one thing liveness is measured by."""
        with self._lock:
            self._liveness.epoch_closed()
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
            self._liveness.kafka_answers()

    def broker_down(self, reason: str) -> None:
        """Note that no broker can be reached, until `broker_up`. Makes us unready, not dead."""
        with self._lock:
            self._broker, self._broker_reason = False, reason[:_REASON_MAX_CHARS]
            self._liveness.kafka_away = self._broker_reason

    @contextmanager
    def waiting(self, what: str, at_most_s: float = 600.0) -> Iterator[None]:
        """Declare a wait with an end of its own, such as "kafka commit" or "gateway".

        Liveness is not lost meanwhile, for `at_most_s` seconds: past that the wait's own deadline
        has failed us, and it no longer excuses anything. When the wait ends, the flow gets a full
        LIVENESS_TIMEOUT again to close its epoch. May be nested, and used by many threads.
        """
        token = object()
        with self._lock:
            self._liveness.begin_wait(token, what, at_most_s)
        try:
            yield
        finally:
            with self._lock:
                self._liveness.end_wait(token)

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

    def await_pending(self) -> None:
        """Declare that the payments on the pending topic are to be read, if there are lanes."""
        self._awaits_pending = True

    def pending_read(self) -> None:
        """Note that they are read."""
        self._awaits_pending = False

    def replayed(self, count: int) -> None:
        """Count `count` records that were read a second time, to decide what a crash left open."""
        with self._lock:
            self._replayed += count

    def passed_over(self) -> None:
        """Note that a record of the lanes' log was passed over, as no lane has written it."""
        with self._lock:
            self._foreign_log_records += 1

    def await_peers(self) -> None:
        """Note that the engine waits for the cluster's other processes, as long as they need."""
        self._liveness.awaits_peers = True

    def flow_began(self) -> None:
        """Note that all processes are there: the engine runs the flow."""
        with self._lock:
            self._liveness.peers_are_there()

    def _on_restored(self) -> None:
        with self._lock:
            self._liveness.restored()

    # ---- read by the sidecar and the metrics ----

    def live(self) -> tuple[bool, str]:
        """Return whether the flow makes progress, and why; False means "restart me"."""
        with self._lock:
            return self._liveness.live()

    def ready(self) -> tuple[bool, str]:
        """Return whether payments flow through this process, and what is missing if not."""
        with self._lock:
            return self._ready()

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
            live, live_reason = self._liveness.live()
            ready, ready_reason = self._ready()
            restored = self._restores.so_far
            charging = self.charging()
            recovery_dir = self.about.recovery_dir
            body = {
                "status": self._word(live=live, ready=ready, held=charging.hold_cause is not None),
                "reason": _with_hold(ready_reason, charging) if live else live_reason,
                "live": live,
                "ready": ready,
                "draining": self._draining,
                "version": self.about.version,
                "gateway": self.about.gateway,
                "environment": self.about.environment,
                "uptime_seconds": age_s(self._started_at, now),
                "kafka": {"reachable": self._broker, "reason": self._broker_reason},
                "partitions": self.partitions.shown(),
                "lanes": {"expected": self._lanes_expected, "open": sorted(self._lanes_open)},
                "charging": _shown(charging),
                "remembered_ids": self._remembered_ids(),
                "restore": {"ids": restored.ids, "done": restored.done},
                "last_commit_age_seconds": age_s(self._last_commit_at, self._wall()),
                "epoch_age_seconds": age_s(self._liveness.epoch_at, now),
                "waiting_for": self._liveness.waits(),
                "refused_secrets": self.refused_secrets(),
                "recovery": {
                    "configured": recovery_dir is not None,
                    # The name only: the path is nobody's business outside this machine.
                    "directory": recovery_dir.name if recovery_dir else None,
                    "id_files_failing": self.id_files_fail(),
                },
            }
            return live and ready, body

    # ---- the rules; the lock is held ----

    def _remembered_ids(self) -> int:
        return sum(count or 0 for count in self._remembered.values())

    def _ready(self) -> tuple[bool, str]:
        missing = []
        if self._draining:
            missing.append("draining")
        if self._liveness.awaits_peers:
            missing.append(AWAITS_PEERS)
        if not self._expected:
            missing.append("partitions not assigned yet")
        if not_live := self.partitions.not_live():
            missing.append(f"partitions not live yet: {', '.join(map(str, not_live))}")
        if len(self._lanes_open) < self._lanes_expected:
            missing.append(f"lanes open: {len(self._lanes_open)} of {self._lanes_expected}")
        if restoring := sum(count is None for count in self._remembered.values()):
            missing.append(f"lanes without their remembered ids: {restoring}")
        if (restored := self._restores.so_far).under_way and restored.ids:
            missing.append(str(restored))
        if self._awaits_pending and self._remembered:
            missing.append("pending payments not read yet")
        if silent := self.partitions.silent():
            missing.append(
                "partitions whose client delivers nothing, for"
                f" {max(silent.values()):.0f} s, though records"
                f" wait: {', '.join(map(str, silent))}"
            )
        missing += self._servers_away()
        return not missing, "; ".join(missing) or "ready"

    def _servers_away(self) -> Iterator[str]:
        """Yield the servers that are away, if records wait for them."""
        if self._broker is False:
            yield f"Kafka is unreachable: {self._broker_reason}"
        if awaited := self.schemas_awaited():
            yield awaited[:_REASON_MAX_CHARS]

    def _word(self, *, live: bool, ready: bool, held: bool) -> Word:
        if not live:
            return "stuck"
        if self._draining:
            return "draining"
        if ready:
            return "held" if held else "ok"
        if self._broker is False:
            return "kafka_unreachable"
        if self.schemas_awaited():
            return "waiting_for_schemas"
        return "not_reading" if self.partitions.silent() else "starting"


def _shown(charging: ChargingFigures) -> dict[str, Any]:
    """Return the state of the gateway, and of what waits for it, as `/health` has it."""
    return {
        "state": "charging" if charging.hold_cause is None else "held",
        "hold_cause": charging.hold_cause,
        "hold_reason": charging.hold_reason,
        "held_for_seconds": charging.held_for_s,
        "in_flight": charging.in_flight,
        "window": charging.window,
        "queued": charging.queued,
        "waiting": charging.waiting,
        "mean_seconds": charging.mean_latency_s,
        "pending": charging.parked,
        "pending_max": charging.parked_most,
        "pending_oldest_seconds": charging.oldest_parked_for_s,
        "unresolved": charging.unresolved,
    }


_HELD = {
    HoldCause.OUTAGE: "the gateway has answered nobody for {age:.0f} s ({reason})",
    HoldCause.MISCONFIGURED: "the gateway refuses our credentials or URL, for {age:.0f} s"
    " ({reason})",
    HoldCause.PARKED: "too much is parked for {age:.0f} s ({reason})",
    HoldCause.PEER: "{reason}, for {age:.0f} s",
}


def _with_hold(reason: str, charging: ChargingFigures) -> str:
    """Return the reason of the state, and that the flow holds, if it does."""
    if charging.hold_cause is None:
        return reason
    why = _HELD[charging.hold_cause].format(
        age=charging.held_for_s or 0.0, reason=charging.hold_reason
    )
    return f"{reason}; held: {why}"
