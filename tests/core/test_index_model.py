"""The index against the simplest thing that could be right: a dictionary.

Hypothesis makes up histories. The limits of the index are set so low that a few ids make it grow,
compact, and number its buckets anew; the ids share the words of their hashes.
"""

import random
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from explore import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ids import Row, columns, rows_in

from dataflow.core import index as index_module
from dataflow.core.index import Index, Verdict
from dataflow.core.lane_log import ENTRY, Entries, entries_in

Key = tuple[int, int]
keys = st.tuples(st.integers(0, 7), st.integers(0, 7))
batches = st.lists(st.tuples(keys, st.integers(1, 2)), max_size=12)
SPAN = 10


class Known(NamedTuple):
    """What the model knows of an id."""

    content: int
    origin: int
    bucket: int


class Histories(RuleBasedStateMachine):
    """Batches of several clocks, expiry, and restarts from a log in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.small = patch.multiple(index_module, _MIN_ROWS=4, _GROWTH=1.1)
        self.small.start()
        self.index = Index(SPAN)
        self.known: dict[Key, Known] = {}
        self.log: list[Entries] = []
        self.now_s = 1_000
        self.since_s = 0
        self.offset = 0

    def teardown(self) -> None:
        self.small.stop()

    # ---- what may happen ----

    @rule(batch=batches, passed_s=st.integers(0, 25), behind_s=st.sampled_from([0, 0, 3, 30]))
    def observe_a_batch(self, batch: list[tuple[Key, int]], passed_s: int, behind_s: int) -> None:
        """A batch, read by a process whose clock may be behind."""
        self.now_s += passed_s
        date_s = self.now_s - behind_s
        rows = [Row(key, content, self.offset + n) for n, (key, content) in enumerate(batch)]
        self.offset += len(rows)
        expected, logged = self.judge(max(date_s, self.since_s), rows)
        seen = self.index.observe(date_s, *columns(rows))
        assert [*zip(seen.verdicts, seen.first_origins, strict=True)] == expected
        assert dict(rows_in(seen.entries)) == logged
        self.log.append(seen.entries.copy())

    @rule(age_s=st.integers(0, 60))
    def expire(self, age_s: int) -> None:
        self.index.expire(self.now_s - age_s)
        self.since_s = max(self.since_s, (self.now_s - age_s) // SPAN * SPAN)
        self.known = {
            key: known for key, known in self.known.items() if known.bucket * SPAN >= self.since_s
        }

    @rule(seed=st.integers(0, 9), trimmed=st.booleans())
    def restart(self, seed: int, *, trimmed: bool) -> None:
        """The log, in any order, trimmed or not, means what was known before."""
        if trimmed:
            self.log = [each for each in self.log if (each["date_s"] >= self.since_s).any()]
        random.Random(seed).shuffle(self.log)
        value = b"".join(each.tobytes() for each in self.log)
        self.index = Index(SPAN)
        self.index.load(entries_in(value), self.since_s)

    # ---- the model ----

    def judge(
        self, date_s: int, rows: list[Row]
    ) -> tuple[list[tuple[Verdict, int]], dict[Row, int]]:
        """Return what is to be expected of the index and in its log, and remember it."""
        expected, logged = [], {}
        bucket = date_s // SPAN
        for row in rows:
            known = self.known.get(row.key)
            if known is None:
                self.known[row.key] = Known(row.content, row.origin, bucket)
                logged[row] = date_s
                expected.append((Verdict.FIRST, row.origin))
                continue
            if known.bucket < bucket:
                self.known[row.key] = known._replace(bucket=bucket)
                logged[Row(row.key, known.content, known.origin)] = date_s
            same = known.content == row.content
            expected.append((Verdict.DUPLICATE if same else Verdict.CONFLICT, known.origin))
        return expected, logged

    @invariant()
    def as_many_are_remembered(self) -> None:
        assert len(self.index) == len(self.known)
        assert self.index.since_s == self.since_s

    @invariant()
    def every_dead_row_is_counted(self) -> None:
        living = self.index._alive[self.index._numbers_of[: self.index._rows]]
        assert self.index._dead == len(living) - living.sum()

    @invariant()
    def every_id_is_found_again(self) -> None:
        rows = [Row(key, *known[:2]) for key, known in self.known.items()]
        found = self.index._find(columns(rows)[0])
        assert (found >= 0).all()
        assert self.index._prints[found].tolist() == [row.content for row in rows]
        assert self.index._origins[found].tolist() == [row.origin for row in rows]


TestHistories = Histories.TestCase
TestHistories.settings = examples(100, stateful_step_count=30)


def test_an_entry_takes_36_bytes() -> None:
    assert ENTRY.itemsize == 36
    assert np.zeros(3, ENTRY).tobytes() == b"\0" * 108
