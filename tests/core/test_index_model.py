"""The index against the simplest thing that could be right: a dictionary.

Hypothesis makes up histories. The limits of the index are set so low that a few ids make it grow,
compact, and number its segments anew; the ids share the words of their hashes.
"""

import random
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ids import Row, columns, memory, observe

from dataflow.core import index as index_module
from dataflow.core.index import Index, Verdict
from dataflow.core.segments import origin, place

Key = tuple[int, int]
keys = st.tuples(st.integers(0, 7), st.integers(0, 7))
batches = st.lists(st.tuples(keys, st.integers(1, 2)), max_size=12)
pauses_ms = st.sampled_from([0, 1, 59_999, 60_000])
UNCLEAR = 0


class Known(NamedTuple):
    """What the model knows of an id."""

    content: int
    """`UNCLEAR` if it is not certain which copy has claimed the id."""
    origin: int
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
        self.dates: dict[str, int] = {}
        self.offset = 0
        self.number = 0
        self.now_ms = 0

    def teardown(self) -> None:
        self.small.stop()

    # ---- choices ----

    def to_write(self, data: st.DataObject) -> str:
        """Return the segment that takes the next batch."""
        return data.draw(st.sampled_from(list(self.log)), "segment")

    def to_forget(self, data: st.DataObject) -> str:
        """Return the segment that leaves the window next."""
        return data.draw(st.sampled_from(list(self.log)), "segment")

    def date(self, data: st.DataObject) -> int:
        """Return the time of a batch's newest record: partitions may be far apart."""
        return data.draw(st.integers(0, 9), "date")

    def check_restart(self, before: set[Key], after: set[Key]) -> None:
        assert before <= after

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
        self.log[segment] += [(row, self.now_ms) for row in rows]

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
        memories = [memory(name, rows, self.dates[name]) for name, rows in self.log.items()]
        random.Random(seed).shuffle(memories)
        self.index = Index()
        self.index.restore(memories)
        before, self.known = set(self.known), self.remembered()
        self.check_restart(before, set(self.known))

    @precondition(lambda self: self.log)
    @rule(batch=batches, pause_ms=pauses_ms, data=st.data())
    def crash(self, batch: list[tuple[Key, int]], pause_ms: int, data: st.DataObject) -> None:
        """A batch was published, and is not in the snapshots: it is recalled, and comes again."""
        self.restart(0)
        segment, rows = self.next_batch(batch, pause_ms, data)
        self.index.recall(segment, self.dates[segment], *columns(rows))
        restored = set(self.known)
        self.judge(segment, rows)
        for row in rows:
            known = self.known[row.key]
            if row.key not in restored and row.content != known.content:
                self.known[row.key] = known._replace(content=UNCLEAR)
        expected = self.judge(segment, rows)
        assert observe(self.index, segment, *rows, dated_ms=self.dates[segment]) == expected
        self.log[segment] += [(row, self.now_ms) for row in rows]

    # ---- the model ----

    def next_batch(
        self, batch: list[tuple[Key, int]], pause_ms: int, data: st.DataObject
    ) -> tuple[str, list[Row]]:
        segment = self.to_write(data)
        self.dates[segment] = max(self.dates[segment], self.date(data))
        self.now_ms += pause_ms
        start = origin(int(segment[1:]) % 2, self.offset)
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
                expected.append((Verdict.FIRST, row.origin))
                continue
            if self.dates[known.segment] <= self.dates[segment]:
                self.known[row.key] = known._replace(segment=segment)
            same = known.content == row.content
            expected.append((Verdict.DUPLICATE if same else Verdict.CONFLICT, known.origin))
        return expected

    def remembered(self) -> dict[Key, Known]:
        """Return what is to be known of the living segments alone."""
        copies: dict[Key, list[tuple[int, int, int, str]]] = {}
        for segment, rows in self.log.items():
            for row, arrived_ms in rows:
                copy = (arrived_ms, row.origin, row.content, segment)
                copies.setdefault(row.key, []).append(copy)
        known = {}
        for key, sightings in copies.items():
            first, *others = sorted(sightings)
            unclear = any(
                content != first[2]
                and place(at)[0] != place(first[1])[0]
                and arrived_ms - first[0] < 60_000
                for arrived_ms, at, content, _ in others
            )
            latest = max(sorted(sightings), key=lambda copy: (self.dates[copy[3]], copy[:2]))
            known[key] = Known(UNCLEAR if unclear else first[2], first[1], latest[3])
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

    def date(self, data: st.DataObject) -> int:
        return max(self.dates.values()) + data.draw(st.integers(0, 1), "date")

    def check_restart(self, before: set[Key], after: set[Key]) -> None:
        assert before == after


TestHistories = Histories.TestCase
TestOnePartition = OnePartition.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestOnePartition.settings = TestHistories.settings
