"""The hooks find what they refer to, and refuse what is no reference."""

import re

import pytest

from dataflow.core import lanes
from dataflow.kafka import commit_pool, lane_log, watcher
from dataflow.kafka.lane_transaction import Lane
from dataflow.kafka.partition_offsets import offsets_at
from tests import ROOT
from tests.support.hooks.crash_points import POINTS
from tests.support.hooks.references import Reference, imported_place, place_of
from tests.support.hooks.tuning import COMMITS_AT_ONCE, WATCH_EVERY_S, tune, tuned


class Sample:
    value = 1


def other() -> Reference:
    sample = Sample
    return lambda: sample.value


def test_a_reference_is_an_attribute_of_its_owner() -> None:
    assert place_of(lambda: Lane._commit) == (Lane, "_commit")
    assert place_of(lambda: lane_log.LaneLog.restore) == (lane_log.LaneLog, "restore")
    assert place_of(lambda: watcher._WATCH_EVERY_S) == (watcher, "_WATCH_EVERY_S")


def test_the_attribute_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sample, "value", 1)
    place_of(lambda: Sample.value).replace(2)
    assert Sample.value == 2


@pytest.mark.parametrize("reference", [lambda: Sample.value + 1, lambda: (Sample, 1)[1], other()])
def test_anything_but_names_is_refused(reference: Reference) -> None:
    with pytest.raises((AssertionError, ValueError)):
        place_of(reference)


def test_an_import_is_replaced_in_the_module_that_uses_it() -> None:
    assert imported_place(lane_log, offsets_at) == (lane_log, "offsets_at")
    with pytest.raises(AttributeError):
        imported_place(lane_log, lanes.lane_of_key)


@pytest.mark.parametrize("name", POINTS)
def test_a_named_point_is_a_call(name: str) -> None:
    assert callable(place_of(POINTS[name].call).value)


def test_a_constant_keeps_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_WATCH_EVERY_S", 5.0)
    monkeypatch.setattr(commit_pool, "_COMMITS_AT_ONCE", 16)
    tune(tuned({WATCH_EVERY_S: 0.5, COMMITS_AT_ONCE: 2})["TUNE"])
    assert watcher._WATCH_EVERY_S == 0.5
    assert repr(commit_pool._COMMITS_AT_ONCE) == "2"


def test_a_constant_that_is_not_listed_is_refused() -> None:
    with pytest.raises(KeyError):
        tune("dataflow.kafka.watcher:_NOTHING=1")


def test_the_constants_are_named_in_one_place() -> None:
    """A name in a string would be missed by a rename."""
    named = re.compile(r"dataflow[.][\w.]+:_?[A-Z]")
    files = set((ROOT / "tests").rglob("*.py")) - {ROOT / "tests" / "support" / "test_hooks.py"}
    assert [path for path in files if named.search(path.read_text())] == []
