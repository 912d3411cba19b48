"""Committed offsets: at rest, every one of them is at the end of the input."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dataflow.kafka.lane_names import lane_group
from dataflow.verify.findings import FindingKind, Findings, RecordPlace
from dataflow.verify.reader import Bounds, Positions
from dataflow.verify.rows import Rows


class LastRecords:
    """The last record of each lane in each input partition.

    Args:
        lanes: How many lanes there are.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._last: dict[int, NDArray[np.int64]] = {}

    def add(self, partition: int, offsets: list[int], requests: Rows) -> None:
        """Add some records of a partition, and their rows."""
        last = self._last.setdefault(partition, np.full(self._lanes, -1, np.int64))
        lanes = (requests["key_high"] % np.uint64(self._lanes)).astype(np.int64)
        np.maximum.at(last, lanes, np.array(offsets, np.int64))

    def of(self, partition: int) -> list[int]:
        """Return them by lane, -1 where there is none."""
        last = self._last.get(partition)
        return [-1] * self._lanes if last is None else list(last.tolist())


def judge(
    positions: Positions,
    bounds: Mapping[int, Bounds],
    last: LastRecords,
    group: str,
    topic: str,
    findings: Findings,
) -> None:
    """Find what is not at the end.

    Args:
        positions: What is committed.
        bounds: Of the input partitions.
        last: What has to be committed.
        group: The group's name.
        topic: The input topic.
        findings: Gets what is wrong.
    """
    # Without a trace of another number of lanes, each lane has committed its own last record.
    changed = len({found.lanes for lane in positions.lanes.values() for found in lane.values()}) > 1
    for partition, bound in sorted(bounds.items()):
        by_lane = last.of(partition)
        end = max(by_lane) + 1
        _judge(findings, group, positions.group.get(partition), end, bound, (topic, partition))
        committed = {
            lane: found[partition] for lane, found in positions.lanes.items() if partition in found
        }
        offsets = [found.offset for found in committed.values()]
        if end and max(offsets, default=0) < end:
            text = f"no lane group {group}.lane-* has committed {topic}[{partition}] up to {end}"
            findings.add(
                FindingKind.POSITION, text, RecordPlace(topic, partition, max(offsets, default=0))
            )
            continue
        for lane in range(len(by_lane)):
            found = committed.get(lane)
            wanted = 0 if changed else by_lane[lane] + 1
            offset = None if found is None else found.offset
            _judge(findings, lane_group(group, lane), offset, wanted, bound, (topic, partition))


def _judge(
    findings: Findings,
    group: str,
    offset: int | None,
    end: int,
    bound: Bounds,
    where: tuple[str, int],
) -> None:
    place = RecordPlace(*where, max(offset or 0, bound.low))
    if end and (offset is None or offset < end):
        stands = "has committed nothing" if offset is None else f"stands at {offset}"
        text = f"group {group} {stands}, but there are records up to {end}"
        findings.add(FindingKind.POSITION, text, place)
    elif offset is not None and offset > bound.high:
        text = f"group {group} stands at {offset}, beyond the end at {bound.high}"
        findings.add(FindingKind.POSITION, text, place)
