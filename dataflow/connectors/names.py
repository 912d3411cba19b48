"""What a lane is called at Kafka, and what its offsets say of the lanes there were."""

import re

from dataflow.steps.decode import lane_name

_METADATA = re.compile(r"lanes=(\d+)")


def transactional_id(group: str, lane: int) -> str:
    """Whoever initialises it last is the lane's only writer."""
    return f"{group}-lane-{lane_name(lane)}"


def lane_group(group: str, lane: int) -> str:
    """The consumer group that holds a lane's committed input offsets."""
    return f"{group}.lane-{lane_name(lane)}"


def metadata_of(lanes: int) -> str:
    """What is committed with an offset: how many lanes there are."""
    return f"lanes={lanes}"


def lanes_in(metadata: str | None) -> int | None:
    """How many lanes there were when an offset was committed with this metadata."""
    match = _METADATA.fullmatch(metadata or "")
    return int(match[1]) if match else None
