"""The size of the recovery store, the space left on its volume, and the time it was last written.

The store is process 0's; the volumes of the others have their files of remembered ids.

Looked up in the file system at each scrape, so it also shows what the engine does not: that it has
stopped storing its snapshots.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_FILES = "part-*.sqlite3*"
"""The recovery partitions with their write-ahead logs."""


class Store(NamedTuple):
    """A recovery directory at one moment."""

    free_bytes: int
    """The space left to us on its volume."""
    volume_bytes: int
    size_bytes: int | None
    """Of the store; None if there is none."""
    written_at: float | None
    """Unix time in seconds of its last write: the last stored snapshot."""

    @classmethod
    def look(cls, directory: Path) -> "Store | None":
        """Return what there is in a directory; None if that cannot be seen."""
        try:
            files = [path.stat() for path in directory.glob(_FILES)]
            volume = os.statvfs(directory)
        except OSError:
            return None  # a log was just folded into its file, or the volume is gone
        return cls(
            free_bytes=volume.f_bavail * volume.f_frsize,
            volume_bytes=volume.f_blocks * volume.f_frsize,
            size_bytes=sum(file.st_size for file in files) if files else None,
            written_at=max((file.st_mtime for file in files), default=None),
        )


class StoreMetrics(Collector):
    """The store of one directory, as gauges; none where there is no store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def describe(self) -> Iterable[Metric]:
        """Return the names, with no need to look."""
        return _gauges(None)

    def collect(self) -> Iterator[Metric]:
        """Yield the store as it is now."""
        return _gauges(Store.look(self._directory))


def _gauges(store: Store | None) -> Iterator[Metric]:
    for name, documentation, value in (
        (
            "payments_recovery_store_bytes",
            "Size of the recovery store.",
            store and store.size_bytes,
        ),
        (
            "payments_recovery_volume_free_bytes",
            "Free bytes on the volume of the recovery store.",
            store and store.free_bytes,
        ),
        (
            "payments_recovery_volume_size_bytes",
            "Size of the volume of the recovery store.",
            store and store.volume_bytes,
        ),
        (
            "payments_last_snapshot_timestamp_seconds",
            "Unix time of the last write to the recovery store.",
            store and store.written_at,
        ),
    ):
        gauge = GaugeMetricFamily(name, documentation)
        if value is not None:
            gauge.add_metric([], value)
        yield gauge
