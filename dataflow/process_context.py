"""The parts that all others of one process share: made once at a start, and handed on as a whole.

1. Only what several parts need is in here; what one part needs alone is a parameter of that part.
2. A part gets the context of a process that is connected: `with_cluster` has been called.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

from dataflow.config.settings import Settings
from dataflow.core.charging import SourceCharging
from dataflow.core.epochs import Epochs
from dataflow.core.unwrapped import UnwrapRecords
from dataflow.core.watermarks import ReadUpTo
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import Status
from dataflow.service.shutdown import Lifecycle


class Cluster(NamedTuple):
    """The facts about the cluster at the start."""

    cluster_id: str
    partitions: list[int]
    """Partitions of the request topic, ascending."""
    topic_id: str | None = None
    """Of the request topic: it has another one if it is deleted and created again."""
    log_id: str | None = None
    """Of the topic of the lanes' log, likewise."""
    log_partitions: int = 1
    pending_id: str | None = None
    """Of the pending topic, likewise."""


NOT_CONNECTED = Cluster("", [])
"""Before a start has looked at the cluster."""


class ProcessContext(NamedTuple):
    """The parts of one process that all others may need."""

    settings: Settings
    status: Status
    metrics: Metrics
    lifecycle: Lifecycle
    epochs: Epochs
    charging: SourceCharging
    cluster: Cluster = NOT_CONNECTED
    read_up_to: Mapping[int, ReadUpTo] = {}
    """The watermark of each input partition, whether or not this process reads it."""
    unwrap: UnwrapRecords | None = None
    """Turns requests of other formats into JSON; None if there are none."""

    def with_cluster(self, found: Cluster) -> Self:
        """Return the context of the process, now that it is connected."""
        window_ms = self.settings.dedupe_window_ms
        read_up_to = {each: ReadUpTo(window_ms) for each in found.partitions}
        return self._replace(cluster=found, read_up_to=read_up_to)
