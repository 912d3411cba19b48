"""The lanes of one process, as other parts see them: what is queued, and which have to wake up.

Lanes and sources run on several workers' threads; each call is a few operations that the
interpreter does not interrupt. A source may see a lane as it was a moment before: then it stays
behind, or wakes it in vain.

What a source sees of a lane holds for all records that were read in earlier epochs: they are with
the lane. Of those of this epoch some may be on their way.
"""

from collections.abc import Mapping
from typing import NamedTuple

from dataflow.core.lane_queue import LaneQueue


class _View(NamedTuple):
    lowest: Mapping[int, int]
    claims_in: int | None
    waits_since_s: float | None
    oldest_s: float | None
    parked: int
    parked_since_s: float | None
    unresolved: int


class LaneBoard:
    """The lanes of one process."""

    def __init__(self) -> None:
        self._views: dict[int, _View] = {}
        self._held: dict[int, dict[bytes, int]] = {}
        self._woken_in: dict[int, int] = {}

    def show(self, queue: LaneQueue) -> None:
        """Show a lane as it is now."""
        parked = queue.parked
        self._views[queue.lane] = _View(
            queue.lowest(),
            queue.claims_in,
            queue.waits_since_s,
            queue.oldest_s,
            len(parked),
            parked.oldest_s,
            parked.unresolved,
        )

    def lowest(self, partition: int) -> int | None:
        """Return below which offset of a partition nothing is queued; None if there is nothing."""
        offsets = [view.lowest[partition] for view in self._now() if partition in view.lowest]
        return min(offsets, default=None)

    def to_wake(self, epoch: int, now_s: float, park_after_s: float) -> set[int]:
        """Return the lanes whose claims are committed, or whose head was waited for long enough.

        Each once in an epoch: one signal is enough, and all sources ask.
        """
        due = {
            lane
            for lane, view in list(self._views.items())
            if self._woken_in.get(lane, -1) < epoch
            and _has_to_wake(view, epoch, now_s, park_after_s)
        }
        self._woken_in |= dict.fromkeys(due, epoch)
        return due

    def oldest_s(self, lane: int) -> float | None:
        """Return when the oldest of what a lane has queued was read, in seconds since 1970."""
        view = self._views.get(lane)
        return None if view is None else view.oldest_s

    def held(self, lane: int) -> dict[bytes, int]:
        """Return the identities of what a lane has parked, with their origins; the lane's own."""
        found = self._held.get(lane)
        return self._held.setdefault(lane, {}) if found is None else found

    @property
    def is_waiting(self) -> bool:
        """True if anything is queued or parked."""
        return any(view.lowest or view.parked for view in self._now())

    @property
    def parked(self) -> int:
        """The payments that are parked."""
        return sum(view.parked for view in self._now())

    @property
    def parked_since_s(self) -> float | None:
        """The time at which the oldest of them was parked, in seconds since 1970; None if none."""
        since_s = (view.parked_since_s for view in self._now())
        return min((each for each in since_s if each is not None), default=None)

    @property
    def unresolved(self) -> int:
        """The number of them that a person has to decide."""
        return sum(view.unresolved for view in self._now())

    def _now(self) -> list[_View]:
        return list(self._views.values())


def _has_to_wake(view: _View, epoch: int, now_s: float, park_after_s: float) -> bool:
    if view.claims_in is not None and view.claims_in < epoch:
        return True
    return view.waits_since_s is not None and now_s - view.waits_since_s >= park_after_s
