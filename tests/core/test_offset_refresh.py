"""The refresh of the lanes' offsets."""

from dataflow.core import offset_refresh
from dataflow.core.offset_refresh import OffsetRefresh

NOW_S = 1_000.0
HOUR_S = 3_600.0


def after(epochs: int) -> OffsetRefresh:
    """Return the refreshes after so many epochs, with as many as were due."""
    refresh = OffsetRefresh(NOW_S)
    for _ in range(epochs):
        if refresh.is_due(NOW_S):
            refresh.emitted(NOW_S)
        refresh.epoch_closed()
    return refresh


def test_the_first_two_epochs_have_one_each() -> None:
    """The second commits beside the offsets that every lane has one."""
    assert [after(epochs).is_due(NOW_S) for epochs in range(4)] == [True, True, False, False]


def test_an_epoch_has_one_at_most() -> None:
    refresh = OffsetRefresh(NOW_S)
    refresh.emitted(NOW_S)
    assert not refresh.is_due(NOW_S + 2 * HOUR_S)
    refresh.epoch_closed()
    assert refresh.is_due(NOW_S)


def test_one_is_due_every_hour() -> None:
    refresh = after(epochs=2)
    assert not refresh.is_due(NOW_S + HOUR_S)
    assert refresh.is_due(NOW_S + HOUR_S + 1)
    refresh.emitted(NOW_S + HOUR_S + 1)
    refresh.epoch_closed()
    assert not refresh.is_due(NOW_S + 2 * HOUR_S)
    assert refresh.is_due(NOW_S + 2 * HOUR_S + 2)


def test_kafka_keeps_offsets_for_longer() -> None:
    assert offset_refresh._EVERY_S < 24 * HOUR_S


def test_the_clock_is_confirmed_by_an_epoch_with_a_refresh_once_it_has_closed() -> None:
    refresh = OffsetRefresh(NOW_S)
    seen = []
    for step in (refresh.epoch_closed, lambda: refresh.emitted(NOW_S), *[refresh.epoch_closed] * 2):
        step()
        seen.append(refresh.is_clock_confirmed)
    assert seen == [False, False, True, True]
