"""The parts that `sitecustomize` puts into the flow: a crash, a mutation, other constants."""

import os
import signal
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from confluent_kafka import TopicPartition

from dataflow.kafka import partition_reader, source
from tests.support.hooks.crash_points import POINTS, Point
from tests.support.hooks.mutations import DISPENSABLE, MUTATIONS
from tests.support.hooks.references import place_of
from tests.support.hooks.tuning import tune

ARMED = os.environ.get("CRASH_ARMED")
"""Passes only count once this file exists, if it is given."""
MARK = os.environ.get("CRASH_MARK")
"""The file that gets a line when it crashes."""
_LONGEST_S = 0.004
"""The longest time after its beginning at which a crash *during* a call comes."""


def install(crash_at: str, broken: str, tuning: str = "", stop_fetching: str = "") -> None:
    """Patch the flow's classes; the text after the colon is the pass at which to crash."""
    tune(tuning)
    if broken:
        {**MUTATIONS, **DISPENSABLE}[broken]()
    if stop_fetching:
        _stop_fetching_at(Path(stop_fetching))
    if crash_at:
        name, _, passes = crash_at.partition(":")
        point = POINTS[name]
        count = _Passes(name, int(passes or 1))
        (_crash_during if point.when == "during" else _crash_beside)(point, count)


def wake_by_the_engine(ahead: Path) -> None:
    """Set when to wake up in the time of the engine, whose clock is not set ahead."""
    next_awake = source.RequestPartition.next_awake

    def by_its_clock(self: source.RequestPartition) -> datetime | None:
        at = next_awake(self)
        return at and at - timedelta(seconds=float(ahead.read_text() or 0))

    place_of(lambda: source.RequestPartition.next_awake).replace(by_its_clock)


def _stop_fetching_at(signal_file: Path) -> None:
    """Pause each consumer of the source for good: the client itself then fetches no more."""
    consume = partition_reader.PartitionReader._consume

    def pausing(self: partition_reader.PartitionReader, at_most: int) -> Any:
        paused = signal_file.with_name(f"{signal_file.name}.{self._partition}")
        if signal_file.exists() and not paused.exists():
            self._consumer.pause([TopicPartition(self._topic, self._partition)])
            paused.touch()
        return consume(self, at_most)

    place_of(lambda: partition_reader.PartitionReader._consume).replace(pausing)


class _Passes:
    """A counter of the passes of a point, from any thread; crashes at the last one."""

    def __init__(self, name: str, left: int) -> None:
        self._name = name
        self._left = left
        self._lock = threading.Lock()

    def one(self, *, only_if: threading.Event | None = None) -> None:
        """Count a pass; `only_if` is looked at last: a pass without it does not count."""
        with self._lock:
            if self._left <= 0 or (ARMED is not None and not Path(ARMED).exists()):
                return
            if only_if is not None and not only_if.is_set():
                return
            self._left -= 1
            if self._left == 0:
                _end(self._name)


def _crash_beside(point: Point, passes: _Passes) -> None:
    place = place_of(point.call)
    original = place.value

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before" and point.counts(args, None):
            passes.one()
        result = original(*args, **kwargs)
        if point.when == "after" and point.counts(args, result):
            passes.one()
        return result

    place.replace(crashing)


def _crash_during(point: Point, passes: _Passes) -> None:
    """Crash from another thread, while the call waits for Kafka; an ended call does not count."""
    place = place_of(point.call)
    original = place.value
    rng = Random(os.environ.get("CRASH_SEED"))

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if not point.counts(args, None):
            return original(*args, **kwargs)
        under_way = threading.Event()
        under_way.set()
        delay_s = rng.uniform(0, _LONGEST_S)

        def crash() -> None:
            time.sleep(delay_s)
            passes.one(only_if=under_way)

        threading.Thread(target=crash, daemon=True).start()
        try:
            return original(*args, **kwargs)
        finally:
            under_way.clear()

    place.replace(crashing)


def _end(name: str) -> None:
    how = os.environ.get("CRASH_BY", "SIGKILL")
    if how == "SIGSTOP" and MARK and Path(MARK).exists():
        # A peer was suspended, and all of them are awake by now: this one is not, once more.
        return
    if MARK:
        with Path(MARK).open("a") as mark:
            mark.write(f"{name}\n")
    if how == "exception":
        raise RuntimeError("broken on purpose")
    os.kill(os.getpid(), signal.Signals[how])
