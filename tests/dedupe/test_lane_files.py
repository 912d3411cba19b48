"""The files of a lane, at every moment a process may end, and with everything that may be wrong.

One statement has to hold always: all entries below `position` are in the runs.
"""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dataflow.core.bloom import probes
from dataflow.core.lane_log import Entries, sorted_newest
from dataflow.dedupe.background import Stopped
from dataflow.dedupe.lane_files import LaneFiles, remove_unused
from dataflow.dedupe.manifest import FILE_NAME, Summary
from dataflow.dedupe.run_format import PAGE, DamagedRunError
from tests.dedupe.remembered import OWNER, hot, random_entries

ROWS = 600
HORIZON_S = 102
"""Ids of the generations 0 and 1 are forgotten."""
CALLS = (
    *("open", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate"),
    *("rename", "unlink", "mkdir"),
)
"""Calls that change files, or may fail on the way."""
STEPS: dict[str, Callable[[LaneFiles], None]] = {
    "add": lambda files: add(files, 4),
    "merge": lambda files: files.merge(files.runs[1:4], 0),
    "merge the first": lambda files: files.merge(files.runs[:2], 0),
    "merge what is forgotten": lambda files: files.merge(files.runs[:2], HORIZON_S),
    "drop": lambda files: files.drop(files.runs[:2], HORIZON_S),
}


class KilledError(BaseException):
    """The process ends here: nothing is cleaned up."""


@cache
def generation(number: int) -> Entries:
    """Return the entries of one record of the log."""
    return sorted_newest(random_entries(ROWS, number, 100 + number, shared=200))


def add(files: LaneFiles, number: int) -> None:
    summary = Summary(span_s=1, counts={100 + n: ROWS for n in range(number + 1)})
    files.add(hot(generation(number)), {0: number}, {0: number + 1}, summary)


def four(directory: Path) -> LaneFiles:
    """Return files with the entries of four records."""
    files = LaneFiles(directory, OWNER)
    for number in range(4):
        add(files, number)
    return files


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the entries of four records, to copy."""
    directory = tmp_path_factory.mktemp("four")
    four(directory)
    return directory


def copied(prepared: Path, directory: Path) -> LaneFiles:
    shutil.copytree(prepared, directory)
    return LaneFiles(directory, OWNER)


def missing(files: LaneFiles) -> list[int]:
    """Return the records below the position that the runs do not have."""
    gone = []
    for number in range(files.position.get(0, 0)):
        written = generation(number)
        keys = np.ascontiguousarray(written["key"])
        have = [each.run.find(keys, probes(keys)) for each in files.runs]
        if not any(
            np.array_equal(each.origins, written["origin"])
            and np.array_equal(each.dates_s, written["date_s"])
            for each in have
        ):
            gone.append(number)
    return gone


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


def of(files: LaneFiles) -> set[str]:
    return {FILE_NAME, *(each.run.path.name for each in files.runs)}


@contextmanager
def failing(at: int, error: BaseException, *, for_ever: bool) -> Iterator[list[str]]:
    """Have a call to the system fail, and perhaps all after it; yield the calls made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            if len(made) == at or (for_ever and len(made) > at):
                raise error
            if "sync" in name:
                return None  # it takes long, and no power fails here
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield made


def is_full(_file: int, _data: object, _offset: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


class TestStart:
    def test_an_empty_directory_has_nothing(self, tmp_path: Path) -> None:
        files = LaneFiles(tmp_path / "new", OWNER)
        assert (files.runs, files.position) == ((), {})
        assert not (tmp_path / "new").exists(), "a look changes nothing"

    def test_added_parts_are_there(self, tmp_path: Path) -> None:
        four(tmp_path)
        files = LaneFiles(tmp_path, OWNER)
        assert (len(files.runs), files.position) == (4, {0: 4})
        assert missing(files) == []

    def test_lanes_do_not_meet(self, tmp_path: Path) -> None:
        four(tmp_path)
        other = LaneFiles(tmp_path, msgspec.structs.replace(OWNER, lane=4))
        assert other.runs == ()
        add(other, 0)
        assert len(LaneFiles(tmp_path, OWNER).runs) == 4

    @pytest.mark.parametrize("other", [{"cluster": "kafka-2"}, {"topic": "topic-2"}, {"lanes": 8}])
    def test_files_of_something_else_are_thrown_away(
        self, tmp_path: Path, other: dict[str, str | int]
    ) -> None:
        four(tmp_path)
        files = LaneFiles(tmp_path, msgspec.structs.replace(OWNER, **other))
        assert (files.runs, files.position) == ((), {})
        assert names(tmp_path) == {FILE_NAME}

    def test_files_of_another_lane_in_this_ones_place_are_thrown_away(self, tmp_path: Path) -> None:
        """As after a copy in the wrong direction."""
        four(tmp_path)
        (tmp_path / "lane-003").rename(tmp_path / "lane-004")
        files = LaneFiles(tmp_path, msgspec.structs.replace(OWNER, lane=4))
        assert (files.runs, files.position) == ((), {})

    @pytest.mark.parametrize("lost", range(4))
    @pytest.mark.parametrize("how", ["delete", "cut", "damage"])
    def test_a_lost_run_is_read_again_from_where_it_began(
        self, tmp_path: Path, lost: int, how: str
    ) -> None:
        path = four(tmp_path).runs[lost].run.path
        if how == "delete":
            path.unlink()
        elif how == "cut":
            os.truncate(path, 10_000)
        else:
            path.write_bytes(b"\1" + path.read_bytes()[1:])
        for _ in range(2):  # also the next one, if this one has ended before it could read the log
            files = LaneFiles(tmp_path, OWNER)
            assert (len(files.runs), files.position) == (3, {0: lost})
            assert files.summary == Summary(uncounted_s=102 if lost == 3 else 103)
            assert names(tmp_path) == of(files)

    def test_a_lost_merged_run_is_read_again_from_the_first_of_its_parts(
        self, tmp_path: Path
    ) -> None:
        files = four(tmp_path)
        files.merge(files.runs[1:3], 0)
        files.runs[-1].run.path.unlink()
        assert LaneFiles(tmp_path, OWNER).position == {0: 1}

    def test_a_partition_that_a_lost_run_did_not_have_is_read_from_its_start(
        self, tmp_path: Path
    ) -> None:
        files = LaneFiles(tmp_path, OWNER)
        files.add(hot(generation(0)), {0: 5}, {0: 9, 1: 3}, Summary())
        files.runs[0].run.path.unlink()
        assert LaneFiles(tmp_path, OWNER).position == {0: 5}

    def test_files_without_a_manifest_are_not_used(self, tmp_path: Path) -> None:
        four(tmp_path)
        (tmp_path / "lane-003" / FILE_NAME).unlink()
        files = LaneFiles(tmp_path, OWNER)
        assert (files.runs, files.position) == ((), {})
        assert names(tmp_path) == set()

    def test_leftovers_of_a_crash_are_deleted(self, tmp_path: Path) -> None:
        files = four(tmp_path)
        for name in ("0011223344556677.run.tmp", "manifest.tmp", "0011223344556677.run"):
            (tmp_path / "lane-003" / name).write_bytes(b"?")
        assert names(tmp_path) > of(files)
        LaneFiles(tmp_path, OWNER)
        assert names(tmp_path) == of(files)

    def test_a_file_in_place_of_the_directory_costs_the_cache_only(self, tmp_path: Path) -> None:
        (tmp_path / "lane-003").write_bytes(b"")
        files = LaneFiles(tmp_path, OWNER)
        assert (files.runs, files.position) == ((), {})
        with pytest.raises(OSError, match="exists"):
            add(files, 0)

    def test_a_directory_that_cannot_be_written_is_read_and_checked_as_a_whole(
        self, tmp_path: Path
    ) -> None:
        """If damage were met later, it could not be noted, and the next start would meet it too."""
        path = four(tmp_path).runs[2].run.path
        data = bytearray(path.read_bytes())
        data[-5 * PAGE] ^= 1  # a block's, which a start does not look at otherwise
        path.write_bytes(data)
        assert len(LaneFiles(tmp_path, OWNER).runs) == 4
        real = os.open

        def read_only(path: Path, flags: int, *arguments: Any) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, "Read-only file system")
            return real(path, flags, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", read_only)
            files = LaneFiles(tmp_path, OWNER)
        assert (len(files.runs), files.position) == (3, {0: 2})

    def test_a_full_directory_is_read_and_checked_as_a_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An empty file can be made there, and a manifest cannot."""
        path = four(tmp_path).runs[2].run.path
        data = bytearray(path.read_bytes())
        data[-5 * PAGE] ^= 1
        path.write_bytes(data)
        monkeypatch.setattr(os, "pwrite", is_full)
        assert (len(LaneFiles(tmp_path, OWNER).runs)) == 3

    def test_lanes_there_are_no_more_lose_their_files(self, tmp_path: Path) -> None:
        for lane in (0, 3, 16, 120):
            add(LaneFiles(tmp_path, msgspec.structs.replace(OWNER, lane=lane)), 0)
        (tmp_path / "part-0.sqlite3").touch()
        remove_unused(tmp_path, 16)
        assert {path.name for path in tmp_path.iterdir()} == {
            "lane-000",
            "lane-003",
            "part-0.sqlite3",
        }

    def test_files_the_caller_does_not_believe_are_thrown_away(self, tmp_path: Path) -> None:
        """Such as those that reach beyond the end of the log."""
        files = four(tmp_path)
        files.discard("the log ends at 3")
        assert (files.runs, files.position) == ((), {})
        assert LaneFiles(tmp_path, OWNER).position == {}
        assert names(tmp_path) == {FILE_NAME}


class TestSteps:
    @pytest.mark.parametrize("step", STEPS)
    def test_a_step_leaves_what_it_should(self, tmp_path: Path, step: str) -> None:
        files = four(tmp_path)
        STEPS[step](files)
        again = LaneFiles(tmp_path, OWNER)
        assert of(again) == of(files) == names(tmp_path)
        assert again.position == files.position == {0: 5 if step == "add" else 4}
        assert again.summary == files.summary
        assert len(again.summary.counts) == again.position[0]
        forgets = step in {"drop", "merge what is forgotten"}
        assert again.summary.horizon_s == (HORIZON_S if forgets else 0)
        forgotten = {"merge what is forgotten": [0, 1], "drop": [0, 1]}
        assert missing(again) == missing(files) == forgotten.get(step, [])

    @pytest.mark.parametrize("step", STEPS)
    def test_a_process_may_end_at_any_moment(
        self, tmp_path: Path, prepared: Path, step: str
    ) -> None:
        ended = 0
        for at in range(1, 200):
            directory = tmp_path / str(at)
            files = copied(prepared, directory)
            try:
                with failing(at, KilledError(), for_ever=True):
                    STEPS[step](files)
            except KilledError:
                ended += 1
            else:
                break
            again = LaneFiles(directory, OWNER)
            assert {each for each in missing(again) if "forgotten" not in step} <= {0, 1}
            if step not in {"drop", "merge what is forgotten"}:
                assert missing(again) == []
                assert again.position[0] >= 4, "nothing has to be read that was durable"
            assert names(directory) == of(again)
        assert ended > 5

    @pytest.mark.parametrize("step", STEPS)
    def test_any_call_may_fail_and_the_step_is_done_later(
        self, tmp_path: Path, prepared: Path, step: str
    ) -> None:
        failed = 0
        for at in range(1, 200):
            directory = tmp_path / str(at)
            files = copied(prepared, directory)
            before = files.runs, files.position, files.summary
            error = OSError(errno.ENOSPC, "No space left on device")
            with failing(at, error, for_ever=False) as made:
                try:
                    STEPS[step](files)
                except OSError:
                    failed += 1
                    assert (files.runs, files.position, files.summary) == before
            if (files.runs, files.position, files.summary) == before:
                STEPS[step](files)
            assert missing(files) in ([], [0, 1])
            again = LaneFiles(directory, OWNER)
            assert missing(again) in ([], [0, 1])
            assert again.position == files.position
            assert names(directory) == of(again)
            if len(made) < at:
                break
        assert failed > 5 or step == "drop"  # which needs no room in the end

    def test_listed_files_are_durable_and_deleted_ones_are_listed_no_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A power failure keeps what was synced, and of the rest any part."""
        files = four(tmp_path)
        made: list[str] = []

        def kind(path: str | Path) -> str:
            return "directory" if Path(path).is_dir() else Path(path).name.partition(".")[2] or "?"

        def noted(name: str, what: Callable[[Any], str | Path]) -> None:
            real = getattr(os, name)

            def call(*arguments: Any, **named: Any) -> Any:
                where = what(arguments[0])
                made.append(f"{name} {'manifest' if FILE_NAME in str(where) else kind(where)}")
                return real(*arguments, **named)

            monkeypatch.setattr(os, name, call)

        for name in ("pwrite", "ftruncate", "fsync"):
            noted(name, lambda file: Path(f"/proc/self/fd/{file}").readlink())
        for name in ("rename", "unlink"):
            noted(name, lambda path: path)
        files.merge(files.runs[:2], 0)
        distinct = [each for n, each in enumerate(made) if n == 0 or each != made[n - 1]]
        assert distinct == [
            *("pwrite run.tmp", "ftruncate run.tmp", "fsync run.tmp"),
            *("rename run.tmp", "fsync directory"),
            *("pwrite manifest", "ftruncate manifest", "fsync manifest"),
            *("rename manifest", "fsync directory"),
            "unlink run",
        ]

    def test_a_full_disk_is_noticed_before_anything_is_written(self, tmp_path: Path) -> None:
        files = four(tmp_path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with (
                failing(0, KilledError(), for_ever=False) as made,
                pytest.raises(OSError, match="27"),
            ):
                add(files, 4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "pwrite" not in made
        assert names(tmp_path) == of(files)
        add(files, 4)
        assert missing(files) == []

    def test_some_room_is_left_on_the_volume(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The recovery store may need it; without that the process could not go on."""
        files = four(tmp_path)
        volume = os.statvfs(tmp_path)
        scarce = volume.f_blocks // 20 + 5

        def with_free(blocks: int) -> Callable[[Path], os.statvfs_result]:
            fields = list(volume)[:10]
            fields[4] = blocks
            return lambda _path: os.statvfs_result(fields)

        monkeypatch.setattr("dataflow.dedupe.writing._RESERVE_MOST_BYTES", 2**60)
        monkeypatch.setattr(os, "statvfs", with_free(scarce))
        with pytest.raises(OSError, match="too little room"):
            add(files, 4)
        assert names(tmp_path) == of(files)
        monkeypatch.setattr(os, "statvfs", with_free(scarce + 1_000))
        add(files, 4)

    def test_a_deleted_directory_is_made_again_and_the_rest_read_from_the_log(
        self, tmp_path: Path
    ) -> None:
        files = four(tmp_path)
        for path in (tmp_path / "lane-003").iterdir():
            path.unlink()
        (tmp_path / "lane-003").rmdir()
        assert missing(files) == [], "what is mapped stays"
        add(files, 4)
        assert missing(files) == []
        again = LaneFiles(tmp_path, OWNER)
        assert (len(again.runs), again.position) == (1, {0: 0})

    def test_a_long_step_is_given_up_when_the_process_ends(self, tmp_path: Path) -> None:
        four(tmp_path)
        files = LaneFiles(tmp_path, OWNER, stopping=lambda: True)
        with pytest.raises(Stopped):
            files.merge(files.runs, 0)
        assert len(files.runs) == 4
        assert names(tmp_path) == of(files)

    def test_a_merge_writes_no_run_of_nothing(self, tmp_path: Path) -> None:
        files = four(tmp_path)
        files.merge(files.runs, 1_000)
        assert files.runs == ()
        assert LaneFiles(tmp_path, OWNER).position == {0: 4}


class TestDamage:
    def damaged(self, directory: Path, which: int) -> LaneFiles:
        files = four(directory)
        path = files.runs[which].run.path
        data = bytearray(path.read_bytes())
        data[-5 * PAGE] ^= 1
        path.write_bytes(data)
        return LaneFiles(directory, OWNER)

    def test_a_merge_gives_a_damaged_run_up(self, tmp_path: Path) -> None:
        files = self.damaged(tmp_path, 2)
        with pytest.raises(DamagedRunError, match="block"):
            files.merge(files.runs[1:], 0)
        assert len(files.runs) == 4, "nobody else could answer for its ids"
        again = LaneFiles(tmp_path, OWNER)
        assert (len(again.runs), again.position) == (3, {0: 2})
        # What is read again would be counted twice.
        assert again.summary == Summary(uncounted_s=103)
        assert names(tmp_path) == of(again)

    def test_nothing_is_written_after_a_run_was_given_up(self, tmp_path: Path) -> None:
        """It would state that all is there up to a later position."""
        files = self.damaged(tmp_path, 2)
        files.give_up(files.runs[2:3], "block 5")
        for step in ("add", "drop", "merge the first"):
            with pytest.raises(DamagedRunError):
                STEPS[step](files)
        assert LaneFiles(tmp_path, OWNER).position == {0: 2}

    def test_a_full_disk_does_not_make_every_start_meet_the_same_damage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = self.damaged(tmp_path, 2)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", is_full)
            files.give_up(files.runs[2:3], "block 5")
            assert LaneFiles(tmp_path, OWNER).position == {0: 2}
        assert LaneFiles(tmp_path, OWNER).position == {0: 2}

    def test_the_same_holds_if_that_cannot_be_noted(self, tmp_path: Path) -> None:
        files = self.damaged(tmp_path, 2)
        with failing(1, OSError(errno.ENOSPC, "full"), for_ever=True):
            files.give_up(files.runs[2:3], "block 5")
        with pytest.raises(DamagedRunError):
            add(files, 4)
        assert LaneFiles(tmp_path, OWNER).position == {0: 4}, "met again, and given up again"


def test_generations_differ() -> None:
    """The tests would show nothing if they were alike."""
    first, second = (generation(number)["key"] for number in (0, 1))
    assert not np.isin(first[:, 0], second[:, 0]).any()
