"""The tiered index against the simplest thing that could be right: a log, and a dictionary.

Hypothesis makes up histories of batches, commits, crashes, expiry, full disks, damaged files and
other windows. An epoch's entries are one record of the log. After a crash the log is all there is;
the files only state how much of it need not be read. Memory is so small that every commit makes a
run.
"""

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dataflow.core import hot_ids
from dataflow.core.lane_log import Entries
from dataflow.core.verdicts import Verdict
from dataflow.dedupe import writing
from dataflow.dedupe.lane_files import LaneFiles
from dataflow.dedupe.tiered import TieredIndex
from dataflow.errors import DamagedFileError
from tests.dedupe.remembered import OWNER, Entry, Inline, Key, answers, batch, listed, rows
from tests.explore import examples

SPANS = 16
"""Of a window."""
words = st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1])
anywhere = st.integers(0, 10**6)
requests = st.lists(st.tuples(st.tuples(words, words), st.integers(1, 2)), max_size=12)


class Histories(RuleBasedStateMachine):
    """One lane of one process after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.patches = [
            patch.multiple(hot_ids, _MIN_ROWS=4, _GROWTH=1.1),
            patch.object(os, "pwrite", self.write),
            patch.object(os, "urandom", self.number),
        ]
        self.real_write: Callable[[int, bytes, int], int] = os.pwrite
        self.disk_is_full = False
        self.files_made = 0
        self.clock_s = 0.0
        for each in self.patches:
            each.start()
        self.log: list[list[Entries]] = [[], []]
        """By partition, the records."""
        self.pending: list[Entries] = []
        self.partition = 0
        self.model: dict[Key, Entry] = {}
        self.now_s, self.offset = 1_000, 0
        self.horizon_s = self.committed_horizon_s = 0
        self.believed: dict[int, int] = {}

    def write(self, file: int, data: bytes, offset: int) -> int:
        if self.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real_write(file, data, offset)

    def clock(self) -> float:
        return self.clock_s

    def number(self, size: int) -> bytes:
        """Return the next number for the name of a file: the same ones in each example."""
        self.files_made += 1
        return self.files_made.to_bytes(size, "big")

    def teardown(self) -> None:
        for each in self.patches:
            each.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.directory.with_suffix(".copy"), ignore_errors=True)

    @initialize(memory_bytes=st.sampled_from([0, 3_000, 10_000]))
    def begin(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.span_s = 10
        self.had_other_spans = False
        self.start(0)

    # ---- what may happen ----

    @rule(
        requests=requests,
        pause_s=st.sampled_from([0, 1, 9, 10, 45]),
        behind_s=st.sampled_from([0, 0, 3, 30]),
    )
    def observe(self, requests: list[tuple[Key, int]], pause_s: int, behind_s: int) -> None:
        """Observe a batch, read by a process whose clock may be behind."""
        self.now_s += pause_s
        date_s = self.now_s - behind_s
        made = [
            Entry(key, content, self.offset + n, date_s)
            for n, (key, content) in enumerate(requests)
        ]
        self.offset += len(made)
        try:
            judgement = self.index.observe(*batch(made)._replace(date_s=date_s))
        except DamagedFileError:
            self.start(0)
            return
        changed: dict[Key, Entry] = {}
        assert answers(judgement) == [self.judge(each, changed) for each in made]
        assert {each.key: each for each in listed(judgement.entries)} == changed
        self.pending.append(judgement.entries)

    @rule()
    def commit(self) -> None:
        self.committed_horizon_s = self.horizon_s
        self.log[self.partition].append(np.concatenate([*self.pending, rows([])]))
        self.pending = []
        self.mark()

    @rule(seed=st.integers(0, 9))
    def crash(self, seed: int) -> None:
        self.start(seed)

    @rule(span_s=st.sampled_from([4, 10, 25]))
    def start_with_another_window(self, span_s: int) -> None:
        self.had_other_spans |= span_s != self.span_s
        self.span_s = span_s
        self.start(0)

    @rule(ahead_s=st.integers(0, 60))
    def expire(self, ahead_s: int) -> None:
        before_s = self.now_s - SPANS * self.span_s + ahead_s
        self.index.expire(before_s)
        self.horizon_s = self.index.since_s
        assert self.horizon_s >= before_s - self.span_s

    @rule()
    def fill_or_empty_the_disk(self) -> None:
        self.disk_is_full = not self.disk_is_full

    @rule()
    def trim_the_log(self) -> None:
        """Delete the records that had only what is forgotten; the offsets stay."""
        for records in self.log:
            for n, record in enumerate(records):
                if not (record["date_s"] >= self.committed_horizon_s).any():
                    records[n] = rows([])

    @rule()
    def write_to_the_other_partition(self) -> None:
        """Write to the other partition; a change of their number spreads a lane's entries, too."""
        self.partition = 1 - self.partition

    @precondition(lambda self: self.files())
    @rule(which=anywhere, where=anywhere, how=st.sampled_from(["byte", "cut", "delete"]))
    def damage_a_file(self, which: int, where: int, how: str) -> None:
        """Damage a file: a start finds it; a block is met later, when it is touched."""
        path = self.files()[which % len(self.files())]
        content = bytearray(path.read_bytes())
        at = where % max(1, len(content))
        if how == "delete" or not content:
            path.unlink()
        elif how == "byte":
            content[at] ^= 1
            path.write_bytes(content)
        else:
            path.write_bytes(content[:at])
        self.start(0)

    @precondition(lambda self: self.files())
    @rule(which=anywhere)
    def delete_a_file_that_is_open(self, which: int) -> None:
        self.files()[which % len(self.files())].unlink()

    @rule(restart=st.booleans(), old_copy=st.booleans())
    def lose_the_directory(self, *, restart: bool, old_copy: bool) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        copy = self.directory.with_suffix(".copy")
        if old_copy and copy.exists():
            shutil.copytree(copy, self.directory)
        if restart:
            self.start(0)

    @rule()
    def copy_the_directory(self) -> None:
        copy = self.directory.with_suffix(".copy")
        shutil.rmtree(copy, ignore_errors=True)
        if self.directory.exists():
            shutil.copytree(self.directory, copy)

    # ---- the model ----

    def files(self) -> list[Path]:
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def mark(self) -> None:
        position = {n: len(records) for n, records in enumerate(self.log)}
        self.clock_s += 100  # what has failed is tried again
        try:
            self.index.committed(position)
            self.index.committed(position)  # what was begun is done
        except DamagedFileError:
            self.start(0)

    def judge(self, request: Entry, changed: dict[Key, Entry]) -> tuple[Verdict, int]:
        # Nothing is dated before what is forgotten: it would be forgotten at once.
        request = request._replace(date_s=max(request.date_s, self.horizon_s))
        known = self.model.get(request.key)
        if known is None or known.date_s < self.horizon_s:
            self.model[request.key] = changed[request.key] = request
            return Verdict.FIRST, request.origin
        if request.date_s // self.span_s > known.date_s // self.span_s:
            known = known._replace(date_s=request.date_s)
            self.model[request.key] = changed[request.key] = known
        same = known.content == request.content
        return Verdict.DUPLICATE if same else Verdict.CONFLICT, known.origin

    def start(self, seed: int) -> None:
        """Start a new process: it has the files, and reads the log from where they end."""
        self.pending = []
        self.model = {}
        for record in [each for records in self.log for each in records]:
            for entry in listed(record):
                known = self.model.get(entry.key)
                if known is None or known.date_s <= entry.date_s:
                    self.model[entry.key] = entry
        files = LaneFiles(self.directory, OWNER)
        self.has_lost_a_run = files.summary.uncounted_s >= 0
        self.index = TieredIndex(
            lambda: self.memory_bytes,
            SPANS * self.span_s,
            self.span_s,
            files,
            Inline(),
            self.clock,
        )
        # Perhaps less was forgotten by what is committed; but what files lack stays forgotten.
        self.index.expire(self.committed_horizon_s)
        self.horizon_s = self.index.since_s
        position = self.index.position
        self.believed = position
        partitions = list(range(len(self.log)))
        random.Random(seed).shuffle(partitions)
        read = {n: position.get(n, 0) for n in partitions}
        for n in partitions:
            for record in self.log[n][read[n] :]:
                try:
                    self.index.restore(record)
                    read[n] += 1
                    self.index.committed(read, wait=bool(seed % 2))
                except DamagedFileError:
                    self.start(seed)
                    return

    @invariant()
    def the_living_ids_are_counted(self) -> None:
        living = sum(1 for each in self.model.values() if each.date_s >= self.horizon_s)
        assert len(self.index) <= living <= self.index.most
        if not self.has_lost_a_run and not self.had_other_spans:
            assert len(self.index) == living

    @invariant()
    def nothing_is_believed_that_is_not_in_the_log(self) -> None:
        assert all(offset <= len(self.log[n]) for n, offset in self.believed.items())

    @invariant()
    def no_temporary_file_stays(self) -> None:
        assert not list(self.directory.rglob(f"*{writing.TEMPORARY}"))


TestHistories = Histories.TestCase
TestHistories.settings = examples(100, stateful_step_count=40)


def test_a_damaged_block_is_met_while_the_log_is_read() -> None:
    machine = begun()
    machine.observe([((0, 0), 1)], pause_s=0, behind_s=0)
    machine.commit()
    machine.observe([((0, 1), 1), ((0, 2), 1)], pause_s=0, behind_s=0)
    machine.commit()
    machine.damage_a_file(which=0, where=0, how="byte")
    machine.damage_a_file(which=0, where=32_800, how="byte")
    machine.the_living_ids_are_counted()
    machine.teardown()


def test_a_file_is_damaged_that_has_nothing_left() -> None:
    machine = begun()
    machine.observe([((0, 0), 1)], pause_s=0, behind_s=0)
    machine.commit()
    machine.fill_or_empty_the_disk()
    machine.damage_a_file(which=0, where=0, how="cut")
    machine.damage_a_file(which=0, where=0, how="byte")
    machine.the_living_ids_are_counted()
    machine.teardown()


def begun() -> Histories:
    """Return a history at its beginning; its memory is full with any entry."""
    machine = Histories()
    machine.begin(0)
    return machine
