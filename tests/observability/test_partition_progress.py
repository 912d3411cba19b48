"""The lag of the input partitions, and clients that have stopped fetching."""

import pytest

from dataflow.core.silence import STALLED_S, SUSPECT_S, Stall
from dataflow.observability.status import Status
from tests.observability.clock import Clock


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

    def test_it_counts_from_the_start_offset_before_the_first_commit(self, status: Status) -> None:
        status.partitions.at(3, 40, 100)
        status.partitions.at(3, 90, 100)
        assert status.partitions.lags() == {3: 60}

    def test_a_watermark_older_than_the_commit_is_no_negative_lag(self, status: Status) -> None:
        status.partitions.at(0, 10, 10)
        status.partitions.committed_at(0, 15)
        assert status.partitions.lags() == {0: 0}

    def test_a_client_that_repeats_itself_does_not_hide_the_end_from_kafka(
        self, status: Status
    ) -> None:
        """It has stopped fetching, and would report the end that it saw last for ever."""
        status.partitions.at(0, 100, 100)
        status.partitions.committed_at(0, 100)
        status.partitions.ends_at(0, 3100, 3100)
        status.partitions.at(0, 100, 100)
        assert status.partitions.lags() == {0: 3000}

    def test_the_later_of_two_ends_counts(self, status: Status) -> None:
        status.partitions.at(0, 100, 100)
        status.partitions.ends_at(0, 300, 300)
        status.partitions.at(0, 200, 250)
        assert status.partitions.lags() == {0: 200}, "Kafka has answered since then"
        status.partitions.at(0, 200, 400)
        assert status.partitions.lags() == {0: 300}, "the client has seen more since then"

    def test_a_recreated_topic_has_the_end_that_kafka_reports(self, status: Status) -> None:
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

    def test_the_oldest_record_counts_until_its_outcome_is_committed(
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

    def test_unread_records_count_from_when_they_were_seen(
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

    def test_records_that_wait_behind_others_wait_since_they_were_seen(
        self, status: Status, clock: Clock
    ) -> None:
        """In an outage of the provider, only a payment is read now and then, as a probe."""
        status.partitions.at(3, 100, 190)
        clock.passes(10)
        status.partitions.ends_at(3, 250, 250)
        clock.passes(10)
        status.partitions.at(3, 101, 250)
        status.partitions.committed_at(3, 101)
        assert status.partitions.lag_seconds() == {3: 20.0}
        status.partitions.at(3, 190, 250)
        status.partitions.committed_at(3, 190)
        assert status.partitions.lag_seconds() == {3: 10.0}

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
