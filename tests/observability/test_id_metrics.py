"""The places of the remembered ids, as a scrape shows them."""

from prometheus_client import CollectorRegistry

from dataflow.dedupe.tiered import Figures
from dataflow.observability.id_metrics import IdMetrics

FIGURES = Figures(hot=5, hot_bytes=500, cold=70, runs=3, file_bytes=4096, failing_since=None)


def values(*each: Figures) -> dict[str, float]:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(IdMetrics(lambda: Figures.of(each)))
    return {
        sample.name.removeprefix("payments_remembered_"): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_the_lanes_of_a_process_add_up() -> None:
    assert values(FIGURES, FIGURES) == {
        "memory_bytes": 1000,
        "file_ids": 140,
        "files": 6,
        "file_bytes": 8192,
        "files_failing": 0,
    }


def test_one_lane_that_cannot_write_is_enough() -> None:
    assert values(FIGURES, FIGURES._replace(failing_since=0.0))["files_failing"] == 1


def test_a_process_without_lanes_has_zeros() -> None:
    assert set(values().values()) == {0}
