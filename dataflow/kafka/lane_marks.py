"""The marks of the lanes: what is committed with their offsets of the ids that they remember.

A start measures the lane log by them, and the trimmer goes by them.
"""

import shlex
from collections import defaultdict
from collections.abc import Mapping

from dataflow.config.settings import KafkaSettings
from dataflow.core.lanes import lane_name
from dataflow.kafka.lane_names import lane_group
from dataflow.kafka.lane_offsets import Offset

Committed = Mapping[int, Mapping[int, Offset]]
"""By lane and input partition."""


def commands_to_delete(committed: Committed, kafka: KafkaSettings) -> str:
    """Return the commands that delete what is committed beside the offsets, and keep those.

    Of other partitions than these the lane has no offset: the tool would put one at their end, and
    the records below it would be taken for decided.
    """
    lanes: defaultdict[str, list[str]] = defaultdict(list)
    for lane, offsets in sorted(committed.items()):
        if offsets:
            lanes[",".join(map(str, sorted(offsets)))].append(lane_name(lane))
    group = lane_group(kafka.group_id, 0).removesuffix(lane_name(0))
    topic, brokers = map(shlex.quote, (kafka.topic_requested, kafka.brokers))
    return "\n".join(
        f" for lane in {' '.join(names)}; do kafka-consumer-groups.sh --group {group}$lane"
        f" --topic {topic}:{partitions} --reset-offsets --to-current --execute"
        f" --bootstrap-server {brokers}; done"
        for partitions, names in lanes.items()
    )


def pending_ids(committed: Committed) -> set[str]:
    """Return the topic ids of the pending topics that lanes have written to, where known."""
    return {found for _, metadata in _all(committed) if (found := metadata.pending_id) is not None}


def log_ids(committed: Committed) -> set[str]:
    """Return the topic ids of the logs that lanes have written to, as far as they are known."""
    return {metadata.log_id for _, metadata in _all(committed) if metadata.log_id is not None}


def since_s(committed: Committed, lane: int) -> int:
    """Return since when the ids seen in this lane are remembered; for a new lane, in the others.

    The partitions' watermark is the same for all lanes, so any lane may go by any other's.
    """
    ours = committed.get(lane) or {}
    marks = ours.values() if ours else _all(committed)
    return max((metadata.since_s for _, metadata in marks), default=0)


def trimmed_s(committed: Committed, lanes: int) -> int:
    """Return since when nothing seen is trimmed: all of so many lanes forgot what is older."""
    if not all(committed.get(lane) for lane in range(lanes)):
        return 0
    return min(since_s(committed, lane) for lane in range(lanes))


def least_ids(committed: Committed, lane: int, lanes: int) -> int:
    """Return how many ids of a lane, at least, the log must have.

    An offset of a partition that has been quiet since may be older than what was trimmed. It has
    no weight; nor has one from when there was another number of lanes.
    """
    since = since_s(committed, lane)
    counts = {metadata.lanes for _, metadata in _all(committed) if metadata.lanes}
    if since < max((trimmed_s(committed, each) for each in counts), default=0):
        return 0
    return max(
        (
            metadata.ids
            for _, metadata in committed.get(lane, {}).values()
            if metadata.lanes == lanes and metadata.since_s == since
        ),
        default=0,
    )


def least_before(committed: Committed, lanes: int) -> int:
    """Return how many ids the log must have, at least, if it had another number of lanes."""
    before = {metadata.lanes for _, metadata in _all(committed) if metadata.lanes} - {lanes}
    return max(
        (sum(least_ids(committed, lane, count) for lane in range(count)) for count in before),
        default=0,
    )


def left_to_read(expected: int, ours: int, in_files: int) -> int:
    """Return about how many of the log's ids are to be read, to show how far that is.

    The log is read for all lanes, while there are files of those of this process only.

    Args:
        expected: Ids of all lanes.
        ours: Those of the lanes of this process; 0 if there was another number of lanes.
        in_files: How many of them the files have.
    """
    return expected * max(0, ours - in_files) // ours if ours else expected


def _all(committed: Committed) -> list[Offset]:
    return [each for offsets in committed.values() for each in offsets.values()]
