"""The answers of `/live`, in the life of a process."""

import pytest
from structlog.testing import capture_logs

from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from tests.observability.clock import LIVENESS_TIMEOUT_S, STARTUP_GRACE_S, Clock


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

    def test_the_flow_gets_the_full_time_again_after_a_wait(
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

    def test_an_epoch_has_time_to_close_when_the_broker_returns(
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

    def test_waits_of_another_process_are_allowed_too(self, member: Status, clock: Clock) -> None:
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

    def test_a_start_has_its_time_once_all_are_there(self, member: Status, clock: Clock) -> None:
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
