"""The answers of the probes, in the life of a process, on a clock that stands still."""

import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dataflow.core.silence import STALLED_S, SUSPECT_S, Stall
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status

LIVENESS_TIMEOUT_S = 60.0
STARTUP_GRACE_S = 120.0


class Clock:
    """Seconds that pass on command; the wall clock reads a fixed date plus those."""

    def __init__(self) -> None:
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(
        About("1.2.3", "simulated", "staging", Path("/var/lib/payments/recovery")),
        LivenessLimits(LIVENESS_TIMEOUT_S, STARTUP_GRACE_S),
        monotonic=clock.monotonic,
        wall=clock.wall,
    )


class TestLive:
    def test_a_process_that_has_not_started_yet_gets_a_grace(
        self, status: Status, clock: Clock
    ) -> None:
        clock.passes(STARTUP_GRACE_S)
        assert status.live() == (True, "starting")
        clock.passes(1)
        assert status.live() == (False, "no epoch closed for 121 s (limit 60 s)")

    def test_its_grace_begins_when_kafka_answers(self, status: Status, clock: Clock) -> None:
        status.broker_down("all brokers are down")
        clock.passes(3600)
        status.broker_up()
        clock.passes(STARTUP_GRACE_S)
        assert status.live() == (True, "starting")
        clock.passes(1)
        assert not status.live()[0]

    def test_closing_epochs_is_what_counts(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S)
        assert status.live()[0]
        clock.passes(1)
        assert not status.live()[0]
        status.epoch_closed()
        assert status.live() == (True, "making progress")

    def test_activity_without_an_epoch_is_no_progress(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + 1)
        status.partitions.at(0, 10, 10)
        status.replayed(5)
        status.record_remembered(0, 5)
        assert not status.live()[0]

    def test_a_declared_wait_keeps_it_alive(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.waiting("kafka commit"), status.waiting("gateway"):
            clock.passes(10 * LIVENESS_TIMEOUT_S)
            assert status.live() == (True, "waiting for gateway, kafka commit")

    def test_after_a_wait_the_flow_gets_the_full_time_again(
        self, status: Status, clock: Clock
    ) -> None:
        status.epoch_closed()
        with status.waiting("gateway"):
            clock.passes(10 * LIVENESS_TIMEOUT_S)
        clock.passes(LIVENESS_TIMEOUT_S)
        assert status.live()[0]
        clock.passes(1)
        assert not status.live()[0]

    def test_a_wait_excuses_no_longer_than_it_may_take(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.waiting("gateway", at_most_s=100):
            clock.passes(100)
            assert status.live()[0]
            clock.passes(1)
            assert status.live() == (
                False,
                "no epoch closed for 101 s (limit 60 s), still waiting for gateway",
            )

    def test_a_wait_that_raises_is_over_too(self, status: Status, clock: Clock) -> None:
        def fail() -> None:
            with status.waiting("gateway"):
                raise TimeoutError

        status.epoch_closed()
        with pytest.raises(TimeoutError):
            fail()
        clock.passes(LIVENESS_TIMEOUT_S + 1)
        assert not status.live()[0]

    def test_two_waits_for_the_same_thing_are_two_waits(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.waiting("gateway"):
            with status.waiting("gateway"):
                pass
            clock.passes(LIVENESS_TIMEOUT_S + 1)
            assert status.live()[0]

    def test_a_broker_outage_makes_it_unready_not_dead(self, status: Status, clock: Clock) -> None:
        status.assign([], lanes=0)
        status.epoch_closed()
        status.broker_down("all brokers are down")
        clock.passes(3600)
        assert status.live() == (True, "Kafka is unreachable: all brokers are down")
        assert status.ready() == (False, "Kafka is unreachable: all brokers are down")

    def test_when_the_broker_returns_there_is_time_to_close_an_epoch(
        self, status: Status, clock: Clock
    ) -> None:
        status.epoch_closed()
        status.broker_down("all brokers are down")
        clock.passes(3600)
        status.broker_up()
        assert status.live()[0]
        clock.passes(LIVENESS_TIMEOUT_S + 1)
        status.broker_up()  # no news: a healthy broker does not excuse a stuck flow
        assert not status.live()[0]

    def test_draining_takes_as_long_as_its_last_epoch(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        status.start_draining()
        clock.passes(LIVENESS_TIMEOUT_S)
        assert status.live()[0]


class TestReady:
    def test_from_nothing_to_ready(self, status: Status) -> None:
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

    def test_what_is_expected_may_be_named_bit_by_bit(self, status: Status) -> None:
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


class TestSilence:
    """A client that delivers nothing, though records wait; the rule itself: `core/silence.py`."""

    @pytest.fixture
    def silent(self, status: Status, clock: Clock) -> Status:
        status.assign([4], lanes=0)
        status.partitions.live(4)
        status.partitions.at(4, 100, 100)
        self.asks(status, clock, SUSPECT_S + 2)
        return status

    def asks(self, status: Status, clock: Clock, seconds: float) -> Stall | None:
        stall = None
        for _ in range(int(seconds)):
            status.partitions.ends_at(4, 3200, 3100)
            stall = status.partitions.nothing_came(4, 100)
            for partition, position in status.partitions.to_be_witnessed().items():
                status.partitions.witnessed(partition, position)
            clock.passes(1)
        return stall

    def test_it_is_not_ready(self, silent: Status) -> None:
        assert silent.ready() == (
            False,
            "partitions whose client delivers nothing, for 31 s, though records wait: 4",
        )
        assert silent.health()[1]["status"] == "not_reading"
        assert silent.live()[0]

    def test_the_source_learns_when_it_is_a_fault(self, silent: Status, clock: Clock) -> None:
        stall = self.asks(silent, clock, STALLED_S)
        assert stall is not None
        assert stall[:2] == (100, 3100)

    def test_it_stays_ready_if_a_second_client_gets_nothing_either(
        self, status: Status, clock: Clock
    ) -> None:
        status.assign([4], lanes=0)
        status.partitions.live(4)
        for _ in range(int(2 * STALLED_S)):
            status.partitions.ends_at(4, 3200, 3100)
            assert status.partitions.nothing_came(4, 100) is None
            clock.passes(1)
        assert status.partitions.to_be_witnessed() == {4: 100}
        assert status.ready()[0]

    def test_records_make_it_ready_again(self, silent: Status) -> None:
        silent.partitions.at(4, 150, 3200)
        assert silent.ready() == (True, "ready")


class TestLag:
    def test_it_counts_what_is_not_committed_read_or_not(self, status: Status) -> None:
        status.partitions.at(0, 0, 100)
        status.partitions.at(0, 80, 100)
        status.partitions.committed_at(0, 30)
        assert status.partitions.lags() == {0: 70}

    def test_before_the_first_commit_it_counts_from_where_reading_began(
        self, status: Status
    ) -> None:
        status.partitions.at(3, 40, 100)
        status.partitions.at(3, 90, 100)
        assert status.partitions.lags() == {3: 60}

    def test_a_watermark_older_than_the_commit_is_no_negative_lag(self, status: Status) -> None:
        status.partitions.at(0, 10, 10)
        status.partitions.committed_at(0, 15)
        assert status.partitions.lags() == {0: 0}

    def test_a_client_that_repeats_itself_does_not_hide_what_kafka_says(
        self, status: Status
    ) -> None:
        """It has stopped fetching, and would report the end that it saw last for ever."""
        status.partitions.at(0, 100, 100)
        status.partitions.committed_at(0, 100)
        status.partitions.ends_at(0, 3100, 3100)
        status.partitions.at(0, 100, 100)
        assert status.partitions.lags() == {0: 3000}

    def test_of_two_ends_the_later_one_counts(self, status: Status) -> None:
        status.partitions.at(0, 100, 100)
        status.partitions.ends_at(0, 300, 300)
        status.partitions.at(0, 200, 250)
        assert status.partitions.lags() == {0: 200}, "Kafka has answered since then"
        status.partitions.at(0, 200, 400)
        assert status.partitions.lags() == {0: 300}, "the client has seen more since then"

    def test_a_topic_that_was_created_anew_has_the_end_that_kafka_says(
        self, status: Status
    ) -> None:
        status.partitions.at(0, 100, 3100)
        status.partitions.ends_at(0, 150, 150)
        status.partitions.at(0, 100, 3100)
        assert status.partitions.lags() == {0: 50}

    def test_it_is_absent_while_it_is_unknown(self, status: Status) -> None:
        status.assign([0, 1], lanes=1)
        status.partitions.committed_at(0, 7)
        status.partitions.at(1, -1001, -1001)  # librdkafka's "no offset"
        status.partitions.committed_at(1, -1001)
        assert status.partitions.lags() == {}


class TestLagInSeconds:
    """The age of the oldest record that has no committed outcome."""

    def test_of_what_was_read_the_oldest_record_counts_until_its_outcome_is_committed(
        self, status: Status, clock: Clock
    ) -> None:
        status.partitions.at(3, 100, 100)
        assert status.partitions.lag_seconds() == {3: 0.0}
        read_at = clock.wall()
        status.partitions.in_flight(3, 150, read_at - 7.0)
        status.partitions.in_flight(3, 180, read_at - 2.0)
        status.partitions.at(3, 180, 180)
        clock.passes(1)
        assert status.partitions.lag_seconds() == {3: 8.0}
        status.partitions.committed_at(3, 150)
        assert status.partitions.lag_seconds() == {3: 3.0}
        status.partitions.committed_at(3, 180)
        assert status.partitions.lag_seconds() == {3: 0.0}

    def test_what_is_not_read_counts_from_when_it_was_seen(
        self, status: Status, clock: Clock
    ) -> None:
        """Its own time is not known: it may be older, but it has been waiting for so long."""
        status.partitions.at(3, 100, 100)
        clock.passes(50)
        status.partitions.ends_at(3, 140, 140)
        clock.passes(5)
        assert status.partitions.lag_seconds() == {3: 5.0}
        status.partitions.ends_at(3, 190, 190)
        clock.passes(5)
        assert status.partitions.lag_seconds() == {3: 10.0}, "more of it changes nothing"

    def test_reading_on_starts_it_anew(self, status: Status, clock: Clock) -> None:
        status.partitions.at(3, 100, 190)
        clock.passes(10)
        status.partitions.at(3, 150, 190)
        status.partitions.committed_at(3, 150)
        clock.passes(2)
        assert status.partitions.lag_seconds() == {3: 2.0}

    def test_the_marker_of_a_transaction_at_the_end_is_no_record(
        self, status: Status, clock: Clock
    ) -> None:
        """The position stays before it for ever; only the commit goes past it."""
        status.partitions.at(3, 100, 101)
        status.partitions.committed_at(3, 101)
        clock.passes(3600)
        assert status.partitions.lag_seconds() == {3: 0.0}
        status.partitions.ends_at(3, 102, 102)
        clock.passes(1)
        assert status.partitions.lag_seconds() == {3: 1.0}

    def test_it_is_absent_while_it_is_unknown(self, status: Status) -> None:
        status.assign([3], lanes=0)
        assert status.partitions.lag_seconds() == {}


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
    def test_it_says_everything_at_once(self, status: Status, clock: Clock) -> None:
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
                "remembered_ids": 100,
                "restore": {"ids": 0, "done": 0},
                "last_commit_age_seconds": 1.5,
                "epoch_age_seconds": 2.5,
                "waiting_for": [],
                "recovery": {
                    "configured": True,
                    "directory": "recovery",
                    "id_files_failing": False,
                },
            },
        )

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


class TestRestoring:
    """A start with many remembered ids; the epoch stays open until all of them are restored."""

    def test_the_time_it_may_take_grows_with_the_ids(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.restoring(100_000_000) as restoring:
            restoring.advance(41_000_000)
            clock.passes(1060)
            assert status.live() == (True, "41,000,000 of 100,000,000 remembered ids restored")
            clock.passes(1)
            assert status.live() == (False, "no epoch closed for 1061 s (limit 60 s)")

    def test_a_restore_that_goes_on_slowly_is_no_hang(self, status: Status, clock: Clock) -> None:
        """A restart would begin again where the files end."""
        status.epoch_closed()
        with status.restoring(100) as restoring:
            for _ in range(10):
                clock.passes(LIVENESS_TIMEOUT_S)
                restoring.advance(1)
                assert status.live()[0]
            clock.passes(LIVENESS_TIMEOUT_S)
            assert status.live() == (True, "10 of 100 remembered ids restored")
            clock.passes(1)
            assert not status.live()[0]

    def test_a_few_ids_excuse_no_hang(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.restoring(10):
            clock.passes(LIVENESS_TIMEOUT_S + 1)
            assert not status.live()[0]

    def test_nothing_to_restore_excuses_nothing(self, status: Status, clock: Clock) -> None:
        status.epoch_closed()
        with status.restoring():
            clock.passes(LIVENESS_TIMEOUT_S + 1)
            assert not status.live()[0]

    def test_afterwards_the_flow_gets_the_full_time_again(
        self, status: Status, clock: Clock
    ) -> None:
        status.epoch_closed()
        with status.restoring(100_000_000):
            clock.passes(300)
        clock.passes(LIVENESS_TIMEOUT_S)
        assert status.live()[0]
        clock.passes(1)
        assert not status.live()[0]

    def test_lanes_add_up_and_show_how_far_they_are(self, status: Status) -> None:
        status.assign([], lanes=0)
        one, other = status.restoring(300), status.restoring()
        other.expect(200)
        one.advance(300)
        one.end()
        assert status.ready() == (False, "300 of 500 remembered ids restored")
        assert status.health()[1]["restore"] == {"ids": 500, "done": 300}
        assert status.restored_ids == (300, 500)
        other.advance(200)
        other.end()
        other.end()  # changes nothing
        assert status.ready()[0]
        assert status.restored_ids == (500, 500)

    def test_progress_is_logged_every_few_seconds(self, status: Status, clock: Clock) -> None:
        with capture_logs() as logged, status.restoring(60) as restoring:
            for _ in range(60):
                clock.passes(1)
                restoring.advance(1)
        assert [entry["restored"] for entry in logged[:-1]] == list(range(5, 61, 5))
        assert logged[-1] == {
            "event": "remembered ids restored",
            "log_level": "info",
            "restored": 60,
            "ids": 60,
            "seconds": 60.0,
        }


class TestPeers:
    """No process of a cluster closes an epoch before all others do."""

    PEERS_WAIT_S = 150.0

    @pytest.fixture
    def member(self, clock: Clock) -> Status:
        return Status(
            About("1"),
            LivenessLimits(LIVENESS_TIMEOUT_S, processes=3, peers_wait_s=self.PEERS_WAIT_S),
            monotonic=clock.monotonic,
            wall=clock.wall,
        )

    def test_what_another_process_may_wait_for_it_may_too(
        self, member: Status, clock: Clock
    ) -> None:
        member.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S)
        assert member.live() == (
            True,
            "waiting for the other processes of the cluster to close the epoch",
        )

    def test_a_hang_is_found_all_the_same(self, member: Status, clock: Clock) -> None:
        member.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S + 1)
        assert member.live() == (False, "no epoch closed for 211 s (limit 60 s)")

    def test_a_wait_of_its_own_comes_on_top(self, member: Status, clock: Clock) -> None:
        """They wait one after the other: the gateway for its charges, then for another's."""
        member.epoch_closed()
        with member.waiting("payment gateway"):
            clock.passes(100)
        clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S)
        assert member.live()[0]
        clock.passes(1)
        assert not member.live()[0]

    def test_the_others_may_have_more_ids_to_restore(self, member: Status, clock: Clock) -> None:
        """It has a third of them; another process may have nearly all."""
        member.epoch_closed()
        with member.restoring(10_000_000):
            clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S - 1)
        clock.passes(LIVENESS_TIMEOUT_S + 60 + 3 * 100)
        assert member.live()[0]
        clock.passes(1)
        assert not member.live()[0]
        member.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S + 1)
        assert not member.live()[0], "the restore is over"

    def test_the_others_may_take_as_long_as_they_need_to_start(
        self, member: Status, clock: Clock
    ) -> None:
        """To end this one would not bring them sooner."""
        member.await_peers()
        clock.passes(24 * 3600)
        reason = "waiting for the other processes of the cluster to start"
        assert member.live() == (True, reason)
        assert member.ready()[1].startswith(reason)

    def test_once_all_are_there_a_start_has_its_time(self, member: Status, clock: Clock) -> None:
        member.await_peers()
        clock.passes(24 * 3600)
        member.flow_began()
        assert "other processes" not in member.ready()[1]
        clock.passes(LIVENESS_TIMEOUT_S + self.PEERS_WAIT_S)
        assert member.live()[0]
        clock.passes(1)
        assert not member.live()[0]

    def test_alone_there_is_nobody_to_wait_for(self, clock: Clock) -> None:
        alone = Status(
            About("1"),
            LivenessLimits(LIVENESS_TIMEOUT_S, processes=1, peers_wait_s=self.PEERS_WAIT_S),
            monotonic=clock.monotonic,
        )
        alone.epoch_closed()
        clock.passes(LIVENESS_TIMEOUT_S + 1)
        assert not alone.live()[0]


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
