"""A run gives back what was written, and nothing that was not."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core import bloom
from dataflow.core.lane_log import Entries, sorted_newest
from dataflow.core.lanes import KeyArray, U64Array
from dataflow.dedupe.run import Run
from dataflow.dedupe.run_format import PAGE, ROWS, DamagedRunError
from dataflow.dedupe.run_writer import RunWriter
from tests.dedupe.remembered import Entry, Key, listed, look_up, random_entries, rows, write_run

words = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
keys = st.tuples(words, words)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.run"


def keys_in(entries: Entries) -> list[Key]:
    return [each.key for each in listed(entries)]


@pytest.mark.parametrize("count", [1, 2, ROWS - 1, ROWS, ROWS + 1, 50_000])
def test_every_entry_is_found_and_no_other_key(path: Path, count: int) -> None:
    entries = sorted_newest(random_entries(count, shared=count // 3 % 400))
    run = Run(path, write_run(path, entries).check)
    assert list(look_up(run, keys_in(entries)).values()) == listed(entries)
    strangers = sorted_newest(random_entries(count, seed=1, shared=count // 3 % 400))
    assert look_up(run, keys_in(strangers)) == {}
    # Some hundred share their second word, and so fill whole blocks.
    crossed = entries.copy()
    crossed["key"][:, 0] += np.uint64(1)
    assert look_up(run, keys_in(crossed)) == {}


def test_the_key_of_zeros_is_found_only_if_it_was_written(path: Path, tmp_path: Path) -> None:
    """The last block is filled up with zeros."""
    zero = Entry((0, 0), 0, 0, 0)
    run = Run(path, write_run(path, rows([zero, zero._replace(key=(0, 1))])).check)
    assert look_up(run, [(0, 0)]) == {0: zero}
    other = tmp_path / "b.run"
    run = Run(other, write_run(other, rows([zero._replace(key=(1, 0))])).check)
    run._words = np.full(len(run._words), 2**64 - 1, np.uint64)  # a filter that lets all pass
    assert look_up(run, [(0, 0), (2, 0), (0, 1)]) == {}


@given(st.dictionaries(keys, st.integers(1, 9)), st.lists(keys, unique=True))
def test_any_key_is_found_if_and_only_if_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, given: dict[Key, int], others: list[Key]
) -> None:
    if not given:
        return
    path = tmp_path_factory.mktemp("runs") / "a.run"
    written = {key: Entry(key, content, 5, 6) for key, content in given.items()}
    run = Run(path, write_run(path, rows(written.values())).check)
    wanted = sorted({*given, *others}, key=lambda key: key[::-1])
    found = look_up(run, wanted)
    assert found == {n: written[key] for n, key in enumerate(wanted) if key in written}


def test_pieces_are_all_entries_in_order(path: Path) -> None:
    entries = random_entries(100_000)
    run = Run(path, write_run(path, entries).check)
    pieces = list(run.pieces())
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), sorted_newest(entries))


def test_a_run_takes_less_than_45_bytes_an_id(path: Path) -> None:
    facts = write_run(path, random_entries(100_000))
    assert facts.size_bytes == path.stat().st_size
    assert facts.size_bytes / facts.rows < 39


def test_facts_are_of_all_entries(path: Path) -> None:
    entries = np.concatenate([random_entries(70_000, 1, 500), random_entries(70_000, 2, 900)])
    facts = write_run(path, entries)
    assert (facts.rows, facts.oldest_s, facts.newest_s) == (140_000, 500, 900)


def test_no_file_is_made_of_no_entries(path: Path) -> None:
    with RunWriter(path, 10, 7) as writer:
        assert writer.publish() is None
    assert list(path.parent.iterdir()) == []


def test_no_file_is_left_of_what_was_given_up(path: Path) -> None:
    with RunWriter(path, 10, 7) as writer:
        writer.append(rows([Entry((1, 1), 1, 1, 1)]))
    assert list(path.parent.iterdir()) == []


class TestDamage:
    """Whatever byte is wrong: it is noticed before anything is answered from it."""

    ENTRIES = sorted_newest(random_entries(1_000, shared=400))
    KEYS = keys_in(ENTRIES)

    @pytest.mark.parametrize("seed", range(60))
    def test_a_wrong_byte_is_noticed_or_does_not_matter(self, path: Path, seed: int) -> None:
        facts = write_run(path, self.ENTRIES)
        random = np.random.default_rng(seed)
        data = bytearray(path.read_bytes())
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            found = look_up(Run(path, facts.check), self.KEYS)
        except DamagedRunError:
            return
        assert list(found.values()) == listed(self.ENTRIES)

    @pytest.mark.parametrize(
        ("offset", "what"),
        [(10, "header"), (PAGE, "filter"), (-1, "index"), (-16 * 9, "index")],
    )
    def test_parts_that_are_read_at_the_start_are_checked_then(
        self, path: Path, offset: int, what: str
    ) -> None:
        facts = write_run(path, self.ENTRIES)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedRunError, match=what):
            Run(path, facts.check)

    @pytest.mark.parametrize("where", [0, 904, 1808, 2712, 3616, 4068, 4072, 4092])
    def test_a_block_is_checked_when_it_is_touched(self, path: Path, where: int) -> None:
        """In each of its columns: keys, content, origin, date, number, run, checksum."""
        facts = write_run(path, self.ENTRIES)
        block = path.stat().st_size - 9 * 16 - 4 * PAGE
        data = bytearray(path.read_bytes())
        data[block + where] ^= 1
        path.write_bytes(data)
        run = Run(path, facts.check)
        numbers = range(1_000)
        damaged = set(range(5 * ROWS, 6 * ROWS))
        intact = [self.KEYS[n] for n in numbers if n not in damaged and n > 400]
        assert len(look_up(run, intact)) == len(intact)
        with pytest.raises(DamagedRunError, match="block 5"):
            look_up(run, [self.KEYS[5 * ROWS + 1]])
        with pytest.raises(DamagedRunError, match="block 5"):
            run.verify()

    def test_a_block_of_the_right_content_in_the_wrong_place_is_noticed(self, path: Path) -> None:
        facts = write_run(path, self.ENTRIES)
        data = bytearray(path.read_bytes())
        at = path.stat().st_size - 9 * 16 - 4 * PAGE
        data[at : at + PAGE] = data[at + PAGE : at + 2 * PAGE]
        path.write_bytes(data)
        with pytest.raises(DamagedRunError, match="block 5"):
            Run(path, facts.check).verify()

    def test_a_block_of_another_run_is_noticed(self, path: Path, tmp_path: Path) -> None:
        facts = write_run(path, self.ENTRIES, number=7)
        other = tmp_path / "b.run"
        write_run(other, self.ENTRIES, number=8)
        at = path.stat().st_size - 9 * 16 - 4 * PAGE
        data = bytearray(path.read_bytes())
        data[at : at + PAGE] = other.read_bytes()[at : at + PAGE]
        path.write_bytes(data)
        with pytest.raises(DamagedRunError, match="block 5"):
            Run(path, facts.check).verify()

    @pytest.mark.parametrize("size", [0, 10, PAGE, -1, -PAGE])
    def test_a_cut_file_is_not_opened(self, path: Path, size: int) -> None:
        facts = write_run(path, self.ENTRIES)
        os.truncate(path, size if size >= 0 else path.stat().st_size + size)
        with pytest.raises(DamagedRunError):
            Run(path, facts.check)

    def test_a_longer_file_is_not_opened(self, path: Path) -> None:
        facts = write_run(path, self.ENTRIES)
        with path.open("ab") as file:
            file.write(b"\0" * PAGE)
        with pytest.raises(DamagedRunError, match="size"):
            Run(path, facts.check)

    def test_another_run_is_not_opened(self, path: Path, tmp_path: Path) -> None:
        write_run(path, self.ENTRIES, number=7)
        facts = write_run(tmp_path / "b.run", self.ENTRIES, number=8)
        with pytest.raises(DamagedRunError, match="manifest"):
            Run(path, facts.check)

    def test_a_file_that_is_cut_while_it_is_open_is_noticed(self, path: Path) -> None:
        """Not by a signal: a block is read from the file before it is touched in memory."""
        run = Run(path, write_run(path, self.ENTRIES).check)
        os.truncate(path, 3 * PAGE)
        with pytest.raises(DamagedRunError, match="cut"):
            look_up(run, self.KEYS[-5:])

    def test_a_deleted_file_is_read_on(self, path: Path) -> None:
        run = Run(path, write_run(path, self.ENTRIES).check)
        path.unlink()
        assert list(look_up(run, self.KEYS).values()) == listed(self.ENTRIES)
        assert np.array_equal(np.concatenate(list(run.pieces())), self.ENTRIES)


def test_a_filter_is_written_in_one_byte_order_on_every_machine(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that is read in another order hides ids, and its checksum is right all the same."""

    class BigEndian(bloom.FilterWriter):
        def add(self, keys: KeyArray) -> U64Array:
            return super().add(keys).astype(">u8")

        def rest(self) -> U64Array:
            return super().rest().astype(">u8")

    monkeypatch.setattr(bloom, "FilterWriter", BigEndian)
    entries = sorted_newest(random_entries(1_000))
    run = Run(path, write_run(path, entries).check)
    assert len(look_up(run, keys_in(entries))) == 1_000
