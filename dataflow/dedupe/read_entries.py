"""The entries that a start has read from the lane log, on their way into the indexes."""

from collections.abc import Mapping

import numpy as np

from dataflow.core.lane_log import entries_in
from dataflow.core.lanes import lanes_of
from dataflow.dedupe.tiered import TieredIndex


class ReadEntries:
    """The entries that were read for each lane, and are not in its index yet."""

    def __init__(self, indexes: Mapping[int, TieredIndex], lanes: int) -> None:
        self._indexes = indexes
        self._lanes = lanes
        self._values: dict[int | None, list[bytes]] = {}

    def add(self, lane: int | None, value: bytes) -> None:
        """Add entries of a lane; None if there was another number of lanes."""
        if lane is None or lane in self._indexes:
            self._values.setdefault(lane, []).append(value)

    def hand_over(self, position: Mapping[int, int]) -> None:
        """Give the indexes what there is; all below the position of the log is then in them."""
        others = entries_in(b"".join(self._values.pop(None, [])))
        # Entries from when there was another number of lanes: each to the lane of its id now.
        lane_of = lanes_of(np.ascontiguousarray(others["key"]), self._lanes)
        for lane, index in self._indexes.items():
            index.restore(entries_in(b"".join(self._values.pop(lane, []))))
            index.restore(others.take((lane_of == lane).nonzero()[0]))
            index.committed(position, wait=True)
