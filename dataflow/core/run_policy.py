"""The runs of a lane that are merged, and those that have left the window.

A run is dropped whole, once its newest entry is too old, so what is merged should be of one age:
only runs of one *era*, an eighth of the window, are. A lookup costs a probe for each run, so there
should be few: an era that is over is made one run. While it lasts, two runs are merged when they
are of one size, so that an entry is written again only as often as the era's runs double.
"""

from collections.abc import Sequence
from typing import NamedTuple

_ERAS = 8
_MOST = 16
"""The most runs that are merged at once: a piece of each is in memory."""


class RunAge(NamedTuple):
    """The size and the age of a run."""

    rows: int
    newest_s: int
    """Date of its newest entry, in seconds since 1970."""


def expired(runs: Sequence[RunAge], horizon_s: int) -> list[int]:
    """Return which of the runs have left the window."""
    return [number for number, run in enumerate(runs) if run.newest_s < horizon_s]


def to_merge(runs: Sequence[RunAge], window_s: int) -> list[int]:
    """Return which of the runs are to be merged next; none if all is well."""
    era_s = max(1, window_s // _ERAS)
    eras: dict[int, list[int]] = {}
    for number, run in enumerate(runs):
        eras.setdefault(run.newest_s // era_s, []).append(number)
    for era in sorted(eras):
        mine = eras[era]
        chosen = mine if era != max(eras) else _of_one_size(runs, mine)
        if len(chosen) > 1:
            return sorted(sorted(chosen, key=lambda number: runs[number].rows)[:_MOST])
    return []


def _of_one_size(runs: Sequence[RunAge], numbers: Sequence[int]) -> list[int]:
    """Return the smallest runs, as long as the next one is no larger than all of them together."""
    by_size = sorted(numbers, key=lambda number: runs[number].rows)
    chosen: list[int] = []
    together = best = 0
    for number in by_size:
        if chosen and runs[number].rows <= together:
            best = len(chosen) + 1
        chosen.append(number)
        together += runs[number].rows
    return chosen[:best]
