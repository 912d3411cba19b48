"""The flatness of a series: the growth that its second half has, with 95 % confidence.

The slope is Theil and Sen's: the median of the slopes between all pairs of points, which a few
outliers do not move; its confidence interval is that of Kendall's rank correlation.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BLOCKS = 60
"""Points are medians of so many stretches: single samples follow from each other."""
_Z = 1.96
LEAST = 10
"""Fewer points show nothing."""


class Allowance(NamedTuple):
    """The growth that counts as flat, over the second half of a run: the larger of the two."""

    share: float
    """Of the level."""
    amount: float
    """In the series' own unit."""


class Verdict(NamedTuple):
    """The growth over the second half, in the series' own unit."""

    level: float
    """The median."""
    growth: float
    low: float
    high: float
    """Bounds of the growth, at 95 %."""
    allowed: float

    @property
    def flat(self) -> bool:
        """True if it surely grows by less than is allowed."""
        return self.high <= self.allowed


def judge(times_s: Sequence[float], values: Sequence[float], allowance: Allowance) -> Verdict:
    """Judge the second half of a series.

    Raises:
        ValueError: there are too few points.
    """
    times, points = np.array(times_s, float), np.array(values, float)
    half = times >= (times[0] + times[-1]) / 2 if len(times) else np.zeros(0, np.bool_)
    times, points = _blocks(times[half], points[half])
    if len(times) < LEAST:
        raise ValueError(f"{len(times)} points are too few to judge, {LEAST} are needed")
    one, other = np.triu_indices(len(times), 1)
    slopes = np.sort((points[other] - points[one]) / (times[other] - times[one]))
    count = len(times)
    margin = _Z * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - margin) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + margin) / 2))
    span = times[-1] - times[0]
    level = float(np.median(points))
    return Verdict(
        level,
        float(np.median(slopes) * span),
        float(slopes[low] * span),
        float(slopes[high] * span),
        max(allowance.share * abs(level), allowance.amount),
    )


def _blocks(
    times: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    points: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> tuple[
    "np.ndarray[tuple[int], np.dtype[np.float64]]", "np.ndarray[tuple[int], np.dtype[np.float64]]"
]:
    pieces = max(1, min(_BLOCKS, len(times)))
    medians = [
        np.array([np.median(piece) for piece in np.array_split(each, pieces) if len(piece)])
        for each in (times, points)
    ]
    return medians[0], medians[1]
