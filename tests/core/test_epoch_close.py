"""The pause at the end of an epoch."""

from dataflow.core.epoch_close import EpochCloseEstimator


def closing(*took: float) -> EpochCloseEstimator:
    """Return an estimator after as many epochs as are given, which took so long to close."""
    epochs, now = EpochCloseEstimator(), 100.0
    epochs.asked(now)
    for seconds in took:
        epochs.ended(now)
        now += seconds
        epochs.asked(now)
    return epochs


def test_it_is_a_little_less_than_the_shortest_of_the_last_epochs_took_to_close() -> None:
    assert round(closing(0.05, 0.3, 0.2).pause_s, 9) == 0.18


def test_none_before_anything_is_known() -> None:
    assert closing().pause_s == 0
    assert closing(0.2).pause_s == 0


def test_one_slow_epoch_puts_nobody_to_sleep() -> None:
    assert closing(0.01, 0.9).pause_s < 0.01


def test_it_has_a_limit() -> None:
    epochs = EpochCloseEstimator()
    for at in (0.0, 30.0, 60.0):
        epochs.asked(at)
        assert epochs.pause_s <= 0.5
        epochs.ended(at)


def test_needless_sleep_is_less_each_time() -> None:
    """The partition sleeps for as long as it is meant to, and the epochs close at once."""
    epochs, now, pauses = EpochCloseEstimator(), 0.0, []
    for seconds in (0.4, 0.4, 0.4, *[0.0] * 20):
        epochs.asked(now)
        pauses.append(epochs.pause_s)
        epochs.ended(now)
        now += max(seconds, pauses[-1])
    assert max(pauses) > 0.35
    assert pauses[-1] < 0.1
