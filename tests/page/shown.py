"""A process with a past, for the status page to show."""

import time
from collections.abc import Callable
from typing import Any

from dataflow.core.charging import ChargingFigures
from dataflow.core.commit_counts import CommitCounts
from dataflow.core.hold import HoldCause
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.recent import Recent
from dataflow.observability.status import About, Status
from schemas.outcomes import ErrorCode


class Process:
    """The process that the page shows, and a clock for its recent past; `wall` is its other one."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.wall = wall
        self.status = Status(About("1.2.3"), LivenessLimits(60), wall=wall)
        self.metrics = Metrics(
            self.status,
            input_topic="requested",
            output_topics=["processed", "failed", "audit"],
            log_topic="lane-log",
        )
        self.now = 1000.0
        self.metrics.recent = Recent(lambda: self.now)

    def holds(self, **figures: Any) -> None:
        """Let the gateway answer nobody, with these figures as well."""
        outage = ChargingFigures(
            hold_cause=HoldCause.OUTAGE, hold_reason="HTTP 503, by rule 9", held_for_s=75.0
        )
        self.status.charging = lambda: outage._replace(**figures)

    def commits(self, counts: CommitCounts) -> None:
        """Commit it, and let the second pass."""
        self.metrics.committed(counts, 0.01)
        self.now += 1

    def flows(self, partitions: int = 3, lanes: int = 4) -> None:
        """Let it be ready, with five minutes of outcomes; every third partition has a lag."""
        self.status.broker_up()
        self.status.assign(range(partitions), lanes)
        for partition in range(partitions):
            lag = 40 if partition % 3 == 1 else 0
            self.status.partitions.at(partition, 5000 + partition + lag, 5000 + partition + lag)
            self.status.partitions.committed_at(partition, 5000 + partition)
            if lag:
                since = self.wall() - 7
                self.status.partitions.in_flight(partition, 5000 + partition + lag, since)
            self.status.partitions.live(partition)
        for lane in range(lanes):
            self.status.lane_open(lane)
            self.status.record_commit(lane)
            self.status.record_remembered(lane, 1000)
        self.status.epoch_closed()
        for second in range(300):
            dip = 10 if 120 < second < 150 else 1
            self.commits(
                CommitCounts(
                    processed=(900 + second % 60) // dip,
                    failed={ErrorCode.DECLINED: 20, ErrorCode.INVALID: 8},
                    duplicates=55 // dip,
                    conflicts=1 if second % 50 == 49 else 0,
                )
            )
