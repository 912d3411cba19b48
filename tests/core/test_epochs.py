import pytest

from dataflow.core.epochs import Epochs

LONG = pytest.mark.parametrize("epochs", [Epochs(s) for s in (1, 2, 5, 10, 60)])


def test_where_every_batch_is_an_epoch_ticks_are_short() -> None:
    assert Epochs(0).tick_s == 0.02


@LONG
def test_in_long_epochs_there_are_about_ten_ticks_a_second(epochs: Epochs) -> None:
    assert epochs.tick_s == pytest.approx(0.1, rel=0.06)


@LONG
def test_an_epoch_ends_half_way_between_two_ticks(epochs: Epochs) -> None:
    assert epochs.least_s / epochs.tick_s % 1 == pytest.approx(0.5)


@LONG
def test_it_collects_until_the_tick_after_its_end(epochs: Epochs) -> None:
    assert epochs.collecting_s == pytest.approx(epochs.least_s + epochs.tick_s / 2)


def test_an_epoch_for_every_batch_collects_for_one_tick() -> None:
    assert Epochs(0).collecting_s == Epochs(0).tick_s
