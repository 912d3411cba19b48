"""The index against the simplest thing that could be right: a dictionary.

Hypothesis makes up histories. The limits of the index are set so low that a few ids make it grow,
compact, and number its segments anew; the ids share the words of their hashes.
"""

import random
from typing import NamedTuple
from unittest.mock import patch

import pytest
from explore import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ids import Row, columns, memory, observe, rows_of

from dataflow.core import index as index_module
from dataflow.core.index import Index, Verdict
from dataflow.core.memory import RECALLED_MS, Claims, Contested, Memory
from dataflow.core.segments import origin, place

Key = tuple[int, int]
keys = st.tuples(st.integers(0, 7), st.integers(0, 7))
batches = st.lists(st.tuples(keys, st.integers(1, 2)), max_size=12)
pauses_ms = st.sampled_from([0, 1, 59_000, 61_000])
UNCLEAR = 0


class Known(NamedTuple):
    """What the model knows of an id."""

    content: int
    """`UNCLEAR` if it is not certain which copy has claimed the id."""
    origin: int
    segment: str


class Copy(NamedTuple):
    """One sighting of an id."""

    arrived_ms: int
    origin: int
    content: int
    segment: str


class Histories(RuleBasedStateMachine):
    """Segments of two partitions, which are written to, and forgotten, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.small = patch.multiple(index_module, _MIN_ROWS=4, _GROWTH=1.1)
        self.small.start()
        self.index = Index()
        self.known: dict[Key, Known] = {}
        self.log: dict[str, list[tuple[Row, int]]] = {}
        """What each living segment remembers, with times of arrival."""
        self.dates = {"recalled": 0}
        self.published: list[tuple[Key, int]] = []
        """The origin that each request was told to be of."""
        self.offset = 0
        self.number = 0
        self.now_ms = 1_000
        self.skew_ms = 0  # so much earlier the last batch was read than one that was judged first

    def teardown(self) -> None:
        self.small.stop()

    # ---- choices ----

    def to_write(self, data: st.DataObject) -> str:
        """Return the segment that takes the next batch."""
        return data.draw(st.sampled_from(list(self.log)), "segment")

    def to_forget(self, data: st.DataObject) -> str:
        """Return the segment that leaves the window next."""
        return data.draw(st.sampled_from(list(self.log)), "segment")

    def partition(self, segment: str) -> int:
        """Return the partition that a segment is of."""
        return int(segment[1:]) % 2

    def date(self, data: st.DataObject) -> int:
        """Return the time of a batch's newest record: partitions may be far apart."""
        return data.draw(st.integers(0, 9), "date")

    def skew(self, data: st.DataObject) -> int:
        """Return how long ago the batch was read: that of another partition may be judged first."""
        return data.draw(st.sampled_from([0, 900]), "skew")

    def check_restart(self, before: dict[Key, Known], copies: dict[Key, list[Copy]]) -> None:
        """Compare what was known before a restart with what is known after it."""
        assert set(before) <= set(copies)

    # ---- what may happen ----

    @initialize()
    def begin(self) -> None:
        self.open_a_segment()

    @rule()
    def open_a_segment(self) -> None:
        self.log[f"s{self.number}"] = []
        self.dates[f"s{self.number}"] = 0
        self.number += 1

    @precondition(lambda self: self.log)
    @rule(batch=batches, pause_ms=pauses_ms, data=st.data())
    def observe_a_batch(
        self, batch: list[tuple[Key, int]], pause_ms: int, data: st.DataObject
    ) -> None:
        segment, rows = self.next_batch(batch, pause_ms, data)
        expected = self.judge(segment, rows)
        assert observe(self.index, segment, *rows, dated_ms=self.dates[segment]) == expected
        self.log[segment] += [(row, self.now_ms - self.skew_ms) for row in rows]

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def forget_a_segment(self, data: st.DataObject) -> None:
        segment = self.to_forget(data)
        self.index.forget(segment)
        del self.log[segment]
        self.known = {key: known for key, known in self.known.items() if known.segment != segment}

    @precondition(lambda self: self.log)
    @rule(seed=st.integers(0, 9))
    def restart(self, seed: int) -> None:
        """What the living segments remember comes in any order, and means the same."""
        self.start_again(seed)

    @precondition(lambda self: self.log)
    @rule(batch=batches, pause_ms=pauses_ms, data=st.data())
    def crash(self, batch: list[tuple[Key, int]], pause_ms: int, data: st.DataObject) -> None:
        """A batch was published, and is not in the snapshots: it is recalled, and comes again."""
        segment, rows = self.next_batch(batch, pause_ms, data)
        self.judge(segment, rows)
        self.start_again(0, memory("recalled", [(row, RECALLED_MS) for row in rows]))
        expected = self.judge(segment, rows)
        assert observe(self.index, segment, *rows, dated_ms=self.dates[segment]) == expected
        self.log[segment] += [(row, self.now_ms - self.skew_ms) for row in rows]

    def start_again(self, seed: int, *recalled: Memory) -> None:
        memories = [memory(name, rows, self.dates[name]) for name, rows in self.log.items()]
        memories += recalled
        random.Random(seed).shuffle(memories)
        self.index = Index()
        self.index.restore(memories, self.trail)
        copies: dict[Key, list[Copy]] = {}
        for each in memories:
            for row, arrived_ms in rows_of(each):
                copy = Copy(arrived_ms, row.origin, row.content, each.segment)
                copies.setdefault(row.key, []).append(copy)
        before, self.known = self.known, self.remembered(copies)
        self.check_restart(before, copies)

    def trail(self, contested: Contested) -> Claims:
        """All that was ever published, which is more than was asked for."""
        assert len(contested.keys)
        keys, _, origins = columns(Row(key, 1, at) for key, at in self.published)
        return Claims(keys, origins)

    # ---- the model ----

    def next_batch(
        self, batch: list[tuple[Key, int]], pause_ms: int, data: st.DataObject
    ) -> tuple[str, list[Row]]:
        segment = self.to_write(data)
        self.dates[segment] = max(self.dates[segment], self.date(data))
        self.now_ms += pause_ms
        self.skew_ms = self.skew(data)
        start = origin(self.partition(segment), self.offset)
        rows = [Row(key, content, start + n) for n, (key, content) in enumerate(batch)]
        self.offset += len(rows)
        return segment, rows

    def judge(self, segment: str, rows: list[Row]) -> list[tuple[Verdict, int]]:
        """Return what is to be expected of the index, and remember it."""
        expected = []
        for row in rows:
            known = self.known.get(row.key)
            if known is None:
                self.known[row.key] = Known(row.content, row.origin, segment)
                self.published.append((row.key, row.origin))
                expected.append((Verdict.FIRST, row.origin))
                continue
            self.published.append((row.key, known.origin))
            if self.dates[known.segment] <= self.dates[segment]:
                self.known[row.key] = known._replace(segment=segment)
            same = known.content == row.content
            expected.append((Verdict.DUPLICATE if same else Verdict.CONFLICT, known.origin))
        return expected

    def remembered(self, copies: dict[Key, list[Copy]]) -> dict[Key, Known]:
        """Return what is to be known of these copies alone."""
        known = {}
        for key, sightings in copies.items():
            by_partition: dict[int, Copy] = {}
            for copy in sorted(sightings, key=lambda copy: copy.origin):
                by_partition.setdefault(place(copy.origin)[0], copy)
            first, *others = sorted(by_partition.values())
            rivals = [copy for copy in others if copy.arrived_ms - first.arrived_ms < 60_000]
            content = first.content
            if rivals:
                said = [c for c in sightings if (key, c.origin) in self.published]
                if said:
                    first = min(said, key=lambda copy: copy.origin)
                    content = first.content
                elif any(copy.content != content for copy in rivals):
                    content = UNCLEAR
            latest = max(sightings, key=lambda copy: (self.dates[copy.segment], copy))
            known[key] = Known(content, first.origin, latest.segment)
        return known

    @invariant()
    def as_many_are_remembered(self) -> None:
        assert len(self.index) == len(self.known)

    @invariant()
    def every_dead_row_is_counted(self) -> None:
        living = self.index._alive[self.index._segments[: self.index._rows]]
        assert self.index._dead == len(living) - living.sum()


class OnePartition(Histories):
    """Only the newest segment is written to, the oldest is forgotten, and time goes on."""

    def to_write(self, data: st.DataObject) -> str:  # noqa: ARG002  (there is no choice)
        return list(self.log)[-1]

    def to_forget(self, data: st.DataObject) -> str:  # noqa: ARG002
        return next(iter(self.log))

    def partition(self, segment: str) -> int:  # noqa: ARG002
        return 0

    def date(self, data: st.DataObject) -> int:
        return max(self.dates.values()) + data.draw(st.integers(0, 1), "date")

    def skew(self, data: st.DataObject) -> int:  # noqa: ARG002  (batches are judged as they come)
        return 0

    def check_restart(self, before: dict[Key, Known], copies: dict[Key, list[Copy]]) -> None:
        assert set(before) == set(copies)
        for key, known in before.items():
            if any(copy.origin == known.origin for copy in copies[key]):
                assert self.known[key][:2] == known[:2], "a restart changes no verdict"

    def trail(self, contested: Contested) -> Claims:  # noqa: ARG002
        pytest.fail("offsets have an order, so no id is contested")


class NoTrail(Histories):
    """What was published cannot be read."""

    def trail(self, contested: Contested) -> Claims:
        self.published.clear()
        return super().trail(contested)


TestHistories = Histories.TestCase
TestOnePartition = OnePartition.TestCase
TestNoTrail = NoTrail.TestCase
TestHistories.settings = examples(60, stateful_step_count=30)
TestOnePartition.settings = TestHistories.settings
TestNoTrail.settings = TestHistories.settings
