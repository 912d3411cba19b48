"""The signals of a partition to the lanes, and when it may stop."""

from collections.abc import Iterable

from dataflow.core.items import Signal
from dataflow.core.lane_signals import LaneSignals


class Charging:
    is_one_by_one = True

    def __init__(self, *, has_peers: bool) -> None:
        self.sources: set[int] = set()
        self.has_peers = has_peers
        self.ripe: tuple[int, ...] = ()
        self.news: bool | None = None
        self.at: int | None = None

    def credit(self, partition: int) -> int:  # noqa: ARG002  (the protocol's signature)
        return 0

    def to_wake(self, epoch: int) -> tuple[int, ...]:
        ripe, self.ripe = self.ripe, ()
        return ripe if epoch else ()

    def lowest(self, partition: int) -> int | None:
        return self.at if partition == 3 else None

    def wake(self, lanes: Iterable[int]) -> None: ...

    def park_after_s(self) -> float:
        return 2.0

    def hold_to_announce(self) -> bool | None:
        news, self.news = self.news, None
        return news


def signals(*, has_peers: bool) -> tuple[Charging, LaneSignals]:
    charging = Charging(has_peers=has_peers)
    return charging, LaneSignals(charging, 3, 0, 0)


def test_the_partition_shares_the_credit_of_its_process() -> None:
    charging, _ = signals(has_peers=False)
    assert charging.sources == {3}


def test_lanes_with_something_to_do_are_woken() -> None:
    charging, made = signals(has_peers=False)
    charging.ripe = (1, 4)
    assert list(made.due(1, 0.0)) == [(Signal.WAKE, None, (1, 4))]
    assert list(made.due(2, 0.0)) == []


def test_a_hold_and_its_end_are_announced_to_other_processes() -> None:
    charging, made = signals(has_peers=True)
    charging.news = True
    assert list(made.due(1, 0.0)) == [(Signal.HOLD, None, None)]
    charging.news = False
    assert list(made.due(1, 0.0)) == [(Signal.RESUME, None, None)]


def test_an_epoch_that_no_lane_waits_for_any_longer_is_flushed_once() -> None:
    _, made = signals(has_peers=True)
    made.committable.read(10, 0, 5.0)
    assert list(made.due(1, 6.9)) == []
    assert list(made.due(1, 7.0)) == [(Signal.FLUSH, 10, None)]
    assert list(made.due(1, 7.0)) == []


def test_a_stop_waits_for_the_lanes_but_not_for_ever() -> None:
    charging, made = signals(has_peers=False)
    assert made.may_stop(0.0), "nothing was read"
    charging, made = signals(has_peers=False)
    made.committable.read(10, 0, 0.0)
    assert not made.may_stop(5.0)
    assert not made.may_stop(6.9)
    assert made.may_stop(7.1)
    charging.at = 4
    made.epoch_closed(1, drained=False)
    assert not made.committable.is_all
    charging.at = None
    made.epoch_closed(2, drained=False)
    assert made.may_stop(5.1), "all is answered"


def test_all_is_committable_after_the_last_signal() -> None:
    charging, made = signals(has_peers=True)
    made.committable.read(10, 1, 0.0)
    charging.at = 4
    made.epoch_closed(1, drained=True)
    assert made.committable.offset == 10
