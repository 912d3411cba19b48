"""Series that are flat, and series that are not."""

import random

import pytest

from tests.soak.flatness import Allowance, judge

ALLOWANCE = Allowance(0.05, 0)
TIMES_S = [float(n) for n in range(1800)]


def noisy(slope: float, noise: float = 1.0, level: float = 100.0, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [level + slope * at_s + rng.gauss(0, noise) for at_s in TIMES_S]


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_flat(seed: int) -> None:
    verdict = judge(TIMES_S, noisy(0, seed=seed), ALLOWANCE)
    assert verdict.flat
    assert verdict.low <= verdict.growth <= verdict.high
    assert verdict.level == pytest.approx(100, abs=1)


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_leak_is_not(seed: int) -> None:
    """A tenth of the level in half an hour, half of that in the second half."""
    verdict = judge(TIMES_S, noisy(12 / 1800, seed=seed), ALLOWANCE)
    assert not verdict.flat
    assert verdict.growth == pytest.approx(6, abs=1)


def test_growth_at_the_beginning_does_not_count() -> None:
    values = [min(at_s, 800.0) for at_s in TIMES_S]
    assert judge(TIMES_S, values, ALLOWANCE).flat


def test_an_outlier_does_not_count() -> None:
    values = noisy(0)
    values[-10:] = [10_000.0] * 10
    assert judge(TIMES_S, values, ALLOWANCE).flat


def test_a_falling_series_is_flat() -> None:
    assert judge(TIMES_S, noisy(-0.1), ALLOWANCE).flat


def test_a_constant_is_flat_without_an_allowance() -> None:
    assert judge(TIMES_S, [7.0] * 1800, Allowance(0, 0)).flat


def test_noise_that_hides_everything_proves_nothing() -> None:
    """It does not pass for flat when it may as well grow."""
    times_s = [float(n) for n in range(40)]
    rng = random.Random(3)
    values = [100 + rng.gauss(0, 60) for _ in times_s]
    assert not judge(times_s, values, ALLOWANCE).flat


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], ALLOWANCE)
    with pytest.raises(ValueError, match="too few"):
        judge([], [], ALLOWANCE)
