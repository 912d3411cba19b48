"""The parts that `sitecustomize` puts into the flow: a crash, a mutation, other constants."""

import importlib
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

ARMED = os.environ.get("CRASH_ARMED")
"""Passes only count once this file exists, if it is given."""
MARK = os.environ.get("CRASH_MARK")
"""The file that gets a line when it crashes."""
_LONGEST_S = 0.004
"""The longest time after its beginning at which a crash *during* a call comes."""


def install(crash_at: str, broken: str, tune: str = "", stop_fetching: str = "") -> None:
    """Patch the flow's classes; the text after the colon is the pass at which to crash."""
    for constant in filter(None, tune.split(",")):
        where, _, value = constant.partition("=")
        module, _, name = where.partition(":")
        owner = importlib.import_module(module)
        getattr(owner, name)  # it must be there, or nothing would be tuned
        setattr(owner, name, float(value))
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

    def by_its_clock(self: Any) -> datetime | None:
        at = next_awake(self)
        return at and at - timedelta(seconds=float(ahead.read_text() or 0))

    setattr(source.RequestPartition, "next_awake", by_its_clock)  # noqa: B010  (as below)


def _stop_fetching_at(signal_file: Path) -> None:
    """Pause each consumer of the source for good: the client itself then fetches no more."""
    consume = partition_reader.PartitionReader._consume

    def pausing(self: Any, at_most: int) -> Any:
        paused = signal_file.with_name(f"{signal_file.name}.{self._partition}")
        if signal_file.exists() and not paused.exists():
            self._consumer.pause([TopicPartition(self._topic, self._partition)])
            paused.touch()
        return consume(self, at_most)

    # To mypy, a method.
    setattr(partition_reader.PartitionReader, "_consume", pausing)  # noqa: B010


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
    original = getattr(point.owner, point.name)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before" and point.counts(args, None):
            passes.one()
        result = original(*args, **kwargs)
        if point.when == "after" and point.counts(args, result):
            passes.one()
        return result

    setattr(point.owner, point.name, crashing)


def _crash_during(point: Point, passes: _Passes) -> None:
    """Crash from another thread, while the call waits for Kafka; an ended call does not count."""
    original = getattr(point.owner, point.name)
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

    setattr(point.owner, point.name, crashing)


def _end(name: str) -> None:
    if MARK:
        with Path(MARK).open("a") as mark:
            mark.write(f"{name}\n")
    how = os.environ.get("CRASH_BY", "SIGKILL")
    if how == "exception":
        raise RuntimeError("broken on purpose")
    os.kill(os.getpid(), signal.Signals[how])
