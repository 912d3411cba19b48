"""The recovery store as the file system shows it."""

import os
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dataflow.observability.store_metrics import StoreMetrics

BYTES = "payments_recovery_store_bytes"
WRITTEN = "payments_last_snapshot_timestamp_seconds"


@pytest.fixture
def registry(tmp_path: Path) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(StoreMetrics(tmp_path))
    return registry


def test_all_files_of_the_store_count_and_the_newest_dates_it(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    for name, size, at in (
        ("part-0.sqlite3", 4096, 1_700_000_000),
        ("part-0.sqlite3-wal", 1000, 1_700_000_060),
        (".lock-0", 7, 1_800_000_000),
    ):
        (tmp_path / name).write_bytes(b"x" * size)
        os.utime(tmp_path / name, (at, at))
    assert registry.get_sample_value(BYTES) == 5096
    assert registry.get_sample_value(WRITTEN) == 1_700_000_060


def test_the_volume_is_that_of_the_directory(registry: CollectorRegistry, tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").touch()
    size = registry.get_sample_value("payments_recovery_volume_size_bytes")
    free = registry.get_sample_value("payments_recovery_volume_free_bytes")
    assert size == shutil.disk_usage(tmp_path).total
    assert free is not None
    assert 0 < free <= size


def test_a_process_without_a_store_has_a_volume(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Its files of remembered ids are there, and they are what fills it."""
    (tmp_path / "remembered-ids").mkdir()
    assert registry.get_sample_value("payments_recovery_volume_size_bytes") is not None


def test_nothing_is_claimed_without_a_store(registry: CollectorRegistry, tmp_path: Path) -> None:
    """As in process 1 of a cluster, whose directory has a lock only; or when the volume is gone."""
    (tmp_path / ".lock-1").touch()
    assert registry.get_sample_value(BYTES) is None
    assert registry.get_sample_value(WRITTEN) is None
    (tmp_path / ".lock-1").unlink()
    tmp_path.rmdir()
    assert [family.samples for family in registry.collect()] == [[], [], [], []]
    tmp_path.mkdir()
