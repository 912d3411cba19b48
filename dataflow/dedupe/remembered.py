"""The remembered ids of one process: the indexes of its lanes, and what these share.

They share a bound of memory, a directory, and a thread that writes files there.
"""

from pathlib import Path

import structlog

from dataflow.dedupe.background import Background
from dataflow.dedupe.lane_files import LaneFiles, remove_unused
from dataflow.dedupe.manifest import Owner
from dataflow.dedupe.tiered import Figures, TieredIndex

_log = structlog.get_logger()

_SPANS = 16
"""A span is this fraction of the window: an id lives as much longer, at most."""
LEAST_LANE_BYTES = 384 * 1024
"""With less memory a lane, the smallest tables would be full: each commit would write a file."""


class RememberedIds:
    """The indexes of one process. `open` and `figures` may be called by any thread.

    Args:
        window_ms: How long ids are remembered.
        memory_bytes: What all indexes together may take, as long as files can be written.
        directory: Where files go; None keeps all ids in memory.
        cluster_id: Kafka's id of the cluster.
        log_id: Kafka's id of the topic of the lanes' log. Where it is not known, no file can be
            believed, so none is made.
        lanes: How many lanes there are.
    """

    def __init__(
        self,
        window_ms: int,
        memory_bytes: int,
        directory: Path | None = None,
        cluster_id: str = "",
        log_id: str | None = None,
        lanes: int = 1,
    ) -> None:
        self._window_s = -(-window_ms // 1000)
        self._memory_bytes = memory_bytes
        self._directory = directory if log_id else None
        self._cluster_id = cluster_id
        self._log_id = log_id or ""
        self._lanes = lanes
        self._background = Background()
        self._indexes: list[TieredIndex] = []
        if self._directory is not None:
            remove_unused(self._directory, lanes)

    def open(self, lane: int) -> TieredIndex:
        """Return the index of a lane, with what its files have; once for each."""
        files = None
        if self._directory is not None:
            owner = Owner(
                cluster=self._cluster_id, topic=self._log_id, lane=lane, lanes=self._lanes
            )
            files = LaneFiles(self._directory, owner, self._background.stopping)
        span_s = max(1, self._window_s // _SPANS)
        index = TieredIndex(self._share, self._window_s, span_s, files, self._background)
        self._indexes.append(index)  # one step: another worker may open one at the same time
        return index

    @property
    def figures(self) -> Figures:
        """Sizes of all indexes, for metrics."""
        return Figures.of([index.figures for index in self._indexes])

    def close(self) -> None:
        """Give up what is being written. Idempotent."""
        self._background.stop()

    def _share(self) -> int:
        """Return what one index may take: lanes are alike."""
        return self._memory_bytes // max(1, len(self._indexes))
