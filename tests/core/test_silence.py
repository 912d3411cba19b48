"""The fault of a client that delivers nothing, on a clock that only these tests move."""

from collections.abc import Iterator

import pytest

from dataflow.core.silence import FRESH_S, GAP_MOST_S, STALLED_S, SUSPECT_S, Silence, Stall

TICK_S = 0.5
MINUTES_S = 10 * STALLED_S


class World:
    """A source that asks at each tick, and a watcher that has Kafka's answer at each tick."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.silence = Silence()

    def passes(
        self, seconds: float, position: int, stable_offset: int | None, tick_s: float = TICK_S
    ) -> Stall | None:
        """Ask until so much time has passed, or the client is at fault.

        A second client is given a record wherever there is one.
        """
        for stall in self.asked(seconds, position, stable_offset, tick_s):
            if stall:
                return stall
            if (asked_at := self.silence.to_be_witnessed) is not None:
                self.silence.witnessed(asked_at)
        return None

    def asked(
        self, seconds: float, position: int, stable_offset: int | None, tick_s: float
    ) -> Iterator[Stall | None]:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            if stable_offset is not None:
                self.silence.stable_up_to(stable_offset, self.now_s)
            yield self.silence.nothing_came(position, self.now_s)
            self.now_s += tick_s


@pytest.fixture
def world() -> World:
    return World()


def test_a_client_that_gives_nothing_of_what_there_is_is_at_fault(world: World) -> None:
    assert world.passes(STALLED_S, 100, 3100) is None
    stall = world.passes(TICK_S, 100, 3100)
    assert stall == Stall(position=100, stable_offset=3100, seconds=STALLED_S)


def test_a_client_is_suspect_long_before(world: World) -> None:
    world.passes(SUSPECT_S, 100, 3100)
    assert not world.silence.is_suspect
    world.passes(TICK_S, 100, 3100)
    assert world.silence.is_suspect


def test_a_partition_that_is_read_to_its_end_is_no_fault(world: World) -> None:
    assert world.passes(MINUTES_S, 100, 100) is None
    assert world.silence.seconds == 0


def test_an_open_transaction_of_a_sender_is_no_fault(world: World) -> None:
    """However much there is behind it: readers may come as far as its first record."""
    assert world.passes(MINUTES_S, 100, 100) is None
    assert world.passes(STALLED_S / 2, 100, 200) is None, "it ended a moment ago"


def test_an_aborted_transaction_below_an_open_one_is_no_fault(world: World) -> None:
    """Its records are for nobody, so that a second client is given nothing either.

    A position moves only past its end, which is above the open one.
    """
    assert list(filter(None, world.asked(MINUTES_S, 100, 110, TICK_S))) == []
    assert world.silence.to_be_witnessed == 100
    assert not world.silence.is_suspect


def test_records_of_a_second_client_elsewhere_prove_nothing(world: World) -> None:
    world.silence.witnessed(90)
    assert list(filter(None, world.asked(MINUTES_S, 100, 110, TICK_S))) == []


def test_a_second_client_is_notasked_while_the_first_may_be_fine(world: World) -> None:
    world.passes(SUSPECT_S, 100, 3100)
    assert world.silence.to_be_witnessed is None
    world.passes(TICK_S, 100, 3100)
    assert world.silence.to_be_witnessed is None, "it was asked, and that is enough"
    world.passes(SUSPECT_S, 200, 3100)
    assert world.silence.to_be_witnessed is None, "elsewhere all begins again"


def test_a_topic_that_was_cut_short_is_no_silence(world: World) -> None:
    world.passes(STALLED_S / 2, 100, 3100)
    assert world.passes(MINUTES_S, 100, 7) is None
    assert world.silence.seconds == 0


def test_time_begins_when_the_records_are_there(world: World) -> None:
    world.passes(MINUTES_S, 100, 100)
    assert world.passes(STALLED_S, 100, 101) is None
    assert world.passes(2 * TICK_S, 100, 101) is not None


def test_records_end_the_silence(world: World) -> None:
    world.passes(STALLED_S - 1, 100, 3100)
    world.silence.ended()
    assert world.silence.seconds == 0
    assert world.passes(STALLED_S - 1, 100, 3100) is None


def test_a_position_that_moves_ends_the_silence(world: World) -> None:
    """Past an aborted transaction, for example: there is nothing in it that could be delivered."""
    for position in range(100, 120):
        assert world.passes(STALLED_S - 1, position, 3100) is None


def test_a_source_that_does_not_poll_is_not_waiting_for_its_client(world: World) -> None:
    """The gateway takes minutes for each batch of the other partitions."""
    for _ in range(10):
        world.passes(TICK_S, 100, 3100)
        world.now_s += MINUTES_S
    assert world.silence.seconds <= 10 * GAP_MOST_S < STALLED_S


def test_a_source_that_polls_slowly_still_finds_it(world: World) -> None:
    assert world.passes(MINUTES_S, 100, 3100, tick_s=4 * GAP_MOST_S) is not None


def test_an_outage_is_no_fault_of_the_client(world: World) -> None:
    world.passes(SUSPECT_S, 100, 3100)
    assert world.passes(MINUTES_S, 100, None) is None
    assert world.silence.seconds == 0


def test_the_client_has_all_of_its_time_after_an_outage(world: World) -> None:
    assert world.passes(STALLED_S - FRESH_S - 1, 100, 3100) is None
    assert world.passes(FRESH_S + 1, 100, None) is None
    assert world.passes(STALLED_S, 100, 3100) is None
    assert world.passes(2 * TICK_S, 100, 3100) is not None


def test_nothing_is_known_before_kafka_has_answered(world: World) -> None:
    assert world.passes(MINUTES_S, 0, None) is None
