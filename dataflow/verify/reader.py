"""The port to what is read: a cluster's five topics, as a `read_committed` reader sees them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from dataflow.kafka.topic_scan import Bounds, Chunk

__all__ = ["Bounds", "Chunk", "LanePosition", "Positions", "Reader", "Snapshot"]


class LanePosition(NamedTuple):
    """The progress that a lane has committed of one input partition."""

    offset: int
    lanes: int | None
    """The number of lanes at that time, as far as is known."""


class Positions(NamedTuple):
    """Every committed offset of the flow, by input partition; those that exist."""

    group: dict[int, int]
    """Of the group that lag tools look at."""
    lanes: dict[int, dict[int, LanePosition]]
    """Of each lane's own group."""


class Snapshot(NamedTuple):
    """The state of the cluster at one moment.

    Positions are read first, then the ends of the pending topic, of the outputs, of the lanes' log
    and of the input: so that in a running flow what is committed has its outcome or waits, every
    outcome has its claim, and every claim its request.
    """

    positions: Positions
    bounds: dict[str, dict[int, Bounds]]
    """By topic and partition."""
    compacted: list[str]
    """Topics that are cleaned up by key."""


class Reader(Protocol):
    """A reader of any cluster. Errors of the cluster are `dataflow.errors.Fault`s."""

    def look(self) -> Snapshot:
        """Return the state of the cluster now."""
        ...

    def read(self, topic: str, bounds: Mapping[int, Bounds]) -> Iterator[Chunk]:
        """Yield all visible records within the bounds, from `low` to `high`.

        Ends early in a partition where an open transaction hides the rest; see `stuck`.
        """
        ...

    def stuck(self) -> dict[tuple[str, int], int]:
        """Return topic and partition of each `read` that has ended early, and where."""
        ...

    def record(self, topic: str, partition: int, offset: int) -> tuple[bytes | None, bool]:
        """Return the value of the first visible record from `offset` on, and whether it exists."""
        ...
