"""The answers of `/ready` and `/health`, in the life of a process."""

import threading

import pytest

from dataflow.core.charging import ChargingFigures
from dataflow.core.hold import HoldCause
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from tests.observability.clock import LIVENESS_TIMEOUT_S, Clock


class TestReady:
    def test_the_phases_from_nothing_to_ready(self, status: Status) -> None:
        assert status.ready() == (False, "partitions not assigned yet")
        status.assign([0, 1], lanes=2)
        assert status.ready() == (False, "partitions not live yet: 0, 1; lanes open: 0 of 2")
        status.lane_open(0)
        status.lane_open(0)
        status.partitions.live(0)
        assert status.ready() == (False, "partitions not live yet: 1; lanes open: 1 of 2")
        status.lane_open(1)
        status.partitions.live(1)
        assert status.ready() == (True, "ready")

    def test_expectations_may_be_added_bit_by_bit(self, status: Status) -> None:
        status.assign([0], lanes=1)
        status.assign([1], lanes=2)
        status.partitions.live(0)
        status.lane_open(0)
        assert status.ready() == (False, "partitions not live yet: 1; lanes open: 1 of 2")

    def test_a_process_without_partitions_is_ready(self, status: Status) -> None:
        status.assign([], lanes=0)
        assert status.ready()[0]

    def test_draining_ends_readiness_for_good(self, status: Status) -> None:
        status.assign([], lanes=0)
        status.start_draining()
        status.broker_up()
        assert status.ready() == (False, "draining")

    def test_an_outage_ends_it_until_the_broker_is_back(self, status: Status) -> None:
        status.assign([], lanes=0)
        status.broker_down("x" * 10_000)
        assert len(status.ready()[1]) < 400
        status.broker_up()
        assert status.ready()[0]

    def test_a_process_with_lanes_is_not_ready_before_the_pending_payments_are_read(
        self, status: Status
    ) -> None:
        """They may be a reason to refuse the start, and are nowhere shown before."""
        status.assign([], lanes=0)
        status.await_pending()
        assert status.ready()[0], "another process has the lanes"
        status.record_remembered(0, 5)
        assert status.ready() == (False, "pending payments not read yet")
        status.pending_read()
        assert status.ready()[0]


class TestLanes:
    def test_each_has_its_last_commit(self, status: Status, clock: Clock) -> None:
        status.assign([], lanes=3)
        status.lane_open(2)
        status.lane_open(0)
        status.record_commit(2)
        committed_at = clock.wall()
        clock.passes(9)
        assert status.lanes() == (3, {0: None, 2: committed_at})
        assert status.last_commit_at == committed_at


def test_the_last_epoch_is_dated(status: Status, clock: Clock) -> None:
    assert status.last_epoch_at is None
    status.epoch_closed()
    closed_at = clock.wall()
    clock.passes(9)
    assert status.last_epoch_at == closed_at


class TestHealth:
    def test_it_reports_everything_at_once(self, status: Status, clock: Clock) -> None:
        status.assign([0, 1], lanes=2)
        status.broker_up()
        for lane in (1, 0):
            status.lane_open(lane)
        for partition in (0, 1):
            status.partitions.at(partition, 5, 12)
            status.partitions.live(partition)
        status.partitions.committed_at(0, 4)
        status.epoch_closed()
        clock.passes(1)
        status.record_commit(0)
        status.record_remembered(0, 70)
        status.record_remembered(1, 30)
        status.charging = lambda: ChargingFigures(
            in_flight=3,
            window=8,
            queued=4,
            waiting=5,
            mean_latency_s=0.2,
            parked=6,
            parked_most=20,
            oldest_parked_for_s=61.5,
            unresolved=1,
        )
        clock.passes(1.5)
        assert status.health() == (
            True,
            {
                "status": "ok",
                "reason": "ready",
                "live": True,
                "ready": True,
                "draining": False,
                "version": "1.2.3",
                "gateway": "simulated",
                "environment": "staging",
                "uptime_seconds": 2.5,
                "kafka": {"reachable": True, "reason": ""},
                "partitions": {
                    "0": {"position": 5, "committed": 4, "lag": 8, "live": True},
                    "1": {"position": 5, "committed": None, "lag": 7, "live": True},
                },
                "lanes": {"expected": 2, "open": [0, 1]},
                "charging": {
                    "state": "charging",
                    "hold_cause": None,
                    "hold_reason": "",
                    "held_for_seconds": None,
                    "in_flight": 3,
                    "window": 8,
                    "queued": 4,
                    "waiting": 5,
                    "mean_seconds": 0.2,
                    "pending": 6,
                    "pending_max": 20,
                    "pending_oldest_seconds": 61.5,
                    "unresolved": 1,
                },
                "remembered_ids": 100,
                "restore": {"ids": 0, "done": 0},
                "last_commit_age_seconds": 1.5,
                "epoch_age_seconds": 2.5,
                "waiting_for": [],
                "refused_secrets": [],
                "recovery": {
                    "configured": True,
                    "directory": "recovery",
                    "id_files_failing": False,
                },
            },
        )

    def test_a_hold_is_shown_and_no_reason_to_be_unready(self, status: Status) -> None:
        status.assign([], lanes=0)
        status.broker_up()
        status.charging = lambda: ChargingFigures(
            hold_cause=HoldCause.OUTAGE, held_for_s=12.4, hold_reason="refused", parked=3
        )
        good, body = status.health()
        assert good
        assert body["status"] == "held"
        assert body["reason"] == "ready; held: the gateway has answered nobody for 12 s (refused)"
        assert body["charging"]["state"] == "held"
        assert body["charging"]["hold_reason"] == "refused"
        assert body["charging"]["pending"] == 3

    @pytest.mark.parametrize(
        ("cause", "why"),
        [
            ("misconfigured", "the gateway refuses our credentials or URL, for 9 s ({x})"),
            ("parked", "too much is parked for 9 s ({x})"),
            ("peer", "{x}, for 9 s"),
        ],
    )
    def test_a_hold_has_its_cause(self, status: Status, cause: str, why: str) -> None:
        status.assign([], lanes=0)
        status.charging = lambda: ChargingFigures(
            hold_cause=HoldCause(cause), held_for_s=9.1, hold_reason="{x}"
        )
        body = status.health()[1]
        assert body["status"] == "held"
        assert body["charging"]["hold_cause"] == cause
        assert body["reason"] == f"ready; held: {why}"

    def test_a_process_that_has_set_nothing_yet_is_starting(self, clock: Clock) -> None:
        bare = Status(About("1"), LivenessLimits(60), monotonic=clock.monotonic)
        good, body = bare.health()
        assert not good
        assert body["status"] == "starting"
        assert body["kafka"] == {"reachable": None, "reason": ""}
        assert body["last_commit_age_seconds"] is None
        assert body["epoch_age_seconds"] is None
        assert body["recovery"] == {
            "configured": False,
            "directory": None,
            "id_files_failing": False,
        }

    def test_files_that_cannot_be_written_are_shown_and_no_reason_to_be_unready(
        self, clock: Clock
    ) -> None:
        status = Status(About("1"), LivenessLimits(60), monotonic=clock.monotonic)
        before = status.ready(), status.live()
        status.id_files_fail = lambda: True
        assert status.health()[1]["recovery"]["id_files_failing"]
        assert (status.ready(), status.live()) == before

    def test_changed_secrets_that_cannot_be_used_are_shown_and_no_reason_to_be_unready(
        self, clock: Clock
    ) -> None:
        status = Status(About("1"), LivenessLimits(60), monotonic=clock.monotonic)
        before = status.ready(), status.live()
        status.refused_secrets = lambda: ["KAFKA_SASL_PASSWORD_FILE"]
        assert status.health()[1]["refused_secrets"] == ["KAFKA_SASL_PASSWORD_FILE"]
        assert (status.ready(), status.live()) == before

    def test_a_record_that_waits_for_its_schema_makes_the_process_unready_and_not_dead(
        self, status: Status
    ) -> None:
        status.assign([], lanes=0)
        status.schemas_awaited = lambda: "records wait for schema id 9: no route to host"
        good, body = status.health()
        assert (good, body["live"], body["status"]) == (False, True, "waiting_for_schemas")
        assert body["reason"] == "records wait for schema id 9: no route to host"
        status.schemas_awaited = lambda: ""
        assert status.ready() == (True, "ready")

    def test_one_word_for_each_state(self, status: Status, clock: Clock) -> None:
        status.assign([], lanes=0)
        assert status.health()[1]["status"] == "ok"
        status.broker_down("gone")
        assert status.health()[1]["status"] == "kafka_unreachable"
        status.broker_up()
        status.start_draining()
        assert status.health()[1]["status"] == "draining"
        status.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + 1)
        good, body = status.health()
        assert not good
        assert body["status"] == "stuck"
        assert body["reason"] == "no epoch closed for 61 s (limit 60 s)"

    def test_a_wall_clock_set_back_gives_no_negative_age(self) -> None:
        wall = iter([1000.0, 900.0])
        status = Status(About("1"), LivenessLimits(60), wall=lambda: next(wall))
        status.record_commit(0)
        assert status.health()[1]["last_commit_age_seconds"] == 0.0


def test_many_threads_lose_no_update(status: Status) -> None:
    """Waits, counts and readers interleave freely; in the end nothing is left over."""

    def work(lane: int) -> None:
        for n in range(500):
            with status.waiting("gateway"), status.waiting("kafka commit"):
                status.replayed(1)
                status.record_remembered(lane, n + 1)
                status.partitions.at(lane, n, n)
            status.health()

    threads = [threading.Thread(target=work, args=[lane]) for lane in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert status.replayed_records == 8 * 500
    assert status.remembered_ids == 8 * 500
    assert status.health()[1]["waiting_for"] == []


def test_draining_may_start_inside_a_signal_handler(status: Status) -> None:
    """The handler interrupts the main thread anywhere, also while it holds the status's lock."""
    with status._lock:
        status.start_draining()
    assert status.ready()[1].startswith("draining")
