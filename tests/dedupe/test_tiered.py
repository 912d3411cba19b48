"""The tiered index, one behaviour at a time. Against a model: `test_model.py`."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from dataflow.core.lane_log import Entries
from dataflow.core.verdicts import Verdict
from dataflow.dedupe.background import Background, Stopped
from dataflow.dedupe.lane_files import LaneFiles
from dataflow.dedupe.run_format import PAGE
from dataflow.dedupe.tiered import Seen, TieredIndex
from dataflow.errors import DamagedFileError
from tests.dedupe.remembered import OWNER, Inline, answers, random_entries

FIRST, DUPLICATE, CONFLICT = Verdict
MEMORY_BYTES = 1_000_000
WAIT_S = 120.0
WINDOW_S, SPAN_S = 16_000, 1_000


class Clock:
    """A clock that stands still."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Later(Background):
    """A worker that does jobs on command."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Future[None], Callable[[], None]]] = []

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        future: Future[None] = Future()
        self.waiting.append((future, job))
        return future

    def work(self) -> None:
        for future, job in self.waiting:
            try:
                job()
            except Exception as error:  # noqa: BLE001  (as the thread does)
                future.set_exception(error)
            else:
                future.set_result(None)
        self.waiting = []


def opened(
    directory: Path | None,
    background: Background | None = None,
    clock: Clock | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> TieredIndex:
    files = LaneFiles(directory, OWNER) if directory else None
    return TieredIndex(
        lambda: memory_bytes, WINDOW_S, SPAN_S, files, background or Inline(), clock or Clock()
    )


def observe(index: TieredIndex, entries: Entries) -> Seen:
    return index.observe(
        int(entries["date_s"][0]),
        np.ascontiguousarray(entries["key"]),
        entries["fingerprint"].copy(),
        entries["origin"].copy(),
    )


def verdicts(index: TieredIndex, entries: Entries) -> set[Verdict]:
    """Return which verdicts there are for a batch."""
    return {verdict for verdict, _ in answers(observe(index, entries))}


def filled(index: TieredIndex, batches: int) -> None:
    """Claim so many batches of ids, each in an epoch of its own."""
    for number in range(batches):
        assert verdicts(index, random_entries(1_000, number)) == {FIRST}
        index.committed({0: number + 1})


def leads_to(link: Path, directory: Path) -> bool:
    """Return whether a file descriptor is that of something in a directory."""
    try:
        return link.readlink().is_relative_to(directory)
    except FileNotFoundError:
        return False  # that of the directory that was just listed


def is_full(_file: int, _data: object, _offset: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_ids_that_went_to_files_are_still_remembered(tmp_path: Path) -> None:
    index = opened(tmp_path)
    filled(index, 60)
    assert index.figures.cold > 40_000
    for number in range(60):
        entries = random_entries(1_000, number)
        answered = answers(observe(index, entries))
        assert answered == [(DUPLICATE, origin) for origin in entries["origin"].tolist()]
        entries["fingerprint"] += np.uint64(1)
        assert verdicts(index, entries) == {CONFLICT}


def test_memory_is_bounded_while_files_can_be_written(tmp_path: Path) -> None:
    index = opened(tmp_path)
    for number in range(100):
        observe(index, random_entries(1_000, number))
        index.committed({0: number})
        assert index.figures.hot_bytes <= MEMORY_BYTES


def test_a_prolonged_cold_id_becomes_hot(tmp_path: Path) -> None:
    index = opened(tmp_path)
    filled(index, 20)
    before = index.figures.hot
    again = random_entries(1_000, 0, date_s=1_000 + SPAN_S)
    assert verdicts(index, again) == {DUPLICATE}
    assert index.figures.hot == before + 1_000
    index.expire(1_000 + SPAN_S)
    assert verdicts(index, again) == {DUPLICATE}
    assert verdicts(index, random_entries(1_000, 1, date_s=1_000 + SPAN_S)) == {FIRST}


def test_a_batch_that_is_not_committed_is_in_no_file(tmp_path: Path) -> None:
    index = opened(tmp_path)
    filled(index, 20)
    lost = random_entries(20_000, 1_000)
    assert verdicts(index, lost) == {FIRST}
    assert verdicts(opened(tmp_path), lost) == {FIRST}, "a crash came before the commit"


def test_ids_are_remembered_while_their_file_is_written(tmp_path: Path) -> None:
    later = Later()
    index = opened(tmp_path, later)
    filled(index, 20)
    assert index.figures.runs == 0
    for _ in range(2):
        assert verdicts(index, random_entries(1_000, 0)) == {DUPLICATE}
        later.work()
        index.committed({0: 20})
    assert index.figures.runs == 1


def test_a_real_thread_writes_what_batches_go_on_reading(tmp_path: Path) -> None:
    background = Background()
    index = opened(tmp_path, background)
    for number in range(60):
        index.restore(random_entries(1_000, number))
        index.committed({0: number + 1}, wait=True)
        assert index.figures.hot_bytes <= MEMORY_BYTES
        assert verdicts(index, random_entries(1_000, number // 2)) == {DUPLICATE}
    background.stop()
    again = opened(tmp_path)
    assert again.figures.cold > 30_000
    for number in range(again.position[0]):
        assert verdicts(again, random_entries(1_000, number)) == {DUPLICATE}


def test_a_file_that_was_deleted_is_let_go(tmp_path: Path) -> None:
    """As long as it is mapped or open it takes room on the disk."""
    background = Background()
    index = opened(tmp_path, background)
    for number in range(60):
        index.restore(random_entries(1_000, number))
        index.committed({0: number + 1}, wait=True)
    index.expire(2_000)
    while index.figures.runs:
        index.committed({0: 60})
    until_s = time.monotonic() + WAIT_S  # the thread may take a moment
    while str(tmp_path) in Path("/proc/self/maps").read_text() and time.monotonic() < until_s:
        time.sleep(0.05)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert not [path for path in Path("/proc/self/fd").iterdir() if leads_to(path, tmp_path)]
    background.stop()


def test_a_thread_that_has_stopped_begins_nothing(tmp_path: Path) -> None:
    background = Background()
    files = LaneFiles(tmp_path, OWNER, background.stopping)
    index = TieredIndex(lambda: MEMORY_BYTES, WINDOW_S, SPAN_S, files, background)
    background.stop()
    filled(index, 20)
    index.committed({0: 20})
    assert list(tmp_path.rglob("*.run*")) == []
    assert verdicts(index, random_entries(1_000, 0)) == {DUPLICATE}


def test_no_caller_waits_for_a_thread_that_has_stopped(tmp_path: Path) -> None:
    """A worker may still restore when another one has ended the process."""
    background = Background()
    index = opened(tmp_path, background)
    blocked, waiting = background.submit(lambda: time.sleep(0.2)), Event()
    last = background.submit(waiting.set)
    background.stop()
    assert blocked.done()
    with pytest.raises(Stopped):
        last.result(WAIT_S)
    assert not waiting.is_set()
    for number in range(60):
        index.restore(random_entries(1_000, number))
        index.committed({0: number + 1}, wait=True)
    assert index.figures.hot == 60_000


def test_merging_is_left_for_later_while_the_log_is_read(tmp_path: Path) -> None:
    index = opened(tmp_path, memory_bytes=0)
    for number in range(6):
        index.restore(random_entries(1_000, number))
        index.committed({0: number + 1}, wait=True)
    assert index.figures.runs >= 5
    for _ in range(6):
        index.committed({0: 6})
    assert index.figures.runs <= 2


def test_all_stays_in_memory_without_files() -> None:
    index = opened(None)
    filled(index, 60)
    assert index.position == {}
    assert index.figures.hot == 60_000
    assert verdicts(index, random_entries(1_000, 0)) == {DUPLICATE}
    index.expire(2_000)
    assert index.figures.hot == 0
    assert verdicts(index, random_entries(1_000, 0)) == {FIRST}


def test_a_full_disk_forgets_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    index = opened(tmp_path, clock=clock)
    clock.now_s = 5.0
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", is_full)
        filled(index, 60)
    failing = index.figures
    assert (failing.hot, failing.failing_since) == (60_000, 5.0)
    assert list(tmp_path.rglob("*.tmp")) == []
    for number in range(60):
        assert verdicts(index, random_entries(1_000, number)) == {DUPLICATE}
    for _ in range(3):
        index.committed({0: 60})
    assert index.figures.runs == 0, "not yet"
    clock.now_s = 20.0
    for _ in range(6):
        index.committed({0: 60})
    mended = index.figures
    assert (mended.hot, mended.cold, mended.failing_since) == (0, 60_000, None)
    assert opened(tmp_path).position == {0: 60}


def test_a_restore_goes_on_in_memory_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(tmp_path)
    monkeypatch.setattr(os, "pwrite", is_full)
    for number in range(60):
        index.restore(random_entries(1_000, number))
        index.committed({0: number + 1}, wait=True)
    assert index.figures.hot == 60_000


def test_entries_that_the_files_have_are_not_read_for_ever(tmp_path: Path) -> None:
    """A position may be too low, so entries come again: it moves on without a new file."""
    filled(opened(tmp_path, memory_bytes=0), 5)
    again = opened(tmp_path, memory_bytes=0)
    for number in range(5):
        again.restore(random_entries(1_000, number))
    again.committed({0: 9, 1: 7}, wait=True)
    assert again.figures.hot == 0
    after = opened(tmp_path)
    assert after.position == {0: 9, 1: 7}
    assert len(after) == 5_000
    assert 1 <= len(list(tmp_path.rglob("*.run"))) <= 5
    assert verdicts(after, random_entries(1_000, 3)) == {DUPLICATE}


def test_files_of_another_log_are_thrown_away_before_anything_is_restored(tmp_path: Path) -> None:
    """Such as those that reach beyond its end."""
    filled(opened(tmp_path, memory_bytes=0), 5)
    background = Background()
    index = opened(tmp_path, background)
    assert index.figures.cold > 0
    index.start_over("they reach beyond the end")
    assert (len(index), index.position, index.figures.cold) == (0, {}, 0)
    assert verdicts(index, random_entries(1_000, 0)) == {FIRST}
    assert opened(tmp_path).position == {}
    background.stop()


def test_runs_that_have_left_the_window_are_deleted(tmp_path: Path) -> None:
    index = opened(tmp_path)
    filled(index, 40)
    assert len(list(tmp_path.rglob("*.run"))) > 0
    index.expire(2_000)
    for _ in range(5):
        index.committed({0: 40})
    assert list(tmp_path.rglob("*.run")) == []
    assert verdicts(index, random_entries(1_000, 0)) == {FIRST}


def test_a_horizon_never_goes_back(tmp_path: Path) -> None:
    index = opened(tmp_path)
    filled(index, 20)
    index.expire(2_000)
    index.expire(0)
    assert verdicts(index, random_entries(1_000, 0)) == {FIRST}


def judge_all(index: TieredIndex) -> None:
    for number in range(20):
        observe(index, random_entries(1_000, number))


class TestDamage:
    def damaged(self, directory: Path) -> Path:
        """Fill a lane, and damage a block of one of its files."""
        filled(opened(directory), 20)
        path = next(directory.rglob("*.run"))
        data = bytearray(path.read_bytes())
        data[-5 * PAGE] ^= 1
        path.write_bytes(data)
        return path

    def test_a_damaged_block_ends_the_process_and_the_next_one_reads_the_log(
        self, tmp_path: Path
    ) -> None:
        path = self.damaged(tmp_path)
        index = opened(tmp_path)
        assert index.position[0] > 0

        with pytest.raises(DamagedFileError, match="Nothing is lost"):
            judge_all(index)
        assert not path.exists()
        assert opened(tmp_path).position == {}

    def test_it_does_not_wait_until_long_work_is_done(self, tmp_path: Path) -> None:
        """A merge of all that a lane has takes minutes, in which its transaction would end."""
        self.damaged(tmp_path)
        background = Background()
        index = opened(tmp_path, background)
        begun = Event()
        given_up: list[bool] = []

        def merge() -> None:
            begun.set()
            until_s = time.monotonic() + WAIT_S
            while not background.stopping() and time.monotonic() < until_s:
                time.sleep(0.01)
            given_up.append(background.stopping())

        index._submit(merge, writes_ids=False)
        assert begun.wait(WAIT_S)
        with pytest.raises(DamagedFileError):
            judge_all(index)
        assert given_up == [True]

    def test_a_merge_that_meets_it_ends_the_process_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.damaged(tmp_path)
        monkeypatch.setattr("dataflow.dedupe.tiered.to_merge", lambda runs, _: range(len(runs)))
        later = Later()
        index = opened(tmp_path, later)
        later.work()
        index.committed({0: 20})
        later.work()
        # Until its owner looks: the ids in blocks that were checked before are still answered for.
        assert index.figures.runs > 0
        with pytest.raises(DamagedFileError):
            index.committed({0: 20})
        assert opened(tmp_path).position == {}
